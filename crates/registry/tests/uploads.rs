//! Pushes and copies into registries that are busy, refuse, fail now and then, or lie about what they have.

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci::Digest;
use registry::{Between, Client, Credentials, Error, Options, Pushed, QUEUE};
use support::fake::{Fake, Reply, Request};
use support::image::{Image, image};
use support::{TestStore, lines, pull, push};
use tokio::sync::mpsc;

/// What a registry answers that has an image in repository `a` and takes everything in repository `b`.
fn takes(request: &Request) -> Option<Reply> {
    if !request.path.starts_with("/v2/b/") {
        return None;
    }
    match request.method.as_str() {
        "HEAD" => Some(Reply::new(404, "")),
        "POST" => Some(Reply::new(202, "").with("Location", "/v2/b/blobs/uploads/1")),
        "PUT" => Some(Reply::new(201, "")),
        _ => None,
    }
}

/// A registry as above, except where `handler` has another reply.
async fn taking(image: &Image, handler: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    Fake::serve(image.clone(), move |request| handler(request).or_else(|| takes(request))).await
}

/// Pulls the image of a registry and pushes it back to repository `b`.
async fn back(fake: &Fake) -> Result<Vec<Pushed>, Error> {
    let store = TestStore::new();
    let id = pull(&fake.name("a"), &store.store).await.0.unwrap().image_id;
    let name = fake.name("b:1");
    store.store.image_tag(&name.parse().unwrap(), &id).unwrap();
    push(&name, &store.store).await.0
}

async fn copy(client: &Client, from: &str, to: &str) -> Result<Pushed, Error> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let _told = lines(receiver);
    let (source, destination) = (from.parse().unwrap(), to.parse().unwrap());
    let between = Between {
        source: &source,
        destination: &destination,
        platform: None,
        source_credentials: &Credentials::Anonymous,
        destination_credentials: &Credentials::Anonymous,
    };
    client.copy(between, &sender).await
}

fn is_mount(request: &Request) -> bool {
    request.method == "POST" && request.path.contains("mount=")
}

/// How many requests have this method and something like this in their path.
fn count(fake: &Fake, method: &str, part: &str) -> usize {
    fake.requests().iter().filter(|r| r.method == method && r.path.contains(part)).count()
}

#[tokio::test]
async fn a_copy_within_one_registry_that_mounts_nothing() {
    // One name, so one host with as few places as there can be, for more uploads than that and what feeds them.
    let good = image(3, 6, 200_000);
    let fake = taking(&good, |_| None).await;
    let client = Client::new(Options { max_connections: 2, max_uploads: 6, ..support::options() });
    let (from, to) = (fake.name("a"), fake.name("b:1"));
    let copied = tokio::time::timeout(Duration::from_secs(30), copy(&client, &from, &to));
    assert_eq!(copied.await.expect("nobody waits for ever").unwrap().digest, good.digest());
    assert_eq!(count(&fake, "POST", "mount="), 6);
    assert_eq!(count(&fake, "PUT", "digest="), 7, "six layers and the configuration");
}

#[tokio::test]
async fn a_copy_within_one_registry_in_small_requests() {
    // What a source has open between two requests keeps a place from the uploads beside it.
    let layers = (0..3).map(|n| support::image::Layer::plain("f", &support::image::noise(n, 9 << 20)));
    let good = support::image::from_layers(layers.collect());
    let kept = Arc::new(Mutex::new(std::collections::HashMap::<String, usize>::new()));
    let uploads = AtomicUsize::new(0);
    let fake = taking(&good, move |r| match r.method.as_str() {
        "POST" if r.path.starts_with("/v2/b/") => {
            let number = uploads.fetch_add(1, Ordering::SeqCst);
            Some(Reply::new(202, "").with("Location", &format!("/v2/b/blobs/uploads/{number}")))
        }
        "PUT" | "PATCH" if r.body.len() > 9 << 20 => Some(Reply::new(413, "too large")),
        "PATCH" => {
            let mut kept = kept.lock().unwrap();
            let length = kept.entry(r.path.clone()).or_default();
            *length += r.body.len();
            Some(Reply::new(202, "").with("Range", &format!("0-{}", *length - 1)))
        }
        _ => None,
    })
    .await;
    let client = Client::new(Options { max_connections: 2, max_uploads: 3, ..support::options() });
    let (from, to) = (fake.name("a"), fake.name("b:1"));
    let copied = tokio::time::timeout(Duration::from_secs(60), copy(&client, &from, &to));
    assert_eq!(copied.await.expect("nobody waits for ever").unwrap().digest, good.digest());
    assert!(count(&fake, "PATCH", "uploads") >= 6);
}

#[tokio::test]
async fn a_registry_that_refuses_to_mount_gets_the_blob() {
    for status in [400, 401, 403, 404, 405, 500, 503] {
        let good = image(1, 2, 1000);
        let fake = taking(&good, move |r| is_mount(r).then(|| Reply::error(status, "UNSUPPORTED", "no"))).await;
        assert_eq!(back(&fake).await.unwrap()[0].digest, good.digest(), "{status}");
        assert_eq!(count(&fake, "PUT", "digest="), 3, "{status}");
    }
}

