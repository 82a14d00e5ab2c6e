//! A loss of power soon after a pull: the next start finds what is not whole.

mod support;

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use oci::{Descriptor, Digest, media_type};
use rustix::fs::{Mode, OFlags};
use store::{NewImage, Store};
use support::{Tar, TestStore, config, gzip, noise};
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
    fs::write(blobs.join(layer.blob.unwrap().digest.hex()), b"zeros").unwrap();
    assert_eq!(after_a_boot(dir.path(), "boot-1"), ["docker.io/library/two:latest"]);
    assert!(!blobs.join(alone.digest.hex()).exists());
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
