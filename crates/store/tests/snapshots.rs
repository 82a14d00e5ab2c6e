//! Snapshots: what a container changes through a real overlay mount, what is found of it, and what becomes of it as a
//! layer.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use oci::Digest;
use proptest::prelude::*;
use store::{ChangeKind, Driver, Error, SnapshotOptions};
use support::{Picture, Tar, TestStore, differences, path_of, picture};

fn base() -> Vec<u8> {
    Tar::new()
        .dir("etc/", 0o755)
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
        .file("etc/keep", b"kept")
        .dir("usr/", 0o755)
        .dir("usr/lib/", 0o755)
        .file("usr/lib/a", b"a")
        .file("usr/lib/b", b"b")
        .dir("usr/lib/deep/", 0o755)
        .file("usr/lib/deep/c", b"c")
        .symlink("lib", "usr/lib")
        .dir("var/", 0o755)
        .file("var/log", b"log")
        .done()
}

fn changes(test: &TestStore, id: &str) -> Vec<(char, String)> {
    let letter = |kind| match kind {
        ChangeKind::Modified => 'C',
        ChangeKind::Added => 'A',
        ChangeKind::Deleted => 'D',
    };
    let found = test.store.snapshot_changes(id).unwrap();
    found.into_iter().map(|change| (letter(change.kind), change.path.to_str().unwrap().to_owned())).collect()
}

#[test]
fn changes_are_dockers() {
    let test = TestStore::new();
    let image = test.image(&[base(), Tar::new().file("var/.wh.log", b"").file("top", b"t").done()]);
    test.store.snapshot_create("c1", Some(&image), SnapshotOptions::default()).unwrap();
    assert_eq!(changes(&test, "c1"), []);
    let mount = test.store.snapshot_mount("c1").unwrap();
    let root = path_of(&mount);
    // What the engine mounts on is there, and is no change.
    assert!(root.join("etc/hosts").is_file() && root.join("proc").is_dir());
    assert_eq!(fs::read_link(root.join("etc/mtab")).unwrap(), Path::new("/proc/mounts"));
    assert!(!root.join("var/log").exists());

    fs::write(root.join("etc/passwd"), b"changed").unwrap();
    fs::create_dir(root.join("new")).unwrap();
    fs::write(root.join("new/file"), b"x").unwrap();
    fs::remove_file(root.join("usr/lib/a")).unwrap();
    fs::write(root.join("var/log"), b"new log").unwrap();
    // Copied up and down again: nothing happened.
    let mode = fs::metadata(root.join("etc/keep")).unwrap().permissions();
    fs::set_permissions(root.join("etc/keep"), mode).unwrap();
    // Made anew: what was inside is gone.
    fs::remove_dir_all(root.join("usr/lib/deep")).unwrap();
    fs::create_dir(root.join("usr/lib/deep")).unwrap();
    fs::write(root.join("usr/lib/deep/d"), b"d").unwrap();
    fs::remove_file(root.join("lib")).unwrap();
    fs::create_dir(root.join("lib")).unwrap();
    fs::remove_file(root.join("top")).unwrap();
    let expected = [
        ('C', "/etc"),
        ('C', "/etc/passwd"),
        ('C', "/lib"),
        ('A', "/new"),
        ('A', "/new/file"),
        ('D', "/top"),
        ('C', "/usr"),
        ('C', "/usr/lib"),
        ('D', "/usr/lib/a"),
        ('C', "/usr/lib/deep"),
        ('D', "/usr/lib/deep/c"),
        ('A', "/usr/lib/deep/d"),
        ('C', "/var"),
        ('A', "/var/log"),
    ];
    assert_eq!(changes(&test, "c1"), expected.map(|(kind, path)| (kind, path.to_owned())));
    let usage = test.store.snapshot_usage("c1").unwrap();
    assert_eq!(usage.size, 7 + 1 + 7 + 4 + 1);
    assert_eq!(test.store.snapshot_image_size("c1").unwrap(), test.store.image(&image).unwrap().size);
}