#[tokio::test]
async fn a_token_server_that_refuses_the_right_to_mount() {
    let good = image(1, 2, 1000);
    // Who may push to `b` may not read `a` there.
    let tokens = Fake::serve(good.clone(), |r| {
        let both = r.path.contains("scope=repository%3Ab%3A") && r.path.contains("scope=repository%3Aa%3A");
        Some(match both {
            true => Reply::error(403, "DENIED", "not that one"),
            false => Reply::json(200, r#"{"token":"t0","expires_in":300}"#),
        })
    })
    .await;
    let realm = format!("Bearer realm=\"http://127.0.0.1:{}/token\",service=\"s\"", tokens.port);
    let fake = taking(&good, move |r| {
        (r.header("authorization") != "Bearer t0").then(|| Reply::new(401, "").with("WWW-Authenticate", &realm))
    })
    .await;
    assert_eq!(back(&fake).await.unwrap()[0].digest, good.digest());
    assert_eq!((count(&fake, "POST", "mount="), count(&fake, "PUT", "digest=")), (0, 3));
    assert_eq!(count(&tokens, "GET", "repository%3Aa%3Apull&scope"), 0);
}

#[tokio::test]
async fn patience_with_everybody() {
    let good = image(1, 1, 1000);
    let busy = || Reply::error(429, "TOOMANYREQUESTS", "slow down").with("Retry-After", "0");
    // The token server, the first question, and an upload that cannot be repeated by its request.
    let asked = AtomicBool::new(false);
    let tokens = Fake::serve(good.clone(), move |_| {
        let answer = || Reply::json(200, r#"{"token":"t0","expires_in":300}"#);
        Some(if asked.swap(true, Ordering::SeqCst) { answer() } else { busy() })
    })
    .await;
    let realm = format!("Bearer realm=\"http://127.0.0.1:{}/token\",service=\"s\"", tokens.port);
    let seen = Mutex::new(HashSet::new());
    let fake = taking(&good, move |r| {
        let is_first = |what: &'static str| seen.lock().unwrap().insert(what);
        if r.path == "/v2/" && is_first("ping") {
            return Some(busy());
        }
        if r.header("authorization") != "Bearer t0" {
            return Some(Reply::new(401, "").with("WWW-Authenticate", &realm));
        }
        (r.method == "PUT" && r.path.contains("digest=") && is_first("upload")).then(busy)
    })
    .await;
    assert_eq!(back(&fake).await.unwrap()[0].digest, good.digest());
    assert_eq!(count(&tokens, "GET", "/token"), 4, "refused, for the pull, for the push, to mount");
    assert_eq!(count(&fake, "PUT", "digest="), 3, "refused, the layer, the configuration");
}

#[tokio::test]
async fn whatever_fails_once_is_tried_again() {
    let good = image(1, 2, 100_000);
    let manifest = format!("manifests/{}", good.digest());
    let (bytes, seen, breaks) = (good.manifest.clone(), Mutex::new(HashSet::new()), AtomicBool::new(true));
    let asked = manifest.clone();
    let fake = taking(&good, move |r| {
        if r.path != "/v2/" && !is_mount(r) && seen.lock().unwrap().insert(r.line()) {
            return Some(Reply::new(500, ""));
        }
        // A document that breaks off, once.
        (r.method == "GET" && r.inside() == asked && breaks.swap(false, Ordering::SeqCst))
            .then(|| Reply { cut: Some(10), ..Reply::new(200, bytes.clone()) })
    })
    .await;
    let store = TestStore::new();
    let by_digest = format!("{}@{}", fake.name("a"), good.digest());
    let id = pull(&by_digest, &store.store).await.0.unwrap().image_id;
    assert_eq!(fake.count(&manifest), 3);
    let name = fake.name("b:1");
    store.store.image_tag(&name.parse().unwrap(), &id).unwrap();
    assert_eq!(push(&name, &store.store).await.0.unwrap()[0].digest, good.digest());
    assert_eq!(count(&fake, "PUT", "/v2/b/manifests/1"), 2);

    // By its tag a manifest is asked for once: so Docker does, and the user sees at once what is wrong.
    let fake = Fake::serve(good, |r| (r.inside() == "manifests/latest").then(|| Reply::new(502, ""))).await;
    pull(&fake.name("a"), &TestStore::new().store).await.0.unwrap_err();
    assert_eq!(fake.count("manifests/latest"), 1);
}

#[tokio::test]
async fn a_registry_that_keeps_nothing_is_given_up() {
    let good = support::image::from_layers(vec![support::image::Layer::plain("f", &support::image::noise(1, 9 << 20))]);
    let fake = taking(&good, |r| match r.method.as_str() {
        "PUT" if r.body.len() > 8 << 20 => Some(Reply::new(413, "too large")),
        // Whatever comes, so much is there.
        "PATCH" => Some(Reply::new(202, "").with("Range", "0-99")),
        _ => None,
    })
    .await;
    let pushed = tokio::time::timeout(Duration::from_secs(60), back(&fake)).await.expect("it ends");
    let error = pushed.unwrap_err().to_string();
    assert!(error.starts_with("the registry keeps nothing behind byte 100"), "{error}");
    let patches = count(&fake, "PATCH", "uploads");
    assert!((2..=10).contains(&patches), "{patches}");
}

#[tokio::test]
async fn a_source_that_is_slow_is_no_stall_of_the_upload() {
    let good = image(1, 1, 500_000);
    let blob = format!("blobs/{}", Digest::of(&good.layers[0].blob));
    let (body, tries) = (good.layers[0].blob.clone(), AtomicUsize::new(0));
    // The source stops in the middle, and goes on only for who asks once more. The request that it feeds waits.
    let source = Fake::serve(good.clone(), move |r| {
        (r.inside() == blob && tries.fetch_add(1, Ordering::SeqCst) == 0)
            .then(|| Reply { stall: Some(200_000), ..Reply::new(200, body.clone()) })
    })
    .await;
    let fake = taking(&good, |_| None).await;
    let copied = copy(&support::client(), &source.name("a"), &fake.name("b:1")).await;
    assert_eq!(copied.unwrap().digest, good.digest());
    assert_eq!(count(&fake, "POST", "uploads"), 2, "one for the layer, one for the configuration");
}
