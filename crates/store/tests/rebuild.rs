//! The tar of a layer comes back from its files, bit for bit, whoever wrote it; and what is not as it was is found.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use oci::Digest;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use store::{Store, Verified};
use support::{Tar, TestStore, gzip, noise};

/// The plain tar of a layer.
fn tar_of(store: &Store, diff_id: &Digest) -> Vec<u8> {
    let mut tar = Vec::new();
    store.layer_tar(diff_id).unwrap().read_to_end(&mut tar).unwrap();
    tar
}

fn verify(store: &Store) -> Verified {
    store.verify(|_, _| true).unwrap()
}

fn problems(store: &Store) -> Vec<String> {
    verify(store).findings.into_iter().map(|finding| format!("{} {}", finding.kind, finding.problem)).collect()
}

/// Files of all kinds, as a program would pack them.
fn tree(root: &Path) {
    fs::create_dir_all(root.join("d/deep")).unwrap();
    fs::write(root.join("d/empty"), b"").unwrap();
    fs::write(root.join("d/text"), b"some text").unwrap();
    fs::write(root.join(format!("d/deep/{}", "long".repeat(50))), noise(70_000)).unwrap();
    fs::hard_link(root.join("d/text"), root.join("d/again")).unwrap();
    std::os::unix::fs::symlink("../d", root.join("d/link")).unwrap();
    fs::set_permissions(root.join("d/text"), fs::Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::chown(root.join("d/text"), Some(3_000_000), Some(7)).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    for at in [100_000, 3_000_000] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"island", at).unwrap();
    }
    sparse.set_len(5_000_000).unwrap();
    rustix::fs::setxattr(root.join("d/text"), "user.note", b"a\nb", rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
}

#[test]
fn tars_of_other_programs() {
    let temp = tempfile::tempdir().unwrap();
    tree(temp.path());
    let dialects: [&[&str]; 6] = [
        &["--format=gnu"],
        &["--format=gnu", "--sparse", "-b", "37"],
        &["--format=posix", "--sparse", "--xattrs"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1", "--pax-option=globexthdr.name=x,comment:=y"],
        &["--format=ustar", "--exclude=long*", "--owner=5"],
    ];
    for dialect in dialects {
        let packed =
            Command::new("tar").args(dialect).arg("-C").arg(temp.path()).args(["-cf", "-", "."]).output().unwrap();
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let test = TestStore::new();
        let lease = test.store.lease();
        let blob = gzip(&packed.stdout);
        let layer = test.pull(&lease, &blob, &Digest::of(&packed.stdout)).unwrap();
        assert!(tar_of(&test.store, &layer.diff_id) == packed.stdout, "{dialect:?}");
        assert_eq!(problems(&test.store), [""; 0], "{dialect:?}");
        let files = test.layer_files(&layer.diff_id);
        let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(files.join("sparse")).unwrap());
        assert!(blocks < 1000, "{dialect:?}: holes stay holes, {blocks} blocks");
        assert_eq!(fs::read(files.join("sparse")).unwrap(), fs::read(temp.path().join("sparse")).unwrap());
    }
}

#[test]
fn entries_that_take_each_others_place() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let tar = Tar::new()
        .file("f", b"first")
        .file("g", b"g")
        .dir("d", 0o700)
        .file("d/x", b"gone with its directory")
        .file("f", b"second, longer")
        .file("d", b"a file now")
        .file(".wh.hidden", b"a whiteout with data")
        .file("d2/.wh..wh..opq", b"")
        .hardlink("f", "g")
        .done();
    // The first content of `f` is nowhere but in the blob, which has to stay.
    for (n, stream) in [tar.clone(), gzip(&tar)].iter().enumerate() {
        let layer = test.store.layer_import(&lease, None, &stream[..]).unwrap();
        assert_eq!(layer.diff_id, Digest::of(&tar));
        assert!(layer.blob.is_some(), "{n}");
        assert!(tar_of(&test.store, &layer.diff_id) == tar);
        assert_eq!(problems(&test.store), [""; 0]);
    }
    fs::write(test.layer_files(&Digest::of(&tar)).join("d"), b"A FILE NOW").unwrap();
    let found = problems(&test.store);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("layer /d: has other content") || found[0].contains("another time"), "{found:?}");
}

