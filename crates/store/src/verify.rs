//! Is everything still what its digest says? Reads all that is stored.
//!
//! | what | how |
//! |---|---|
//! | documents, blobs | their bytes are hashed |
//! | layers | the tar is put together from the files and hashed, and each of its entries is compared with the file that it made |
//!
//! So a flipped bit in a file of an image is found, and also a mode, an owner or an attribute that somebody changed
//! behind the store's back.
//!
//! What is damaged stays where it is, but counts as missing from then on: a layer is marked, and a blob whose bytes are
//! wrong is forgotten, so that the next pull brings both again. A layer that turns out to be sound after all loses its mark.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci::digest::{Digest, Digester};
use rustix::fs::{FileType, OFlags, Stat};

use crate::db::{self, LayerRecord, Reading};
use crate::error::{Error, Result};
use crate::pack;
use crate::pipe;
use crate::store::Store;
use crate::tar::{Entry, EntryKind, TarError, TarReader};
use crate::tree::{self, CleanPath, Tree};
use crate::unpack::{self, display};

/// Wrong files of one layer that are told; where there are more, the layer is lost anyway.
const MAX_FINDINGS: usize = 100;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Configurations, manifests and indexes that were read.
    pub documents: u64,
    /// Blobs that were read.
    pub blobs: u64,
    /// Layers that were read.
    pub layers: u64,
    /// What was read in all, in bytes.
    pub bytes: u64,
    /// What is not as it should be, in the order of digests.
    pub findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What: `blob`, `layer`, `document`.
    pub kind: &'static str,
    /// Its digest.
    pub digest: Digest,
    /// What is wrong with it, in one sentence.
    pub problem: String,
}

/// Why a blob or document is not as it should be.
pub(crate) struct Fault {
    /// In one sentence.
    pub(crate) problem: String,
    /// There is nothing or something else. Otherwise it could not be read, which may be another matter the next time.
    pub(crate) is_lost: bool,
}

/// One thing to be read.
enum Item {
    Document(Digest),
    Blob(Digest),
    Layer(Digest, Box<LayerRecord>),
}

