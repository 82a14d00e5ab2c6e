//! Content by SHA-512: pulled by tag and by digest, and pushed as it came.

mod support;

use oci::digest::{Algorithm, Digester};
use oci::{Descriptor, Digest, Manifest, media_type};
use support::fake::{Fake, Reply, Request};
use support::image::{image, layer};
use support::reference::Registry;
use support::{TestStore, pull, push};

fn sha512(bytes: &[u8]) -> Digest {
    let mut digester = Digester::new(Algorithm::Sha512);
    digester.update(bytes);
    digester.finish()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, sha512(bytes), bytes.len() as u64)
}

#[tokio::test]
async fn everything_by_sha_512() {
    let one = layer("file", b"content");
    let config = serde_json::json!({
        "architecture": oci::Platform::host().architecture, "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [sha512(&one.tar)]},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let layers = vec![descriptor(media_type::OCI_LAYER_GZIP, &one.blob)];
    let mut manifest = Manifest::docker(descriptor(media_type::OCI_CONFIG, &config), layers);
    manifest.media_type = Some(media_type::OCI_MANIFEST.to_owned());
    let manifest = manifest.to_bytes();
    let contents = [config.clone(), one.blob.clone(), manifest.clone()];
    let digest = sha512(&manifest);
    let (named, served) = (digest.clone(), contents.clone());
    let fake = Fake::serve(image(1, 1, 10), move |request: &Request| {
        let (kind, name) = request.inside().split_once('/')?;
        let bytes =
            served.iter().find(|bytes| name == sha512(bytes).as_str() || (name == "latest" && **bytes == served[2]))?;
        let kind = if kind == "manifests" { media_type::OCI_MANIFEST } else { "application/octet-stream" };
        let reply = Reply::new(200, bytes.clone()).with("Content-Type", kind);
        Some(if name == "latest" { reply.with("Docker-Content-Digest", named.as_str()) } else { reply })
    })
    .await;

    for name in [fake.name("a:latest"), format!("{}@{digest}", fake.name("a"))] {
        let store = TestStore::new();
        let pulled = pull(&name, &store.store).await.0.unwrap();
        assert_eq!((&pulled.digest, pulled.image_id.digest()), (&digest, &Digest::of(&config)));
        assert!(store.store.image_resolve(&format!("{}@{digest}", fake.name("a"))).is_ok());
        for bytes in &contents {
            assert_eq!(store.store.blob_read(&sha512(bytes), 1 << 20).unwrap(), *bytes);
        }
        assert_eq!(store.store.verify(|_, _| true).unwrap().findings, []);

        // A registry that takes it has what came, byte for byte; it calls the manifest by SHA-256.
        let registry = Registry::start();
        let target = registry.name("b:1");
        store.store.image_tag(&target.parse().unwrap(), &pulled.image_id).unwrap();
        let pushed = push(&target, &store.store).await.0.unwrap().remove(0);
        assert_eq!(pushed.size, manifest.len() as u64);
        let fresh = TestStore::new();
        let again = pull(&target, &fresh.store).await.0.unwrap();
        assert_eq!(again.image_id, pulled.image_id);
        assert_eq!(fresh.store.blob_read(&again.digest, 1 << 20).unwrap(), manifest);
        assert_eq!(fresh.store.blob_read(&sha512(&one.blob), 1 << 20).unwrap(), one.blob);
    }
}
