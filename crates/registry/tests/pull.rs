//! Pulling from registries that behave well, and from those that do not: every failure has Docker's text and leaves nothing.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use oci::Digest;
use registry::{Credentials, Error, ErrorKind};
use support::fake::{Fake, Reply};
use support::image::{Image, Layer, from_layers, gzip, image, layer};
use support::{TestStore, pull, pull_with};

/// Pulls `name` from a registry that does this, into an empty store, and expects a failure that leaves nothing.
async fn failure(
    image: &Image,
    handler: impl Fn(&support::fake::Request) -> Option<Reply> + Send + Sync + 'static,
) -> (Error, Vec<String>, Fake) {
    let fake = Fake::serve(image.clone(), handler).await;
    let store = TestStore::new();
    let (pulled, lines) = pull(&fake.name("a"), &store.store).await;
    let error = pulled.expect_err("the pull fails");
    assert_eq!(store.leftovers(), [""; 0], "after: {error}");
    assert!(store.store.images().unwrap().is_empty());
    (error, lines, fake)
}

#[tokio::test]
async fn a_good_registry() {
    let image = image(1, 5, 200_000);
    let fake = Fake::serve(image.clone(), |_| None).await;
    let store = TestStore::new();
    let (pulled, lines) = pull(&fake.name("a/b:latest"), &store.store).await;
    let pulled = pulled.unwrap();
    assert_eq!((pulled.image_id.digest(), &pulled.digest, pulled.up_to_date), (&image.id(), &image.digest(), false));
    assert_eq!(lines[0], "latest: Pulling from a/b");
    for n in 0..5 {
        assert_eq!(lines[1 + n], format!("{}: Pulling fs layer", image.short(n)));
        let of_layer: Vec<&str> =
            lines.iter().filter_map(|line| line.strip_prefix(&format!("{}: ", image.short(n)))).collect();
        let waiting = if n < 3 { &[][..] } else { &["Waiting"] };
        let rest = ["Verifying Checksum", "Download complete", "Pull complete"];
        assert_eq!(of_layer, [&["Pulling fs layer"], waiting, &rest].concat());
    }
    assert_eq!(lines.last().unwrap(), &format!("Digest: {}", image.digest()));

    // The second time one question is enough, and nothing is fetched.
    let before = fake.requests().len();
    let (again, lines) = pull(&fake.name("a/b"), &store.store).await;
    assert!(again.unwrap().up_to_date);
    assert_eq!(lines, ["latest: Pulling from a/b".to_owned(), format!("Digest: {}", image.digest())]);
    let asked: Vec<String> = fake.requests()[before..].iter().map(support::fake::Request::line).collect();
    assert_eq!(asked, ["GET /v2/", "HEAD /v2/a/b/manifests/latest"]);
}

#[tokio::test]
async fn layers_that_are_here_are_not_fetched() {
    let first = image(1, 2, 1000);
    let second = from_layers([first.layers.clone(), vec![layer("new", b"x")]].concat());
    let store = TestStore::new();
    let fake = Fake::serve(first, |_| None).await;
    pull(&fake.name("a"), &store.store).await.0.unwrap();
    let fake = Fake::serve(second.clone(), |_| None).await;
    let (pulled, lines) = pull(&fake.name("a"), &store.store).await;
    pulled.unwrap();
    assert_eq!(lines[1], format!("{}: Already exists", second.short(0)));
    assert_eq!(fake.count(&format!("blobs/{}", Digest::of(&second.layers[0].blob))), 0);
    assert_eq!(fake.count(&format!("blobs/{}", Digest::of(&second.layers[2].blob))), 1);
}

#[tokio::test]
async fn a_layer_that_is_here_in_another_compression_comes_as_a_blob() {
    let good = image(1, 1, 1000);
    let store = TestStore::new();
    let lease = store.store.lease();
    let imported = store.store.layer_import(&lease, None, good.layers[0].tar.as_slice()).unwrap();
    assert_eq!(imported.diff_id, Digest::of(&good.layers[0].tar));
    let own = store::NewImage { config: support::image::config_of(&good.layers), ..Default::default() };
    store.store.image_create(&lease, own).unwrap();
    drop(lease);
    let fake = Fake::serve(good.clone(), |_| None).await;
    pull(&fake.name("a"), &store.store).await.0.unwrap();
    let blob = Digest::of(&good.layers[0].blob);
    assert_eq!(store.store.blob_read(&blob, 1 << 20).unwrap(), good.layers[0].blob);
}

