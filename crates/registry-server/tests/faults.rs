//! What goes wrong: content that is not what it should be, clients that stop, disks that are full, and `kill -9`.

mod support;

use oci::Digest;
use oci::media_type::OCI_MANIFEST;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::image::{manifest, noise};
use support::{Connection, Server, age, command_under, objects};

#[test]
fn content_that_is_not_what_it_should_be() {
    let server = Server::start(&[]);
    let wrong = Digest::of(b"something else");
    let answer = server.send("POST", &format!("/v2/a/blobs/uploads/?digest={wrong}"), &[], b"content");
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"));
    let place = server.upload("a");
    assert_eq!(server.send("PATCH", &place, &[], b"con").status, 202);
    assert_eq!(server.send("PUT", &format!("{place}?digest={wrong}"), &[], b"tent").code(), "DIGEST_INVALID");
    // That upload is over, and nothing can be seen of it.
    assert_eq!(server.get(&place).code(), "BLOB_UPLOAD_UNKNOWN");
    for digest in [wrong, Digest::of(b"content")] {
        assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).code(), "BLOB_UNKNOWN");
    }
    assert!(server.objects().iter().all(|key| key.starts_with("data/")), "{:?}", server.objects());
}

#[test]
fn a_manifest_of_100_mb_is_refused() {
    let server = Server::start(&[]);
    let hundred = vec![b' '; 100_000_000];
    let answer = server.send("PUT", "/v2/a/manifests/v1", &[("Content-Type", OCI_MANIFEST)], &hundred);
    assert_eq!((answer.status, answer.code().as_str()), (413, "SIZE_INVALID"));
    // As a stream of unknown length as well, and who waits for a word need not send it.
    let mut connection = server.connect();
    connection.head("PUT", "/v2/a/manifests/v1", &[("Transfer-Encoding", "chunked")]);
    hundred.chunks(1 << 20).take(10).for_each(|piece| connection.chunk(piece));
    connection.chunk(b"");
    assert_eq!(connection.answer("PUT").status, 413);
    let mut connection = server.connect();
    let headers = [("Content-Length", "100000000"), ("Expect", "100-continue")];
    connection.head("PUT", "/v2/a/manifests/v1", &headers);
    assert_eq!(connection.answer("PUT").status, 413);
    assert_eq!(server.objects().len(), 0);
}

