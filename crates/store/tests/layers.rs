//! Layers: what unpacking makes of a tar, and what it refuses.

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci::Digest;
use proptest::prelude::*;
use store::Error;
use support::{Tar, TestStore, gzip, picture, xattrs};

#[test]
fn everything_that_a_tar_can_say() {
    let test = TestStore::new();
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(150));
    let tar = Tar::new()
        .dir("./", 0o711)
        .dir("bin/", 0o755)
        .file_of("bin/su", 0o4755, 0, 0, b"setuid")
        .file_of("home", 0o640, 70_000, 80_000, b"x")
        .symlink("sbin", "bin")
        .file("sbin/through", b"a link in the same layer leads inside")
        .hardlink("bin/su2", "bin/su")
        .device("null", 1, 3)
        .fifo("pipe")
        .pax(&[("path", long.as_bytes()), ("mtime", b"1600000000.123456789")])
        .file("short", b"long")
        .pax(&[("SCHILY.xattr.user.note", b"a\nb"), ("SCHILY.xattr.trusted.overlay.redirect", b"/etc")])
        .file("noted", b"")
        .pax(&[("SCHILY.xattr.security.capability", &CAPABILITY)])
        .file_of("ping", 0o755, 5, 6, b"elf")
        .dir("tmp/", 0o1777)
        .dir("implied/a/b/", 0o700)
        .done();
    let layer = test.layer(&test.store.lease(), &tar);
    assert_eq!(layer.diff_id, Digest::of(&tar));
    assert_eq!(layer.tar_size, tar.len() as u64);
    // Hard links once; a link counts with the length of its target.
    assert_eq!(layer.size, 6 + 1 + 3 + 37 + 4 + 3);

    let lease = test.store.lease();
    let layer = test.layer(&lease, &tar);
    let root = test.layer_files(&layer.diff_id);
    assert_eq!(std::fs::metadata(&root).unwrap().mode() & 0o7777, 0o711);
    let looks = picture(&root);
    let look = |path: &str| &looks[Path::new(path)];
    assert_eq!(look("bin/su").mode, 0o104_755);
    assert_eq!(look("bin/su2").same_as.as_deref(), Some(Path::new("bin/su")));
    assert_eq!(look("home").owner, (70_000, 80_000));
    assert_eq!(look("sbin").link.as_deref(), Some(Path::new("bin")));
    assert_eq!(look("bin/through").content.len(), 37);
    assert_eq!(look("null").device, rustix::fs::makedev(1, 3));
    assert_eq!(look("pipe").mode & 0o170_000, 0o010_000);
    assert_eq!(look(&long).mtime, Some((1_600_000_000, 123_456_789)));
    assert_eq!(xattrs(&root.join("noted"))[&b"user.note"[..]], b"a\nb");
    assert_eq!(look("ping").xattrs[&b"security.capability"[..]], CAPABILITY);
    assert_eq!(look("tmp").mode & 0o7777, 0o1777);
    assert_eq!(look("implied/a").mode & 0o7777, 0o755);
    assert_eq!(std::fs::metadata(root.join("bin")).unwrap().mtime(), 1_500_000_000);
    // Overlay's own attributes would lead out of the layer.
    assert!(rustix::fs::lgetxattr(root.join("noted"), "trusted.overlay.redirect", &mut [0u8; 9][..]).is_err());
}

/// `cap_net_raw=ep`, revision 2.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn whiteouts_become_overlays() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let tar = Tar::new()
        .file(".wh.gone", b"")
        .file("dir/.wh..wh..opq", b"")
        .file("dir/new", b"n")
        .file("deep/er/.wh.x", b"")
        .file(".wh.again", b"")
        .dir("again/", 0o755)
        .dir("first/", 0o755)
        .file(".wh.first", b"")
        .file(".wh..wh.plnk", b"")
        .done();
    let root = test.layer_files(&test.layer(&lease, &tar).diff_id);
    let is_whiteout = |path: &str| {
        let stat = std::fs::symlink_metadata(root.join(path)).unwrap();
        stat.mode() & 0o170_000 == 0o020_000 && stat.rdev() == 0
    };
    let is_opaque = |path: &str| {
        let mut value = [0; 4];
        rustix::fs::lgetxattr(root.join(path), "trusted.overlay.opaque", &mut value[..]) == Ok(1) && value[0] == b'y'
    };
    assert!(is_whiteout("gone") && is_whiteout("deep/er/x"));
    assert!(is_opaque("dir") && root.join("dir/new").exists());
    // A directory beside its own whiteout replaces the one below, whichever comes first.
    assert!(is_opaque("again") && is_opaque("first"));
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 5);
}

