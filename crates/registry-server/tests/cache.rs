//! A registry that is a cache of another one.

mod support;

use oci::Digest;
use oci::media_type::OCI_MANIFEST;
use std::time::{Duration, Instant};
use support::image::{artifact, noise};
use support::{Server, age};

/// A registry in front of another one.
fn in_front_of(upstream: &Server, options: &[&str]) -> Server {
    let registry = format!("127.0.0.1:{}", upstream.port);
    Server::start(&[&["--pull-through", &registry], options].concat())
}

/// Waits until something holds that nobody tells about.
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn metric(server: &Server, line: &str) -> bool {
    String::from_utf8(server.get("/metrics").body).unwrap().lines().any(|one| one == line)
}

#[test]
fn what_was_pulled_once_is_here() {
    let mut upstream = Server::start(&[]);
    let digest = upstream.image("team/app", "v1", 1);
    let layer = noise(1, 5000);
    let blob = format!("/v2/team/app/blobs/{}", Digest::of(&layer));
    let cache = in_front_of(&upstream, &["--gc-interval", "0s"]);
    assert_eq!(cache.send("HEAD", &blob, &[], b"").header("content-length"), "5000");
    assert_eq!(cache.get("/v2/team/app/manifests/v1").header("docker-content-digest"), digest);
    assert!(cache.get(&blob).body == layer);
    assert_eq!(cache.get("/v2/team/app/tags/list").list("tags"), ["v1"]);
    assert_eq!(cache.get("/v2/team/app/manifests/none").code(), "MANIFEST_UNKNOWN");
    assert_eq!(cache.get("/v2/nothing/tags/list").code(), "NAME_UNKNOWN");
    let absent = Digest::of(b"absent");
    assert_eq!(cache.get(&format!("/v2/team/app/blobs/{absent}")).code(), "BLOB_UNKNOWN");
    upstream.blob("team/app", b"{}");
    let attached = artifact("x/y", &digest, 9);
    upstream.manifest("team/app", Digest::of(&attached).as_str(), OCI_MANIFEST, &attached);
    let referrers = cache.get(&format!("/v2/team/app/referrers/{digest}"));
    assert_eq!(referrers.json()["manifests"].as_array().unwrap().len(), 1);
    let push = cache.send("POST", "/v2/team/app/blobs/uploads/", &[], b"");
    assert_eq!((push.status, push.code().as_str()), (405, "UNSUPPORTED"));

    // A tag is asked about again when it is no longer fresh.
    let newer = upstream.image("team/app", "v1", 2);
    assert_eq!(cache.get("/v2/team/app/manifests/v1").header("docker-content-digest"), digest);
    age(&cache.storage, 120);
    assert_eq!(cache.get("/v2/team/app/manifests/v1").header("docker-content-digest"), newer);
    // And when nobody answers, it is as good as it was; so is everything else.
    upstream.kill();
    age(&cache.storage, 120);
    assert_eq!(cache.get("/v2/team/app/manifests/v1").header("docker-content-digest"), newer);
    assert_eq!(cache.get(&format!("/v2/team/app/manifests/{digest}")).status, 200);
    assert!(cache.get(&blob).body == layer);
    assert_eq!(cache.get("/v2/team/app/tags/list").list("tags"), ["v1"]);
    let other = cache.get(&format!("/v2/team/app/blobs/{}", Digest::of(&noise(2, 5000))));
    assert_eq!((other.status, other.code().as_str()), (502, "UNAVAILABLE"));
}

#[test]
fn many_want_it_and_it_comes_once() {
    let upstream = Server::start(&[]);
    let bytes = noise(1, 8_000_000);
    let digest = upstream.blob("a", &bytes);
    let cache = in_front_of(&upstream, &[]);
    let path = format!("/v2/a/blobs/{digest}");
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (cache, path, bytes) = (&cache, &path, &bytes);
            scope.spawn(move || {
                let range: &[(&str, &str)] = if client == 7 { &[("Range", "bytes=5-1000004")] } else { &[] };
                let answer = cache.send("GET", path, range, b"");
                let expected = if client == 7 { &bytes[5..1_000_005] } else { &bytes[..] };
                assert!(answer.body == expected, "{}", answer.status);
            });
        }
    });
    assert!(metric(&upstream, "gantry_registry_requests_total{route=\"blob\",method=\"GET\",status=\"200\"} 1"));
    // A client that goes away does not stop what it began.
    let other = noise(2, 8_000_000);
    let digest = upstream.blob("a", &other);
    let mut connection = cache.connect();
    connection.head("GET", &format!("/v2/a/blobs/{digest}"), &[]);
    assert_eq!(connection.status(), 200);
    drop(connection);
    let hex = digest.split_once(':').unwrap().1;
    until("the blob is kept", || {
        cache.objects().iter().any(|key| key.starts_with("repositories/a/_blobs") && key.contains(hex))
    });
}

#[test]
fn a_slow_client_holds_nobody_up() {
    let upstream = Server::start(&[]);
    let bytes = noise(1, 40_000_000);
    let path = format!("/v2/a/blobs/{}", upstream.blob("a", &bytes));
    let cache = in_front_of(&upstream, &[]);
    let mut slow = cache.connect();
    slow.head("GET", &path, &[]);
    // The first client reads nothing of what it asked for until the others have it all.
    until("it is on its way", || !cache.objects().is_empty());
    assert!(cache.get(&path).body == bytes);
    assert!(slow.answer("GET").body == bytes);
    assert!(metric(&upstream, "gantry_registry_requests_total{route=\"blob\",method=\"GET\",status=\"200\"} 1"));
    // Where it cannot be kept, each gets it from there.
    let keeps_nothing = in_front_of(&upstream, &["--quota", "total=1k"]);
    let mut slow = keeps_nothing.connect();
    slow.head("GET", &path, &[]);
    assert_eq!(slow.status(), 200);
    assert!(keeps_nothing.get(&path).body == bytes);
}

