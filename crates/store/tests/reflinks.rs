//! Copies on a file system whose files can share blocks: XFS, in a file.

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use store::{Driver, SnapshotOptions, Store};
use support::{Tar, noise};

/// What is mounted here goes when it is dropped.
struct Mounted(tempfile::TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a thread of the store may still be about to let go of it.
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Bytes that are in use on the file system.
fn used(path: &Path) -> u64 {
    // Blocks are given out when they are written to the disk.
    rustix::fs::syncfs(File::open(path).unwrap()).unwrap();
    let found = rustix::fs::statvfs(path).unwrap();
    (found.f_blocks - found.f_bfree) * found.f_frsize
}

#[test]
fn copies_share_the_blocks_of_their_layers() {
    const SIZE: usize = 40 << 20;
    if !fs::read_to_string("/proc/filesystems").unwrap().contains("xfs") {
        eprintln!("this kernel has no XFS");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("xfs");
    File::create(&image).unwrap().set_len(1 << 30).unwrap();
    let path = format!("/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default());
    run(Command::new("mkfs.xfs").env("PATH", &path).args(["-q", "-m", "reflink=1"]).arg(&image));
    let mounted = Mounted(tempfile::tempdir().unwrap());
    run(Command::new("mount").env("PATH", &path).args(["-o", "loop"]).arg(&image).arg(mounted.0.path()));
    let store = Store::open_with(mounted.0.path().join("store"), Some(Driver::Copying)).unwrap();
    let lease = store.lease();
    let tar = Tar::new().file("large", &noise(SIZE)).file("small", b"1").done();
    let layer = store.layer_import(&lease, None, &tar[..]).unwrap();
    let new = store::NewImage { config: support::config(vec![layer.diff_id], ""), ..Default::default() };
    let image = store.image_create(&lease, new).unwrap();
    let before = used(mounted.0.path());
    assert!(before > SIZE as u64);
    for name in ["one", "two", "three"] {
        store.snapshot_create(name, Some(&image), SnapshotOptions::default()).unwrap();
        assert!(fs::read(store.snapshot_upper(name).unwrap().join("large")).unwrap() == noise(SIZE));
    }
    let grown = used(mounted.0.path()) - before;
    assert!(grown < SIZE as u64 / 4, "three copies took {grown} bytes");
    // What is written to one of them is its own.
    fs::write(store.snapshot_upper("one").unwrap().join("large"), b"other").unwrap();
    assert!(fs::read(store.snapshot_upper("two").unwrap().join("large")).unwrap() == noise(SIZE));
}
