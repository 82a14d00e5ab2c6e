//! A loss of power soon after a pull: the next start finds what is not whole.

mod support;

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use oci::{Descriptor, Digest, media_type};
use rustix::fs::{Mode, OFlags};
use store::{NewImage, SnapshotOptions, Store};
use support::{Tar, TestStore, config, gzip, noise, path_of};
use sys::mount::{self, Propagation};
use sys::namespace::{self, Kinds};

/// Lets this thread see another boot id.
fn boot(dir: &Path, id: &str) {
    namespace::unshare(Kinds::MOUNT).unwrap();
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    mount::set_propagation(open(Path::new("/")).as_fd(), Propagation::Private, true).unwrap();
    let file = dir.join(id);
    fs::write(&file, id).unwrap();
    let file = mount::clone_path(&file, false).unwrap();
    mount::attach(file.as_fd(), open(Path::new("/proc/sys/kernel/random/boot_id")).as_fd()).unwrap();
}

/// Opens the store after another boot, and tells the names of the images that are there.
fn after_a_boot(dir: &Path, id: &str) -> Vec<String> {
    let (dir, id) = (dir.to_owned(), id.to_owned());
    let thread = std::thread::spawn(move || {
        boot(&dir, &id);
        let store = Store::open(dir.join("store")).unwrap();
        let images = store.images().unwrap();
        let mut names: Vec<String> = images.iter().flat_map(|image| &image.tags).map(ToString::to_string).collect();
        names.sort();
        store.drain();
        names
    });
    thread.join().unwrap()
}

/// Two images with a layer of their own and one in common.
fn two_images(test: &TestStore) -> [Digest; 3] {
    let lease = test.store.lease();
    let layers = ["shared", "one", "two"].map(|name| {
        let tar = Tar::new().file(name, &noise(100_000)).done();
        test.pull(&lease, &gzip(&tar), &Digest::of(&tar)).unwrap().diff_id
    });
    for (name, layer) in [("one", 1), ("two", 2)] {
        let new = NewImage {
            config: config(vec![layers[0].clone(), layers[layer].clone()], name),
            tags: vec![format!("{name}:latest").parse().unwrap()],
            ..NewImage::default()
        };
        test.store.image_create(&lease, new).unwrap();
    }
    layers
}

#[test]
fn what_was_not_written_is_found_and_goes() {
    let test = TestStore::new();
    let layers = two_images(&test);
    let file = test.layer_files(&layers[1]).join("one");
    let TestStore { store, dir } = test;
    drop(store);
    // What ext4 leaves of a file whose blocks were never written.
    fs::File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    let names = after_a_boot(dir.path(), "boot-1");
    assert_eq!(names, ["docker.io/library/two:latest"]);
    assert!(!dir.path().join("store/layers").join(layers[1].hex()).exists());
    assert!(dir.path().join("store/layers").join(layers[0].hex()).exists());
    // That was looked at, and is on the disk now: the next boot believes it.
    let file = dir.path().join("store/layers").join(layers[2].hex()).join("fs/two");
    fs::write(file, b"").unwrap();
    assert_eq!(after_a_boot(dir.path(), "boot-2"), ["docker.io/library/two:latest"]);
}

#[test]
fn a_blob_that_came_to_nothing() {
    let test = TestStore::new();
    let [shared, one, two] = two_images(&test);
    let lease = test.store.lease();
    let layer = test.store.layer_hold(&lease, &one).unwrap().unwrap();
    let alone = Descriptor::of(media_type::OCI_LAYER_GZIP, b"of another platform");
    let mut ingest = test.store.blob_ingest(&lease, &alone).unwrap();
    std::io::Write::write_all(&mut ingest, b"of another platform").unwrap();
    ingest.finish().unwrap();
    let documents = vec![alone.digest.clone()];
    let new = NewImage { config: config(vec![shared, two], "two"), documents, ..NewImage::default() };
    test.store.image_create(&lease, new).unwrap();
    drop(lease);
    let TestStore { store, dir } = test;
    drop(store);
    let blobs = dir.path().join("store/blobs/sha256");
    fs::write(blobs.join(alone.digest.hex()), b"").unwrap();
    let of_layer = layer.blob.unwrap().digest;
    fs::write(blobs.join(of_layer.hex()), b"zeros").unwrap();
    // The files of the layer are whole, so nothing needs its blob.
    let both = ["docker.io/library/one:latest", "docker.io/library/two:latest"];
    assert_eq!(after_a_boot(dir.path(), "boot-1"), both);
    assert!(!blobs.join(alone.digest.hex()).exists());
    assert!(!blobs.join(of_layer.hex()).exists());
    let store = Store::open(dir.path().join("store")).unwrap();
    let held = store.layer_hold(&store.lease(), &one).unwrap().unwrap();
    assert_eq!((held.blob, store.blob_size(&of_layer).unwrap()), (None, None));
    assert_eq!(store.verify(|_, _| true).unwrap().findings, []);
}