#[test]
fn a_cache_keeps_what_its_quota_allows_and_passes_on_what_is_right() {
    let upstream = Server::start(&[]);
    let cache = in_front_of(&upstream, &["--quota", "total=20k"]);
    for seed in 0..6 {
        let bytes = noise(seed, 6000);
        let digest = upstream.blob("a", &bytes);
        assert!(cache.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
    }
    assert_eq!(cache.objects().iter().filter(|key| key.starts_with("data/")).count(), 3);
    // One whose bytes are not what they should be any more, and that is not kept here.
    let digest = upstream.blob("a", &noise(9, 6001));
    let wrong = upstream.objects().into_iter().map(|key| upstream.storage.join(key));
    let wrong = wrong.into_iter().find(|path| path.metadata().unwrap().len() == 6001).unwrap();
    std::fs::write(wrong, noise(8, 6001)).unwrap();
    let got = cache.connect().try_send("GET", &format!("/v2/a/blobs/{digest}"), &[], b"");
    assert!(got.is_err(), "{got:?}");
}

#[test]
fn a_full_disk_does_not_stop_a_cache() {
    let upstream = Server::start(&[]);
    let digest = upstream.image("a", "v1", 1);
    let newer = upstream.image("a", "v2", 2);
    let dir = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o nr_inodes=100 tmpfs {} && exec \"$@\"", dir.path().display());
    let place = dir.path().join("storage");
    let registry = upstream.name("");
    let options = ["--gc-interval", "0s", "--pull-through", registry.trim_end_matches('/')];
    let under = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let cache = Server::run(place.to_str().unwrap(), &options, &under);
    assert_eq!(cache.get("/v2/a/manifests/v1").header("docker-content-digest"), digest);
    let inside = std::path::Path::new("/proc").join(cache.pid().to_string()).join("root");
    let inside = inside.join(place.strip_prefix("/").unwrap());
    age(&inside, 6 * 86400);
    std::fs::create_dir(inside.join("full")).unwrap();
    (0..).take_while(|n| std::fs::File::create(inside.join("full").join(n.to_string())).is_ok()).count();
    // What is here is used, which would renew it, and what is not is passed on.
    for (reference, expected) in [("v1", &digest), (digest.as_str(), &digest), ("v2", &newer)] {
        let answer = cache.get(&format!("/v2/a/manifests/{reference}"));
        assert_eq!((answer.status, answer.header("docker-content-digest")), (200, expected.as_str()), "{reference}");
    }
    let layer = noise(2, 5000);
    assert!(cache.get(&format!("/v2/a/blobs/{}", Digest::of(&layer))).body == layer);
}

#[test]
fn what_nobody_pulls_goes() {
    let upstream = Server::start(&[]);
    let (used, unused) = (upstream.image("a", "used", 1), upstream.image("a", "unused", 2));
    let cache = in_front_of(&upstream, &["--gc-interval", "50ms", "--settle", "500ms"]);
    let pull = |tag: &str, seed: u64| {
        assert_eq!(cache.get(&format!("/v2/a/manifests/{tag}")).status, 200);
        assert!(cache.get(&format!("/v2/a/blobs/{}", Digest::of(&noise(seed, 5000)))).body == noise(seed, 5000));
    };
    pull("used", 1);
    pull("unused", 2);
    // Old enough to be renewed by use, not old enough to go.
    age(&cache.storage, 5 * 86400);
    assert_eq!(cache.get(&format!("/v2/a/manifests/{used}")).status, 200);
    age_but_young(&cache);
    let holds = |digest: &str| {
        let hex = digest.split_once(':').unwrap().1;
        cache.objects().iter().any(|key| key.starts_with("repositories/a/_manifests") && key.contains(hex))
    };
    until("what nobody pulled is gone", || {
        !holds(&unused) && cache.objects().iter().filter(|key| key.starts_with("data/")).count() == 1
    });
    assert!(holds(&used));
    pull("unused", 2);
}

/// Makes what is older than a day three days older.
fn age_but_young(server: &Server) {
    let now = std::time::SystemTime::now();
    for key in server.objects() {
        let Ok(file) = std::fs::File::options().write(true).open(server.storage.join(key)) else { continue };
        let modified = file.metadata().unwrap().modified().unwrap();
        if now.duration_since(modified).is_ok_and(|age| age > Duration::from_secs(86400)) {
            file.set_modified(modified - Duration::from_secs(3 * 86400)).unwrap();
        }
    }
}

#[test]
fn it_logs_in_where_it_has_to() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).to_str().unwrap().to_owned()
    };
    let users = file("users", format!("cache:{}\n", bcrypt::hash("secret", 4).unwrap()));
    let rights = ["--allow", "cache:a:pull,push", "--htpasswd", &users, "--token-service"];
    let upstream = Server::start(&rights);
    let password = file("password", "secret\n".into());
    let log_in = ["--pull-through-user", "cache", "--pull-through-password-file", &password];
    let cache = in_front_of(&upstream, &log_in);
    assert_eq!(cache.get("/v2/a/manifests/v1").code(), "MANIFEST_UNKNOWN");
    assert_eq!(cache.get("/v2/b/manifests/v1").code(), "DENIED");
    let stranger = in_front_of(&upstream, &[]);
    assert_eq!(stranger.get("/v2/a/manifests/v1").code(), "DENIED");
}
