//! Pull and push with the reference registry: what goes out comes back, bit for bit.

mod support;

use oci::Digest;
use registry::{Client, Credentials};
use support::fake::Fake;
use support::image::image;
use support::reference::Registry;
use support::{TestStore, pull, push};

#[tokio::test]
async fn a_pulled_image_keeps_its_digest() {
    let registry = Registry::start();
    let good = image(1, 4, 100_000);
    let fake = Fake::serve(good.clone(), |_| None).await;
    let store = TestStore::new();
    let id = pull(&fake.name("a"), &store.store).await.0.unwrap().image_id;
    let name = registry.name("b/c:v1");
    store.store.image_tag(&name.parse().unwrap(), &id).unwrap();

    let (pushed, lines) = push(&name, &store.store).await;
    let pushed = pushed.unwrap().remove(0);
    assert_eq!((&pushed.digest, pushed.size), (&good.digest(), good.manifest.len() as u64));
    assert_eq!(lines[0], format!("The push refers to repository [{}]", registry.name("b/c")));
    let top = Digest::of(&good.layers[3].tar).hex()[..12].to_owned();
    assert_eq!(lines[1], format!("{top}: Preparing"));
    assert_eq!(lines.iter().filter(|line| line.ends_with(": Pushed")).count(), 4);
    assert_eq!(lines[lines.len() - 2], format!("v1: digest: {} size: {}", pushed.digest, pushed.size));

    // Again: all is there. Into another repository: the registry takes it from the first one.
    let (again, lines) = push(&name, &store.store).await;
    again.unwrap();
    assert_eq!(lines.iter().filter(|line| line.ends_with(": Layer already exists")).count(), 4);
    let other = registry.name("d:v2");
    store.store.image_tag(&other.parse().unwrap(), &id).unwrap();
    let (mounted, lines) = push(&other, &store.store).await;
    assert_eq!(mounted.unwrap()[0].digest, good.digest());
    assert_eq!(lines.iter().filter(|line| line.ends_with(": Mounted from b/c")).count(), 4);

    // And back, into another store, by tag and by digest.
    let fresh = TestStore::new();
    assert_eq!(pull(&name, &fresh.store).await.0.unwrap().digest, good.digest());
    let by_digest = format!("{}@{}", registry.name("d"), good.digest());
    assert_eq!(pull(&by_digest, &fresh.store).await.0.unwrap().image_id, id);
    assert!(fresh.store.image_resolve(&by_digest).is_ok());
    let tags = Client::new(support::options()).tags(&name.parse().unwrap(), &Credentials::Anonymous).await;
    assert_eq!(tags.unwrap(), ["v1"]);
}

#[tokio::test]
async fn an_image_made_here_gets_the_same_digest_every_time() {
    let registry = Registry::start();
    let name = registry.name("made:latest");
    let mut digests = Vec::new();
    for _ in 0..2 {
        let store = TestStore::new();
        let made = image(7, 1, 300_000);
        let lease = store.store.lease();
        store.store.layer_import(&lease, None, made.layers[0].tar.as_slice()).unwrap();
        let new = store::NewImage { config: made.config, tags: vec![name.parse().unwrap()], ..Default::default() };
        store.store.image_create(&lease, new).unwrap();
        drop(lease);
        digests.push(push(&name, &store.store).await.0.unwrap()[0].digest.clone());
        let (_, lines) = push(&name, &store.store).await;
        assert!(lines.iter().any(|line| line.ends_with("Layer already exists")), "{lines:?}");
    }
    assert_eq!(digests[0], digests[1]);
    let fresh = TestStore::new();
    assert_eq!(pull(&name, &fresh.store).await.0.unwrap().digest, digests[0]);
}

#[tokio::test]
async fn what_cannot_be_pushed() {
    let registry = Registry::start();
    let store = TestStore::new();
    let (pushed, _) = push(&registry.name("no:such"), &store.store).await;
    assert_eq!(pushed.unwrap_err().to_string(), format!("tag does not exist: {}", registry.name("no:such")));
    let (pulled, _) = pull(&registry.name("no:such"), &store.store).await;
    let expected = format!("manifest for {} not found: manifest unknown: manifest unknown", registry.name("no:such"));
    assert_eq!(pulled.unwrap_err().to_string(), expected);
}
