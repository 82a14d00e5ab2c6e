//! Garbage collection: what goes, what stays, and that nobody has to stop for it.

mod support;

use oci::Digest;
use oci::media_type::{OCI_INDEX, OCI_MANIFEST};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::http::Connection;
use support::image::{artifact, manifest, noise};
use support::{Server, age, command, objects};

/// Collects once; returns what it says.
fn collect(storage: &Path, options: &[&str]) -> String {
    let all = [&["gc", "--storage", storage.to_str().unwrap()], options].concat();
    let output = command(&all).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().find(|line| line.starts_with("removed ")).map(str::to_owned);
    line.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Objects of one kind.
fn count(storage: &Path, kind: &str) -> usize {
    objects(storage).iter().filter(|key| key.starts_with(kind)).count()
}

const NOTHING: &str = "removed 0 uploads, 0 manifests, 0 links, 0 blobs, 0 parts (0 bytes), 0 unfinished files";
const DAYS: u64 = 3 * 86400;
/// A registry that leaves collecting to the test, and waits for nobody slow.
const QUIET: &[&str] = &["--gc-interval", "0s", "--settle", "2s"];

#[test]
fn what_nothing_points_to_goes_when_it_is_old() {
    let server = Server::start(QUIET);
    let storage = server.storage.clone();
    let kept = server.image("a", "kept", 1);
    let gone = server.image("a", "gone", 2);
    server.send("DELETE", &format!("/v2/a/manifests/{gone}"), &[], b"");
    server.blob("b", b"never named");
    let unfinished = server.upload("b");
    server.send("PATCH", &unfinished, &[], b"half");
    std::fs::write(storage.join("data/left#1"), "by a killed process").unwrap();
    // Written by an earlier version to read the storage's clock, and left when it was killed.
    std::fs::create_dir(storage.join("clock")).unwrap();
    std::fs::write(storage.join("clock/0123456789abcdef0123456789abcdef"), "").unwrap();
    // Nothing of it is old.
    assert_eq!(collect(&storage, &[]), NOTHING);
    let before = objects(&storage);
    age(&storage, DAYS);
    // The image that is kept: two blobs. The other: two, one never named, half of one, and a file.
    let bytes = 5000 + "{\"seed\": 2}".len() + "never named".len() + "half".len();
    let said = format!("removed 1 uploads, 0 manifests, 3 links, 3 blobs, 4 parts ({bytes} bytes), 2 unfinished files");
    assert_eq!(collect(&storage, &[]), said);
    assert_eq!(collect(&storage, &[]), NOTHING);
    assert!(objects(&storage).iter().all(|key| before.contains(key)));
    assert_eq!((count(&storage, "data/"), count(&storage, "blobs/"), count(&storage, "uploads/")), (2, 2, 0));
    assert_eq!(server.get("/v2/a/manifests/kept").header("docker-content-digest"), kept);
    assert_eq!(server.get(&format!("/v2/a/blobs/{}", Digest::of(&noise(1, 5000)))).status, 200);
    assert_eq!(server.get(&format!("/v2/a/blobs/{}", Digest::of(&noise(2, 5000)))).status, 404);
}

#[test]
fn whoever_asks_may_rely_on_the_answer() {
    let server = Server::start(QUIET);
    let storage = server.storage.clone();
    let (layer, config) = (noise(1, 3000), b"{}");
    let digests = [server.blob("a", &layer), server.blob("a", config), server.blob("from", b"mounted")];
    age(&storage, DAYS);
    for digest in &digests[..2] {
        assert_eq!(server.send("HEAD", &format!("/v2/a/blobs/{digest}"), &[], b"").status, 200);
    }
    let mount = format!("/v2/a/blobs/uploads/?mount={}&from=from", digests[2]);
    assert_eq!(server.send("POST", &mount, &[], b"").status, 201);
    // What was renewed is there twice; the old one goes, and so does the link that was only mounted from.
    collect(&storage, &[]);
    server.manifest("a", "v1", OCI_MANIFEST, &manifest(&[&layer, b"mounted"], config));
    age(&storage, DAYS);
    collect(&storage, &[]);
    assert_eq!((count(&storage, "data/"), count(&storage, "blobs/")), (3, 3));
    for digest in digests {
        assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).status, 200);
    }
}