/// Whoever writes a manifest can name any blob beside a layer that is here. It does not become that layer.
#[tokio::test]
async fn a_blob_that_is_another_layer_than_it_is_called() {
    let good = image(1, 2, 1000);
    let store = TestStore::new();
    let fake = Fake::serve(good.clone(), |_| None).await;
    pull(&fake.name("good"), &store.store).await.0.unwrap();
    let evil = layer("evil", b"x");
    for layers in [
        vec![Layer { blob: evil.blob.clone(), ..good.layers[0].clone() }, evil.clone()],
        // The first of two that are called the same is right.
        vec![good.layers[0].clone(), Layer { blob: evil.blob.clone(), ..good.layers[0].clone() }, evil.clone()],
    ] {
        let forged = from_layers(layers);
        let fake = Fake::serve(forged.clone(), |_| None).await;
        let pulled = pull(&fake.name("forged"), &store.store).await.0;
        assert!(matches!(pulled, Err(Error::LayerMismatch)), "{pulled:?}");
    }
}

#[tokio::test]
async fn what_is_not_there() {
    let image = image(1, 1, 10);
    let (error, lines, fake) = failure(&image, |r| {
        (r.inside() == "manifests/latest").then(|| {
            Reply::json(
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
            )
        })
    })
    .await;
    let expected = format!("manifest for {} not found: manifest unknown: manifest unknown", fake.name("a:latest"));
    assert_eq!((error.to_string(), error.kind(), lines.len()), (expected, ErrorKind::NotFound, 0));

    // Docker's words for each answer to the manifest, as its daemon was seen to say them.
    for (reply, expected, kind) in [
        (Reply::new(500, "boom"), "received unexpected HTTP status: 500 Internal Server Error", ErrorKind::System),
        (Reply::new(503, "boom"), "received unexpected HTTP status: 503 Service Unavailable", ErrorKind::System),
        (Reply::error(403, "DENIED", "requested access to the resource is denied"), "denied", ErrorKind::System),
        (Reply::error(401, "UNAUTHORIZED", "authentication required"), "unauthorized", ErrorKind::System),
        (Reply::error(429, "TOOMANYREQUESTS", "slow down"), "toomanyrequests: slow down", ErrorKind::System),
        (Reply::error(404, "NAME_UNKNOWN", ""), "name unknown", ErrorKind::System),
        (Reply::error(400, "FOO_BAR", "hello"), "unknown: hello", ErrorKind::System),
        (Reply::new(404, "404 page not found"), "unknown: 404 page not found", ErrorKind::System),
        (
            Reply::json(404, ""),
            "error parsing HTTP 404 response body: unexpected end of JSON input: \"\"",
            ErrorKind::System,
        ),
        (
            Reply::json(404, "{}"),
            "error parsing HTTP 404 response body: no error details found in HTTP response body: \"{}\"",
            ErrorKind::System,
        ),
        (
            Reply::json(404, "<html>"),
            "error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: \"<html>\"",
            ErrorKind::System,
        ),
        (
            Reply::new(403, "no"),
            "pull access denied for NAME, repository does not exist or may require 'docker login': denied: no",
            ErrorKind::NotFound,
        ),
        (
            Reply::new(401, "{}").with("WWW-Authenticate", "Bearer realm=\"x\",error=\"insufficient_scope\""),
            "Head \"http://NAME/v2/a/manifests/latest\": no realm specified for token auth challenge",
            ErrorKind::System,
        ),
        (Reply::new(200, "<html>"), "invalid character '<' looking for beginning of value", ErrorKind::System),
    ] {
        let (error, _, fake) =
            failure(&image, move |r| (r.inside() == "manifests/latest").then(|| reply.clone())).await;
        let host = format!("127.0.0.1:{}", fake.port);
        let name = if expected.contains("http://") { host } else { format!("{host}/a") };
        assert_eq!((error.to_string(), error.kind()), (expected.replace("NAME", &name), kind));
    }
}