/// What is removed while it is committed is committed as a whole or not at all.
#[test]
fn a_commit_of_what_is_being_removed() {
    const FILES: usize = 2000;
    let test = TestStore::new();
    let image = test.image(&[base()]);
    let mut refused = 0;
    for round in 0..8 {
        let id = format!("c{round}");
        test.store.snapshot_create(&id, Some(&image), SnapshotOptions::default()).unwrap();
        let upper = test.store.snapshot_upper(&id).unwrap();
        for n in 0..FILES {
            fs::write(upper.join(n.to_string()), b"x").unwrap();
        }
        let lease = test.store.lease();
        let store = test.store.clone();
        let committed = std::thread::scope(|scope| {
            let commit = scope.spawn(|| store.snapshot_commit(&lease, &id));
            // As soon as something is unpacked.
            while !commit.is_finished() && fs::read_dir(test.root().join("layers/unpacking")).unwrap().next().is_none()
            {
                std::thread::yield_now();
            }
            test.store.snapshot_remove(&id).unwrap();
            commit.join().unwrap()
        });
        match committed {
            Ok(layer) => assert_eq!(layer.size, FILES as u64),
            Err(error) => {
                assert!(matches!(error, store::Error::NoSuchSnapshot(_)), "{error}");
                refused += 1;
            }
        }
    }
    assert_ne!(refused, 0, "no removal came in time");
}

#[test]
fn commit_and_push_give_the_same_tree() {
    let test = TestStore::new();
    let image = test.image(&[base()]);
    test.store.snapshot_create("c1", Some(&image), SnapshotOptions::default()).unwrap();
    let mount = test.store.snapshot_mount("c1").unwrap();
    let root = path_of(&mount);
    fs::write(root.join("etc/passwd"), b"changed").unwrap();
    fs::remove_dir_all(root.join("usr/lib/deep")).unwrap();
    fs::create_dir(root.join("usr/lib/deep")).unwrap();
    fs::create_dir(root.join("quite-new")).unwrap();
    fs::remove_file(root.join("usr/lib/a")).unwrap();
    fs::hard_link(root.join("usr/lib/b"), root.join("var/b")).unwrap();
    rustix::fs::setxattr(root.join("var/b"), "user.k", b"v", rustix::fs::XattrFlags::empty()).unwrap();
    let lease = test.store.lease();
    let layer = test.store.snapshot_commit(&lease, "c1").unwrap();
    assert!(!layer.is_empty());
    let mut layers: Vec<Digest> =
        test.store.image(&image).unwrap().layers.into_iter().map(|layer| layer.diff_id).collect();
    layers.push(layer.diff_id.clone());
    let committed = test.image_of(&lease, layers, "");

    // Its tar has AUFS's marks, and only where something is hidden.
    let mut tar = Vec::new();
    test.store.layer_tar(&layer.diff_id).unwrap().read_to_end(&mut tar).unwrap();
    assert_eq!(Digest::of(&tar), layer.diff_id);
    let mut archive = tar::Archive::new(&tar[..]);
    let names: Vec<String> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(names.contains(&"usr/lib/.wh.a".to_owned()), "{names:?}");
    assert!(names.contains(&"usr/lib/deep/.wh..wh..opq".to_owned()), "{names:?}");
    assert!(!names.contains(&"quite-new/.wh..wh..opq".to_owned()), "{names:?}");

    test.store.snapshot_create("c2", Some(&committed), SnapshotOptions::default()).unwrap();
    let again = test.store.snapshot_mount("c2").unwrap();
    assert_eq!(differences(&picture(&path_of(&again)), &picture(&root)), []);
    assert_eq!(changes(&test, "c2"), []);

    // Compressed for a registry once, and kept; another store gets the same layer from it.
    let blob = test.store.layer_blob(&lease, &layer.diff_id, |_, _| {}).unwrap();
    assert_eq!(test.store.layer_blob(&lease, &layer.diff_id, |_, _| {}).unwrap(), blob);
    let bytes = test.store.blob_read(&blob.digest, 1 << 20).unwrap();
    assert_eq!(Digest::of(&bytes), blob.digest);
    let other = TestStore::new();
    let other_lease = other.store.lease();
    assert_eq!(other.pull(&other_lease, &bytes, &layer.diff_id).unwrap().size, layer.size);
    drop((mount, again));
}

