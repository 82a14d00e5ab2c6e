//! The one copy, between whatever ends: between registries, of all platforms, in and out of archives, shared and limited.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oci::{Digest, Platform, media_type};
use registry::{Between, Client, Credentials, Error, Options, Pushed, QUEUE};
use support::fake::{Fake, Reply};
use support::image::{Image, from_layers, image, layer};
use support::proxy::Proxy;
use support::reference::Registry;
use support::{TestStore, lines, pull, pull_with, push};
use tokio::sync::mpsc;

/// A repository `NAME:all` with an index of two images, for this machine and for s390x. Returns the index.
async fn with_index(registry: &Registry, name: &str) -> Vec<u8> {
    let mut entries = Vec::new();
    for (seed, architecture) in [(1, Platform::host().architecture.as_str()), (2, "s390x")] {
        let one = image_for(seed, architecture);
        let fake = Fake::serve(one.clone(), |_| None).await;
        let store = TestStore::new();
        let id = pull(&fake.name("a"), &store.store).await.0.unwrap().image_id;
        let tag = registry.name(&format!("{name}:{architecture}"));
        store.store.image_tag(&tag.parse().unwrap(), &id).unwrap();
        push(&tag, &store.store).await.0.unwrap();
        entries.push(serde_json::json!({"mediaType": media_type::DOCKER_MANIFEST, "digest": one.digest(),
            "size": one.manifest.len(), "platform": {"os": "linux", "architecture": architecture}}));
    }
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
    let index = serde_json::to_vec_pretty(&index).unwrap();
    registry.put_manifest(&format!("{name}/manifests/all"), media_type::OCI_INDEX, &index);
    index
}

/// An image of two layers for an architecture. All share their first layer.
fn image_for(seed: u64, architecture: &str) -> Image {
    let shared = layer("shared", &support::image::noise(99, 50_000));
    let own = layer("own", &support::image::noise(seed, 50_000));
    let mut image = from_layers(vec![shared, own]);
    let config = String::from_utf8(image.config.clone()).unwrap();
    let host = Platform::host().architecture;
    image.config = config.replace(&format!("\"{host}\""), &format!("\"{architecture}\"")).into_bytes();
    image.manifest = support::image::manifest_of(&image.layers, &image.config);
    image
}

async fn copy(from: &str, to: &str, platform: Option<&str>) -> (Result<Pushed, Error>, Vec<String>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let told = lines(receiver);
    let (source, destination) = (from.parse().unwrap(), to.parse().unwrap());
    let platform = platform.map(|text| Platform::parse(text).unwrap());
    let between = Between {
        source: &source,
        destination: &destination,
        platform: platform.as_ref(),
        source_credentials: &Credentials::Anonymous,
        destination_credentials: &Credentials::Anonymous,
    };
    let copied = support::client().copy(between, &sender).await;
    drop(sender);
    (copied, told.await.unwrap())
}

fn ending(lines: &[String], end: &str) -> usize {
    lines.iter().filter(|line| line.ends_with(end)).count()
}