#[tokio::test]
async fn nobody_listens() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = TestStore::new();
    let (pulled, lines) = pull(&format!("127.0.0.1:{port}/a"), &store.store).await;
    let expected =
        format!("Get \"http://127.0.0.1:{port}/v2/\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!((pulled.unwrap_err().to_string(), lines.len()), (expected, 0));
    let (pulled, _) = pull("scratch", &store.store).await;
    assert_eq!(pulled.unwrap_err().to_string(), "'scratch' is a reserved name");
}

#[tokio::test]
async fn content_that_is_not_what_it_says() {
    let good = image(1, 2, 100_000);
    let blob = Digest::of(&good.layers[1].blob);

    let mut wrong = good.layers[1].blob.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let path = format!("blobs/{blob}");
    let body = wrong.clone();
    let (error, ..) = failure(&good, move |r| (r.inside() == path).then(|| Reply::new(200, body.clone()))).await;
    assert_eq!(error.to_string(), format!("filesystem layer verification failed for digest {blob}"));

    let path = format!("blobs/{blob}");
    let body = [good.layers[1].blob.clone(), vec![0; 10]].concat();
    let (error, ..) = failure(&good, move |r| (r.inside() == path).then(|| Reply::new(200, body.clone()))).await;
    assert_eq!(error.to_string(), format!("filesystem layer verification failed for digest {blob}"));

    let config = format!("blobs/{}", good.id());
    let (error, ..) = failure(&good, move |r| (r.inside() == config).then(|| Reply::new(200, "{}"))).await;
    let expected =
        format!("error pulling image configuration: image config verification failed for digest {}", good.id());
    assert_eq!(error.to_string(), expected);

    let other = Digest::of(b"other");
    let manifest = good.manifest.clone();
    let (error, ..) = failure(&good, move |r| {
        let reply = Reply::new(200, manifest.clone()).with("Docker-Content-Digest", other.as_str());
        (r.inside() == "manifests/latest").then_some(reply)
    })
    .await;
    assert_eq!(error.to_string(), format!("manifest verification failed for digest {}", Digest::of(b"other")));
}

#[tokio::test]
async fn layers_that_cannot_be_unpacked() {
    let mut truncated = layer("f", &support::image::noise(1, 100_000));
    truncated.blob.truncate(truncated.blob.len() / 2);
    let (error, ..) = failure(&from_layers(vec![truncated]), |_| None).await;
    assert!(error.to_string().starts_with("failed to register layer: "), "{error}");

    let mut corrupt = layer("f", &support::image::noise(1, 100_000));
    corrupt.blob[5000..5100].fill(0);
    let (error, ..) = failure(&from_layers(vec![corrupt]), |_| None).await;
    assert!(error.to_string().starts_with("failed to register layer: ") || matches!(error, Error::LayerMismatch));

    let no_tar = vec![b'x'; 3000];
    let no_tar = support::image::Layer::of(gzip(&no_tar), Digest::of(&no_tar));
    let (error, ..) = failure(&from_layers(vec![no_tar]), |_| None).await;
    assert_eq!(error.to_string(), "failed to register layer: archive/tar: invalid tar header");

    let mut image = image(1, 1, 10);
    image.config = support::image::config_of(&[layer("other", b"")]);
    image.manifest = support::image::manifest_of(&image.layers, &image.config);
    let (error, ..) = failure(&image, |_| None).await;
    assert_eq!(error.to_string(), "layers from manifest don't match image configuration");
    image.config = support::image::config_of(&[]);
    image.manifest = support::image::manifest_of(&image.layers, &image.config);
    let (error, ..) = failure(&image, |_| None).await;
    assert_eq!(error.to_string(), "layers from manifest don't match image configuration");
}