impl Store {
    /// Checks everything, on all processors. `each` is told after each thing how many are done and how many there are;
    /// when it says `false`, the check ends early.
    pub fn verify(&self, each: impl Fn(usize, usize) -> bool + Sync) -> Result<Verified> {
        let lease = self.lease();
        let items = self.items(&lease)?;
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let found = Mutex::new(Verified::default());
        let lost = Mutex::new(BTreeSet::new());
        let work = || {
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                let one = self.verify_item(item, &lost);
                found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(one);
                if !each(done.fetch_add(1, Ordering::Relaxed) + 1, items.len()) {
                    next.store(items.len(), Ordering::Relaxed);
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // Without another thread this one does everything.
                let _ = std::thread::Builder::new().name("store-verify".into()).spawn_scoped(scope, work);
            }
            work();
        });
        let lost = lost.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !lost.is_empty() {
            self.0.change(|change| self.0.forget_blobs(change, &lost))?;
        }
        let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        found.findings.sort();
        Ok(found)
    }

    /// Everything that is stored, the largest first, held so that nothing of it goes meanwhile.
    fn items(&self, lease: &crate::Lease) -> Result<Vec<Item>> {
        let mut state = self.0.state();
        let txn = self.0.read()?;
        let mut sized: Vec<(u64, Digest, Item)> = Vec::new();
        for (digest, record) in txn.all_json::<LayerRecord>(db::LAYERS)? {
            sized.push((record.tar_size, digest.clone(), Item::Layer(digest, Box::new(record))));
        }
        for (table, is_blob) in [(db::BLOBS, true), (db::DOCUMENTS, false)] {
            txn.scan(table, "", &mut |key, value| {
                let digest = db::parse_key(key)?;
                let size = if is_blob { db::decode(key, value)? } else { value.len() as u64 };
                let item = if is_blob { Item::Blob(digest.clone()) } else { Item::Document(digest.clone()) };
                sized.push((size, digest, item));
                Ok(true)
            })?;
        }
        for (_, digest, _) in &sized {
            lease.hold(&mut state, digest);
        }
        sized.sort_by_key(|(size, _, _)| std::cmp::Reverse(*size));
        Ok(sized.into_iter().map(|(_, _, item)| item).collect())
    }

    /// Blobs that are lost are added to `lost`, and layers marked.
    fn verify_item(&self, item: &Item, lost: &Mutex<BTreeSet<Digest>>) -> Verified {
        let mut verified = Verified::default();
        let (kind, digest, problems) = match item {
            Item::Document(digest) | Item::Blob(digest) => {
                let is_blob = matches!(item, Item::Blob(_));
                *if is_blob { &mut verified.blobs } else { &mut verified.documents } = 1;
                let fault = self.verify_blob(digest, &mut verified.bytes).err();
                if is_blob && fault.as_ref().is_some_and(|fault| fault.is_lost) {
                    lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(digest.clone());
                }
                let problems = fault.into_iter().map(|fault| fault.problem).collect();
                (if is_blob { "blob" } else { "document" }, digest, problems)
            }
            Item::Layer(digest, record) => {
                verified.layers = 1;
                verified.bytes = record.tar_size;
                let mut problems = self.layer_problems(digest, record);
                let is_damaged = !problems.is_empty();
                if is_damaged != record.is_damaged
                    && let Err(error) = self.0.change(|change| self.0.mark_damaged(change, digest, is_damaged))
                {
                    problems.push(format!("it cannot be marked: {error}"));
                }
                ("layer", digest, problems)
            }
        };
        let finding = |problem| Finding { kind, digest: digest.clone(), problem };
        verified.findings = problems.into_iter().map(finding).collect();
        verified
    }

    /// Reads a blob or document.
    pub(crate) fn verify_blob(&self, digest: &Digest, bytes: &mut u64) -> std::result::Result<(), Fault> {
        let unopened =
            |error: Error| Fault { problem: error.to_string(), is_lost: matches!(error, Error::NoSuchBlob(_)) };
        let mut blob = self.blob_open(digest).map_err(unopened)?;
        let mut digester = Digester::new(digest.algorithm());
        let mut buffer = vec![0; pipe::CHUNK];
        loop {
            match blob.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    digester.update(&buffer[..length]);
                    *bytes += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault { problem: format!("reading it: {error}"), is_lost: false }),
            }
        }
        match digester.finish() {
            found if found == *digest => Ok(()),
            found => Err(Fault { problem: format!("its bytes have the digest {found}"), is_lost: true }),
        }
    }

    /// What is wrong with a layer; nothing: all is well.
    pub(crate) fn layer_problems(&self, diff_id: &Digest, record: &LayerRecord) -> Vec<String> {
        self.verify_layer(diff_id, record).unwrap_or_else(|error| vec![error.to_string()])
    }

    /// What is wrong with a layer.
    fn verify_layer(&self, diff_id: &Digest, record: &LayerRecord) -> Result<Vec<String>> {
        let mut problems = self.compare(diff_id, &self.0.layer_path(diff_id), record)?;
        // Entries that took each other's place, or name one file in two ways, do not all agree with the files: those of a
        // fresh copy tell which. Of a tar that is damaged itself there is none.
        if !problems.is_empty()
            && let Ok(fresh) = unpack::plain_layer(&self.0, self.layer_tar(diff_id)?)
        {
            let usual = self.compare(diff_id, fresh.path(), record)?;
            problems.retain(|problem| !usual.contains(problem));
        }
        Ok(problems)
    }

    /// How the files in a layer's directory differ from its tar.
    fn compare(&self, diff_id: &Digest, dir: &Path, record: &LayerRecord) -> Result<Vec<String>> {
        let root = dir.join("fs");
        let root = tree::open_root(&root).map_err(Error::file("opening", &root))?;
        let tree = Tree::new(root, b"").map_err(Error::entry("open", "/"))?;
        let mut comparison = Comparison { tree, reads_content: !record.rebuilds, findings: BTreeMap::new() };
        let mut reader = TarReader::new(BufReader::with_capacity(pipe::CHUNK, self.layer_tar(diff_id)?));
        let outcome = comparison.run(&mut reader).and_then(|()| Ok(reader.drain().map(drop)?));
        let mut problems: Vec<String> = comparison.findings.into_values().collect();
        if let Err(error) = outcome {
            problems.insert(0, problem_of(&error));
        }
        Ok(problems)
    }
}