#[tokio::test]
async fn an_index_goes_from_registry_to_registry_bit_for_bit() {
    let (home, away) = (Registry::start(), Registry::start());
    let index = with_index(&home, "a/b").await;
    let (copied, told) = copy(&home.name("a/b:all"), &away.name("c"), None).await;
    let copied = copied.unwrap();
    assert_eq!((&copied.digest, copied.size), (&Digest::of(&index), index.len() as u64));
    assert_eq!(copied.reference.to_string(), away.name("c:all"), "the tag of the source");
    // The layer that both platforms share is sent once.
    assert_eq!((ending(&told, ": Pushed"), ending(&told, ": Layer already exists")), (3, 1));
    assert_eq!(told[told.len() - 2], format!("all: digest: {} size: {}", copied.digest, copied.size));

    // All of it is there, for both platforms.
    let s390x = Platform::parse("linux/s390x").unwrap();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let _told = lines(receiver);
    let (client, name) = (support::client(), away.name("c:all").parse().unwrap());
    let store = TestStore::new();
    let pulled = client.pull(&name, Some(&s390x), &Credentials::Anonymous, &store.store, &sender).await.unwrap();
    assert_eq!(pulled.image_id.digest(), &image_for(2, "s390x").id());

    // Once more: nothing is sent, and no blob asked for.
    let (again, told) = copy(&home.name("a/b:all"), &away.name("c:all"), None).await;
    assert_eq!(again.unwrap().digest, copied.digest);
    assert_eq!(told.len(), 3, "{told:?}");

    // Within one registry the blobs are mounted.
    let (mounted, told) = copy(&home.name("a/b:all"), &home.name("d/e:v1"), None).await;
    assert_eq!(mounted.unwrap().digest, copied.digest);
    assert_eq!((ending(&told, ": Mounted from a/b"), ending(&told, ": Pushed")), (3, 0));

    // One platform is a manifest alone. By digest it keeps its name, and another one is refused.
    let (one, _) = copy(&home.name("a/b:all"), &away.name("one:1"), Some("linux/s390x")).await;
    let manifest = image_for(2, "s390x").digest();
    assert_eq!(one.unwrap().digest, manifest);
    let by_digest = format!("{}@{manifest}", home.name("a/b"));
    let (one, _) = copy(&by_digest, &away.name("two"), None).await;
    assert_eq!(one.unwrap().reference.digest(), Some(&manifest));
    let (none, _) = copy(&home.name("a/b:no"), &away.name("x"), None).await;
    let expected = format!("manifest for {} not found: manifest unknown: manifest unknown", home.name("a/b:no"));
    assert_eq!(none.unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn all_platforms_are_kept_and_go_back_whole() {
    let (home, away) = (Registry::start(), Registry::start());
    let index = with_index(&home, "a").await;
    let store = TestStore::new();
    let (client, name) = (support::client(), home.name("a:all").parse().unwrap());
    let (sender, receiver) = mpsc::channel(QUEUE);
    let told = lines(receiver);
    let pulled = client.pull_all_platforms(&name, None, &Credentials::Anonymous, &store.store, &sender).await.unwrap();
    drop(sender);
    assert_eq!(ending(&told.await.unwrap(), ": Pull complete"), 3);
    let host = Platform::host();
    assert_eq!(pulled.image_id.digest(), &image_for(1, &host.architecture).id());
    store.store.collect_garbage().unwrap();

    // To a registry that has none of it.
    let there = away.name("b:v1");
    store.store.image_tag(&there.parse().unwrap(), &pulled.image_id).unwrap();
    let (pushed, _) = push(&there, &store.store).await;
    assert_eq!(pushed.unwrap()[0].digest, Digest::of(&index));

    // One of them alone.
    let single = away.name("c:v1");
    store.store.image_tag(&single.parse().unwrap(), &pulled.image_id).unwrap();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let _told = lines(receiver);
    let tags = [single.parse().unwrap()];
    let push_one = async |platform: &str| {
        let platform = Platform::parse(platform).unwrap();
        client.push_platform(&tags, Some(&platform), &Credentials::Anonymous, &store.store, &sender).await
    };
    assert_eq!(push_one("linux/s390x").await.unwrap()[0].digest, image_for(2, "s390x").digest());
    assert!(push_one("linux/riscv64").await.unwrap_err().to_string().contains("is not here for platform"));
}

/// All bytes of an archive.
async fn saved(store: &TestStore, name: &str, platform: Option<&str>) -> Result<Vec<u8>, Error> {
    let name: oci::Reference = name.parse().unwrap();
    let id = store.store.image_named(&name).unwrap().unwrap();
    let platform = platform.map(|text| Platform::parse(text).unwrap());
    let (mut pieces, work) = registry::save(&store.store, vec![(id, vec![name])], platform);
    let reading = async {
        let mut archive = Vec::new();
        while let Some(Ok(piece)) = pieces.recv().await {
            archive.extend_from_slice(&piece);
        }
        archive
    };
    let (archive, worked) = tokio::join!(reading, work);
    worked.map(|()| archive)
}

async fn load(store: &TestStore, archive: Vec<u8>, platform: Option<&str>) -> Result<Vec<registry::Loaded>, Error> {
    let platform = platform.map(|text| Platform::parse(text).unwrap());
    support::client().load(&store.store, std::io::Cursor::new(archive), platform.as_ref(), |_, _, _| {}).await
}

#[tokio::test]
async fn archives_hold_all_platforms() {
    let (home, away) = (Registry::start(), Registry::start());
    let index = with_index(&home, "a").await;
    let store = TestStore::new();
    let name = home.name("a:all");
    let (sender, receiver) = mpsc::channel(QUEUE);
    let _told = lines(receiver);
    let reference = name.parse().unwrap();
    support::client()
        .pull_all_platforms(&reference, None, &Credentials::Anonymous, &store.store, &sender)
        .await
        .unwrap();
    let archive = saved(&store, &name, None).await.unwrap();

    let other = TestStore::new();
    let loaded = load(&other, archive.clone(), None).await.unwrap();
    assert_eq!((loaded.len(), loaded[0].names[0].to_string()), (1, name.clone()));
    assert_eq!(loaded[0].image_id.digest(), &image_for(1, &Platform::host().architecture).id());
    other.store.collect_garbage().unwrap();
    let there = away.name("a:v1");
    other.store.image_tag(&there.parse().unwrap(), &loaded[0].image_id).unwrap();
    assert_eq!(push(&there, &other.store).await.0.unwrap()[0].digest, Digest::of(&index));

    // One platform into the archive, or out of it.
    let single = saved(&store, &name, Some("linux/s390x")).await.unwrap();
    assert!(single.len() < archive.len());
    let third = TestStore::new();
    let expected = image_for(2, "s390x").id();
    assert_eq!(load(&third, archive, Some("linux/s390x")).await.unwrap()[0].image_id.digest(), &expected);
    let fourth = TestStore::new();
    assert_eq!(load(&fourth, single, Some("linux/s390x")).await.unwrap()[0].image_id.digest(), &expected);
    assert!(saved(&store, &name, Some("linux/riscv64")).await.is_err());
}

#[tokio::test]
async fn a_layer_that_begins_like_json() {
    for name in ["[", "{x}"] {
        let (made, store) = (from_layers(vec![layer(name, b"1")]), TestStore::new());
        support::make(&store.store, &made, "a:1");
        let archive = saved(&store, "a:1", None).await.unwrap();
        let loaded = load(&TestStore::new(), archive, None).await.unwrap();
        assert_eq!(loaded[0].image_id.digest(), &made.id());
    }
}

#[tokio::test]
async fn a_load_tells_how_far_it_is_and_what_it_renames() {
    let (made, store) = (image(1, 1, 1_000_000), TestStore::new());
    support::make(&store.store, &made, "a:1");
    let archive = std::io::Cursor::new(saved(&store, "a:1", None).await.unwrap());
    let other = TestStore::new();
    support::make(&other.store, &image(2, 1, 10), "a:1");
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let tell = move |id: &str, current, total| sink.lock().unwrap().push((id.to_owned(), current, total));
    let client = support::client();
    let loaded = client.load(&other.store, archive.clone(), None, tell).await.unwrap();
    let replaced: Vec<_> = loaded[0].replaced.iter().map(|(name, id)| (name.familiar(), id.digest().clone())).collect();
    assert_eq!(replaced, [("a:1".to_owned(), image(2, 1, 10).id())]);
    let told = told.lock().unwrap().clone();
    let (id, total) = (made.layers[0].diff_id.hex()[..12].to_owned(), made.layers[0].tar.len() as u64);
    assert!(told.iter().all(|(of, current, all)| *of == id && current <= all && *all == total), "{told:?}");
    assert!(told.first().unwrap().1 < total && told.is_sorted_by(|a, b| a.1 < b.1), "{told:?}");
    assert_eq!(told.last().unwrap().1, total);
    // Nothing is renamed when it is the same once more.
    assert_eq!(client.load(&other.store, archive, None, |_, _, _| {}).await.unwrap()[0].replaced, []);
}

#[tokio::test]
async fn many_pulls_of_one_layer_fetch_it_once() {
    let shared = layer("shared", &support::image::noise(5, 400_000));
    let blob = format!("blobs/{}", Digest::of(&shared.blob));
    let store = TestStore::new();
    let client = support::client();
    let images: Vec<Image> = (0..10).map(|n| from_layers(vec![shared.clone(), layer("own", &[n; 100])])).collect();
    // One registry for all of them; a repository each.
    let all = images.clone();
    let fake = Fake::serve(images[0].clone(), move |r| {
        let n: usize = r.path.strip_prefix("/v2/r")?.split('/').next()?.parse().ok()?;
        let (kind, body) = all[n].get(r.inside())?;
        Some(Reply::new(200, body).with("Content-Type", kind))
    })
    .await;
    let pulls = (0..10).map(|n| {
        let (client, name, store) = (client.clone(), fake.name(&format!("r{n}")), store.store.clone());
        tokio::spawn(async move { pull_with(&client, &name, &store, &Credentials::Anonymous).await })
    });
    for (pull, image) in futures_util::future::join_all(pulls).await.into_iter().zip(&images) {
        let (pulled, told) = pull.unwrap();
        assert_eq!(pulled.unwrap().image_id.digest(), &image.id());
        let done = told.iter().filter(|line| line.ends_with("Pull complete") || line.ends_with("Already exists"));
        assert_eq!(done.count(), 2, "{told:?}");
    }
    assert_eq!(fake.count(&blob), 1);
    assert!(fake.most_at_once() <= Options::default().max_connections, "{}", fake.most_at_once());
}

#[tokio::test]
async fn who_waits_for_a_layer_takes_over_when_the_first_fails() {
    let good = image(1, 1, 300_000);
    let blob = format!("blobs/{}", Digest::of(&good.layers[0].blob));
    let (asked, body, tries) = (blob.clone(), good.layers[0].blob.clone(), AtomicUsize::new(0));
    let (begun, has_begun) = std::sync::mpsc::channel();
    // The first to ask gets some bytes, and then nothing for ever.
    let fake = Fake::serve(good.clone(), move |r| {
        if r.inside() != asked || tries.fetch_add(1, Ordering::SeqCst) > 0 {
            return None;
        }
        begun.send(()).unwrap();
        Some(Reply { stall: Some(100_000), ..Reply::new(200, body.clone()) })
    })
    .await;
    let store = TestStore::new();
    let patient = Client::new(Options { stall_timeout: Duration::from_secs(60), ..support::options() });
    let (name, first_store, first_client) = (fake.name("a"), store.store.clone(), patient.clone());
    let first =
        tokio::spawn(async move { pull_with(&first_client, &name, &first_store, &Credentials::Anonymous).await.0 });
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
    let (name, second_store, second_client) = (fake.name("b"), store.store.clone(), patient.clone());
    let second =
        tokio::spawn(async move { pull_with(&second_client, &name, &second_store, &Credentials::Anonymous).await });
    // The second has come as far as it can alone when it has read the configuration.
    while fake.count(&format!("blobs/{}", good.id())) < 1 || fake.count("manifests/latest") < 2 {
        tokio::task::yield_now().await;
    }
    first.abort();
    let (pulled, told) = second.await.unwrap();
    assert_eq!(pulled.unwrap().image_id.digest(), &good.id());
    assert!(told.iter().any(|line| line.ends_with("Pull complete")));
    assert_eq!(fake.count(&blob), 2);
}

#[tokio::test]
async fn who_does_not_listen_any_more_gives_the_layer_to_the_next() {
    let good = image(1, 1, 300_000);
    let blob = format!("blobs/{}", Digest::of(&good.layers[0].blob));
    let (asked, body, tries) = (blob.clone(), good.layers[0].blob.clone(), AtomicUsize::new(0));
    // The first to ask gets some bytes, and then nothing for ever.
    let fake = Fake::serve(good.clone(), move |r| {
        (r.inside() == asked && tries.fetch_add(1, Ordering::SeqCst) == 0)
            .then(|| Reply { stall: Some(200_000), ..Reply::new(200, body.clone()) })
    })
    .await;
    let store = TestStore::new();
    let client = Client::new(Options { stall_timeout: Duration::from_secs(60), ..support::options() });
    let (sender, events) = mpsc::channel(QUEUE);
    let name = fake.name("a").parse().unwrap();
    let pulling = client.pull(&name, None, &Credentials::Anonymous, &store.store, &sender);
    let partial = store.store.root().join("blobs/partial").join(Digest::of(&good.layers[0].blob).hex());
    let listening = async move {
        // Until all bytes are here that come: from then on there is nothing to tell.
        while std::fs::metadata(&partial).map_or(0, |found| found.len()) < 200_000 {
            tokio::task::yield_now().await;
        }
        drop(events);
    };
    let both = async { tokio::join!(pulling, listening) };
    let (pulled, ()) = tokio::time::timeout(Duration::from_secs(30), both).await.expect("before the stall ends it");
    assert_eq!(pulled.unwrap_err().to_string(), "context canceled");
    let (pulled, _) = pull_with(&client, &fake.name("a"), &store.store, &Credentials::Anonymous).await;
    assert_eq!(pulled.unwrap().image_id.digest(), &good.id());
    // The thread had ended before the next one had its turn: that went on with what was there.
    let requests = fake.requests();
    let ranges: Vec<&str> = requests.iter().filter(|r| r.inside() == blob).map(|r| r.header("range")).collect();
    assert_eq!(ranges, ["", "bytes=200000-"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_has_so_many_connections() {
    // More than what fits between the two ends of a connection, so that an answer lasts.
    let good = image(1, 5, 4_000_000);
    let fake = Fake::serve(good.clone(), |_| None).await;
    let options = Options { max_connections: 2, max_downloads: 8, ..support::options() };
    let client = Client::new(options);
    let stores = [TestStore::new(), TestStore::new()];
    let pulls = stores.iter().map(|store| {
        let (client, name, store) = (client.clone(), fake.name("a"), store.store.clone());
        tokio::spawn(async move { pull_with(&client, &name, &store, &Credentials::Anonymous).await.0 })
    });
    for pulled in futures_util::future::join_all(pulls).await {
        pulled.unwrap().unwrap();
    }
    assert!(fake.most_at_once() <= 2, "{}", fake.most_at_once());
}

#[tokio::test]
async fn a_copy_between_two_names_of_one_registry() {
    // With as few connections as there can be. Under one name it is in `uploads`.
    let home = Registry::start();
    let good = image(3, 6, 200_000);
    let fake = Fake::serve(good.clone(), |_| None).await;
    let store = TestStore::new();
    let id = pull(&fake.name("a"), &store.store).await.0.unwrap().image_id;
    store.store.image_tag(&home.name("a:1").parse().unwrap(), &id).unwrap();
    push(&home.name("a:1"), &store.store).await.0.unwrap();
    let client = Client::new(Options { max_connections: 2, max_uploads: 6, ..support::options() });
    // Through two names of one host, so that nothing is mounted.
    let source = home.name("a:1").replace("localhost", "127.0.0.1").parse().unwrap();
    let destination = home.name("b:1").parse().unwrap();
    let between = Between {
        source: &source,
        destination: &destination,
        platform: None,
        source_credentials: &Credentials::Anonymous,
        destination_credentials: &Credentials::Anonymous,
    };
    let (sender, receiver) = mpsc::channel(QUEUE);
    let told = lines(receiver);
    assert_eq!(client.copy(between, &sender).await.unwrap().digest, good.digest());
    drop(sender);
    assert_eq!(ending(&told.await.unwrap(), ": Pushed"), 6);
}

#[tokio::test]
async fn a_registry_that_has_too_much_to_do_is_given_time() {
    let good = image(1, 1, 1000);
    let blob = format!("blobs/{}", Digest::of(&good.layers[0].blob));
    let busy =
        |status: u16, after: &str| Reply::error(status, "TOOMANYREQUESTS", "slow down").with("Retry-After", after);
    for (status, inside) in [(429, "manifests/latest".to_owned()), (503, "manifests/latest".to_owned()), (429, blob)] {
        let (asked, tries) = (inside.clone(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&tries);
        let fake = Fake::serve(good.clone(), move |r| {
            (r.inside() == asked && count.fetch_add(1, Ordering::SeqCst) < 2).then(|| busy(status, "0"))
        })
        .await;
        pull(&fake.name("a"), &TestStore::new().store).await.0.unwrap();
        assert_eq!(fake.count(&inside), 3);
    }
    // Not for ever, and not for an hour.
    for (after, times) in [("0", 5), ("3600", 1)] {
        let fake =
            Fake::serve(good.clone(), move |r| (r.inside() == "manifests/latest").then(|| busy(429, after))).await;
        let (pulled, _) = pull(&fake.name("a"), &TestStore::new().store).await;
        assert_eq!(pulled.unwrap_err().to_string(), "toomanyrequests: slow down");
        assert_eq!(fake.count("manifests/latest"), times);
    }
}

#[tokio::test]
async fn a_token_that_ends_on_the_way_is_replaced() {
    let good = image(1, 2, 1000);
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    let tokens = Fake::serve(good.clone(), move |r| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        r.path.starts_with("/token").then(|| Reply::json(200, &format!(r#"{{"token":"t{number}","expires_in":300}}"#)))
    })
    .await;
    let realm = format!("Bearer realm=\"http://127.0.0.1:{}/token\",service=\"s\"", tokens.port);
    let config = format!("blobs/{}", good.id());
    let has_ended = Arc::new(AtomicUsize::new(0));
    // The first token is good up to the configuration.
    let fake = Fake::serve(good, move |r| {
        let ended = has_ended.load(Ordering::SeqCst);
        if r.inside() == config {
            has_ended.store(1, Ordering::SeqCst);
        }
        (r.header("authorization") != format!("Bearer t{ended}"))
            .then(|| Reply::new(401, "").with("WWW-Authenticate", &realm))
    })
    .await;
    pull(&fake.name("a"), &TestStore::new().store).await.0.unwrap();
    assert!(given.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn an_upload_that_breaks_off_goes_on_where_it_ended() {
    let home = Registry::start();
    let good = image(1, 1, 3_000_000);
    let fake = Fake::serve(good.clone(), |_| None).await;
    let store = TestStore::new();
    let id = pull(&fake.name("a"), &store.store).await.0.unwrap().image_id;
    let proxy = Proxy::start(home.port, 2, 1_000_000).await;
    let name = format!("127.0.0.1:{}/a:1", proxy.port);
    store.store.image_tag(&name.parse().unwrap(), &id).unwrap();
    let (pushed, told) = push(&name, &store.store).await;
    assert_eq!(pushed.unwrap()[0].digest, good.digest());
    assert_eq!((proxy.left(), ending(&told, "Retrying in 1 second")), (0, 2));
    assert_eq!(pull(&home.name("a:1"), &TestStore::new().store).await.0.unwrap().digest, good.digest());
}

#[tokio::test]
async fn a_registry_that_takes_no_large_request_gets_small_ones() {
    let size = 20 << 20;
    let good = from_layers(vec![support::image::Layer::plain("f", &support::image::noise(1, size))]);
    let store = TestStore::new();
    let fake = Fake::serve(good.clone(), |_| None).await;
    let id = pull(&fake.name("a"), &store.store).await.0.unwrap().image_id;
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let limited = Fake::serve(good.clone(), move |r| match r.method.as_str() {
        "HEAD" if r.inside().starts_with("blobs/") => Some(Reply::new(404, "")),
        "POST" => Some(Reply::new(202, "").with("Location", "/v2/a/blobs/uploads/1?state=x")),
        "PUT" | "PATCH" if r.body.len() > 9 << 20 => Some(Reply::new(413, "<html>too large</html>")),
        "PATCH" => {
            let start = count.fetch_add(r.body.len(), Ordering::SeqCst);
            let range = format!("{start}-{}", start + r.body.len() - 1);
            assert_eq!(r.header("content-range"), range);
            let reply = Reply::new(202, "").with("Location", "/v2/a/blobs/uploads/1?state=y");
            Some(reply.with("Range", &format!("0-{}", start + r.body.len() - 1)))
        }
        "PUT" => Some(Reply::new(201, "")),
        _ => None,
    })
    .await;
    let name = limited.name("a:1");
    store.store.image_tag(&name.parse().unwrap(), &id).unwrap();
    push(&name, &store.store).await.0.unwrap();
    assert_eq!(taken.load(Ordering::SeqCst), good.layers[0].blob.len());
    let last = limited.requests().iter().filter(|r| r.path.contains("state=y&digest=")).count();
    assert_eq!(last, 1, "the end of the upload has the latest location");
}

#[tokio::test]
async fn a_pull_goes_on_after_a_restart() {
    let good = image(1, 1, 1_000_000);
    let blob = format!("blobs/{}", Digest::of(&good.layers[0].blob));
    let (asked, body, broken) = (blob.clone(), good.layers[0].blob.clone(), Arc::new(AtomicUsize::new(1)));
    let is_broken = Arc::clone(&broken);
    let fake = Fake::serve(good.clone(), move |r| {
        let breaks = r.inside() == asked && is_broken.load(Ordering::SeqCst) == 1;
        let rest = r.header("range").is_empty();
        breaks.then(|| match rest {
            true => Reply { cut: Some(600_000), ..Reply::new(200, body.clone()) },
            false => Reply::new(500, ""),
        })
    })
    .await;
    let mut store = TestStore::new();
    assert!(pull(&fake.name("a"), &store.store).await.0.is_err());
    store = store.reopened();
    broken.store(0, Ordering::SeqCst);
    let before = fake.requests().len();
    pull(&fake.name("a"), &store.store).await.0.unwrap();
    let ranges: Vec<String> =
        fake.requests()[before..].iter().filter(|r| r.inside() == blob).map(|r| r.header("range").to_owned()).collect();
    assert_eq!(ranges, ["bytes=600000-"]);
}

#[tokio::test]
async fn what_is_left_of_a_pull_may_have_suffered() {
    let noise = support::image::noise(1, 1_000_000);
    // What cannot be inflated, and what is no tar any more: nothing vouches for a layer that is not compressed.
    for (layer, damage) in [(layer("f", &noise), 300_000..310_000), (support::image::Layer::plain("f", &noise), 0..10)]
    {
        let good = from_layers(vec![layer]);
        let blob = format!("blobs/{}", Digest::of(&good.layers[0].blob));
        let (asked, body, tries) = (blob.clone(), good.layers[0].blob.clone(), AtomicUsize::new(0));
        let fake = Fake::serve(good.clone(), move |r| {
            (r.inside() == asked && tries.fetch_add(1, Ordering::SeqCst) < 5)
                .then(|| Reply { cut: Some(600_000), ..Reply::new(200, body.clone()) })
        })
        .await;
        let mut store = TestStore::new();
        assert!(pull(&fake.name("a"), &store.store).await.0.is_err());
        store = store.reopened();
        let mut partials = std::fs::read_dir(store.store.root().join("blobs/partial")).unwrap();
        let partial = partials.next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&partial).unwrap();
        bytes[damage].fill(b'x');
        std::fs::write(&partial, bytes).unwrap();
        let before = fake.requests().len();
        pull(&fake.name("a"), &store.store).await.0.unwrap();
        // Whether the rest was asked for before the damage was seen is a matter of time.
        let requests = fake.requests();
        let ranges: Vec<&str> =
            requests[before..].iter().filter(|r| r.inside() == blob).map(|r| r.header("range")).collect();
        assert!(matches!(ranges[..], ["bytes=600000-", ""] | [""]), "{ranges:?}");
    }
}

#[tokio::test]
async fn a_registry_that_lies_about_ranges() {
    let good = image(1, 1, 1_000_000);
    let blob = format!("blobs/{}", Digest::of(&good.layers[0].blob));
    let total = good.layers[0].blob.len();
    for lie in [
        format!("bytes 700000-{}/{total}", total - 1),
        format!("bytes 300000-{}/{}", total - 1, total + 5),
        "nonsense".to_owned(),
    ] {
        let (asked, body, tries) = (blob.clone(), good.layers[0].blob.clone(), AtomicUsize::new(0));
        // First the connection breaks, then the wrong part comes, and in the end all of it.
        let fake = Fake::serve(good.clone(), move |r| match r.inside() == asked {
            true => match tries.fetch_add(1, Ordering::SeqCst) {
                0 => Some(Reply { cut: Some(300_000), ..Reply::new(200, body.clone()) }),
                1 => Some(Reply::new(206, &body[300_000..]).with("Content-Range", &lie)),
                _ => None,
            },
            false => None,
        })
        .await;
        let (pulled, told) = pull(&fake.name("a"), &TestStore::new().store).await;
        assert_eq!(pulled.unwrap().image_id.digest(), &good.id());
        assert_eq!(ending(&told, "Retrying in 1 second"), 2);
    }
    // Bytes of another part under the right name: the digest finds out, and nothing of them is believed later.
    let (asked, body, honest) = (blob.clone(), good.layers[0].blob.clone(), Arc::new(AtomicUsize::new(0)));
    let is_honest = Arc::clone(&honest);
    let fake = Fake::serve(good.clone(), move |r| {
        if r.inside() != asked || is_honest.load(Ordering::SeqCst) == 1 {
            return None;
        }
        Some(match r.header("range") {
            "" => Reply { cut: Some(300_000), ..Reply::new(200, body.clone()) },
            _ => Reply::new(206, [&body[300_001..], &body[..1]].concat())
                .with("Content-Range", &format!("bytes 300000-{}/{}", body.len() - 1, body.len())),
        })
    })
    .await;
    let store = TestStore::new();
    let error = pull(&fake.name("a"), &store.store).await.0.unwrap_err().to_string();
    assert!(
        error.starts_with("filesystem layer verification failed") || error.contains("failed to register"),
        "{error}"
    );
    assert_eq!(store.leftovers(), [""; 0]);
    honest.store(1, Ordering::SeqCst);
    pull(&fake.name("a"), &store.store).await.0.unwrap();
}