#[test]
fn what_cannot_be_read_stops_nobody_else() {
    let server = Server::start(QUIET);
    let storage = server.storage.clone();
    let named = server.blob("odd", b"perhaps it is named");
    let kept = server.image("a", "kept", 1);
    server.blob("b", b"never named");
    // As an earlier version let it in.
    let odd = b"{\"schemaVersion\":2}";
    let digest = Digest::of(odd);
    let directory = storage.join(format!("repositories/odd/_manifests/sha256/{}", digest.hex()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(format!("{}.0123456789abcdef0123456789abcdef", odd.len())), odd).unwrap();
    age(&storage, DAYS);
    for options in [&[][..], &["--gc-untagged"]] {
        collect(&storage, options);
        assert_eq!((count(&storage, "blobs/"), count(&storage, "repositories/odd/")), (3, 2), "{options:?}");
    }
    assert_eq!(server.get(&format!("/v2/odd/blobs/{named}")).status, 200);
    assert_eq!(server.get("/v2/a/manifests/kept").header("docker-content-digest"), kept);
    // Deleted, it is like any other.
    assert_eq!(server.send("DELETE", &format!("/v2/odd/manifests/{digest}"), &[], b"").status, 202);
    collect(&storage, &[]);
    assert_eq!((count(&storage, "blobs/"), count(&storage, "repositories/odd/")), (2, 0));
}

/// No digest makes that possible; a broken disk may. Nothing here walks an index more than one step.
#[test]
fn indexes_that_name_each_other_are_served_and_deleted() {
    let server = Server::start(QUIET);
    let storage = server.storage.clone();
    let digests = [Digest::of(b"one"), Digest::of(b"other")];
    let names = |child: &Digest| {
        let entry = json!({"mediaType": OCI_INDEX, "digest": child, "size": 300});
        format!("{:300}", json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string())
    };
    for (digest, child) in [(&digests[0], &digests[1]), (&digests[1], &digests[0])] {
        let directory = storage.join(format!("repositories/a/_manifests/sha256/{}", digest.hex()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("300.0123456789abcdef0123456789abcdef"), names(child)).unwrap();
    }
    server.manifest("a", "over", OCI_INDEX, names(&digests[0]).as_bytes());
    age(&storage, DAYS);
    assert_eq!(collect(&storage, &["--gc-untagged"]), NOTHING);
    for digest in &digests {
        let path = format!("/v2/a/manifests/{digest}");
        assert_eq!((server.get(&path).status, server.send("DELETE", &path, &[], b"").status), (200, 202));
        assert_eq!(server.get(&path).status, 404);
    }
}

#[test]
fn nobody_takes_away_sooner_what_others_rely_on() {
    let gc = |storage: &Path, options: &[&str]| {
        let all = [&["gc", "--storage", storage.to_str().unwrap()], options].concat();
        let output = command(&all).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let server = Server::start(&["--gc-interval", "0s", "--grace", "20h", "--settle", "2s"]);
    let storage = server.storage.clone();
    let digest = server.blob("a", b"content");
    // Young enough for a client to be told that it stays, and so not renewed.
    age(&storage, 9 * 3600);
    assert_eq!(server.send("HEAD", &format!("/v2/a/blobs/{digest}"), &[], b"").status, 200);
    for options in [&["--grace", "10m"][..], &["--settle", "1ms"]] {
        let said = gc(&storage, options);
        assert!(said.contains(options[0]) && said.contains("relies on"), "{said}");
    }
    let said = Server::refused(&["--listen", "127.0.0.1:0", "--storage", storage.to_str().unwrap(), "--grace", "10m"]);
    assert!(said.contains("--grace"), "{said}");
    assert!(gc(&storage, &[]).contains(NOTHING));
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).status, 200);
    // Longer may be said by anybody, and holds for all from then on.
    assert!(gc(&storage, &["--grace", "100h"]).contains(NOTHING));
    age(&storage, DAYS);
    assert!(gc(&storage, &[]).contains(NOTHING));
    age(&storage, 2 * DAYS);
    assert!(gc(&storage, &[]).contains("1 links, 1 blobs, 1 parts"));
}

#[test]
fn untagged_manifests_go_when_that_is_wanted() {
    let server = Server::start(QUIET);
    let storage = server.storage.clone();
    server.blob("a", b"{}");
    let (old, new) = (server.image("a", "latest", 1), server.image("a", "latest", 2));
    let child = server.image("a", "child", 3);
    let size = server.get("/v2/a/manifests/child").body.len();
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": child, "size": size});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string();
    server.manifest("a", "index", OCI_INDEX, index.as_bytes());
    server.send("DELETE", "/v2/a/manifests/child", &[], b"");
    let attached = |subject: &str| {
        let bytes = artifact("x/y", subject, 1);
        server.manifest("a", Digest::of(&bytes).as_str(), OCI_MANIFEST, &bytes)
    };
    let (of_old, of_new) = (attached(&old), attached(&new));
    age(&storage, DAYS);
    assert_eq!(collect(&storage, &[]), NOTHING);
    let status = |digest: &str| server.get(&format!("/v2/a/manifests/{digest}")).status;
    // First the manifest, then what belonged to it.
    collect(&storage, &["--gc-untagged"]);
    assert_eq!((status(&old), status(&of_old)), (404, 200));
    collect(&storage, &["--gc-untagged"]);
    assert_eq!((status(&old), status(&of_old)), (404, 404));
    assert_eq!((status(&new), status(&of_new), status(&child)), (200, 200, 200));
    let referrers =
        |subject: &str| server.get(&format!("/v2/a/referrers/{subject}")).json()["manifests"].as_array().unwrap().len();
    assert_eq!((referrers(&old), referrers(&new)), (0, 1));
    assert_eq!(server.get(&format!("/v2/a/blobs/{}", Digest::of(&noise(1, 5000)))).status, 404);
}

/// As clients do: asks for each blob, sends those that are missing, then the manifest. None when the registry died.
fn push(port: u16, tag: &str, layers: &[Vec<u8>]) -> Option<()> {
    let mut connection = Connection::try_open(port).ok()?;
    let config = format!("{{\"tag\": {tag:?}}}");
    let blobs: Vec<&[u8]> = layers.iter().map(Vec::as_slice).chain([config.as_bytes()]).collect();
    for bytes in &blobs {
        let digest = Digest::of(bytes);
        if ask(&mut connection, "HEAD", &format!("/v2/a/blobs/{digest}"), b"")?.0 == 200 {
            continue;
        }
        let (status, place) = ask(&mut connection, "POST", "/v2/a/blobs/uploads/", b"")?;
        assert_eq!(status, 202);
        assert_eq!(ask(&mut connection, "PUT", &format!("{place}?digest={digest}"), bytes)?.0, 201);
    }
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let manifest = manifest(&layers, config.as_bytes());
    let (status, _) = ask(&mut connection, "PUT", &format!("/v2/a/manifests/{tag}"), &manifest)?;
    assert_eq!(status, 201, "what a client was told is here was not");
    Some(())
}

/// Status and location of an answer.
fn ask(connection: &mut Connection, method: &str, path: &str, body: &[u8]) -> Option<(u16, String)> {
    let answer = connection.try_send(method, path, &[], body).ok()?;
    assert!(answer.status < 500, "{method} {path}: {answer:?}");
    Some((answer.status, answer.header("location").to_owned()))
}

/// Sees to it that each tag has its manifest, and each of its blobs all of its bytes. Returns how many tags there are.
fn whole_tags(server: &Server) -> usize {
    let tags = server.get("/v2/a/tags/list").list("tags");
    for tag in &tags {
        let answer = server.get(&format!("/v2/a/manifests/{tag}"));
        assert_eq!(answer.status, 200, "{tag}");
        let manifest = answer.json();
        for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
            let digest = blob["digest"].as_str().unwrap();
            let answer = server.get(&format!("/v2/a/blobs/{digest}"));
            assert_eq!((answer.status, Digest::of(&answer.body).to_string().as_str()), (200, digest), "{tag}");
        }
    }
    tags.len()
}

