//! What the tests of the store share: a store in a directory of its own, tars made by another implementation, and a
//! picture of a directory tree that two trees can be compared by.
#![allow(dead_code, unreachable_pub, reason = "each test is a crate of its own and uses its part")]

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci::image_config::{ImageConfig, RootFs};
use oci::{Descriptor, Digest, media_type};
use store::{Driver, ImageId, Layer, Lease, NewImage, Store};

/// A store that is removed in the end.
pub struct TestStore {
    pub store: Store,
    pub dir: tempfile::TempDir,
}

impl TestStore {
    pub fn new() -> Self {
        Self::with(None)
    }

    /// A store that makes snapshots in this way.
    pub fn with(driver: Option<Driver>) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests make devices and foreign owners: run them as root");
        let dir = tempfile::tempdir().unwrap();
        Self { store: Store::open_with(dir.path().join("store"), driver).unwrap(), dir }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Closes the store and opens it again.
    pub fn reopen(self) -> Self {
        let Self { store, dir } = self;
        store.drain();
        drop(store);
        // The thread that writes layers to the disk may be about to let go of the store.
        let opened = (0..1000).find_map(|_| match Store::open(dir.path().join("store")) {
            Err(store::Error::Locked(_)) => {
                std::thread::yield_now();
                None
            }
            opened => Some(opened.unwrap()),
        });
        Self { store: opened.expect("the store is let go of"), dir }
    }

    /// An image with one layer per tar.
    pub fn image(&self, tars: &[Vec<u8>]) -> ImageId {
        let lease = self.store.lease();
        let layers = tars.iter().map(|tar| self.layer(&lease, tar).diff_id).collect();
        self.image_of(&lease, layers, "")
    }

    /// An image of these layers; `mark` makes it another one.
    pub fn image_of(&self, lease: &Lease, layers: Vec<Digest>, mark: &str) -> ImageId {
        let new = NewImage { config: config(layers, mark), ..NewImage::default() };
        self.store.image_create(lease, new).unwrap()
    }

    pub fn layer(&self, lease: &Lease, tar: &[u8]) -> Layer {
        self.store.layer_import(lease, Some(&Digest::of(tar)), tar).unwrap()
    }

    /// Takes in a layer as a pull does.
    pub fn pull(&self, lease: &Lease, blob: &[u8], diff_id: &Digest) -> store::Result<Layer> {
        let descriptor = Descriptor::of(media_type::OCI_LAYER_GZIP, blob);
        let mut ingest = self.store.layer_ingest(lease, &descriptor, diff_id)?;
        for piece in blob.chunks(1000) {
            if ingest.write_all(piece).is_err() {
                break;
            }
        }
        ingest.finish()
    }

    pub fn layer_files(&self, diff_id: &Digest) -> PathBuf {
        self.root().join("layers").join(diff_id.hex()).join("fs")
    }

    /// Everything in the store that is a file or directory of content.
    pub fn leftovers(&self) -> Vec<String> {
        self.store.drain();
        let mut found = Vec::new();
        for dir in ["blobs/ingest", "blobs/sha256", "layers", "layers/unpacking", "removing", "snapshots", "inits"] {
            for entry in std::fs::read_dir(self.root().join(dir)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name != "unpacking" {
                    found.push(format!("{dir}/{name}"));
                }
            }
        }
        found
    }
}