#[test]
fn a_container_that_changed_nothing() {
    let test = TestStore::new();
    let image = test.image(&[base()]);
    test.store.snapshot_create("c1", Some(&image), SnapshotOptions::default()).unwrap();
    let layer = test.store.snapshot_commit(&test.store.lease(), "c1").unwrap();
    assert!(layer.is_empty());
    // What Docker knows as the empty layer.
    assert!(layer.diff_id.hex().starts_with("5f70bf18a086"));
}

#[test]
fn without_an_image() {
    let test = TestStore::new();
    test.store.snapshot_create("c1", None, SnapshotOptions { ephemeral: true }).unwrap();
    let mount = test.store.snapshot_mount("c1").unwrap();
    fs::write(path_of(&mount).join("x"), b"x").unwrap();
    assert_eq!(changes(&test, "c1"), [('A', "/x".to_owned())]);
    drop(mount);
    // A second time, although the first mount was a volatile one.
    test.store.snapshot_mount("c1").unwrap();
}

#[test]
fn more_layers_than_fit_on_a_page() {
    let test = TestStore::new();
    let tars: Vec<Vec<u8>> = (0..200)
        .map(|n| Tar::new().file(&format!("layer{n}"), b"x").file("shared", n.to_string().as_bytes()).done())
        .collect();
    let image = test.image(&tars);
    test.store.snapshot_create("c1", Some(&image), SnapshotOptions::default()).unwrap();
    let mount = test.store.snapshot_mount("c1").unwrap();
    let root = path_of(&mount);
    assert_eq!(fs::read(root.join("shared")).unwrap(), b"199");
    assert_eq!((0..200).filter(|n| root.join(format!("layer{n}")).exists()).count(), 200);
}

#[test]
fn the_root_looks_like_the_images() {
    let test = TestStore::new();
    let image = test.image(&[Tar::new().dir("./", 0o1777).symlink("etc", "usr/etc").dir("usr/etc/", 0o755).done()]);
    test.store.snapshot_create("c1", Some(&image), SnapshotOptions::default()).unwrap();
    let mount = test.store.snapshot_mount("c1").unwrap();
    let root = path_of(&mount);
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o7777, 0o1777);
    // An image's own link is no place for mount points.
    assert!(root.join("etc").is_symlink());
    // A layer that does not mention the root leaves it as it is, one that does changes it.
    fs::write(root.join("f"), b"x").unwrap();
    let lease = test.store.lease();
    let mut layers: Vec<Digest> =
        test.store.image(&image).unwrap().layers.into_iter().map(|layer| layer.diff_id).collect();
    layers.push(test.store.snapshot_commit(&lease, "c1").unwrap().diff_id);
    let mode = |layers: &[Digest], id: &str| {
        let image = test.image_of(&lease, layers.to_vec(), id);
        test.store.snapshot_create(id, Some(&image), SnapshotOptions::default()).unwrap();
        fs::metadata(path_of(&test.store.snapshot_mount(id).unwrap())).unwrap().mode() & 0o7777
    };
    assert_eq!(mode(&layers, "c2"), 0o1777);
    let squashed = test.store.layers_squash(&lease, &layers, false).unwrap().diff_id;
    assert_eq!(mode(&[squashed], "c3"), 0o1777);
    layers.push(test.layer(&lease, &Tar::new().dir("./", 0o711).done()).diff_id);
    assert_eq!(mode(&layers, "c4"), 0o711);
}

