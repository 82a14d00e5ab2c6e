//! Making room: what can be had again goes first, what is needed never goes, and the sums are those of `du`.

mod support;

use std::io::Read;
use std::process::Command;

use oci::{Descriptor, Digest, Manifest, Reference, media_type};
use store::{Evicted, ImageId, ImageUsers, NewImage, Removal, SnapshotOptions, Store};
use support::{Tar, TestStore, config, gzip, noise};

/// Everything there is to be freed.
const ALL: u64 = u64::MAX;

/// An image as it is pulled: its layers compressed, with the manifest that names them.
fn pulled(test: &TestStore, name: &str, marks: &[&str]) -> (ImageId, Vec<Vec<u8>>) {
    let lease = test.store.lease();
    let (mut diff_ids, mut blobs, mut tars) = (Vec::new(), Vec::new(), Vec::new());
    for mark in marks {
        let tar = Tar::new().file(mark, &[mark.as_bytes(), &noise(200_000)].concat()).done();
        let blob = gzip(&tar);
        diff_ids.push(test.pull(&lease, &blob, &Digest::of(&tar)).unwrap().diff_id);
        blobs.push(Descriptor::of(media_type::OCI_LAYER_GZIP, &blob));
        tars.push(tar);
    }
    let config = config(diff_ids, name);
    let manifest = Manifest::docker(Descriptor::of(media_type::DOCKER_CONFIG, &config), blobs.clone()).to_bytes();
    test.store.blob_put(&lease, &manifest).unwrap();
    let new = NewImage {
        config,
        manifest: Some(Descriptor::of(media_type::DOCKER_MANIFEST, &manifest)),
        tags: vec![name.parse::<Reference>().unwrap().with_default_tag()],
        documents: blobs.into_iter().map(|blob| blob.digest).collect(),
        ..NewImage::default()
    };
    (test.store.image_create(&lease, new).unwrap(), tars)
}

fn nobody(_: &ImageId) -> ImageUsers {
    ImageUsers::default()
}

fn room(store: &Store, bytes: u64) -> Vec<String> {
    let evicted = store.make_room(bytes, &nobody).unwrap();
    let show = |evicted: &Evicted| match evicted {
        Evicted::Partials(bytes) => format!("partials {bytes}"),
        Evicted::Blob { digest, .. } => format!("blob {digest}"),
        Evicted::Image(_, removals) => removals
            .iter()
            .find_map(|removal| match removal {
                Removal::Untagged { name, .. } => Some(format!("image {}", name.familiar())),
                _ => None,
            })
            .unwrap_or_else(|| "image".into()),
    };
    evicted.iter().map(show).collect()
}

fn blob_of(tar: &[u8]) -> String {
    format!("blob {}", Digest::of(&gzip(tar)))
}

#[test]
fn blobs_go_first_and_their_tars_come_back() {
    let test = TestStore::new();
    let (old, old_tars) = pulled(&test, "old", &["a", "b"]);
    let (_, new_tars) = pulled(&test, "new", &["b", "c"]);
    // One byte is missing: the least recently used blob is enough.
    assert_eq!(room(&test.store, 1), [blob_of(&old_tars[0])]);
    let digest = Digest::of(&gzip(&old_tars[0]));
    assert_eq!(test.store.blob_size(&digest).unwrap(), None);
    let lease = test.store.lease();
    let layer = test.store.layer_hold(&lease, &Digest::of(&old_tars[0])).unwrap().unwrap();
    assert_eq!((layer.blob, layer.dropped[0].digest.clone()), (None, digest.clone()));
    let mut tar = Vec::new();
    test.store.layer_tar(&layer.diff_id).unwrap().read_to_end(&mut tar).unwrap();
    assert!(tar == old_tars[0]);
    // The image goes on as it was, its manifest is known, and all of that survives.
    drop(lease);
    let test = test.reopen();
    assert!(test.store.image(&old).unwrap().manifest.is_some());
    assert_eq!(test.store.verify(|_, _| true).unwrap().findings, []);

    // A blob that somebody works with stays; a pull brings a dropped one back.
    let lease = test.store.lease();
    assert!(test.store.blob_hold(&lease, &Digest::of(&gzip(&new_tars[0]))).unwrap());
    assert_eq!(room(&test.store, 300_000), [blob_of(&new_tars[1]), "image old:latest".to_owned()]);
    drop(lease);
    let lease = test.store.lease();
    let layer = test.pull(&lease, &gzip(&new_tars[1]), &Digest::of(&new_tars[1])).unwrap();
    assert_eq!((layer.blob.map(|blob| blob.digest), layer.dropped), (Some(Digest::of(&gzip(&new_tars[1]))), vec![]));
}

