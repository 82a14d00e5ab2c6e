//! Real clients: skopeo, and Gantry's own.

mod support;

use registry::{Client, Credentials, QUEUE};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use store::Store;
use support::Server;
use tokio::sync::mpsc;

fn skopeo(arguments: &[&str]) -> Output {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "--tmpdir", std::env::temp_dir().to_str().unwrap()])
        .args(arguments)
        .output()
        .expect("skopeo (Debian package skopeo) is on PATH");
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// An OCI layout with one image of one layer.
fn layout(root: &Path) {
    let mut builder = tar::Builder::new(Vec::new());
    let content = support::image::noise(5, 2_000_000);
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "file", content.as_slice()).unwrap();
    let tar = builder.into_inner().unwrap();
    let config = serde_json::json!({
        "architecture": oci::Platform::host().architecture, "os": "linux", "config": {"Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": [oci::Digest::of(&tar)]}, "history": [],
    })
    .to_string();
    let manifest = support::image::manifest(&[&tar], config.as_bytes());
    let descriptor = oci::Descriptor::of(oci::media_type::OCI_MANIFEST, &manifest);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string();
    let blobs = root.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for bytes in [tar.as_slice(), config.as_bytes(), &manifest] {
        std::fs::write(blobs.join(oci::Digest::of(bytes).hex()), bytes).unwrap();
    }
    std::fs::write(root.join("index.json"), index).unwrap();
    std::fs::File::create(root.join("oci-layout")).unwrap().write_all(b"{\"imageLayoutVersion\": \"1.0.0\"}").unwrap();
}

#[test]
fn skopeo_pushes_pulls_inspects_and_deletes() {
    let server = Server::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    layout(dir.path());
    let oci = format!("oci:{}", dir.path().display());
    let place = |name: &str| format!("docker://{}", server.name(name));
    skopeo(&["copy", "--dest-tls-verify=false", &oci, &place("team/app:oci")]);
    let digest = server.get("/v2/team/app/manifests/oci").header("docker-content-digest").to_owned();
    // The same as Docker's schema 2, compressed on the way, into another repository.
    skopeo(&["copy", "--dest-tls-verify=false", "--format", "v2s2", &oci, &place("docker:v1")]);
    // From one repository to the other: blobs are mounted.
    let both = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&["copy", both[0], both[1], &place("team/app:oci"), &place("mounted:v1")]);
    let inspected = skopeo(&["inspect", "--tls-verify=false", &place("mounted:v1")]);
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!((&inspected["Digest"], &inspected["RepoTags"]), (&digest.as_str().into(), &serde_json::json!(["v1"])));
    let back = dir.path().join("back");
    skopeo(&["copy", "--src-tls-verify=false", &place("mounted:v1"), &format!("dir:{}", back.display())]);
    assert!(std::fs::read(back.join("manifest.json")).unwrap() == server.get("/v2/mounted/manifests/v1").body);
    let answer = server.get("/v2/docker/manifests/v1");
    assert_eq!(answer.header("content-type"), oci::media_type::DOCKER_MANIFEST);
    skopeo(&["delete", "--tls-verify=false", &place("mounted:v1")]);
    assert_eq!(server.get("/v2/mounted/manifests/v1").code(), "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn gantrys_own_client_pushes_and_pulls() {
    let server = Server::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    layout(&dir.path().join("layout"));
    let oci = format!("oci:{}", dir.path().join("layout").display());
    skopeo(&["copy", "--dest-tls-verify=false", &oci, &format!("docker://{}", server.name("a:v1"))]);
    let client = Client::new(registry::Options::default());
    let (events, mut ignored) = mpsc::channel(QUEUE);
    tokio::spawn(async move { while ignored.recv().await.is_some() {} });
    let store = Store::open(dir.path().join("store")).unwrap();
    let from = server.name("a:v1").parse().unwrap();
    let pulled = client.pull(&from, None, &Credentials::Anonymous, &store, &events).await.unwrap();
    assert_eq!(client.tags(&from, &Credentials::Anonymous).await.unwrap(), ["v1"]);
    let to: oci::Reference = server.name("b/c:v2").parse().unwrap();
    store.image_tag(&to, &pulled.image_id).unwrap();
    let pushed = client.push(std::slice::from_ref(&to), &Credentials::Anonymous, &store, &events).await.unwrap();
    assert_eq!(pushed[0].digest, pulled.digest);
    let again = Store::open(dir.path().join("again")).unwrap();
    let back = client.pull(&to, None, &Credentials::Anonymous, &again, &events).await.unwrap();
    assert_eq!((back.digest, back.image_id), (pulled.digest, pulled.image_id));
}