#[test]
fn names_and_order_of_life() {
    let test = TestStore::new();
    for bad in ["", ".", "..", "a/b", "x\0y", ".hidden"] {
        let made = test.store.snapshot_create(bad, None, SnapshotOptions::default());
        assert!(matches!(made, Err(Error::InvalidId(_))), "{bad:?}");
    }
    let image = test.image(&[base()]);
    test.store.snapshot_create("c1", Some(&image), SnapshotOptions::default()).unwrap();
    assert!(matches!(
        test.store.snapshot_create("c1", None, SnapshotOptions::default()),
        Err(Error::SnapshotExists(_))
    ));
    let test = test.reopen();
    assert_eq!(test.store.snapshots(), [("c1".to_owned(), Some(image))]);
    test.store.snapshot_remove("c1").unwrap();
    assert!(matches!(test.store.snapshot_remove("c1"), Err(Error::NoSuchSnapshot(_))));
    assert!(matches!(test.store.snapshot_mounts("c1"), Err(Error::NoSuchSnapshot(_))));
    let missing = store::ImageId::from(Digest::of(b"missing"));
    let made = test.store.snapshot_create("c2", Some(&missing), SnapshotOptions::default());
    assert!(matches!(made, Err(Error::NoSuchImage(_))));
    test.store.drain();
    assert_eq!(fs::read_dir(test.root().join("snapshots")).unwrap().count(), 0);
}

/// The same image and the same deeds under both drivers.
#[test]
fn a_copy_is_as_good_as_an_overlay() {
    let base = base();
    let second = Tar::new()
        .file("usr/.wh.lib", b"")
        .file("etc/.wh..wh..opq", b"")
        .file("etc/only", b"x")
        .hardlink("etc/second", "etc/only")
        .file("opt/file", b"")
        .done();
    let mut pictures = Vec::new();
    for driver in [Driver::Overlay, Driver::Copying] {
        let test = TestStore::with(Some(driver));
        assert_eq!(test.store.driver(), driver);
        let image = test.image(&[base.clone(), second.clone()]);
        test.store.snapshot_create("c1", Some(&image), SnapshotOptions::default()).unwrap();
        let mounts = test.store.snapshot_mounts("c1").unwrap();
        assert_eq!(mounts[0].fstype, if driver == Driver::Overlay { "overlay" } else { "bind" });
        assert_eq!(changes(&test, "c1"), []);
        assert_eq!(test.store.snapshot_usage("c1").unwrap().size, 0);
        let mount = test.store.snapshot_mount("c1").unwrap();
        let root = path_of(&mount);
        let before = picture(&root);
        fs::write(root.join("opt/file"), b"longer").unwrap();
        fs::write(root.join("fresh"), b"1234").unwrap();
        assert_eq!(test.store.snapshot_usage("c1").unwrap().size, 6 + 4);
        drop(mount);
        // What is on the disk stays what it is when the other driver is chosen.
        let test = test.reopen();
        assert_eq!(test.store.snapshot_mounts("c1").unwrap(), mounts);
        test.store.snapshot_remove("c1").unwrap();
        pictures.push(before);
    }
    assert_eq!(differences(&pictures[0], &pictures[1]), []);
}

/// What a layer hides, in the spelling of overlay, and at its root, where overlay itself does not look for it.
#[test]
fn other_spellings_of_what_is_hidden() {
    let base = Tar::new().dir("dir", 0o755).file("dir/below", b"1").file("gone", b"1").file("kept", b"1").done();
    let marked = Tar::new()
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .dir("dir", 0o755)
        .file("dir/above", b"2")
        .device("gone", 0, 0)
        .done();
    let all_new = Tar::new().file(".wh..wh..opq", b"").file("only", b"3").done();
    for driver in [Driver::Overlay, Driver::Copying] {
        let test = TestStore::with(Some(driver));
        let lease = test.store.lease();
        let layers = [&base, &marked, &all_new].map(|tar| test.layer(&lease, tar).diff_id);
        let seen = |name: &str, layers: &[Digest]| {
            let image = test.image_of(&lease, layers.to_vec(), name);
            test.store.snapshot_create(name, Some(&image), SnapshotOptions::default()).unwrap();
            let picture = picture(&path_of(&test.store.snapshot_mount(name).unwrap()));
            let paths = picture.into_keys().map(|path| path.to_str().unwrap().to_owned());
            paths.filter(|path| ["dir", "gone", "kept", "only"].iter().any(|own| path.starts_with(own))).collect()
        };
        let seen: [Vec<String>; 2] = [seen("two", &layers[..2]), seen("three", &layers)];
        assert_eq!(seen, [vec!["dir", "dir/above", "kept"], vec!["only"]], "{driver:?}");
        // Several layers in one hide what they hid.
        let one = test.store.layers_squash(&lease, &layers[1..], true).unwrap();
        let mut tar = Vec::new();
        test.store.layer_tar(&one.diff_id).unwrap().read_to_end(&mut tar).unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names, [Path::new(".wh..wh..opq"), Path::new("only")]);
    }
}