#[test]
fn pushes_go_on_meanwhile_and_anybody_may_be_killed() {
    let dir = tempfile::tempdir().unwrap();
    let storage = dir.path().join("storage");
    let times = ["--grace", "3s", "--settle", "700ms"];
    let serve = || Server::over(&storage, &[&times[..], &["--gc-interval", "100ms", "--gc-untagged"]].concat());
    let steady = serve();
    let end = Instant::now() + Duration::from_secs(9);
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        // Two clients push images of a few layers that they share, and delete every other one again.
        for client in 0..2_u64 {
            let (running, port) = (&running, steady.port);
            scope.spawn(move || {
                for round in 0.. {
                    if !running.load(Ordering::Relaxed) {
                        return;
                    }
                    let layers: Vec<_> = (0..3).map(|n| noise((round * 7 + client + n) % 11, 20_000)).collect();
                    let tag = format!("c{client}-{round}");
                    push(port, &tag, &layers).unwrap();
                    if round % 2 == 0 {
                        let mut connection = Connection::open(port);
                        let path = format!("/v2/a/manifests/{tag}");
                        let digest =
                            connection.send("HEAD", &path, &[], b"").header("docker-content-digest").to_owned();
                        let path = if round % 4 == 0 { path } else { format!("/v2/a/manifests/{digest}") };
                        assert_eq!(connection.send("DELETE", &path, &[], b"").status, 202);
                    }
                    // Time for things to get old between the rounds that use them.
                    std::thread::sleep(Duration::from_millis(60));
                }
            });
        }
        // A second registry over the same storage and collectors of their own are killed again and again.
        let mut round = 0;
        while Instant::now() < end {
            let mut other = serve();
            let gc = [&["gc", "--gc-untagged", "--storage", storage.to_str().unwrap()], &times[..]].concat();
            let mut collector = command(&gc).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let port = other.port;
            let pushing = scope.spawn(move || {
                (0..).take_while(|n| push(port, &format!("k{round}-{n}"), &[noise(*n % 5, 9000)]).is_some()).count()
            });
            std::thread::sleep(Duration::from_millis(150 + 170 * (round % 5)));
            other.kill();
            collector.kill().unwrap();
            collector.wait().unwrap();
            pushing.join().unwrap();
            round += 1;
        }
        running.store(false, Ordering::Relaxed);
    });
    let tags = whole_tags(&steady);
    assert!(tags > 20, "{tags}");
    // And the rest goes with the next collection that finds it old: exactly what the tags need is left.
    drop(steady);
    age(&storage, DAYS);
    collect(&storage, &["--gc-untagged"]);
    collect(&storage, &["--gc-untagged"]);
    let manifests = count(&storage, "repositories/a/_manifests");
    assert_eq!((manifests, count(&storage, "uploads/")), (tags, 0));
    assert_eq!(count(&storage, "blobs/"), count(&storage, "repositories/a/_blobs"));
    assert_eq!(count(&storage, "data/"), count(&storage, "blobs/"));
    assert!(!objects(&storage).iter().any(|key| key.contains('#')));
}