#[test]
fn later_entries_win() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let tar = Tar::new()
        .file("a", b"first")
        .file("a", b"second")
        .dir("b/", 0o755)
        .file("b/inside", b"12345678")
        .file("b", b"now a file")
        .symlink("c", "a")
        .dir("c/", 0o755)
        .file("c/x", b"x")
        .dir("d/", 0o755)
        .file("d/kept", b"k")
        .dir("d/", 0o700)
        .done();
    let layer = test.layer(&lease, &tar);
    let root = test.layer_files(&layer.diff_id);
    assert_eq!(std::fs::read(root.join("a")).unwrap(), b"second");
    assert_eq!(std::fs::read(root.join("b")).unwrap(), b"now a file");
    assert_eq!(std::fs::read(root.join("c/x")).unwrap(), b"x");
    assert_eq!(std::fs::metadata(root.join("d")).unwrap().mode() & 0o7777, 0o700);
    assert!(root.join("d/kept").exists());
    assert_eq!(layer.size, 6 + 10 + 1 + 1);
}

#[test]
fn sparse_files() {
    let test = TestStore::new();
    let lease = test.store.lease();
    // GNU's PAX format 1.0: the map is in the data.
    let mut data = b"2\n0\n3\n1048576\n4\n".to_vec();
    data.resize(512, 0);
    data.extend(b"abcdefg");
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"holes"),
        ("GNU.sparse.realsize", b"2000000"),
    ];
    let tar = Tar::new().pax(&records).file("GNUSparseFile.0/holes", &data).file("after", b"it").done();
    let root = test.layer_files(&test.layer(&lease, &tar).diff_id);
    let content = std::fs::read(root.join("holes")).unwrap();
    assert_eq!(content.len(), 2_000_000);
    assert_eq!((&content[..4], &content[1_048_576..1_048_581]), (&b"abc\0"[..], &b"defg\0"[..]));
    assert!(std::fs::metadata(root.join("holes")).unwrap().blocks() < 100, "it has holes");
    assert_eq!(std::fs::read(root.join("after")).unwrap(), b"it");
}

/// Takes in a bad layer, and looks that nothing of it stays, here or outside.
fn refused(tar: &[u8]) -> Error {
    let test = TestStore::new();
    std::fs::write(test.dir.path().join("outside"), b"untouched").unwrap();
    let error = test.store.layer_import(&test.store.lease(), None, tar).unwrap_err();
    assert_eq!(test.leftovers(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(test.dir.path()).unwrap().count(), 2);
    assert_eq!(std::fs::read(test.dir.path().join("outside")).unwrap(), b"untouched");
    error
}

#[test]
fn nothing_leaves_the_layer() {
    for name in ["../outside", "a/../../outside", "../../../../outside", ".."] {
        assert!(matches!(refused(&Tar::new().file(name, b"evil").done()), Error::Breakout { .. }), "{name}");
    }
    assert!(matches!(refused(&Tar::new().hardlink("x", "../../outside").done()), Error::Archive(_)));
    // The target of a hard link is looked for inside: /etc/passwd of the host is out of reach.
    assert!(matches!(refused(&Tar::new().hardlink("x", "/etc/passwd").done()), Error::Entry { .. }));
    let through = Tar::new().symlink("up", "../../..").symlink("etc", "/etc").hardlink("x", "etc/passwd").done();
    assert!(matches!(refused(&through), Error::Entry { .. }));
}

#[test]
fn links_lead_inside() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let tar = Tar::new()
        .dir("etc/", 0o755)
        .symlink("abs", "/etc")
        .symlink("up", "../../../../../../etc")
        .file("abs/one", b"1")
        .file("up/two", b"2")
        .file("/../three", b"3")
        .done();
    let root = test.layer_files(&test.layer(&lease, &tar).diff_id);
    for (path, content) in [("etc/one", b"1"), ("etc/two", b"2"), ("three", b"3")] {
        assert_eq!(std::fs::read(root.join(path)).unwrap(), content);
    }
    assert!(!Path::new("/etc/one").exists() && !Path::new("/three").exists());
}