/// In a layer such a name removes another one, so a file of that name cannot be in it.
#[test]
fn a_name_that_would_remove_another_is_refused() {
    let test = TestStore::new();
    let image = test.image(&[base()]);
    test.store.snapshot_create("c1", Some(&image), SnapshotOptions::default()).unwrap();
    fs::write(path_of(&test.store.snapshot_mount("c1").unwrap()).join("etc/.wh.passwd"), b"").unwrap();
    let error = test.store.snapshot_commit(&test.store.lease(), "c1").unwrap_err().to_string();
    assert!(error.starts_with("etc/.wh.passwd cannot be part of a layer"), "{error}");
}

/// A colon separates directories in the one option that older kernels have for them.
#[test]
fn a_root_with_a_colon_in_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = store::Store::open(dir.path().join("a:b")).unwrap();
    assert_eq!(store.driver(), Driver::Overlay);
    let lease = store.lease();
    let layer = store.layer_import(&lease, None, &base()[..]).unwrap();
    let new = store::NewImage { config: support::config(vec![layer.diff_id], ""), ..Default::default() };
    let image = store.image_create(&lease, new).unwrap();
    store.snapshot_create("c1", Some(&image), SnapshotOptions::default()).unwrap();
    let mount = store.snapshot_mount("c1").unwrap();
    assert_eq!(fs::read(path_of(&mount).join("etc/keep")).unwrap(), b"kept");
}

/// Holes stay holes, and any number of files may have several names.
#[test]
fn copies_are_no_larger() {
    let many = (0..2000).fold(Tar::new().file("zeros", &vec![0; 32 << 20]), |tar, n| {
        tar.file(&format!("a{n}"), b"x").hardlink(&format!("b{n}"), &format!("a{n}"))
    });
    let test = TestStore::with(Some(Driver::Copying));
    let image = test.image(&[many.done()]);
    test.store.snapshot_create("c1", Some(&image), SnapshotOptions::default()).unwrap();
    let mount = test.store.snapshot_mount("c1").unwrap();
    let root = path_of(&mount);
    let zeros = root.join("zeros").metadata().unwrap();
    // At the ends of the pieces that a layer comes in, zeros are written.
    assert_eq!((zeros.len(), zeros.blocks() * 512 < 4 << 20), (32 << 20, true), "{} blocks", zeros.blocks());
    assert_eq!(root.join("b1999").metadata().unwrap().nlink(), 2);
}