/// Where an upload is, when it is known to have got somewhere.
fn reached(server: &Server, place: &str, expected: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let answer = server.get(place);
        if answer.header("range") == expected {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{answer:?} instead of {expected}");
        // The registry notices a broken connection on its own; nobody tells when.
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn an_upload_that_breaks_off_goes_on_where_it_was() {
    let server = Server::start(&[]);
    let bytes = noise(1, 700_000);
    let place = server.upload("a");
    let mut connection = server.connect();
    connection.head("PATCH", &place, &[("Content-Length", "700000")]);
    connection.write(&bytes[..300_000]);
    drop(connection);
    reached(&server, &place, "0-299999");
    let answer = server.send("PATCH", &place, &[("Content-Range", "300000-699999")], &bytes[300_000..]);
    assert_eq!(answer.status, 202);
    let digest = Digest::of(&bytes);
    assert_eq!(server.send("PUT", &format!("{place}?digest={digest}"), &[], b"").status, 201);
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
    // A blob whose only request breaks off was never there.
    let other = Digest::of(b"0123456789");
    let mut connection = server.connect();
    connection.head("POST", &format!("/v2/a/blobs/uploads/?digest={other}"), &[("Content-Length", "10")]);
    connection.write(b"01234");
    drop(connection);
    assert_eq!(server.get(&format!("/v2/a/blobs/{other}")).code(), "BLOB_UNKNOWN");
}

#[test]
fn a_client_that_stalls_is_let_go() {
    let server = Server::start(&["--stall-timeout", "1s"]);
    let place = server.upload("a");
    let mut connection = server.connect();
    connection.head("PATCH", &place, &[("Content-Length", "10")]);
    connection.write(b"0123");
    assert_eq!(connection.answer("PATCH").status, 408);
    reached(&server, &place, "0-3");
    // One that asks for a blob and does not read it. What fits into the socket's buffers arrives.
    let bytes = noise(3, 30_000_000);
    let digest = server.blob("a", &bytes);
    let mut connection = server.connect();
    connection.head("GET", &format!("/v2/a/blobs/{digest}"), &[]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !server.get("/metrics").body.windows(28).any(|text| text == b"registry_active_requests 1\n#") {
        assert!(std::time::Instant::now() < deadline, "{}", String::from_utf8_lossy(&server.get("/metrics").body));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn more_uploads_than_allowed_are_told_to_come_back() {
    let server = Server::start(&["--max-uploads", "1"]);
    let place = server.upload("a");
    let mut connection = server.connect();
    connection.head("PATCH", &place, &[("Transfer-Encoding", "chunked"), ("Expect", "100-continue")]);
    // The word to go on comes when the request is in work.
    assert_eq!(connection.answer("HEAD").status, 100);
    // A manifest is held in memory as a whole, and counts as well.
    for (method, path) in [("POST", "/v2/a/blobs/uploads/"), ("PUT", "/v2/a/manifests/v1")] {
        let answer = server.send(method, path, &[], b"");
        assert_eq!((answer.status, answer.code().as_str()), (429, "TOOMANYREQUESTS"), "{method} {path}");
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert_eq!(server.get("/v2/a/manifests/v1").status, 404);
    connection.chunk(b"");
    assert_eq!(connection.answer("PATCH").status, 202);
}

/// A registry on a file system of its own with so many bytes.
fn on_a_small_disk(mount: &Path, size: &str) -> Server {
    let script = format!("mount -t tmpfs -o size={size} tmpfs {} && exec \"$@\"", mount.display());
    let place = mount.join("storage");
    Server::run(place.to_str().unwrap(), &[], &["unshare", "--mount", "sh", "-c", &script, "sh"])
}

#[test]
fn a_full_disk_is_said_and_nothing_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let server = on_a_small_disk(dir.path(), "4m");
    server.image("a", "v1", 1);
    let big = noise(2, 6_000_000);
    let digest = Digest::of(&big);
    let answer = server.send("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], &big);
    assert_eq!((answer.status, answer.code().as_str()), (507, "UNKNOWN"));
    let place = server.upload("a");
    assert_eq!(server.send("PATCH", &place, &[], &big).status, 507);
    // The bytes that did not fit are gone, and smaller ones fit again.
    let small = noise(3, 2_000_000);
    assert_eq!(server.blob("a", &small), Digest::of(&small).to_string());
    // Fill it to the last page, and try every step once more.
    let (mut count, mut length) = (0, 1_000_000);
    while length > 100 {
        let bytes = noise(100 + count, length);
        let answer = server.send("POST", &format!("/v2/a/blobs/uploads/?digest={}", Digest::of(&bytes)), &[], &bytes);
        count += 1;
        match answer.status {
            201 => {}
            507 => length /= 2,
            other => panic!("{other}: {answer:?}"),
        }
    }
    assert_eq!(server.send("POST", "/v2/a/blobs/uploads/", &[], b"").status, 507);
    let old = server.get("/v2/a/manifests/v1").body;
    let put = server.send("PUT", "/v2/a/manifests/v2", &[("Content-Type", OCI_MANIFEST)], &old);
    assert!(matches!(put.status, 201 | 507), "{put:?}");
    assert_eq!(server.get("/v2/a/manifests/v1").body, old);
    assert!(server.get(&format!("/v2/a/blobs/{}", Digest::of(&small))).body == small);
}

/// On a disk that takes no further file, everything goes on that needs none: above all what makes room again.
#[test]
fn a_full_disk_is_recovered_from() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o nr_inodes=400 tmpfs {} && exec \"$@\"", dir.path().display());
    let place = dir.path().join("storage");
    let place = place.to_str().unwrap();
    let quiet = ["--gc-interval", "0s", "--settle", "2s"];
    let server = Server::run(place, &quiet, &["unshare", "--mount", "sh", "-c", &script, "sh"]);
    let inside = Path::new("/proc").join(server.pid().to_string()).join("root").join(&place[1..]);
    let digest = server.image("a", "v1", 1);
    let index = format!(
        "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"{OCI_MANIFEST}\",\"digest\":\"{digest}\",\"size\":{}}}]}}",
        server.get("/v2/a/manifests/v1").body.len()
    );
    let index = server.manifest("a", "index", oci::media_type::OCI_INDEX, index.as_bytes());
    let garbage = server.blob("b", b"garbage");
    let old_upload = server.upload("a");
    // So old that whoever looks for it has it renewed, and garbage.
    age(&inside, 3 * 86400);
    let upload = server.upload("a");
    assert_eq!(server.send("PATCH", &upload, &[], b"nearly").status, 202);
    let finish = format!("{upload}?digest={}", Digest::of(b"nearly"));
    let fill = inside.join("full");
    std::fs::create_dir(&fill).unwrap();
    let full = || {
        (0..).take_while(|n| std::fs::File::create(fill.join(n.to_string())).is_ok()).count();
    };
    full();
    let layer = Digest::of(&noise(1, 5000));
    for path in [format!("blobs/{layer}"), "manifests/v1".into(), format!("manifests/{index}")] {
        assert_eq!(server.send("HEAD", &format!("/v2/a/{path}"), &[], b"").status, 200, "{path}");
        assert_eq!(server.get(&format!("/v2/a/{path}")).status, 200, "{path}");
    }
    // What does need room is refused, and says why.
    let mount = format!("/v2/c/blobs/uploads/?mount={layer}&from=a");
    assert_eq!(server.send("POST", &mount, &[], b"").status, 507);
    assert_eq!(server.send("POST", "/v2/a/blobs/uploads/", &[], b"").status, 507);
    assert_eq!(server.send("PUT", &finish, &[], b"").status, 507);
    assert_eq!(server.get(&old_upload).code(), "BLOB_UPLOAD_UNKNOWN");
    let put = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"new"));
    assert_eq!(server.send("POST", &put, &[], b"new").status, 507);
    // Another process starts, and removes.
    let target = server.pid().to_string();
    let enter = ["nsenter", "--target", &target, "--mount"];
    let other = Server::run(place, &quiet, &enter);
    assert_eq!(other.send("DELETE", &format!("/v2/a/manifests/{index}"), &[], b"").status, 202);
    full();
    let output = command_under(&enter, &["gc", "--storage", place]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(said.contains("removed 1 uploads, 0 manifests, 1 links, 1 blobs, 1 parts (7 bytes)"), "{said}");
    assert_eq!(other.get(&format!("/v2/b/blobs/{garbage}")).status, 404);
    // That made room for what was refused before.
    assert_eq!(server.send("PUT", &finish, &[], b"").status, 201);
    assert_eq!(server.get("/v2/a/manifests/v1").header("docker-content-digest"), digest);
}

/// A part of a push that fails is gone with it: nobody else can know of it.
#[test]
fn what_is_refused_leaves_nothing() {
    let server = Server::start(&[]);
    let wrong = Digest::of(b"something else");
    let content = noise(1, 9000);
    for _ in 0..3 {
        let single = format!("/v2/a/blobs/uploads/?digest={wrong}");
        assert_eq!(server.send("POST", &single, &[], &content).code(), "DIGEST_INVALID");
        let place = server.upload("a");
        assert_eq!(server.send("PUT", &format!("{place}?digest={wrong}"), &[], &content).code(), "DIGEST_INVALID");
    }
    // A single request that breaks off has no upload to go on with.
    let mut connection = server.connect();
    connection.head("POST", &format!("/v2/a/blobs/uploads/?digest={wrong}"), &[("Content-Length", "10")]);
    connection.write(b"01234");
    drop(connection);
    // What is here already is not kept twice.
    server.blob("a", &content);
    server.blob("b", &content);
    server.blob("b", &content);
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.objects().iter().filter(|key| key.starts_with("data/")).count() != 1 {
        assert!(Instant::now() < deadline, "{:?}", server.objects());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(server.get(&format!("/v2/b/blobs/{}", Digest::of(&content))).body == content);
}

#[test]
fn an_upload_of_too_many_chunks_is_refused() {
    let server = Server::start(&[]);
    let place = server.upload("a");
    assert_eq!(server.send("PATCH", &place, &[], b"a").status, 202);
    let id = place.rsplit_once('/').unwrap().1;
    let path = server.storage.join("uploads").join(id);
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let part = state["parts"][0].clone();
    state["parts"] = vec![part; 10_000].into();
    std::fs::write(&path, state.to_string()).unwrap();
    let answer = server.send("PATCH", &place, &[], b"a");
    assert_eq!((answer.status, answer.code().as_str()), (400, "BLOB_UPLOAD_INVALID"));
}

#[test]
fn it_takes_as_many_files_as_the_system_allows() {
    let dir = tempfile::tempdir().unwrap();
    let script = ["sh", "-c", "ulimit -Sn 64 && exec \"$@\"", "sh"];
    let server = Server::run(dir.path().to_str().unwrap(), &[], &script);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let (soft, hard) = line.trim().split_once(' ').unwrap();
    assert_eq!(Some(soft), hard.split_whitespace().next(), "{line}");
}

/// A push that is cut off by the death of the registry at a moment that nobody chose.
fn push(port: u16, seed: u64) -> Option<()> {
    let layer = noise(seed, 400_000);
    let config = format!("{{\"n\": {seed}}}");
    let mut connection = Connection::try_open(port).ok()?;
    for bytes in [layer.as_slice(), config.as_bytes()] {
        let place = ask(&mut connection, "POST", "/v2/a/blobs/uploads/", b"")?;
        ask(&mut connection, "PATCH", &place, bytes)?;
        ask(&mut connection, "PUT", &format!("{place}?digest={}", Digest::of(bytes)), b"")?;
    }
    let path = format!("/v2/a/manifests/v{seed}");
    ask(&mut connection, "PUT", &path, &manifest(&[&layer], config.as_bytes())).map(drop)
}

/// Sends a request; None when the registry is dead. Returns the location that it answers with.
fn ask(connection: &mut Connection, method: &str, path: &str, body: &[u8]) -> Option<String> {
    let answer = connection.try_send(method, path, &[], body).ok()?;
    assert!(answer.status < 300, "{answer:?}");
    Some(answer.header("location").to_owned())
}

/// Whatever can be seen in a storage is whole: each tag has its manifest, and each of its blobs all of its bytes.
fn is_whole(server: &Server, name: &str) -> usize {
    let answer = server.get(&format!("/v2/{name}/tags/list"));
    let tags = if answer.status == 404 { Vec::new() } else { answer.list("tags") };
    for tag in &tags {
        let answer = server.get(&format!("/v2/{name}/manifests/{tag}"));
        assert_eq!(answer.status, 200, "{tag}: {answer:?}");
        let manifest = answer.json();
        for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
            let digest = blob["digest"].as_str().unwrap();
            let blob = server.get(&format!("/v2/{name}/blobs/{digest}"));
            assert_eq!(Digest::of(&blob.body).to_string(), digest, "{tag}");
        }
    }
    tags.len()
}

#[test]
fn killed_at_any_moment_of_a_push() {
    let dir = tempfile::tempdir().unwrap();
    let storage = dir.path().join("storage");
    for round in 0..6_u64 {
        let mut server = Server::over(&storage, &[]);
        let port = server.port;
        let pushing =
            std::thread::spawn(move || (0..200).take_while(|n| push(port, round * 1000 + n).is_some()).count());
        // After a number of objects that differs from round to round.
        let goal = objects(&storage).len() + 7 + 5 * round as usize;
        while objects(&storage).len() < goal {
            std::thread::yield_now();
        }
        server.kill();
        let complete = pushing.join().unwrap();
        let server = Server::over(&storage, &[]);
        assert!(is_whole(&server, "a") >= complete);
        // And it goes on.
        push(server.port, round * 1000 + 999).unwrap();
    }
}