#[test]
fn a_blob_that_was_made_for_a_push() {
    for left in [&b"short"[..], &[0; 10_000]] {
        let test = TestStore::new();
        let tar = Tar::new().file("f", &noise(20_000)).done();
        let id = test.image(std::slice::from_ref(&tar));
        let (diff_id, lease) = (Digest::of(&tar), test.store.lease());
        // The layer itself is on the disk since long.
        test.store.sync().unwrap();
        let blob = test.store.layer_blob(&lease, &diff_id, |_, _| {}).unwrap();
        drop(lease);
        let TestStore { store, dir } = test;
        drop(store);
        let path = dir.path().join("store/blobs/sha256").join(blob.digest.hex());
        let mut bytes = left.to_vec();
        // As long as it was, or not.
        bytes.resize(if left.len() > 100 { usize::try_from(blob.size).unwrap() } else { left.len() }, 0);
        fs::write(&path, bytes).unwrap();
        after_a_boot(dir.path(), "boot-1");
        let store = Store::open(dir.path().join("store")).unwrap();
        assert!(store.image(&id).is_ok(), "an image that was made here comes from nowhere else");
        assert!(!path.exists());
        let again = store.layer_blob(&store.lease(), &diff_id, |_, _| {}).unwrap();
        assert_eq!(again, blob);
        assert!(blob.digest.verifies(&store.blob_read(&blob.digest, 1 << 20).unwrap()));
    }
}

#[test]
fn what_is_on_the_disk_is_not_looked_at_again() {
    let test = TestStore::new();
    let layers = two_images(&test);
    test.store.sync().unwrap();
    let file = test.layer_files(&layers[1]).join("one");
    let TestStore { store, dir } = test;
    drop(store);
    fs::write(file, b"").unwrap();
    assert_eq!(after_a_boot(dir.path(), "boot-1").len(), 2);
}

#[test]
fn a_damaged_layer_that_a_container_has() {
    let test = TestStore::new();
    let tar = Tar::new().file("f", b"content").file("g", b"other").done();
    let (blob, diff_id) = (gzip(&tar), Digest::of(&tar));
    let pull = |test: &TestStore| {
        let lease = test.store.lease();
        assert!(test.store.layer_hold(&lease, &diff_id).unwrap().is_none(), "it counts as missing");
        test.pull(&lease, &blob, &diff_id).unwrap();
        assert!(test.store.layer_hold(&lease, &diff_id).unwrap().is_some());
        test.image_of(&lease, vec![diff_id.clone()], "")
    };
    let id = pull(&test);
    test.store.snapshot_create("c", Some(&id), SnapshotOptions::default()).unwrap();
    let (file, TestStore { store, dir }) = (test.layer_files(&diff_id).join("f"), test);
    drop(store);
    fs::write(&file, b"").unwrap();
    assert_eq!(after_a_boot(dir.path(), "boot-1"), [""; 0]);

    let test = TestStore { store: Store::open(dir.path().join("store")).unwrap(), dir };
    let replaced = || fs::read_dir(test.root().join("replaced")).unwrap().count();
    // What runs goes on with what it has; what starts finds the good files.
    let running = test.store.snapshot_mount("c").unwrap();
    pull(&test);
    test.store.drain();
    assert_eq!(fs::read(path_of(&running).join("g")).unwrap(), b"other");
    drop(running);
    let started = test.store.snapshot_mount("c").unwrap();
    assert_eq!(fs::read(path_of(&started).join("f")).unwrap(), b"content");
    assert_eq!(test.store.verify(|_, _| true).unwrap().findings, []);
    assert_eq!(replaced(), 1);
    drop(started);
    test.store.snapshot_remove("c").unwrap();
    test.store.collect_garbage().unwrap();
    assert_eq!(replaced(), 0);
}

#[test]
fn a_container_whose_record_cannot_be_read() {
    let test = TestStore::new();
    let id = test.image(&[Tar::new().file("f", b"content").done()]);
    for container in ["written", "empty", "begun"] {
        test.store.snapshot_create(container, Some(&id), SnapshotOptions::default()).unwrap();
    }
    let snapshots = test.root().join("snapshots");
    fs::write(snapshots.join("written/fs/mine"), b"mine").unwrap();
    fs::write(snapshots.join("begun/fs/f"), b"copied").unwrap();
    // What ext4 leaves of a file whose blocks were never written; and a copy that was cut short.
    for container in ["written", "empty"] {
        fs::write(snapshots.join(container).join("record.json"), b"").unwrap();
    }
    fs::remove_file(snapshots.join("begun/record.json")).unwrap();
    let test = test.reopen();
    assert_eq!(test.store.snapshots(), []);
    let names: Vec<_> = fs::read_dir(&snapshots).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["written"]);
    assert_eq!(fs::read(snapshots.join("written/fs/mine")).unwrap(), b"mine");
}