#[test]
fn directories_that_a_layer_only_implies_look_as_they_do_below() {
    let base = Tar::new()
        .dir("tmp", 0o1777)
        .dir("opt", 0o755)
        .dir("opt/app", 0o700)
        .dir("etc", 0o750)
        .dir("gone", 0o711)
        .symlink("link", "opt")
        .done();
    let second = Tar::new()
        .file("tmp/x", b"")
        .file("opt/app/deep/y", b"")
        .file("new/z", b"")
        .file("etc/file", b"")
        .file("gone/.wh..wh..opq", b"")
        .file("gone/f", b"")
        .done();
    // Mentioned after something in it: no matter of implication.
    let third = Tar::new().file("tmp/y", b"").dir("new", 0o711).file("link/through", b"").done();
    let fourth = Tar::new().file("late/a", b"").dir("late", 0o701).done();
    for driver in [Driver::Overlay, Driver::Copying] {
        let test = TestStore::with(Some(driver));
        let image = test.image(&[base.clone(), second.clone(), third.clone(), fourth.clone()]);
        test.store.snapshot_create("c1", Some(&image), SnapshotOptions::default()).unwrap();
        assert_eq!(changes(&test, "c1"), []);
        let mount = test.store.snapshot_mount("c1").unwrap();
        let mode = |path: &str| fs::symlink_metadata(path_of(&mount).join(path)).unwrap().mode() & 0o7777;
        let found = ["tmp", "opt", "opt/app", "opt/app/deep", "new", "etc", "late"].map(mode);
        assert_eq!(found, [0o1777, 0o755, 0o700, 0o755, 0o711, 0o750, 0o701], "{driver:?}");
        assert_eq!(fs::metadata(path_of(&mount).join("tmp")).unwrap().mtime(), 1_500_000_000);
        assert!(path_of(&mount).join("gone/f").exists() && path_of(&mount).join("opt/app/deep/y").exists());
    }
}

#[test]
fn several_layers_become_one() {
    let base = Tar::new()
        .dir("tmp", 0o1777)
        .dir("dir", 0o755)
        .file("dir/below", b"x")
        .file("gone", b"x")
        .dir("kept", 0o700)
        .file("kept/f", b"x")
        .done();
    let first = Tar::new()
        .file("tmp/implied", b"1")
        .file(".wh.gone", b"")
        .file("dir", b"a file")
        .file("big", &[1; 10_000])
        .file("kept/.wh.f", b"")
        .done();
    let second = Tar::new().dir("dir", 0o711).file("dir/new", b"2").file(".wh.big", b"").dir("gone", 0o755).done();
    let test = TestStore::new();
    let lease = test.store.lease();
    let layers = [&base, &first, &second].map(|tar| test.layer(&lease, tar).diff_id);
    let look = |layers: Vec<Digest>, mark: &str| {
        let image = test.image_of(&lease, layers, mark);
        test.store.snapshot_create(mark, Some(&image), SnapshotOptions::default()).unwrap();
        picture(&path_of(&test.store.snapshot_mount(mark).unwrap()))
    };
    let expected = look(layers.to_vec(), "all");
    let above = test.store.layers_squash(&lease, &layers[1..], true).unwrap();
    let whole = test.store.layers_squash(&lease, &layers, false).unwrap();
    assert_eq!(differences(&look(vec![layers[0].clone(), above.diff_id.clone()], "above"), &expected), []);
    assert_eq!(differences(&look(vec![whole.diff_id.clone()], "whole"), &expected), []);
    // What was only on the way is gone, and the mark of what is hidden is where there is something to hide.
    let names = |layer: &Digest| {
        let mut tar = Vec::new();
        test.store.layer_tar(layer).unwrap().read_to_end(&mut tar).unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let entries = archive.entries().unwrap();
        entries.map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(names(&above.diff_id).contains(&"kept/.wh.f".to_owned()), "{:?}", names(&above.diff_id));
    assert!(names(&above.diff_id).contains(&"dir/.wh..wh..opq".to_owned()));
    assert!(!names(&above.diff_id).contains(&"tmp/".to_owned()), "nobody asked for it");
    assert!(names(&whole.diff_id).iter().all(|name| !name.contains(".wh.")), "{:?}", names(&whole.diff_id));
    assert!(!names(&above.diff_id).contains(&"big".to_owned()) && whole.size < 1000);
    assert_eq!(test.store.verify(|_, _| true).unwrap().findings, []);
}

/// Something that a process in a container may do.
#[derive(Debug, Clone)]
enum Deed {
    Write(usize, Vec<u8>),
    Dir(usize),
    Link(usize, usize),
    Symlink(usize, String),
    Remove(usize),
    Rename(usize, usize),
    Mode(usize, u32),
    Owner(usize, u32),
    Attribute(usize, Vec<u8>),
    Fifo(usize),
    Time(usize, i64, i64),
}

const PLACES: [&str; 14] = [
    "opt",
    "etc/passwd",
    "etc/new",
    "usr",
    "usr/lib",
    "usr/lib/a",
    "usr/lib/deep",
    "usr/lib/deep/c",
    "usr/lib/deep/x",
    "lib",
    "var",
    "var/log",
    "fresh",
    "fresh/one",
];

fn deed() -> impl Strategy<Value = Deed> {
    let place = || 0..PLACES.len();
    let data = || proptest::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        (place(), data()).prop_map(|(at, data)| Deed::Write(at, data)),
        place().prop_map(Deed::Dir),
        (place(), place()).prop_map(|(from, to)| Deed::Link(from, to)),
        (place(), "[a-z/.]{1,20}").prop_map(|(at, target)| Deed::Symlink(at, target)),
        place().prop_map(Deed::Remove),
        (place(), place()).prop_map(|(from, to)| Deed::Rename(from, to)),
        (place(), 0u32..0o10000).prop_map(|(at, mode)| Deed::Mode(at, mode)),
        (place(), 0u32..100_000).prop_map(|(at, owner)| Deed::Owner(at, owner)),
        (place(), data()).prop_map(|(at, value)| Deed::Attribute(at, value)),
        place().prop_map(Deed::Fifo),
        (place(), -100_000i64..4_000_000_000, 0i64..1_000_000_000)
            .prop_map(|(at, sec, nsec)| Deed::Time(at, sec, nsec)),
    ]
}

