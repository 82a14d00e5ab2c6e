//! A full disk: whatever was begun fails with the kernel's reason, leaves nothing, and the store goes on.

mod support;

use std::os::fd::AsFd;
use std::path::Path;

use oci::Digest;
use rustix::fs::{Mode, OFlags};
use store::{Error, SnapshotOptions, Store};
use support::{Tar, TestStore, config, gzip};
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

/// Fills the disk to its last page.
fn fill(path: &Path) {
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    let page = [1; 4096];
    let full = std::iter::repeat_with(|| std::io::Write::write_all(&mut file, &page)).find_map(Result::err);
    assert_eq!(full.unwrap().kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn the_database_itself_finds_no_page() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_owned();
    std::thread::spawn(move || database_on_small_disk(&dir)).join().unwrap();
}

fn database_on_small_disk(dir: &Path) {
    small_disk(dir, "12m");
    let store = Store::open(dir).unwrap();
    let lease = store.lease();
    let tar = Tar::new().file("f", b"small").done();
    let layer = store.layer_import(&lease, None, &tar[..]).unwrap();
    let new = || store::NewImage { config: config(vec![layer.diff_id.clone()], ""), ..store::NewImage::default() };
    let image = store.image_create(&lease, new()).unwrap();
    let fill_file = dir.join("fill");
    fill(&fill_file);
    // Documents and tags go on for as long as there are pages in the file.
    let mut tags = 0..;
    let mut tag = || {
        let name: oci::Reference = format!("{}:{}", "n".repeat(100), tags.next().unwrap()).parse().unwrap();
        store.image_tag(&name, &image).map(|_| name)
    };
    let mut tagged = Vec::new();
    let error = loop {
        match tag() {
            Ok(name) => tagged.push(name),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Database(_)) && error.to_string().contains("No space left"), "{error}");
    let names = || {
        let mut tags = store.image(&image).unwrap().tags;
        tags.sort();
        tags
    };
    // What is known can be read while there is no room, and what failed was not done.
    tagged.sort();
    assert_eq!(names(), tagged);
    // So it is a second time, unless opening it again found a page.
    tagged.extend(tag().ok());
    tagged.sort();
    assert_eq!(names(), tagged);
    std::fs::remove_file(&fill_file).unwrap();
    tagged.push(tag().unwrap());
    tagged.sort();
    assert_eq!(names(), tagged);
    drop((lease, store));
    assert_eq!(Store::open(dir).unwrap().images().unwrap()[0].tags.len(), tagged.len());
}

#[test]
fn what_a_failed_commit_left_is_in_nobodys_way() {
    let test = TestStore::new();
    let tar = Tar::new().file("f", b"new").done();
    // A layer is placed before its record is committed.
    let left = test.layer_files(&Digest::of(&tar));
    std::fs::create_dir_all(left.join("d")).unwrap();
    let lease = test.store.lease();
    test.layer(&lease, &tar);
    assert_eq!(std::fs::read(left.join("f")).unwrap(), b"new");
    assert!(!left.join("d").exists());
}

#[test]
fn no_room_to_look_at_a_layer_is_no_damage() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_owned();
    let thread = std::thread::spawn(move || {
        small_disk(&dir, "12m");
        let store = Store::open(&dir).unwrap();
        let lease = store.lease();
        // Entries that take each other's place are held against a fresh copy.
        let tar = Tar::new().file("f", b"first").file("f", &vec![7; 100_000]).done();
        let layer = store.layer_import(&lease, None, &tar[..]).unwrap();
        fill(&dir.join("fill"));
        let found = store.verify(|_, _| true).unwrap().findings;
        assert!(found.len() == 1 && found[0].problem.starts_with("it cannot be looked at: "), "{found:?}");
        assert!(store.layer_hold(&lease, &layer.diff_id).unwrap().is_some());
        std::fs::remove_file(dir.join("fill")).unwrap();
        assert_eq!(store.verify(|_, _| true).unwrap().findings, []);
    });
    thread.join().unwrap();
}