/// The bytes of a configuration.
pub fn config(layers: Vec<Digest>, mark: &str) -> Vec<u8> {
    let rootfs = RootFs { diff_ids: layers, ..RootFs::default() };
    let config = ImageConfig {
        os: "linux".into(),
        architecture: "amd64".into(),
        rootfs,
        comment: mark.into(),
        ..ImageConfig::default()
    };
    config.to_bytes()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that no compression makes smaller.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Builds a tar entry by entry, names unchecked.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_500_000_000);
        header.set_size(size as u64);
        header
    }

    fn add(mut self, mut header: tar::Header, name: &str, data: &[u8]) -> Self {
        // The setter of the library refuses just what is to be tested.
        let field = &mut header.as_old_mut().name;
        assert!(name.len() <= field.len());
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Self {
        let header = Self::header(tar::EntryType::Regular, 0o644, data.len());
        self.add(header, name, data)
    }

    pub fn file_of(self, name: &str, mode: u32, uid: u64, gid: u64, data: &[u8]) -> Self {
        let mut header = Self::header(tar::EntryType::Regular, mode, data.len());
        header.set_uid(uid);
        header.set_gid(gid);
        self.add(header, name, data)
    }

    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.add(Self::header(tar::EntryType::Directory, mode, 0), name, b"")
    }

    fn link(self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(kind, 0o777, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.add(header, name, b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.link(tar::EntryType::Symlink, name, target)
    }

    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.link(tar::EntryType::Link, name, target)
    }

    pub fn device(self, name: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(tar::EntryType::Char, 0o600, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.add(header, name, b"")
    }

    pub fn fifo(self, name: &str) -> Self {
        self.add(Self::header(tar::EntryType::Fifo, 0o644, 0), name, b"")
    }

    /// PAX records for the next entry.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// What is to be seen of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub mode: u32,
    pub owner: (u32, u32),
    /// None for directories, whose times change with every look into an overlay's upper directory.
    pub mtime: Option<(i64, i64)>,
    pub device: u64,
    pub content: Vec<u8>,
    pub link: Option<PathBuf>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the same file.
    pub same_as: Option<PathBuf>,
}

pub type Picture = BTreeMap<PathBuf, Look>;

/// Looks at everything below a directory.
pub fn picture(root: &Path) -> Picture {
    let mut found = Picture::new();
    let mut inodes = HashMap::new();
    add(root, Path::new(""), &mut found, &mut inodes);
    // An overlay tells how many names a file has in its layer, of which some may be hidden.
    let mut names: HashMap<PathBuf, usize> = HashMap::new();
    found.values().filter_map(|look| look.same_as.clone()).for_each(|first| *names.entry(first).or_default() += 1);
    for look in found.values_mut() {
        look.same_as.take_if(|first| names[first] == 1);
    }
    found
}

/// What differs between two trees: path, look there, look here. Mount points that the store itself makes have no time.
pub fn differences(one: &Picture, other: &Picture) -> Vec<(PathBuf, Option<Look>, Option<Look>)> {
    const MADE: [&str; 6] = [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab"];
    let look = |picture: &Picture, path: &PathBuf| {
        let mut look = picture.get(path).cloned();
        if let Some(look) = look.as_mut().filter(|_| MADE.iter().any(|made| Path::new(made) == path)) {
            look.mtime = None;
        }
        look
    };
    let paths: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let pairs = paths.into_iter().map(|path| (path.clone(), look(one, path), look(other, path)));
    pairs.filter(|(_, one, other)| one != other).collect()
}

fn add(root: &Path, dir: &Path, found: &mut Picture, inodes: &mut HashMap<u64, PathBuf>) {
    let mut names: Vec<_> =
        std::fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = dir.join(name);
        let full = root.join(&path);
        let stat = std::fs::symlink_metadata(&full).unwrap();
        let same_as = if stat.nlink() > 1 && !stat.is_dir() {
            Some(inodes.entry(stat.ino()).or_insert_with(|| path.clone()).clone())
        } else {
            None
        };
        let look = Look {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            mtime: (!stat.is_dir()).then(|| (stat.mtime(), stat.mtime_nsec())),
            device: stat.rdev(),
            content: if stat.is_file() { std::fs::read(&full).unwrap() } else { Vec::new() },
            link: stat.is_symlink().then(|| std::fs::read_link(&full).unwrap()),
            xattrs: xattrs(&full),
            same_as,
        };
        found.insert(path.clone(), look);
        if stat.is_dir() {
            add(root, &path, found, inodes);
        }
    }
}

pub fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|key| !key.is_empty() && !key.starts_with(b"trusted.overlay."))
        .map(|key| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, key, &mut value[..]).unwrap();
            value.truncate(length);
            (key.to_vec(), value)
        })
        .collect()
}

/// A path to the directory of a descriptor.
pub fn path_of(fd: &impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

/// A file name of any bytes.
pub fn name(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}