/// Does it, if it can be done.
fn perform(root: &Path, deed: &Deed) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD};
    let at = |place: usize| -> PathBuf { root.join(PLACES[place]) };
    match deed {
        Deed::Write(place, _) if at(*place).is_dir() || fs::metadata(at(*place)).is_ok_and(|file| !file.is_file()) => {
            Ok(())
        }
        Deed::Write(place, data) => fs::write(at(*place), data),
        Deed::Dir(place) => fs::create_dir(at(*place)),
        Deed::Link(from, to) => fs::hard_link(at(*from), at(*to)),
        Deed::Symlink(place, target) => symlink(target, at(*place)),
        Deed::Remove(place) if at(*place).is_dir() && !at(*place).is_symlink() => fs::remove_dir_all(at(*place)),
        Deed::Remove(place) => fs::remove_file(at(*place)),
        Deed::Rename(from, to) => fs::rename(at(*from), at(*to)),
        Deed::Mode(place, mode) => fs::set_permissions(at(*place), fs::Permissions::from_mode(*mode)),
        Deed::Owner(place, owner) => std::os::unix::fs::lchown(at(*place), Some(*owner), Some(owner / 2)),
        Deed::Attribute(place, value) => {
            Ok(rustix::fs::setxattr(at(*place), "user.test", value, rustix::fs::XattrFlags::empty())?)
        }
        Deed::Fifo(place) => Ok(rustix::fs::mkfifoat(CWD, at(*place), rustix::fs::Mode::RUSR)?),
        Deed::Time(place, sec, nsec) => {
            let time = rustix::fs::Timespec { tv_sec: *sec, tv_nsec: *nsec };
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            Ok(rustix::fs::utimensat(CWD, at(*place), &times, AtFlags::SYMLINK_NOFOLLOW)?)
        }
    }
}