#[test]
fn a_blob_stays_when_the_files_are_not_what_they_were() {
    let test = TestStore::new();
    let (_, tars) = pulled(&test, "image", &["a"]);
    let file = test.layer_files(&Digest::of(&tars[0])).join("a");
    std::fs::write(&file, b"damaged").unwrap();
    let evicted = test.store.make_room(1, &|_| ImageUsers { stopped: Some("c".into()), running: None }).unwrap();
    assert_eq!(evicted, []);
    assert!(test.store.blob_read(&Digest::of(&gzip(&tars[0])), 1 << 20).is_ok());
}

#[test]
fn images_go_by_their_last_use_and_some_never() {
    let test = TestStore::new();
    for name in ["first", "second", "third", "kept:keep", "pinned", "used"] {
        pulled(&test, name, &[name]);
    }
    let id = |name: &str| test.store.image_resolve(name).unwrap();
    test.store.image_pin(&id("pinned"), true).unwrap();
    test.store.snapshot_create("container", Some(&id("used")), SnapshotOptions::default()).unwrap();
    // A container that came and went is a use.
    test.store.snapshot_create("short", Some(&id("first")), SnapshotOptions::default()).unwrap();
    test.store.snapshot_remove("short").unwrap();
    let evicted = room(&test.store, ALL);
    let images: Vec<&String> = evicted.iter().filter(|line| line.starts_with("image")).collect();
    assert_eq!(images, ["image second:latest", "image third:latest", "image first:latest"]);
    assert_eq!(evicted.iter().filter(|line| line.starts_with("blob")).count(), 6);
    assert_eq!(room(&test.store, ALL), [""; 0]);
    let test = test.reopen();
    let image = test.store.image_resolve("pinned").unwrap();
    assert!(test.store.image(&image).unwrap().is_pinned);
    test.store.image_pin(&image, false).unwrap();
    assert_eq!(room(&test.store, ALL), ["image pinned:latest"]);
    assert!(test.store.image_pin(&image, true).is_err());
}

/// Who pushes or saves an image holds its layers: then neither its blobs go nor the image itself.
#[test]
fn what_is_on_its_way_stays() {
    let test = TestStore::new();
    let (_, tars) = pulled(&test, "pushed", &["one", "two"]);
    pulled(&test, "other", &["other"]);
    let lease = test.store.lease();
    for tar in &tars {
        test.store.layer_hold(&lease, &Digest::of(tar)).unwrap().unwrap();
    }
    let evicted = room(&test.store, ALL);
    assert!(evicted.contains(&"image other:latest".to_owned()) && evicted.len() == 2, "{evicted:?}");
    assert!(test.store.blob_read(&Digest::of(&gzip(&tars[0])), 1 << 20).is_ok());
    drop(lease);
    assert_eq!(room(&test.store, ALL), [blob_of(&tars[0]), blob_of(&tars[1]), "image pushed:latest".to_owned()]);
}

#[test]
fn no_more_goes_than_has_to() {
    let test = TestStore::new();
    for name in ["one", "two", "three"] {
        pulled(&test, name, &[name]);
    }
    assert_eq!(room(&test.store, 0), [""; 0]);
    assert_eq!(room(&test.store, 400_000).len(), 2);
    // One blob more, then one image: it has 200 kB of files.
    assert_eq!(room(&test.store, 250_000).len(), 2);
    assert_eq!(test.store.images().unwrap().len(), 2);
}

#[test]
fn sums_are_those_of_du() {
    let test = TestStore::new();
    let (image, _) = pulled(&test, "image", &["a", "b"]);
    test.image(&[Tar::new().dir("d", 0o755).file("d/f", &noise(5000)).hardlink("h", "d/f").symlink("l", "d").done()]);
    test.store.snapshot_create("c", Some(&image), SnapshotOptions::default()).unwrap();
    std::fs::write(test.store.snapshot_upper("c").unwrap().join("f"), noise(300_000)).unwrap();
    test.store.drain();
    // Twice: counted, and from the notes.
    for test in [&test, &test] {
        let usage = test.store.disk_usage().unwrap();
        let du = Command::new("du").args(["-s", "--block-size=1"]).arg(test.root()).output().unwrap();
        let du: u64 = String::from_utf8_lossy(&du.stdout).split_whitespace().next().unwrap().parse().unwrap();
        // The directories above all of this are nobody's.
        let frame = 6 * 4096;
        assert!(du >= usage.total() && du - usage.total() <= frame, "du {du}, we {usage:?}");
        assert!(usage.snapshots["c"] >= 300_000);
    }
}

#[test]
fn more_layers_than_the_kernel_stacks() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let layer = test.layer(&lease, &Tar::new().file("f", b"").done()).diff_id;
    let image = test.image_of(&lease, vec![layer; 500], "");
    let error = test.store.snapshot_create("c", Some(&image), SnapshotOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "the image has 500 layers, and the kernel stacks no more than 499");
    assert_eq!(test.store.snapshots(), []);
}