#[test]
fn what_cannot_be_is_refused() {
    assert!(matches!(refused(&Tar::new().file("f", b"").file("f/below", b"").done()), Error::Entry { .. }));
    assert!(matches!(refused(&Tar::new().symlink("l", "nowhere").file("l/x", b"").done()), Error::Entry { .. }));
    assert!(matches!(refused(&Tar::new().dir("d", 0o755).hardlink("h", "d").done()), Error::Entry { .. }));
    assert!(matches!(refused(&Tar::new().file(".wh..", b"").done()), Error::Entry { .. }));
    assert_eq!(
        refused(b"no tar at all, but long enough to be a block of one".repeat(20).as_slice()).to_string(),
        "archive/tar: invalid tar header"
    );
    let whole = Tar::new().file("f", &[7; 5000]).done();
    for length in [1, 511, 513, 3000] {
        assert_eq!(refused(&whole[..length]).to_string(), "unexpected EOF", "{length}");
    }
}

#[test]
fn bombs_are_bounded() {
    // Headers that announce gigabytes of attributes or names, followed by nothing.
    for kind in [tar::EntryType::XHeader, tar::EntryType::GNULongName, tar::EntryType::GNULongLink] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(8 << 30);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend([0; 4096]);
        assert_eq!(refused(&bytes).to_string(), "archive/tar: header field too long");
    }
    // A directory that is too deep to be named.
    let deep = format!("{}x", "d/".repeat(3000));
    assert!(matches!(
        refused(&Tar::new().pax(&[("path", deep.as_bytes())]).file("x", b"").done()),
        Error::Entry { .. }
    ));
}

/// A tar of nothing but this entry, ten million times.
struct Endless {
    header: Vec<u8>,
    left: usize,
}

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && self.left > 0 {
            let at = self.header.len() - (self.left - 1) % self.header.len() - 1;
            let length = (self.header.len() - at).min(buffer.len() - filled);
            buffer[filled..filled + length].copy_from_slice(&self.header[at..at + length]);
            filled += length;
            self.left -= length;
        }
        Ok(filled)
    }
}

#[test]
fn too_many_entries() {
    let endless = |tar: &[u8]| Endless { header: tar[..512].to_vec(), left: 512 * 10_000_000 };
    let test = TestStore::new();
    let lease = test.store.lease();
    // Entries that make no file, so that the disk is not what is tested here.
    let error = test.store.layer_import(&lease, None, endless(&Tar::new().file(".wh..wh.x", b"").done())).unwrap_err();
    assert_eq!(error.to_string(), "the layer has more than 2000000 entries, which is refused");
    // The same directory again and again: what has to be remembered of it has a limit as well.
    let error = test.store.layer_import(&lease, None, endless(&Tar::new().dir("d", 0o755).done())).unwrap_err();
    assert!(error.to_string().starts_with("the layer has more than 6"), "{error}");
    assert!(error.to_string().ends_with("directories, which is refused"), "{error}");
    // And of those that are only implied: two thousand by each name.
    let deep = |n: usize| format!("{n}/{}x", "a/".repeat(2000)).into_bytes();
    let names = (0..20).fold(Tar::new(), |tar, n| tar.pax(&[("path", &deep(n))]).file("short", b"")).done();
    let error = test.store.layer_import(&lease, None, &names[..]).unwrap_err();
    assert!(error.to_string().ends_with("directories, which is refused"), "{error}");
    assert_eq!(test.leftovers(), Vec::<String>::new());
}

