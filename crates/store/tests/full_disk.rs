//! A full disk: whatever was begun fails with the kernel's reason, leaves nothing, and the store goes on.

mod support;

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use store::{Error, SnapshotOptions, Store};
use support::{Tar, config, gzip};
use sys::mount::{self, Propagation};
use sys::namespace::{self, Kinds};

/// Mounts a small tmpfs over a directory, in a mount namespace of this thread alone.
fn small_disk(dir: &Path, size: &str) {
    namespace::unshare(Kinds::MOUNT).unwrap();
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    mount::set_propagation(open(Path::new("/")).as_fd(), Propagation::Private, true).unwrap();
    let options = [format!("size={size}")];
    let disk = mount::new_filesystem("tmpfs", Path::new("tmpfs"), &options, false, 0).unwrap();
    mount::attach(disk.as_fd(), open(dir).as_fd()).unwrap();
}

fn is_full(error: &Error) -> bool {
    error.io().is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
}

fn used(dir: &Path) -> u64 {
    let stat = rustix::fs::statvfs(dir).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

#[test]
fn fails_and_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_owned();
    // A thread of its own, because its mount namespace is changed for good.
    std::thread::spawn(move || on_small_disk(&dir)).join().unwrap();
}

fn on_small_disk(dir: &Path) {
    small_disk(dir, "12m");
    let store = Store::open(dir).unwrap();
    let lease = store.lease();
    let small = Tar::new().file("f", b"small").done();
    let layer = store.layer_import(&lease, None, &small[..]).unwrap();
    let new = store::NewImage { config: config(vec![layer.diff_id], ""), ..store::NewImage::default() };
    let image = store.image_create(&lease, new).unwrap();
    let before = used(dir);

    // Too large when unpacked, too large as it comes, too many files.
    let big = Tar::new().file("big", &vec![7; 20 << 20]).done();
    assert!(is_full(&store.layer_import(&lease, None, &gzip(&big)[..]).unwrap_err()));
    let error = store.layer_import(&lease, None, &big[..]).unwrap_err();
    assert!(is_full(&error) || matches!(error, Error::Decompress(_)), "{error}");
    let mut ingest = store.ingest(&lease).unwrap();
    let error = std::io::Write::write_all(&mut ingest, &vec![1; 20 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    drop(ingest);
    store.drain();
    assert_eq!(used(dir), before);

    // A container fills the disk: everything that needs none goes on, and the rest fails by name.
    store.snapshot_create("c", Some(&image), SnapshotOptions::default()).unwrap();
    let upper = store.snapshot_upper("c").unwrap();
    let filled = std::fs::write(upper.join("fill"), vec![1; 20 << 20]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(store.image(&image).unwrap().size, 5);
    assert!(store.snapshot_create("d", Some(&image), SnapshotOptions::default()).is_err());
    assert!(store.snapshot_commit(&lease, "c").is_err());
    assert_eq!(store.snapshots().len(), 1);
    store.snapshot_remove("c").unwrap();
    store.drain();
    store.snapshot_create("d", Some(&image), SnapshotOptions::default()).unwrap();
    drop((lease, store));

    let store = Store::open(dir).unwrap();
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(store.snapshots().len(), 1);
}
