//! Several processes that serve the same storage: a directory, and object storage that speaks S3's protocol.

mod support;

use oci::Digest;
use oci::media_type::OCI_MANIFEST;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::image::{artifact, manifest, noise};
use support::{Connection, Server};

/// Object storage in a process of its own.
struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    fn start() -> Self {
        // The port is free now; should another process take it meanwhile, the server says so and the test fails.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program())
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto_server is on PATH or in target/python (cargo xtask test installs it)");
        let moto = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "moto_server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(Connection::open(port).send("PUT", "/bucket", &[], b"").status, 200);
        moto
    }

    /// A registry over a place in its bucket.
    fn registry(&self, place: &str, options: &[&str]) -> Server {
        let endpoint = format!("AWS_ENDPOINT=http://127.0.0.1:{}", self.port);
        let secrets = ["AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=us-east-1"];
        let under = [&["env", &endpoint, "AWS_ALLOW_HTTP=true"], &secrets[..]].concat();
        Server::run(&format!("s3://bucket/{place}"), options, &under)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/python/bin/moto_server");
    if beside.is_file() { beside } else { "moto_server".into() }
}

/// One after the other, two processes take the steps of pushes and see what the other did.
fn take_turns(one: &Server, other: &Server) {
    let bytes = noise(1, 3_000_000);
    let digest = Digest::of(&bytes).to_string();
    let place = one.upload("team/app");
    for (turn, chunk) in bytes.chunks(700_000).enumerate() {
        let server = if turn % 2 == 0 { other } else { one };
        let start = turn * 700_000;
        let range = format!("{start}-{}", start + chunk.len() - 1);
        assert_eq!(server.send("PATCH", &place, &[("Content-Range", &range)], chunk).status, 202);
    }
    assert_eq!(other.get(&place).header("range"), "0-2999999");
    assert_eq!(one.send("PUT", &format!("{place}?digest={digest}"), &[], b"").status, 201);
    let path = format!("/v2/team/app/blobs/{digest}");
    assert!(other.get(&path).body == bytes);
    let range = other.send("GET", &path, &[("Range", "bytes=699990-1400010")], b"");
    assert!(range.status == 206 && range.body == bytes[699_990..=1_400_010]);
    // More than object storage takes in one request.
    let big = noise(2, 20_000_000);
    let big_digest = other.blob("team/app", &big);
    assert!(one.get(&format!("/v2/team/app/blobs/{big_digest}")).body == big);

    let config = b"{}";
    other.blob("team/app", config);
    let image = manifest(&[&bytes, &big], config);
    let pushed = one.manifest("team/app", "v1", OCI_MANIFEST, &image);
    assert_eq!(other.get("/v2/team/app/manifests/v1").body, image);
    assert_eq!(other.get("/v2/team/app/tags/list").list("tags"), ["v1"]);
    assert_eq!(other.get("/v2/_catalog").list("repositories"), ["team/app"]);
    let attached = artifact("x/y", &pushed, image.len());
    other.manifest("team/app", Digest::of(&attached).as_str(), OCI_MANIFEST, &attached);
    let referrers = one.get(&format!("/v2/team/app/referrers/{pushed}"));
    assert_eq!(referrers.json()["manifests"].as_array().unwrap().len(), 1);
    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=team/app");
    assert_eq!(one.send("POST", &mount, &[], b"").status, 201);
    assert_eq!(other.send("HEAD", &format!("/v2/b/blobs/{digest}"), &[], b"").header("content-length"), "3000000");
    // Deleted here is gone there.
    assert_eq!(other.send("DELETE", &format!("/v2/b/blobs/{digest}"), &[], b"").status, 202);
    assert_eq!(one.get(&format!("/v2/b/blobs/{digest}")).code(), "BLOB_UNKNOWN");
    assert_eq!(one.get("/v2/team/app/manifests/none").code(), "MANIFEST_UNKNOWN");
    assert_eq!(one.send("DELETE", &format!("/v2/team/app/manifests/{pushed}"), &[], b"").status, 202);
    assert_eq!(other.get("/v2/team/app/manifests/v1").code(), "MANIFEST_UNKNOWN");
    // A wrong digest is found out here as well.
    let place = other.upload("team/app");
    assert_eq!(one.send("PATCH", &place, &[], b"abc").status, 202);
    assert_eq!(other.send("PUT", &format!("{place}?digest={digest}"), &[], b"").code(), "DIGEST_INVALID");
    assert_eq!(one.get(&place).code(), "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn over_one_directory() {
    let one = Server::start(&[]);
    let other = Server::over(&one.storage, &[]);
    take_turns(&one, &other);
}

#[test]
fn over_one_bucket() {
    let moto = Moto::start();
    take_turns(&moto.registry("some/prefix", &[]), &moto.registry("some/prefix", &[]));
    // Garbage goes there too: the object storage's own clock says how old it is.
    let times = ["--grace", "4s", "--settle", "1s", "--gc-interval", "200ms"];
    let server = moto.registry("other", &[&times[..], &["--quota", "total=100m"]].concat());
    let kept = server.image("kept", "v1", 7);
    let digest = server.blob("gone", b"nothing names this");
    let deadline = Instant::now() + Duration::from_secs(40);
    let freed = || String::from_utf8(server.get("/metrics").body).unwrap();
    while server.get(&format!("/v2/gone/blobs/{digest}")).status == 200
        || freed().lines().any(|line| line == "gantry_registry_gc_freed_bytes_total 0")
    {
        assert!(Instant::now() < deadline, "{}", freed());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.get("/v2/kept/manifests/v1").header("docker-content-digest"), kept);
    assert!(server.get(&format!("/v2/kept/blobs/{}", Digest::of(&noise(7, 5000)))).body == noise(7, 5000));
}

#[test]
fn storage_that_is_not_there_is_said() {
    let said = Server::refused(&["--storage", "s3://bucket", "--storage-opt", "aws_nonsense=1"]);
    assert!(said.contains("storage option \"aws_nonsense\""), "{said}");
    let said = Server::refused(&["--storage", "/proc/nonsense"]);
    assert!(said.contains("storage directory /proc/nonsense"), "{said}");
}
