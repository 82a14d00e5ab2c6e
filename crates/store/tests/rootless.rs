//! A store in a user namespace: the root of one may not write `trusted.*` attributes nor make devices.
//!
//! The test runs itself in such a namespace, with ids of its own.

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::process::{Command, Stdio};

use oci::Digest;
use store::{Driver, NewImage, SnapshotOptions, Store};
use support::{Tar, config, path_of};

const DIRECTORY: &str = "STORE_ROOTLESS_TEST_DIRECTORY";

/// Not a test by itself: what is done inside.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let store = Store::open(&dir).unwrap();
    assert!(store.has_user_marks());
    assert_eq!(store.driver(), Driver::Overlay, "this kernel mounts overlays in user namespaces");
    let lease = store.lease();
    let lower = Tar::new().dir("d", 0o755).file("d/a", b"a").dir("gone", 0o755).file("gone/x", b"x").done();
    let upper = Tar::new()
        .dir("d", 0o755)
        .file("d/.wh..wh..opq", b"")
        .file_of("d/b", 0o644, 7, 8, b"b")
        .file(".wh.gone", b"")
        // Left out, as Docker leaves it out there.
        .device("null", 1, 3)
        .done();
    let layers: Vec<Digest> =
        [lower, upper].iter().map(|tar| store.layer_import(&lease, None, &tar[..]).unwrap().diff_id).collect();
    let image = store.image_create(&lease, NewImage { config: config(layers, ""), ..NewImage::default() }).unwrap();
    store.snapshot_create("c", Some(&image), SnapshotOptions::default()).unwrap();
    assert!(store.snapshot_mounts("c").unwrap()[0].options.contains(&"userxattr".to_owned()));
    let mount = store.snapshot_mount("c").unwrap();
    let root = path_of(&mount);
    let names = |dir: &str| {
        let mut names: Vec<_> =
            std::fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("d"), ["b"]);
    assert!(!root.join("gone").exists() && !root.join("null").exists());
    let stat = std::fs::metadata(root.join("d/b")).unwrap();
    assert_eq!((stat.uid(), stat.gid()), (7, 8));

    // What a container does there is found, committed and comes back.
    std::fs::remove_dir_all(root.join("d")).unwrap();
    std::fs::create_dir(root.join("d")).unwrap();
    std::fs::write(root.join("d/c"), b"c").unwrap();
    drop(mount);
    let layer = store.snapshot_commit(&lease, "c").unwrap();
    let mut all: Vec<Digest> = store.image(&image).unwrap().layers.into_iter().map(|layer| layer.diff_id).collect();
    all.push(layer.diff_id);
    let image = store.image_create(&lease, NewImage { config: config(all, "2"), ..NewImage::default() }).unwrap();
    store.snapshot_create("c2", Some(&image), SnapshotOptions::default()).unwrap();
    let mount = store.snapshot_mount("c2").unwrap();
    let names: Vec<_> =
        std::fs::read_dir(path_of(&mount).join("d")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["c"]);
    assert_eq!(store.verify(|_, _| true).unwrap().findings, [], "what cannot be made here is no damage");
}

#[test]
fn in_a_user_namespace() {
    const FIRST_ID: u32 = 200_000;
    let temp = tempfile::tempdir().unwrap();
    chown(temp.path(), Some(FIRST_ID), Some(FIRST_ID)).unwrap();
    let program = std::env::current_exe().unwrap();
    // The program may lie where only the machine's root can go.
    let inside = temp.path().join("test");
    assert!(Command::new("cp").arg(program).arg(&inside).status().unwrap().success());
    let mut child = Command::new("unshare")
        .args(["--user", "--mount", "--keep-caps", "sh", "-c"])
        .arg("echo ready; read go; exec setpriv --reuid 0 --regid 0 --clear-groups \"$0\" --exact child --nocapture")
        .arg(inside)
        .env(DIRECTORY, temp.path().join("store"))
        .current_dir(temp.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    for kind in ["uid", "gid"] {
        std::fs::write(format!("/proc/{}/{kind}_map", child.id()), format!("0 {FIRST_ID} 65536\n")).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}