#[tokio::test]
async fn configurations_that_are_none() {
    for (config, expected) in [
        ("{\"a\":1}", "invalid rootfs in image configuration"),
        ("", "unexpected end of JSON input"),
        (
            "{\"os\":\"windows\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}",
            "image operating system \"windows\" cannot be used on this platform: operating system is not supported",
        ),
    ] {
        let mut image = image(1, 1, 10);
        image.config = config.as_bytes().to_vec();
        image.manifest = support::image::manifest_of(&image.layers, &image.config);
        assert_eq!(failure(&image, |_| None).await.0.to_string(), expected);
    }
    let mut chart = image(1, 1, 10);
    let text = String::from_utf8(chart.manifest.clone()).unwrap();
    chart.manifest =
        text.replace(oci::media_type::DOCKER_CONFIG, "application/vnd.cncf.helm.config.v1+json").into_bytes();
    let expected = "Encountered remote \"application/vnd.cncf.helm.config.v1+json\"(unknown) when fetching";
    assert_eq!(failure(&chart, |_| None).await.0.to_string(), expected);
}

#[tokio::test]
async fn a_missing_blob() {
    let good = image(1, 1, 10);
    let blob = format!("blobs/{}", Digest::of(&good.layers[0].blob));
    let gone = || Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    let (error, ..) = failure(&good, move |r| (r.inside() == blob).then(gone)).await;
    assert_eq!(error.to_string(), "unknown blob");
    let config = format!("blobs/{}", good.id());
    let (error, ..) = failure(&good, move |r| (r.inside() == config).then(gone)).await;
    let expected = "error pulling image configuration: download failed after attempts=1: unknown blob";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_ended() {
    let good = image(1, 1, 1_000_000);
    let path = format!("blobs/{}", Digest::of(&good.layers[0].blob));
    for without_ranges in [false, true] {
        let (tries, image, path) = (AtomicUsize::new(0), good.clone(), path.clone());
        let asked = path.clone();
        let fake = Fake::serve(good.clone(), move |r| {
            if r.inside() != asked {
                return None;
            }
            let body = image.layers[0].blob.clone();
            match tries.fetch_add(1, Ordering::SeqCst) {
                0 => Some(Reply { cut: Some(300_000), ..Reply::new(200, body) }),
                1 => Some(Reply { stall: Some(400_000), ..Reply::new(200, body) }),
                2 => Some(Reply::new(500, "")),
                _ if without_ranges => Some(Reply::new(200, body)),
                _ => None,
            }
        })
        .await;
        let store = TestStore::new();
        let (pulled, lines) = pull(&fake.name("a"), &store.store).await;
        pulled.unwrap();
        assert_eq!(lines.iter().filter(|line| line.ends_with("Retrying in 1 second")).count(), 3);
        let ranges: Vec<String> =
            fake.requests().iter().filter(|r| r.inside() == path).map(|r| r.header("range").to_owned()).collect();
        assert_eq!(ranges[..2], ["", "bytes=300000-"]);
    }
}

#[tokio::test]
async fn retries_end() {
    let good = image(1, 1, 100_000);
    for (reply, expected) in [
        (Reply::new(500, ""), "received unexpected HTTP status: 500 Internal Server Error"),
        (Reply { cut: Some(5), ..Reply::new(200, vec![0; 100]) }, "unexpected EOF"),
        (Reply { stall: Some(5), ..Reply::new(200, vec![0; 100]) }, "i/o timeout"),
    ] {
        let path = format!("blobs/{}", Digest::of(&good.layers[0].blob));
        let asked = path.clone();
        let (error, lines, fake) = failure(&good, move |r| (r.inside() == asked).then(|| reply.clone())).await;
        assert_eq!(error.to_string(), expected);
        assert_eq!((fake.count(&path), lines.iter().filter(|line| line.contains("Retrying")).count()), (5, 4));
    }
    let (error, _, fake) =
        failure(&good, |r| (r.path == "/v2/").then(|| Reply { silent: true, ..Reply::default() })).await;
    let expected = format!("Get \"http://127.0.0.1:{}/v2/\": net/http: timeout awaiting response headers", fake.port);
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn documents_have_a_limit() {
    let good = image(1, 1, 10);
    let (error, ..) =
        failure(&good, |r| (r.inside() == "manifests/latest").then(|| Reply::new(200, vec![b' '; 5 << 20]))).await;
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn an_index_leads_to_this_machine() {
    let good = image(1, 1, 1000);
    let host = oci::Platform::host();
    let entry = |digest: &Digest, architecture: &str| {
        serde_json::json!({"mediaType": oci::media_type::DOCKER_MANIFEST, "digest": digest, "size": good.manifest.len(),
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = |entries: &[serde_json::Value]| {
        serde_json::to_vec(
            &serde_json::json!({"schemaVersion": 2, "mediaType": oci::media_type::OCI_INDEX, "manifests": entries}),
        )
        .unwrap()
    };
    let serve = |bytes: Vec<u8>| {
        move |r: &support::fake::Request| {
            let reply = Reply::new(200, bytes.clone()).with("Content-Type", oci::media_type::OCI_INDEX);
            (r.inside() == "manifests/latest").then_some(reply)
        }
    };
    let bytes = index(&[entry(&Digest::of(b"no"), "s390x"), entry(&good.digest(), &host.architecture)]);
    let fake = Fake::serve(good.clone(), serve(bytes.clone())).await;
    let store = TestStore::new();
    let pulled = pull(&fake.name("a"), &store.store).await.0.unwrap();
    assert_eq!((pulled.digest, pulled.image_id.digest()), (Digest::of(&bytes), &good.id()));

    let (error, lines, _) = failure(&good, serve(index(&[entry(&good.digest(), "s390x")]))).await;
    assert_eq!(error.to_string(), format!("no matching manifest for {host} in the manifest list entries"));
    assert_eq!(lines, ["latest: Pulling from a"]);
}

#[tokio::test]
async fn credentials_and_tokens() {
    let good = image(1, 1, 10);
    let basic = Credentials::Basic { username: "u".into(), password: "p".into() };
    // Basic.
    let fake = Fake::serve(good.clone(), |r| {
        (r.header("authorization") != "Basic dTpw")
            .then(|| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""))
    })
    .await;
    let store = TestStore::new();
    pull_with(&support::client(), &fake.name("a"), &store.store, &basic).await.0.unwrap();
    let (pulled, _) = pull(&fake.name("a"), &TestStore::new().store).await;
    let expected = format!("Head \"http://{}\": no basic auth credentials", fake.name("v2/a/manifests/latest"));
    assert_eq!(pulled.unwrap_err().to_string(), expected);

    // Tokens, from a server elsewhere, which sees the password; the registry never does.
    let tokens = Fake::serve(good.clone(), |r| match r.header("authorization") {
        "Basic dTpw" => Some(Reply::json(200, r#"{"token":"t0","expires_in":300}"#)),
        "" if r.method == "POST" => Some(Reply::json(200, r#"{"access_token":"t0"}"#)),
        _ => Some(Reply::error(401, "UNAUTHORIZED", "incorrect username or password")),
    })
    .await;
    let realm = format!("Bearer realm=\"http://127.0.0.1:{}/token\",service=\"s\"", tokens.port);
    let fake = Fake::serve(good.clone(), move |r| {
        (r.header("authorization") != "Bearer t0").then(|| Reply::new(401, "").with("WWW-Authenticate", &realm))
    })
    .await;
    pull_with(&support::client(), &fake.name("a/b"), &TestStore::new().store, &basic).await.0.unwrap();
    assert_eq!(tokens.requests()[0].path, "/token?account=u&scope=repository%3Aa%2Fb%3Apull&service=s");
    assert_eq!(tokens.requests().len(), 1, "one token is enough for all");
    let identity = Credentials::IdentityToken("i?".into());
    pull_with(&support::client(), &fake.name("a"), &TestStore::new().store, &identity).await.0.unwrap();
    let body = String::from_utf8(tokens.requests()[1].body.clone()).unwrap();
    assert_eq!(
        body,
        "client_id=docker&grant_type=refresh%5Ftoken&refresh_token=i%3F&scope=repository%3Aa%3Apull&service=s"
    );
    let (pulled, _) = pull(&fake.name("a"), &TestStore::new().store).await;
    let expected =
        format!("Head \"http://{}\": unauthorized: incorrect username or password", fake.name("v2/a/manifests/latest"));
    assert_eq!(pulled.unwrap_err().to_string(), expected);
    assert!(fake.requests().iter().all(|r| !r.header("authorization").starts_with("Basic")));

    // Login.
    let client = support::client();
    assert_eq!(client.login(&format!("127.0.0.1:{}", fake.port), basic).await.unwrap(), None);
    let wrong = Credentials::Basic { username: "u".into(), password: "no".into() };
    let error = client.login(&format!("127.0.0.1:{}", fake.port), wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn credentials_stay_at_home() {
    let good = image(1, 1, 1000);
    let blob = format!("blobs/{}", Digest::of(&good.layers[0].blob));
    let storage = Fake::serve(good.clone(), |_| None).await;
    let target = format!("http://127.0.0.1:{}/v2/a/{blob}?signature=1", storage.port);
    let fake = Fake::serve(good, move |r| {
        if r.header("authorization") != "Basic dTpw" {
            return Some(Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
        }
        (r.inside() == blob).then(|| Reply::new(307, "").with("Location", &target))
    })
    .await;
    let basic = Credentials::Basic { username: "u".into(), password: "p".into() };
    pull_with(&support::client(), &fake.name("a"), &TestStore::new().store, &basic).await.0.unwrap();
    let elsewhere = storage.requests();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|r| r.header("authorization").is_empty()));
}

#[tokio::test]
async fn mirrors_come_first_and_may_fail() {
    let good = image(1, 1, 1000);
    let broken = Fake::serve(good.clone(), |r| (r.path != "/v2/").then(|| Reply::new(500, ""))).await;
    let mirror = Fake::serve(good.clone(), |_| None).await;
    let url = |fake: &Fake| format!("http://127.0.0.1:{}", fake.port);
    let options = registry::Options { mirrors: vec![url(&broken), url(&mirror)], ..support::options() };
    let store = TestStore::new();
    let basic = Credentials::Basic { username: "u".into(), password: "p".into() };
    let (pulled, lines) = pull_with(&registry::Client::new(options), "busybox", &store.store, &basic).await;
    pulled.unwrap();
    assert_eq!(lines[0], "latest: Pulling from library/busybox");
    assert!(store.store.image_resolve("busybox:latest").is_ok());
    assert!(mirror.requests().iter().all(|r| r.header("authorization").is_empty()), "a mirror is somebody else");
}

#[tokio::test]
async fn who_hangs_up_ends_the_pull() {
    let good = image(1, 1, 1_000_000);
    let fake = Fake::serve(good, |r| {
        r.inside().starts_with("blobs/").then(|| Reply { stall: Some(10), ..Reply::new(200, vec![0; 100]) })
    })
    .await;
    let store = TestStore::new();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(registry::QUEUE);
    let reference = fake.name("a").parse().unwrap();
    let client = support::client();
    let pull = client.pull(&reference, None, &Credentials::Anonymous, &store.store, &sender);
    let listen = async {
        receiver.recv().await;
        drop(receiver);
    };
    let (pulled, ()) = tokio::join!(pull, listen);
    assert!(pulled.is_err());
    assert_eq!(store.leftovers(), [""; 0]);
}

#[tokio::test]
async fn only_the_registry_itself_says_how_to_prove_who_we_are() {
    let good = image(1, 1, 1000);
    let basic = Credentials::Basic { username: "u".into(), password: "p".into() };
    let identity = Credentials::IdentityToken("i".into());
    for credentials in [&basic, &identity] {
        // Whatever it is asked for, it wants to know who we are, and says who may ask for it.
        let elsewhere = Fake::serve(good.clone(), |r| {
            let realm = format!("Bearer realm=\"http://{}/token\"", r.header("host"));
            Some(match r.path.starts_with("/token") {
                true => Reply::json(200, r#"{"token":"t0"}"#),
                false => Reply::new(401, "").with("WWW-Authenticate", &realm),
            })
        })
        .await;
        let asks_nobody = |credentials: &Credentials| {
            let asked = elsewhere.requests();
            let is_silent =
                |r: &support::fake::Request| !r.path.starts_with("/token") && r.header("authorization").is_empty();
            let lines: Vec<String> = asked.iter().map(support::fake::Request::line).collect();
            assert!(!asked.is_empty() && asked.iter().all(is_silent), "{credentials:?}: {lines:?}");
        };
        // Redirects of everything, from the first question on.
        let port = elsewhere.port;
        let leads_away = Fake::serve(good.clone(), move |r| {
            Some(Reply::new(307, "").with("Location", &format!("http://127.0.0.1:{port}{}", r.path)))
        })
        .await;
        let store = TestStore::new();
        pull_with(&support::client(), &leads_away.name("a"), &store.store, credentials).await.0.unwrap_err();
        asks_nobody(credentials);

        // Uploads that go elsewhere.
        let place = format!("http://127.0.0.1:{port}/uploads/1");
        let uploads_away = Fake::serve(good.clone(), move |r| match r.method.as_str() {
            "HEAD" => Some(Reply::new(404, "")),
            "POST" => Some(Reply::new(202, "").with("Location", &place)),
            _ => None,
        })
        .await;
        let honest = Fake::serve(good.clone(), |_| None).await;
        let id = pull(&honest.name("a"), &store.store).await.0.unwrap().image_id;
        let name: oci::Reference = uploads_away.name("a:1").parse().unwrap();
        store.store.image_tag(&name, &id).unwrap();
        let (sender, receiver) = tokio::sync::mpsc::channel(registry::QUEUE);
        let _told = support::lines(receiver);
        support::client().push(&[name], credentials, &store.store, &sender).await.unwrap_err();
        asks_nobody(credentials);
    }
}

#[tokio::test]
async fn a_token_of_the_user_is_sent_as_it_is() {
    let good = image(1, 1, 10);
    let fake = Fake::serve(good.clone(), |r| {
        (r.path != "/v2/" && r.header("authorization") != "Bearer r0")
            .then(|| Reply::new(401, "").with("WWW-Authenticate", "Bearer realm=\"http://127.0.0.1:1/token\""))
    })
    .await;
    let token = |text: &str| Credentials::RegistryToken(text.into());
    let store = TestStore::new();
    pull_with(&support::client(), &fake.name("a"), &store.store, &token("r0")).await.0.unwrap();
    pull_with(&support::client(), &fake.name("a"), &TestStore::new().store, &token("r1")).await.0.unwrap_err();
}

#[tokio::test]
async fn a_manifest_that_stalls_or_breaks_off() {
    let good = image(1, 1, 10);
    for (stall, expected) in [(true, "i/o timeout"), (false, "unexpected EOF")] {
        let bytes = good.manifest.clone();
        let (error, _, fake) = failure(&good, move |r| {
            let reply = Reply::new(200, bytes.clone()).with("Content-Type", oci::media_type::DOCKER_MANIFEST);
            let reply = match stall {
                true => Reply { stall: Some(20), ..reply },
                false => Reply { cut: Some(20), ..reply },
            };
            (r.inside() == "manifests/latest").then_some(reply)
        })
        .await;
        assert_eq!((error.to_string().as_str(), fake.count("manifests/latest")), (expected, 1));
    }
}

/// A proxy is asked for everything but this host. Its address stands in the environment, which a process has once: so
/// the test runs itself.
#[tokio::test]
async fn a_proxy_is_not_for_this_host() {
    const INSIDE: &str = "GANTRY_TEST_BEHIND_PROXY";
    let Ok(proxied) = std::env::var(INSIDE) else {
        // Whoever is sent to the proxy is told so.
        let proxy = Fake::serve(image(1, 1, 1), |_| Some(Reply::new(407, "the proxy"))).await;
        let address = format!("http://127.0.0.1:{}", proxy.port);
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "a_proxy_is_not_for_this_host"]).env(INSIDE, "1").env("HTTP_PROXY", &address);
        child.env_remove("NO_PROXY").env_remove("no_proxy").env_remove("http_proxy");
        let output = child.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let asked: Vec<String> = proxy.requests().iter().map(support::fake::Request::line).collect();
        assert_eq!(asked, ["GET http://elsewhere.invalid/v2/"; 2], "the first question, and the login");
        return;
    };
    assert_eq!(proxied, "1");
    let fake = Fake::serve(image(1, 1, 10), |_| None).await;
    for host in ["127.0.0.1", "localhost"] {
        let name = format!("{host}:{}/a", fake.port);
        pull(&name, &TestStore::new().store).await.0.unwrap();
    }
    let insecure = vec!["elsewhere.invalid".to_owned()];
    let client = registry::Client::new(registry::Options { insecure_registries: insecure, ..support::options() });
    let error = client.login("elsewhere.invalid", Credentials::Anonymous).await.unwrap_err().to_string();
    assert!(error.contains("407"), "{error}");
}
