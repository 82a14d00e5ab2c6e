//! Is everything still what its digest says? Reads all that is stored.
//!
//! | what | how |
//! |---|---|
//! | documents, blobs | their bytes are hashed |
//! | layers | the tar is put together from the files and hashed, and compared with the files in both directions: see `compare` |
//!
//! So a flipped bit in a file of an image is found, and also a mode, an owner or an attribute that somebody changed
//! behind the store's back, a file that somebody added, and a mark of overlay that came or went.
//!
//! What is damaged stays where it is, but counts as missing from then on: a layer is marked, and a blob whose bytes are
//! wrong is forgotten, so that the next pull brings both again. A layer that turns out to be sound after all loses its mark.

mod compare;

use std::collections::BTreeSet;
use std::hash::RandomState;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci::digest::{Digest, Digester};
use rustix::io::Errno;

use self::compare::{Comparison, Differences, Numbers};
use crate::db::{self, LayerRecord, Reading};
use crate::error::{Error, Result};
use crate::pipe;
use crate::store::Store;
use crate::tar::{TarError, TarReader};
use crate::unpack;

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
                let problems = self.layer_problems(digest, record).and_then(|problems| {
                    let is_damaged = !problems.is_empty();
                    if is_damaged != record.is_damaged {
                        self.0.change(|change| self.0.mark_damaged(change, digest, is_damaged))?;
                    }
                    Ok(problems)
                });
                ("layer", digest, problems.unwrap_or_else(|error| vec![format!("it cannot be looked at: {error}")]))
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

    /// What is wrong with a layer; nothing: all is well. An error says that it could not be looked at.
    pub(crate) fn layer_problems(&self, diff_id: &Digest, record: &LayerRecord) -> Result<Vec<String>> {
        let (hasher, dir) = (RandomState::new(), self.0.layer_path(diff_id));
        let compare = |dir: &Path, usual: &Numbers| self.compare(diff_id, dir, record, &hasher, usual);
        let (found, problem) = compare(&dir, &Numbers::default());
        if found.texts.is_empty() && problem.is_none() {
            return Ok(Vec::new());
        }
        let all = |found: Differences, problem: Option<String>| problem.into_iter().chain(found.texts).collect();
        // Entries that took each other's place, or name one file in two ways, do not all agree with the files, nor is
        // all of a tar taken everywhere: a fresh copy tells what is so in any case. Of a tar that is damaged itself
        // there is none.
        let fresh = match self.layer_tar(diff_id).and_then(|tar| unpack::plain_layer(&self.0, tar)) {
            Ok(fresh) => fresh,
            Err(error) if is_of_this_host(&error) => return Err(error),
            Err(_) => return Ok(all(found, problem)),
        };
        let (usual, _) = compare(fresh.path(), &Numbers::default());
        let (found, problem) = compare(&dir, &usual.numbers);
        Ok(all(found, problem))
    }

    /// How the files in a layer's directory differ from its tar, and what is wrong with the tar.
    fn compare(
        &self,
        diff_id: &Digest,
        dir: &Path,
        record: &LayerRecord,
        hasher: &RandomState,
        usual: &Numbers,
    ) -> (Differences, Option<String>) {
        let rules = compare::Rules { marks: self.0.marks, reads_content: !record.rebuilds, hasher, usual };
        let opened = Comparison::new(dir, rules).and_then(|comparison| Ok((comparison, self.layer_tar(diff_id)?)));
        let (found, outcome) = match opened {
            Ok((comparison, tar)) => comparison.run(TarReader::new(BufReader::with_capacity(pipe::CHUNK, tar))),
            Err(error) => (Differences::default(), Err(error)),
        };
        (found, outcome.err().map(|error| problem_of(&error)))
    }
}

/// Does this say nothing of a layer, only that there is no room to look at it?
fn is_of_this_host(error: &Error) -> bool {
    let is_short = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory)
            || matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
    };
    matches!(error, Error::Thread) || error.io().is_some_and(is_short)
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