/// That the tar has another digest is told by whoever reads it, below the reader of tars.
fn problem_of(error: &Error) -> String {
    let below = match error {
        Error::Tar(TarError::Io(error)) => error.get_ref().and_then(|inner| inner.downcast_ref()),
        _ => None,
    };
    match below {
        Some(Error::WrongDiffId { found, .. }) => format!("its files give a tar with the digest {found}"),
        _ => error.to_string(),
    }
}

impl Verified {
    fn add(&mut self, other: Self) {
        self.documents += other.documents;
        self.blobs += other.blobs;
        self.layers += other.layers;
        self.bytes += other.bytes;
        self.findings.extend(other.findings);
    }
}

/// A tar, held against the files that were made of it.
struct Comparison {
    tree: Tree,
    /// The tar comes from elsewhere than the files, so what they contain is compared as well.
    reads_content: bool,
    /// By path, since a later entry may have taken the place of an earlier one.
    findings: BTreeMap<Vec<u8>, String>,
}

impl Comparison {
    fn run<R: BufRead>(&mut self, reader: &mut TarReader<R>) -> Result<()> {
        while let Some(entry) = reader.next_entry()? {
            let Some(path) = CleanPath::new(&entry.path).filter(|path| !path.is_root()) else { continue };
            let (path, is_whiteout) = match unpack::whiteout_of(&path) {
                None => (path, false),
                Some(Some(hidden)) => (hidden, true),
                // A mark that makes no file.
                Some(None) => continue,
            };
            let difference = if is_whiteout { self.missing(&path) } else { self.difference(&entry, &path, reader)? };
            self.findings.remove(path.as_bytes());
            if let Some(difference) = difference
                && self.findings.len() < MAX_FINDINGS
            {
                let text = format!("/{}: {difference}", display(path.as_bytes()).display());
                self.findings.insert(path.as_bytes().to_vec(), text);
            }
        }
        Ok(())
    }

