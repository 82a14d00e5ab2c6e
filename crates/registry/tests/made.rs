//! Layers that were made here go to a registry while they are compressed.

mod support;

use std::sync::{Arc, Mutex};

use oci::Digest;
use support::fake::{Fake, Reply, Request};
use support::image::{Image, image};
use support::proxy::Proxy;
use support::reference::Registry;
use support::{TestStore, make, pull, push};

/// A registry that takes everything, until `refusal` says otherwise.
async fn takes_all(refusal: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    let uploaded = Arc::new(Mutex::new(Vec::new()));
    Fake::serve(image(99, 1, 1), move |request| {
        let mut uploaded = uploaded.lock().unwrap();
        refusal(request).or_else(|| match request.method.as_str() {
            "HEAD" => Some(Reply::new(404, "")),
            "POST" => Some(Reply::new(202, "").with("Location", "/v2/a/blobs/uploads/1")),
            "PATCH" => {
                *uploaded = request.body.clone();
                Some(Reply::new(202, "").with("Range", &format!("0-{}", uploaded.len() - 1)))
            }
            "PUT" if request.path.contains("digest=") => {
                let digest = request.path.split("digest=").nth(1).unwrap().replace("%3A", ":");
                let body = if request.body.is_empty() { &*uploaded } else { &request.body };
                assert_eq!(Digest::of(body).as_str(), digest);
                Some(Reply::new(201, ""))
            }
            "PUT" => Some(Reply::new(201, "")),
            _ => None,
        })
    })
    .await
}

fn one() -> Image {
    image(5, 1, 3_000_000)
}

fn streamed(fake: &Fake) -> usize {
    fake.requests().iter().filter(|request| request.header("transfer-encoding") == "chunked").count()
}

#[tokio::test]
async fn it_is_sent_while_it_is_made() {
    let fake = takes_all(|_| None).await;
    let (store, name) = (TestStore::new(), fake.name("a:1"));
    make(&store.store, &one(), &name);
    push(&name, &store.store).await.0.unwrap();
    let sent: Vec<(String, usize)> = fake
        .requests()
        .into_iter()
        .filter(|request| request.path.contains("/uploads/"))
        .map(|request| (request.method, request.body.len()))
        .collect();
    let [(post, 0), (patch, length), (put, 0), (_, 0), (_, 1..)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((post.as_str(), patch.as_str(), put.as_str()), ("POST", "PATCH", "PUT"));
    assert!(*length > 3_000_000 && streamed(&fake) == 1);
    // The next one has the blob, and knows how long it is.
    push(&name, &store.store).await.0.unwrap();
    assert_eq!(streamed(&fake), 1);
}

#[tokio::test]
async fn what_breaks_off_goes_on_with_the_blob() {
    let home = Registry::start();
    let proxy = Proxy::start(home.port, 1, 1_000_000).await;
    let (store, name) = (TestStore::new(), format!("127.0.0.1:{}/a:1", proxy.port));
    make(&store.store, &one(), &name);
    let digest = push(&name, &store.store).await.0.unwrap()[0].digest.clone();
    assert_eq!(proxy.left(), 0);
    let pulled = pull(&home.name("a:1"), &TestStore::new().store).await.0.unwrap();
    assert_eq!((pulled.digest, pulled.image_id.digest()), (digest, &one().id()));
}

#[tokio::test]
async fn a_registry_that_takes_no_stream_gets_the_blob() {
    let fake = takes_all(|request| match request.header("transfer-encoding") {
        "" => None,
        _ => Some(Reply::error(411, "SIZE_INVALID", "how long is it?")),
    })
    .await;
    let (store, name) = (TestStore::new(), fake.name("a:1"));
    make(&store.store, &one(), &name);
    push(&name, &store.store).await.0.unwrap();
    assert_eq!(streamed(&fake), 1);
}

#[tokio::test]
async fn two_pushes_at_once_make_it_once() {
    let (one_registry, other) = tokio::join!(takes_all(|_| None), takes_all(|_| None));
    let store = TestStore::new();
    let names = [one_registry.name("a:1"), other.name("a:1")];
    for name in &names {
        make(&store.store, &one(), name);
    }
    let client = registry::Client::new(support::options());
    let [first, second] = names.each_ref().map(|name| support::push_with(&client, name, &store.store));
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.0.unwrap()[0].digest, second.0.unwrap()[0].digest);
    assert_eq!(streamed(&one_registry) + streamed(&other), 1);
}

/// Whoever makes it may be given up by its client: it is made to its end all the same, and the next one finds it.
#[tokio::test]
async fn a_push_that_is_given_up_leaves_what_it_made() {
    let begun = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&begun);
    let silent = takes_all(move |request| {
        (request.method == "POST").then(|| {
            told.notify_one();
            Reply { silent: true, ..Reply::new(202, "") }
        })
    })
    .await;
    let (store, other) = (TestStore::new(), takes_all(|_| None).await);
    let names = [silent.name("a:1"), other.name("a:1")];
    for name in &names {
        make(&store.store, &one(), name);
    }
    let client = registry::Client::new(support::options());
    let first = support::push_with(&client, &names[0], &store.store);
    tokio::select! {
        pushed = first => panic!("{pushed:?}"),
        () = begun.notified() => {}
    }
    support::push_with(&client, &names[1], &store.store).await.0.unwrap();
    assert_eq!(streamed(&other), 0);
}
