//! What registries may do to a client on purpose: documents without end, layers of other kinds, archives that lie.

mod support;

use std::io::Read;

use oci::{Digest, media_type};
use registry::Error;
use support::fake::{Fake, Reply, Request};
use support::image::{Image, from_layers, gzip, image, layer};
use support::reference::Registry;
use support::{TestStore, pull, push};

/// An index over these manifests, each with its media type.
fn index(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let host = oci::Platform::host().architecture;
    let entry = |(kind, bytes): &(&str, &[u8])| {
        serde_json::json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len(),
            "platform": {"os": "linux", "architecture": host}})
    };
    let entries: Vec<_> = entries.iter().map(entry).collect();
    serde_json::to_vec(
        &serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries}),
    )
    .unwrap()
}

/// Serves these documents by digest beside an image, the last of them as `latest`.
fn serving(documents: Vec<Vec<u8>>) -> impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static {
    move |r| {
        let name = r.inside().strip_prefix("manifests/")?;
        let found = if name == "latest" {
            documents.last()
        } else {
            documents.iter().find(|bytes| Digest::of(bytes).as_str() == name)
        };
        Some(Reply::new(200, found?.clone()).with("Content-Type", media_type::OCI_INDEX))
    }
}

async fn error_of(image: &Image, handler: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> (Error, Fake) {
    let fake = Fake::serve(image.clone(), handler).await;
    let store = TestStore::new();
    let error = pull(&fake.name("a"), &store.store).await.0.unwrap_err();
    assert_eq!(store.leftovers(), [""; 0], "after: {error}");
    (error, fake)
}

#[tokio::test]
async fn indexes_within_indexes_end() {
    let good = image(1, 1, 10);
    let mut chain = vec![index(&[(media_type::DOCKER_MANIFEST, &good.manifest)])];
    for _ in 0..2 {
        chain.push(index(&[(media_type::OCI_INDEX, chain.last().unwrap())]));
    }
    let fake = Fake::serve(good.clone(), serving(chain.clone())).await;
    pull(&fake.name("a"), &TestStore::new().store).await.0.unwrap();
    for _ in 0..2 {
        chain.push(index(&[(media_type::OCI_INDEX, chain.last().unwrap())]));
    }
    let (error, fake) = error_of(&good, serving(chain)).await;
    let host = oci::Platform::host();
    assert_eq!(error.to_string(), format!("no matching manifest for {host} in the manifest list entries"));
    assert!(fake.requests().len() < 10);

    // One that names itself would need a digest that nobody can make; a registry that claims it is found out.
    let claimed = Digest::of(b"itself");
    let entry = serde_json::json!({"mediaType": media_type::OCI_INDEX, "digest": claimed, "size": 7});
    let itself = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]});
    let itself = serde_json::to_vec(&itself).unwrap();
    let (error, fake) = error_of(&good, move |r| {
        r.inside()
            .starts_with("manifests/")
            .then(|| Reply::new(200, itself.clone()).with("Content-Type", media_type::OCI_INDEX))
    })
    .await;
    assert_eq!(error.to_string(), format!("manifest verification failed for digest {claimed}"));
    assert!(fake.requests().len() < 10);
}

#[tokio::test]
async fn documents_that_never_end() {
    let good = image(1, 1, 10);
    // 100 MB are refused by their announcement.
    let (error, _) = error_of(&good, |r| {
        let reply = Reply { announced: Some(100 << 20), stall: Some(10), ..Reply::new(200, vec![b' '; 10]) };
        (r.inside() == "manifests/latest").then_some(reply)
    })
    .await;
    assert!(matches!(error, Error::TooLarge { what: "manifest", .. }), "{error}");
    let config = format!("blobs/{}", good.id());
    let (error, _) =
        error_of(&good, move |r| (r.inside() == config).then(|| Reply::new(200, vec![b' '; 9 << 20]))).await;
    assert!(error.to_string().contains("is larger than the allowed"), "{error}");
}

#[tokio::test]
async fn layers_of_other_kinds() {
    // Of a type that nobody knows: what counts is what is in it.
    let mut good = image(1, 1, 1000);
    let text = String::from_utf8(good.manifest.clone()).unwrap();
    good.manifest = text.replace(media_type::DOCKER_LAYER_GZIP, "application/vnd.example.layer").into_bytes();
    let fake = Fake::serve(good.clone(), |_| None).await;
    pull(&fake.name("a"), &TestStore::new().store).await.0.unwrap();
    // A manifest of a type that is no image's.
    let mut foreign = image(1, 1, 1000);
    let text = String::from_utf8(foreign.manifest.clone()).unwrap();
    foreign.manifest = text.replace(media_type::DOCKER_MANIFEST, "application/vnd.example.manifest").into_bytes();
    let bytes = foreign.manifest.clone();
    let (error, _) = error_of(&foreign, move |r| {
        let reply = Reply::new(200, bytes.clone()).with("Content-Type", "application/vnd.example.manifest");
        (r.inside() == "manifests/latest").then_some(reply)
    })
    .await;
    let expected = "unsupported manifest media type and no default available: application/vnd.example.manifest";
    assert_eq!(error.to_string(), expected);

    // A layer that only its publisher may distribute is not pushed, and the manifest names it nevertheless.
    let mut image = image(1, 2, 1000);
    let blob = Digest::of(&image.layers[1].blob);
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"][1]["mediaType"] = media_type::DOCKER_FOREIGN_LAYER_GZIP.into();
    image.manifest = serde_json::to_vec(&manifest).unwrap();
    let fake = Fake::serve(image.clone(), |_| None).await;
    let store = TestStore::new();
    let id = pull(&fake.name("a"), &store.store).await.0.unwrap().image_id;
    let taking = Fake::serve(image.clone(), |r| match r.method.as_str() {
        "HEAD" => Some(Reply::new(404, "")),
        "POST" => Some(Reply::new(202, "").with("Location", "/v2/a/blobs/uploads/1")),
        "PUT" => Some(Reply::new(201, "")),
        _ => None,
    })
    .await;
    let name = taking.name("a:1");
    store.store.image_tag(&name.parse().unwrap(), &id).unwrap();
    let (pushed, lines) = push(&name, &store.store).await;
    assert_eq!(pushed.unwrap()[0].digest, image.digest());
    assert_eq!(lines.iter().filter(|line| line.ends_with(": Skipped foreign layer")).count(), 1);
    assert!(!taking.requests().iter().any(|r| r.method == "PUT" && r.path.contains(blob.as_str())));
}