    /// Of what a whiteout hides, either its device is there or what the layer itself has of that name.
    fn missing(&self, path: &CleanPath) -> Option<&'static str> {
        let (dir, name) = path.split();
        let found = self.tree.open_dir(dir).and_then(|dir| tree::look(dir, name));
        (!matches!(found, Ok(Some(_)))).then_some("is missing")
    }

    /// How a file differs from what its entry says.
    fn difference<R: BufRead>(
        &self,
        entry: &Entry,
        path: &CleanPath,
        reader: &mut TarReader<R>,
    ) -> Result<Option<&'static str>> {
        let (dir, name) = path.split();
        let Ok(dir) = self.tree.open_dir(dir) else { return Ok(Some("is missing")) };
        let Ok(Some(stat)) = tree::look(&dir, name) else { return Ok(Some("is missing")) };
        if let Some(difference) = difference_of_stat(entry, &stat) {
            return Ok(Some(difference));
        }
        let difference = match entry.kind {
            EntryKind::Symlink => {
                let target = rustix::fs::readlinkat(&dir, name, Vec::new());
                target.map_or(true, |target| target.as_bytes() != entry.link).then_some("is a link to elsewhere")
            }
            EntryKind::HardLink => (!self.is_same(entry, &stat)).then_some("is no link to the file that it was"),
            EntryKind::Regular if self.reads_content => self.difference_of_content(entry, path, reader)?,
            _ => None,
        };
        Ok(difference.or_else(|| difference_of_xattrs(entry, dir.as_fd(), name)))
    }

    fn is_same(&self, entry: &Entry, stat: &Stat) -> bool {
        let Some(target) = CleanPath::new(&entry.link) else { return false };
        let (dir, name) = target.split();
        let target = self.tree.open_dir(dir).and_then(|dir| tree::look(dir, name));
        matches!(target, Ok(Some(target)) if target.st_ino == stat.st_ino)
    }

    fn difference_of_content<R: BufRead>(
        &self,
        entry: &Entry,
        path: &CleanPath,
        reader: &mut TarReader<R>,
    ) -> Result<Option<&'static str>> {
        let file = self.tree.open(path.as_bytes(), OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK);
        let file = file.map_err(Error::entry("open", display(path.as_bytes())))?;
        let whole = [(0, entry.size)];
        let mut buffer = vec![0; 64 << 10];
        for (offset, length) in entry.segments.as_deref().unwrap_or(&whole) {
            let mut done = 0;
            while done < *length {
                let piece = reader.fill()?;
                let wanted = piece.len().min(buffer.len()).min(usize::try_from(length - done).unwrap_or(usize::MAX));
                let count = rustix::io::pread(&file, &mut buffer[..wanted], offset + done)
                    .map_err(Error::entry("read", display(path.as_bytes())))?;
                if count == 0 || buffer[..count] != piece[..count] {
                    return Ok(Some("has other content"));
                }
                reader.consume(count);
                done += count as u64;
            }
        }
        Ok(None)
    }
}

fn difference_of_stat(entry: &Entry, stat: &Stat) -> Option<&'static str> {
    let kind = match entry.kind {
        EntryKind::Regular => FileType::RegularFile,
        EntryKind::Directory => FileType::Directory,
        EntryKind::Symlink => FileType::Symlink,
        EntryKind::CharDevice => FileType::CharacterDevice,
        EntryKind::BlockDevice => FileType::BlockDevice,
        EntryKind::Fifo => FileType::Fifo,
        // All that is said of it is said of the first name.
        EntryKind::HardLink => return None,
    };
    let times = tree::times_of(stat).last_modification;
    let device = rustix::fs::makedev(entry.major, entry.minor);
    let checks = [
        (tree::kind_of(stat) != kind, "is another kind of file"),
        (kind != FileType::Symlink && stat.st_mode & 0o7777 != entry.mode, "has another mode"),
        ((stat.st_uid, stat.st_gid) != (entry.uid, entry.gid), "has another owner"),
        (kind == FileType::RegularFile && u64::try_from(stat.st_size) != Ok(entry.size), "has another size"),
        (
            matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) && stat.st_rdev != device,
            "is another device",
        ),
        ((times.tv_sec, times.tv_nsec) != (entry.mtime.sec, entry.mtime.nsec.into()), "has another time"),
    ];
    checks.into_iter().find(|(differs, _)| *differs).map(|(_, text)| text)
}

fn difference_of_xattrs(entry: &Entry, dir: std::os::fd::BorrowedFd<'_>, name: &[u8]) -> Option<&'static str> {
    let path = tree::fd_path(dir, name);
    let differs = unpack::wanted_xattrs(entry).filter(|(key, _)| pack::is_portable(key)).any(|(key, value)| {
        let mut found = vec![0; value.len() + 1];
        match rustix::fs::lgetxattr(&path[..], key, &mut found[..]) {
            Ok(length) => found[..length] != *value,
            // What this file system does not take was left out when the layer was unpacked.
            Err(rustix::io::Errno::NOTSUP) => false,
            Err(_) => true,
        }
    });
    differs.then_some("has other attributes")
}