/// What `diff` has to find, by comparing the two trees file by file as Docker does.
fn naive_changes(before: &Picture, after: &Picture) -> Vec<(char, String)> {
    let is_dir = |look: &support::Look| look.mode & 0o170_000 == 0o040_000;
    let mut found = std::collections::BTreeMap::new();
    for (path, new) in after {
        let Some(old) = before.get(path) else {
            found.insert(path.clone(), 'A');
            continue;
        };
        let same = (old.mode, old.owner, old.device) == (new.mode, new.owner, new.device)
            && (is_dir(new)
                || (old.mtime == new.mtime
                    && old.content.len() == new.content.len()
                    && old.link.as_ref().map(|link| link.as_os_str().len())
                        == new.link.as_ref().map(|link| link.as_os_str().len())));
        if !same {
            found.insert(path.clone(), 'C');
        }
    }
    for (path, old) in before {
        // What was in a directory that is none any more goes without saying.
        let parent_is_dir = path.parent().is_none_or(|parent| {
            parent.as_os_str().is_empty()
                || after.get(parent).is_some_and(is_dir) && before.get(parent).is_some_and(is_dir)
        });
        if !after.contains_key(path) && parent_is_dir {
            let _ = old;
            found.insert(path.clone(), 'D');
        }
    }
    for path in found.keys().cloned().collect::<Vec<_>>() {
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            found.entry(parent.to_owned()).or_insert('C');
        }
    }
    found.into_iter().map(|(path, kind)| (kind, format!("/{}", path.display()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    /// pack → unpack → diff → unpack: whatever a container does, an image of it is the same tree, again and again, and
    /// however its root is made.
    #[test]
    fn commits_are_faithful(
        first in proptest::collection::vec(deed(), 0..12),
        second in proptest::collection::vec(deed(), 0..12),
        driver in prop_oneof![Just(Driver::Overlay), Just(Driver::Copying)],
    ) {
        let test = TestStore::with(Some(driver));
        let mut image = test.image(&[base()]);
        for (n, deeds) in [first, second].iter().enumerate() {
            let id = format!("c{n}");
            test.store.snapshot_create(&id, Some(&image), SnapshotOptions { ephemeral: true }).unwrap();
            let mount = test.store.snapshot_mount(&id).unwrap();
            let root = path_of(&mount);
            let before = picture(&root);
            for deed in deeds {
                let _ = perform(&root, deed);
            }
            let after = picture(&root);
            let mut found = changes(&test, &id);
            found.sort_by(|(_, one), (_, other)| Path::new(one).cmp(Path::new(other)));
            prop_assert_eq!(found, naive_changes(&before, &after));

            let lease = test.store.lease();
            let layer = test.store.snapshot_commit(&lease, &id).unwrap();
            let mut tar = Vec::new();
            test.store.layer_tar(&layer.diff_id).unwrap().read_to_end(&mut tar).unwrap();
            prop_assert_eq!(Digest::of(&tar), layer.diff_id.clone());
            let mut layers: Vec<Digest> = test.store.image(&image).unwrap().layers.into_iter().map(|layer| layer.diff_id).collect();
            layers.push(layer.diff_id);
            image = test.image_of(&lease, layers, &n.to_string());
            test.store.snapshot_create("check", Some(&image), SnapshotOptions { ephemeral: true }).unwrap();
            let check = test.store.snapshot_mount("check").unwrap();
            prop_assert_eq!(differences(&picture(&path_of(&check)), &after), []);
            drop(check);
            test.store.snapshot_remove("check").unwrap();
            // The same as one layer, alone and over the first.
            let all: Vec<Digest> = test.store.image(&image).unwrap().layers.into_iter().map(|layer| layer.diff_id).collect();
            for kept in [0, 1] {
                let squashed = test.store.layers_squash(&lease, &all[kept..], kept > 0).unwrap();
                let mut layers = all[..kept].to_vec();
                layers.push(squashed.diff_id);
                let squashed = test.image_of(&lease, layers, &format!("squashed {n} {kept}"));
                test.store.snapshot_create("check", Some(&squashed), SnapshotOptions { ephemeral: true }).unwrap();
                let check = test.store.snapshot_mount("check").unwrap();
                prop_assert_eq!(differences(&picture(&path_of(&check)), &after), []);
                drop(check);
                test.store.snapshot_remove("check").unwrap();
            }
        }
    }
}