/// Of several PAX headers before an entry the last one counts, so that none adds to what is held in memory.
#[test]
fn headers_do_not_add_up() {
    let test = TestStore::new();
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.user.first", b"1"), ("mtime", b"5")])
        .pax(&[("SCHILY.xattr.user.second", b"2")])
        .file("f", b"x")
        .done();
    let lease = test.store.lease();
    let file = test.layer_files(&test.layer(&lease, &tar).diff_id).join("f");
    assert_eq!(xattrs(&file).into_keys().collect::<Vec<_>>(), [b"user.second"]);
    assert_eq!(file.metadata().unwrap().mtime(), 1_500_000_000);
}

#[test]
fn pulls_verify_both_digests() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let tar = Tar::new().file("f", &[1; 100_000]).done();
    let blob = gzip(&tar);
    let layer = test.pull(&lease, &blob, &Digest::of(&tar)).unwrap();
    assert_eq!(layer.blob.as_ref().unwrap().digest, Digest::of(&blob));
    assert_eq!(test.store.blob_read(&Digest::of(&blob), 1 << 20).unwrap(), blob);
    drop(lease);

    let lease = test.store.lease();
    assert!(matches!(test.pull(&lease, &blob, &Digest::of(b"other")).unwrap_err(), Error::WrongDiffId { .. }));
    for (sent, wants) in
        [(&blob[..blob.len() - 5], "size"), (&[&blob[..], b"more"].concat()[..], "size"), (b"", "size")]
    {
        let descriptor = oci::Descriptor::of(oci::media_type::OCI_LAYER_GZIP, &blob);
        let mut ingest = test.store.layer_ingest(&lease, &descriptor, &Digest::of(&tar)).unwrap();
        let _ = std::io::Write::write_all(&mut ingest, sent);
        let error = ingest.finish().unwrap_err();
        assert!(matches!(error, Error::WrongSize { .. }), "{wants}: {error}");
    }
    let mut flipped = blob.clone();
    flipped[60] ^= 1;
    let descriptor = oci::Descriptor::of(oci::media_type::OCI_LAYER_GZIP, &blob);
    let mut ingest = test.store.layer_ingest(&lease, &descriptor, &Digest::of(&tar)).unwrap();
    let _ = std::io::Write::write_all(&mut ingest, &flipped);
    assert!(matches!(ingest.finish().unwrap_err(), Error::WrongDigest { .. } | Error::Decompress(_)));
    // Given up in the middle.
    let mut ingest = test.store.layer_ingest(&lease, &descriptor, &Digest::of(&tar)).unwrap();
    std::io::Write::write_all(&mut ingest, &blob[..50]).unwrap();
    drop(ingest);
    drop(lease);
    assert_eq!(test.leftovers(), Vec::<String>::new());
}

#[test]
fn the_same_layer_many_times_at_once() {
    let test = TestStore::new();
    let tar = Tar::new().file("f", &[1; 300_000]).dir("d/", 0o755).done();
    let (blob, diff_id) = (gzip(&tar), Digest::of(&tar));
    let lease = test.store.lease();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| test.pull(&lease, &blob, &diff_id).unwrap());
        }
    });
    assert_eq!(test.leftovers().len(), 2);
    assert_eq!(std::fs::read(test.layer_files(&diff_id).join("f")).unwrap().len(), 300_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_layers_do_no_harm(flips in proptest::collection::vec((0usize..8192, 0u8..8), 1..6), cut in proptest::option::of(0usize..8192)) {
        let test = TestStore::new();
        let mut tar = Tar::new()
            .dir("a/", 0o755)
            .file("a/f", &[5; 700])
            .symlink("a/l", "../a/f")
            .hardlink("a/h", "a/f")
            .pax(&[("mtime", b"1.5"), ("path", b"b/\xc3\xa4")])
            .file("b", b"b")
            .file("a/.wh.x", b"")
            .done();
        for (at, bit) in flips {
            let length = tar.len();
            tar[at % length] ^= 1 << bit;
        }
        tar.truncate(cut.unwrap_or(usize::MAX));
        let found = test.store.layer_import(&test.store.lease(), None, &tar[..]);
        if let Ok(layer) = found {
            prop_assert_eq!(layer.diff_id, Digest::of(&tar));
        }
        prop_assert_eq!(test.leftovers(), Vec::<String>::new());
        prop_assert_eq!(std::fs::read_dir(test.dir.path()).unwrap().count(), 1);
    }
}