/// What a small layer becomes when it is unpacked has no limit but the disk; the memory that it takes has.
#[tokio::test]
async fn a_layer_of_zeros() {
    let zeros = layer_of_zeros(300 << 20);
    let good = from_layers(vec![zeros]);
    let fake = Fake::serve(good.clone(), |_| None).await;
    let store = TestStore::new();
    let before = peak_kib();
    pull(&fake.name("a"), &store.store).await.0.unwrap();
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < 100 << 10, "{grown} KiB for 300 MiB of zeros");
}

/// A gzip blob of a tar with one file of zeros, without ever having it in memory.
fn layer_of_zeros(size: u64) -> support::image::Layer {
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let tar = || std::io::Cursor::new(header.as_bytes().to_vec()).chain(std::io::repeat(0).take(size + 1024));
    let mut digester = oci::digest::Digester::sha256();
    let mut buffer = vec![0; 1 << 20];
    let mut stream = tar();
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        digester.update(&buffer[..length]);
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut tar(), &mut encoder).unwrap();
    support::image::Layer::of(encoder.finish().unwrap(), digester.finish())
}

/// The most memory that this process has had, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::test]
async fn what_a_registry_changes_on_the_way_is_found_out() {
    // A bit in the middle of a layer; an end that is missing and not announced; a layer that is longer than it should be.
    let good = image(1, 1, 500_000);
    let blob = good.layers[0].blob.clone();
    let path = format!("blobs/{}", Digest::of(&blob));
    let mut flipped = blob.clone();
    flipped[200_000] ^= 4;
    for body in
        [flipped, blob[..blob.len() - 1].to_vec(), [blob.clone(), b"x".to_vec()].concat(), gzip(b""), Vec::new()]
    {
        let asked = path.clone();
        let (error, _) = error_of(&good, move |r| (r.inside() == asked).then(|| Reply::new(200, body.clone()))).await;
        let text = error.to_string();
        assert!(
            text.starts_with("filesystem layer verification failed for digest")
                || text.starts_with("failed to register layer"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn archives_that_lie() {
    let registry = Registry::start();
    let good = image(1, 1, 1000);
    let fake = Fake::serve(good.clone(), |_| None).await;
    let store = TestStore::new();
    let id = pull(&fake.name("a"), &store.store).await.0.unwrap().image_id;
    let name = registry.name("a:1").parse().unwrap();
    store.store.image_tag(&name, &id).unwrap();
    let load = async |entries: &[(&str, &[u8])]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        let archive = std::io::Cursor::new(builder.into_inner().unwrap());
        let store = TestStore::new();
        let loaded = support::client().load(&store.store, archive, None, |_, _, _| {}).await;
        let error = loaded.unwrap_err().to_string();
        assert!(store.store.images().unwrap().is_empty());
        store.store.collect_garbage().unwrap();
        assert_eq!(store.leftovers(), [""; 0], "after: {error}");
        error
    };
    let manifest_name = format!("blobs/sha256/{}", good.digest().hex());
    let config_name = format!("blobs/sha256/{}", good.id().hex());
    let entry = serde_json::json!({"mediaType": media_type::DOCKER_MANIFEST, "digest": good.digest(),
        "size": good.manifest.len()});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let other_config = String::from_utf8(good.config.clone()).unwrap().replace("\"x\"", "\"y\"");
    let other_manifest = [&good.manifest[..], b" "].concat();
    let layer_name = format!("blobs/sha256/{}", Digest::of(&good.layers[0].blob).hex());
    let other_layer = layer("other", b"x").blob;

    assert_eq!(load(&[("x", b"{}")]).await, "invalid archive: does not contain a manifest.json");
    assert!(load(&[("index.json", b"[")]).await.starts_with("index.json: "));
    let missing = load(&[("index.json", index.as_bytes())]).await;
    assert_eq!(missing, format!("invalid archive: {manifest_name} is missing"));
    let text = load(&[("index.json", index.as_bytes()), (&manifest_name, &other_manifest)]).await;
    assert_eq!(text, format!("manifest verification failed for digest {}", good.digest()));
    let text = load(&[
        ("index.json", index.as_bytes()),
        (&manifest_name, &good.manifest),
        (&config_name, other_config.as_bytes()),
        (&layer_name, &good.layers[0].blob),
    ])
    .await;
    assert!(text.contains(&format!("image config verification failed for digest {}", good.id())), "{text}");
    let text = load(&[
        ("index.json", index.as_bytes()),
        (&manifest_name, &good.manifest),
        (&config_name, &good.config),
        (&layer_name, &other_layer),
    ])
    .await;
    assert!(text.starts_with("invalid diffID for layer: expected"), "{text}");
}
