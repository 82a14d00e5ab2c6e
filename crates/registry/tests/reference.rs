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
        support::make(&store.store, &made, &name);
        digests.push(push(&name, &store.store).await.0.unwrap()[0].digest.clone());
        let (_, lines) = push(&name, &store.store).await;
        assert!(lines.iter().any(|line| line.ends_with("Layer already exists")), "{lines:?}");
    }
    assert_eq!(digests[0], digests[1]);
    let fresh = TestStore::new();
    assert_eq!(pull(&name, &fresh.store).await.0.unwrap().digest, digests[0]);
}

#[tokio::test]
async fn an_index_is_pushed_as_it_was_where_all_of_it_is() {
    let registry = Registry::start();
    let store = TestStore::new();
    let mut entries = Vec::new();
    for (seed, architecture) in [(1, oci::Platform::host().architecture.as_str()), (2, "s390x")] {
        let one = image(seed, 1, 1000);
        let fake = Fake::serve(one.clone(), |_| None).await;
        let id = pull(&fake.name("a"), &store.store).await.0.unwrap().image_id;
        let name = registry.name(&format!("idx:{architecture}"));
        store.store.image_tag(&name.parse().unwrap(), &id).unwrap();
        push(&name, &store.store).await.0.unwrap();
        entries.push(serde_json::json!({"mediaType": oci::media_type::DOCKER_MANIFEST, "digest": one.digest(),
            "size": one.manifest.len(), "platform": {"os": "linux", "architecture": architecture}}));
    }
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": oci::media_type::OCI_INDEX, "manifests": entries});
    let index = serde_json::to_vec(&index).unwrap();
    registry.put_manifest("idx/manifests/all", oci::media_type::OCI_INDEX, &index);

    let fresh = TestStore::new();
    let pulled = pull(&registry.name("idx:all"), &fresh.store).await.0.unwrap();
    assert_eq!(pulled.digest, Digest::of(&index));
    for (name, expected) in [("idx:again", Digest::of(&index)), ("elsewhere:1", image(1, 1, 1000).digest())] {
        let name = registry.name(name);
        fresh.store.image_tag(&name.parse().unwrap(), &pulled.image_id).unwrap();
        assert_eq!(push(&name, &fresh.store).await.0.unwrap()[0].digest, expected);
        assert_eq!(pull(&name, &TestStore::new().store).await.0.unwrap().digest, expected);
    }
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

/// A blob that was dropped to make room is known by its digest: a push to where it came from needs no bytes, a pull of
/// it none either, and a push elsewhere makes another one.
#[tokio::test]
async fn a_blob_that_was_dropped_is_still_known() {
    let (from, elsewhere) = (Registry::start(), Registry::start());
    let good = image(3, 2, 200_000);
    let fake = Fake::serve(good.clone(), |_| None).await;
    let store = TestStore::new();
    let id = pull(&fake.name("a"), &store.store).await.0.unwrap().image_id;
    let name = from.name("b:v1");
    store.store.image_tag(&name.parse().unwrap(), &id).unwrap();
    push(&name, &store.store).await.0.unwrap();

    let evicted = store.store.make_room(300_000, &|_| store::ImageUsers::default()).unwrap();
    assert!(evicted.iter().all(|one| matches!(one, store::Evicted::Blob { .. })), "{evicted:?}");
    assert_eq!(evicted.len(), 2);
    let (again, lines) = push(&name, &store.store).await;
    assert_eq!(again.unwrap()[0].digest, good.digest());
    assert_eq!(lines.iter().filter(|line| line.ends_with(": Layer already exists")).count(), 2);
    let before = fake.requests().len();
    assert!(pull(&fake.name("a"), &store.store).await.0.unwrap().up_to_date);
    let asked: Vec<String> = fake.requests()[before..].iter().map(support::fake::Request::line).collect();
    assert_eq!(asked, ["GET /v2/", "HEAD /v2/a/manifests/latest"]);

    let other = elsewhere.name("c:v1");
    store.store.image_tag(&other.parse().unwrap(), &id).unwrap();
    let pushed = push(&other, &store.store).await.0.unwrap().remove(0);
    let fresh = TestStore::new();
    let pulled = pull(&other, &fresh.store).await.0.unwrap();
    assert_eq!((&pulled.digest, &pulled.image_id), (&pushed.digest, &id));
}