#[test]
fn a_plain_layer_is_on_the_disk_once() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let tar = Tar::new().file("f", &noise(100_000)).done();
    let layer = test.store.layer_import(&lease, None, &tar[..]).unwrap();
    let announced = test.store.layer_import(&lease, Some(&Digest::of(&tar)), &tar[..]).unwrap();
    assert_eq!((layer.blob, announced.blob), (None, None));
    assert_eq!(fs::read_dir(test.root().join("blobs/sha256")).unwrap().count(), 0);
    // It is a blob all the same: under the digest that it has as one.
    let digest = Digest::of(&tar);
    assert_eq!(test.store.blob_size(&digest).unwrap(), Some(tar.len() as u64));
    assert!(test.store.blob_hold(&lease, &digest).unwrap());
    assert!(test.store.blob_read(&digest, 1 << 20).unwrap() == tar);
    let mut blob = test.store.blob_open(&digest).unwrap();
    blob.skip(500).unwrap();
    let mut rest = Vec::new();
    blob.read_to_end(&mut rest).unwrap();
    assert!(rest == tar[500..]);
}

#[test]
fn damage_is_found_and_named() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let tar = Tar::new()
        .dir("d", 0o755)
        .file("d/f", b"content")
        .file_of("d/su", 0o4755, 0, 0, b"x")
        .symlink("l", "d/f")
        .hardlink("h", "d/f")
        .device("null", 1, 3)
        .pax(&[("SCHILY.xattr.user.note", b"a")])
        .file("noted", b"")
        .file("etc/.wh.gone", b"")
        .done();
    let blob = gzip(&tar);
    let layer = test.pull(&lease, &blob, &Digest::of(&tar)).unwrap();
    let image = test.image_of(&lease, vec![layer.diff_id.clone()], "");
    let found = verify(&test.store);
    assert_eq!((found.documents, found.blobs, found.layers, found.findings.len()), (1, 1, 1, 0));
    let root = test.layer_files(&layer.diff_id);

    // Each kind of damage by itself, undone again by unpacking into a fresh store.
    let keep_time = |path: &Path, work: &dyn Fn()| {
        let time = fs::metadata(path).unwrap().modified().unwrap();
        work();
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    };
    let file = root.join("d/f");
    keep_time(&file, &|| fs::write(&file, b"CONTENT").unwrap());
    let found = problems(&test.store);
    assert!(
        found.len() == 1 && found[0].starts_with("layer its files give a tar with the digest sha256:"),
        "{found:?}"
    );
    keep_time(&file, &|| fs::write(&file, b"content").unwrap());
    assert_eq!(problems(&test.store), [""; 0]);

    fs::set_permissions(root.join("d/su"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(root.join("d"), Some(1), None).unwrap();
    rustix::fs::setxattr(root.join("noted"), "user.note", b"b", rustix::fs::XattrFlags::empty()).unwrap();
    fs::remove_file(root.join("null")).unwrap();
    fs::remove_file(root.join("etc/gone")).unwrap();
    let expected = [
        "layer /d/su: has another mode",
        "layer /d: has another owner",
        "layer /etc/gone: is missing",
        "layer /noted: has other attributes",
        "layer /null: is missing",
    ];
    assert_eq!(problems(&test.store), expected);

    let path = test.root().join("blobs/sha256").join(Digest::of(&blob).hex());
    let mut bytes = blob.clone();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let found = problems(&test.store);
    assert_eq!(found[0], format!("blob its bytes have the digest {}", Digest::of(&bytes)));
    assert!(test.store.image(&image).is_ok());
}

/// A change of a layer that its tar does not bear out; the directory of the layer is given.
type Damage = fn(&Path);
const OPAQUE: &str = "trusted.overlay.opaque";

/// With the sentence that it is told in.
const DAMAGES: [(&str, Damage); 22] = [
    ("/: has another mode", |layer| {
        fs::set_permissions(layer.join("fs"), fs::Permissions::from_mode(0o700)).unwrap();
    }),
    ("/: has another owner", |layer| std::os::unix::fs::chown(layer.join("fs"), Some(1), None).unwrap()),
    ("/: is noted as not mentioned", |layer| fs::remove_file(layer.join("root")).unwrap()),
    ("/: hides what is below it", |layer| setxattr(layer.join("fs"), OPAQUE, b"y", XattrFlags::empty()).unwrap()),
    ("/d: does not hide what is below it", |layer| {
        rustix::fs::removexattr(layer.join("fs/d"), OPAQUE).unwrap();
    }),
    ("/spelled: does not hide what is below it", |layer| {
        rustix::fs::removexattr(layer.join("fs/spelled"), OPAQUE).unwrap();
    }),
    ("/both: does not hide what is below it", |layer| {
        rustix::fs::removexattr(layer.join("fs/both"), OPAQUE).unwrap();
    }),
    ("/implied: hides what is below it", |layer| {
        setxattr(layer.join("fs/implied"), OPAQUE, b"y", XattrFlags::empty()).unwrap();
    }),
    ("/gone: is missing", |layer| fs::remove_file(layer.join("fs/gone")).unwrap()),
    ("/gone: is there, and the layer removes it", |layer| {
        fs::remove_file(layer.join("fs/gone")).unwrap();
        fs::write(layer.join("fs/gone"), b"back").unwrap();
    }),
    ("/only/hidden: is there, and the layer removes it", |layer| {
        fs::remove_file(layer.join("fs/only/hidden")).unwrap();
        fs::create_dir(layer.join("fs/only/hidden")).unwrap();
    }),
    ("/new: is not in the layer's tar", |layer| fs::write(layer.join("fs/new"), b"").unwrap()),
    ("/d/new: is not in the layer's tar", |layer| fs::create_dir(layer.join("fs/d/new")).unwrap()),
    ("/d/h: is not in the layer's tar", |layer| fs::hard_link(layer.join("fs/d/f"), layer.join("fs/d/h")).unwrap()),
    ("/implied/w: is not in the layer's tar", |layer| {
        let path = layer.join("fs/implied/w");
        mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }),
    ("/d/f: has other attributes", |layer| {
        setxattr(layer.join("fs/d/f"), "user.new", b"", XattrFlags::empty()).unwrap();
    }),
    ("/d/f: has other attributes", |layer| {
        setxattr(layer.join("fs/d/f"), "trusted.overlay.metacopy", b"", XattrFlags::empty()).unwrap();
    }),
    ("/implied: has other attributes", |layer| {
        setxattr(layer.join("fs/implied"), "trusted.overlay.redirect", b"/d", XattrFlags::empty()).unwrap();
    }),
    ("/implied/deep: has another owner", |layer| {
        std::os::unix::fs::chown(layer.join("fs/implied/deep"), None, Some(1)).unwrap();
    }),
    ("/implied/deep: is not noted as implied", |layer| {
        fs::write(layer.join("implied"), b"implied\0only\0").unwrap();
    }),
    ("/only: is not noted as implied", |layer| {
        fs::write(layer.join("implied"), b"implied\0implied/deep\0").unwrap();
    }),
    ("/d: is noted as implied", |layer| {
        fs::write(layer.join("implied"), b"d\0implied\0implied/deep\0only\0").unwrap();
    }),
];

#[test]
fn damage_of_every_kind_is_found() {
    let tar = Tar::new()
        .dir("./", 0o750)
        .dir("d/", 0o755)
        .file("d/f", b"content")
        .file("d/.wh..wh..opq", b"")
        .file(".wh.gone", b"")
        .dir("both/", 0o755)
        .file(".wh.both", b"")
        .file("implied/deep/f", b"content")
        .file("only/.wh.hidden", b"")
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .dir("spelled/", 0o755)
        .done();
    let test = TestStore::new();
    let lease = test.store.lease();
    let (blob, diff_id) = (gzip(&tar), Digest::of(&tar));
    let layer = test.root().join("layers").join(diff_id.hex());
    for (expected, damage) in DAMAGES {
        test.pull(&lease, &blob, &diff_id).unwrap();
        assert_eq!(problems(&test.store), [""; 0], "{expected}");
        // What the damage does to the times of directories is damage too, but not what is asked here.
        let before = times(&layer);
        damage(&layer);
        restore(&before);
        assert_eq!(problems(&test.store), [format!("layer {expected}")]);
    }
    // Nothing is said of the root.
    let tar = Tar::new().file("f", b"").done();
    let layer = test.root().join("layers").join(Digest::of(&tar).hex());
    test.pull(&lease, &blob, &diff_id).unwrap();
    test.layer(&lease, &tar);
    fs::set_permissions(layer.join("fs"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(problems(&test.store), ["layer /: has another mode"]);
    fs::set_permissions(layer.join("fs"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(layer.join("root"), b"").unwrap();
    assert_eq!(problems(&test.store), ["layer /: is noted as mentioned"]);
}

/// The times of everything below a directory.
fn times(dir: &Path) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let below = entries.filter(|path| path.is_dir() && !path.is_symlink()).flat_map(|path| times(&path));
    let mut all: Vec<_> = below.collect();
    all.push((dir.to_owned(), fs::metadata(dir).unwrap().modified().unwrap()));
    all
}

fn restore(times: &[(std::path::PathBuf, std::time::SystemTime)]) {
    for (path, time) in times {
        fs::File::open(path).unwrap().set_modified(*time).unwrap();
    }
}

#[test]
fn what_is_usual_is_no_damage() {
    // Files in a directory with default rights (an access control list) get attributes that their entries do not have.
    let acl = |permissions: [u8; 3]| {
        let entries = [(1u16, permissions[0]), (4, permissions[1]), (32, permissions[2])];
        let entry = |(tag, bits): (u16, u8)| [&tag.to_le_bytes()[..], &[bits, 0], &[255; 4]].concat();
        let users = [&2u16.to_le_bytes()[..], &[7, 0], &7u32.to_le_bytes()].concat();
        let mask = entry((16, 7));
        let all = [entry(entries[0]), users, entry(entries[1]), mask, entry(entries[2])].concat();
        [&2u32.to_le_bytes()[..], &all].concat()
    };
    let mut tar = Tar::new().pax(&[("SCHILY.xattr.system.posix_acl_default", &acl([7, 5, 5]))]).dir("d/", 0o2755);
    for n in 0..150 {
        tar = tar.file(&format!("d/f{n}"), b"").file(&format!("d/implied/f{n}"), b"");
    }
    // Through a link, and one in the place of the other.
    let tar = tar
        .dir("usr/lib/", 0o755)
        .symlink("lib", "usr/lib")
        .file("lib/new/f", b"")
        .file("x", b"1")
        .dir("x/", 0o755)
        .file("x/y", b"1")
        .file("sub/.wh..wh.plnk/1.2", b"")
        .done();
    let test = TestStore::new();
    let lease = test.store.lease();
    let diff_id = Digest::of(&tar);
    test.pull(&lease, &gzip(&tar), &diff_id).unwrap();
    let root = test.layer_files(&diff_id);
    assert!(!support::xattrs(&root.join("d/f1")).is_empty(), "no access control lists here");
    assert_eq!(problems(&test.store), [""; 0]);
    // However much is usual, what is not is found.
    rustix::fs::setxattr(root.join("d/f149"), "user.new", b"", XattrFlags::empty()).unwrap();
    assert_eq!(problems(&test.store), ["layer /d/f149: has other attributes"]);
    rustix::fs::removexattr(root.join("d/f149"), "user.new").unwrap();
    std::os::unix::fs::chown(root.join("d/implied"), Some(3), None).unwrap();
    assert_eq!(problems(&test.store), ["layer /d/implied: has another owner"]);
}

#[test]
fn what_is_damaged_comes_again_with_the_next_pull() {
    let test = TestStore::new();
    let lease = test.store.lease();
    // Of the second the files do not give the tar.
    let tars =
        [Tar::new().file("f", b"content").done(), Tar::new().file("g", b"first").file("g", b"second, longer").done()];
    for tar in tars {
        let (blob, diff_id) = (gzip(&tar), Digest::of(&tar));
        test.pull(&lease, &blob, &diff_id).unwrap();
        let name = test.layer_files(&diff_id).read_dir().unwrap().next().unwrap().unwrap().path();
        let mode = |mode| fs::set_permissions(&name, fs::Permissions::from_mode(mode)).unwrap();
        let is_here = || test.store.layer_hold(&lease, &diff_id).unwrap().is_some();
        mode(0o600);
        assert_eq!(problems(&test.store).len(), 1);
        assert!(!is_here());
        // Its tar is right all the same, and may be the last copy; nothing is made of its files.
        assert!(test.store.layer_source(&lease, &diff_id).is_ok());
        assert!(tar_of(&test.store, &diff_id) == tar);
        let squashed = test.store.layers_squash(&lease, std::slice::from_ref(&diff_id), false);
        assert!(matches!(squashed, Err(store::Error::DamagedLayer(_))), "{squashed:?}");
        mode(0o644);
        assert_eq!(problems(&test.store), [""; 0]);
        assert!(is_here(), "it was sound after all");

        mode(0o600);
        let path = test.root().join("blobs/sha256").join(Digest::of(&blob).hex());
        fs::remove_file(&path).unwrap();
        let found = problems(&test.store);
        assert!(found[0].starts_with("blob content sha256:"), "{found:?}");
        assert!(!is_here() && !test.store.blob_hold(&lease, &Digest::of(&blob)).unwrap());
        let layer = test.pull(&lease, &blob, &diff_id).unwrap();
        assert_eq!(layer.blob.unwrap().digest, Digest::of(&blob));
        assert!(is_here());
        assert_eq!(problems(&test.store), [""; 0]);
    }
}

#[test]
fn a_damaged_blob_of_a_sound_layer() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let tar = Tar::new().file("f", b"content").done();
    let (blob, diff_id) = (gzip(&tar), Digest::of(&tar));
    test.pull(&lease, &blob, &diff_id).unwrap();
    let path = test.root().join("blobs/sha256").join(Digest::of(&blob).hex());
    fs::write(&path, b"other").unwrap();
    assert_eq!(problems(&test.store).len(), 1);
    // The layer stands for it, and gives another.
    assert_eq!(problems(&test.store), [""; 0]);
    assert!(!path.exists());
    assert_eq!(test.store.layer_hold(&lease, &diff_id).unwrap().unwrap().blob, None);
    let made = test.store.layer_blob(&lease, &diff_id, |_, _| {}).unwrap();
    assert!(made.digest.verifies(&test.store.blob_read(&made.digest, 1 << 20).unwrap()));
}

#[test]
fn a_check_can_be_ended() {
    let test = TestStore::new();
    test.image(&[Tar::new().file("a", b"1").done(), Tar::new().file("b", b"2").done()]);
    let found = test.store.verify(|_, all| {
        assert_eq!(all, 3);
        false
    });
    assert!(found.unwrap().layers <= 2);
}

/// An entry of a tar, in any dialect.
#[derive(Debug, Clone)]
enum Item {
    File(String, u32, Vec<u8>),
    Dir(String, u32),
    Symlink(String, String),
    Hardlink(String, String),
    Fifo(String),
    Pax(String, Vec<u8>),
}

fn item() -> impl Strategy<Value = Item> {
    let name = || "[ab]{1,2}(/[ab]{1,2}){0,2}";
    let marked = prop_oneof![
        8 => name(),
        1 => name().prop_map(|name| format!("{name}/.wh..wh..opq")),
        1 => name().prop_map(|name| match name.rsplit_once('/') {
            Some((dir, base)) => format!("{dir}/.wh.{base}"),
            None => format!(".wh.{name}"),
        }),
    ];
    prop_oneof![
        6 => (marked, 0u32..0o10000, proptest::collection::vec(any::<u8>(), 0..3000)).prop_map(|(n, m, d)| Item::File(n, m, d)),
        3 => (name(), 0u32..0o10000).prop_map(|(name, mode)| Item::Dir(name, mode)),
        1 => (name(), "[ab./]{1,9}").prop_map(|(name, target)| Item::Symlink(name, target)),
        1 => (name(), name()).prop_map(|(name, target)| Item::Hardlink(name, target)),
        1 => name().prop_map(Item::Fifo),
        1 => (name(), proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(name, value)| Item::Pax(name, value)),
    ]
}

fn pack(items: &[Item]) -> Vec<u8> {
    let mut tar = Tar::new();
    for item in items {
        tar = match item {
            Item::File(name, mode, data) => tar.file_of(name, *mode, 1, 2, data),
            Item::Dir(name, mode) => tar.dir(name, *mode),
            Item::Symlink(name, target) => tar.symlink(name, target),
            Item::Hardlink(name, target) => tar.hardlink(name, target),
            Item::Fifo(name) => tar.fifo(name),
            Item::Pax(name, value) => tar.pax(&[("SCHILY.xattr.user.p", value)]).file(name, value),
        };
    }
    tar.done()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever can be unpacked comes back as the bytes that it was, and nothing is wrong with it.
    #[test]
    fn any_tar_comes_back(items in proptest::collection::vec(item(), 0..12), end in proptest::collection::vec(any::<u8>(), 0..600)) {
        let test = TestStore::new();
        let lease = test.store.lease();
        let tar = [pack(&items), end].concat();
        if let Ok(layer) = test.pull(&lease, &gzip(&tar), &Digest::of(&tar)) {
            prop_assert!(tar_of(&test.store, &layer.diff_id) == tar);
            prop_assert_eq!(problems(&test.store), Vec::<String>::new());
        }
    }
}
