//! The handle on a store: where things are, and the one gate that all changes of state go through.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use oci::digest::Digest;
use redb::WriteTransaction;

use crate::db;
use crate::durable::{self, Syncer};
use crate::error::{Error, Result};
use crate::overlay::{self, Marks};
use crate::reaper::Reaper;
use crate::snapshot::SnapshotRecord;
use crate::snapshot::mount::Mounted;

/// Images, their layers, and the snapshots of containers, in one directory. Cheap to clone, safe to share.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    db: db::Handle,
    /// Held during every change of state, so that records and files change together as others see it.
    gate: Mutex<State>,
    counter: AtomicU64,
    reaper: Reaper,
    pub(crate) mounted: Mounted,
    pub(crate) syncer: Syncer,
    pub(crate) boot_id: String,
    pub(crate) marks: Marks,
    pub(crate) driver: Driver,
    /// Names in [`PARTIAL`] that somebody writes to now.
    pub(crate) arriving: Mutex<HashSet<String>>,
}

/// How the root file systems of containers are made of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// As overlays over the layers' own directories.
    Overlay,
    /// As copies, for file systems and kernels on which overlay cannot work.
    Copying,
}

impl Driver {
    /// Docker's names for the two.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay2",
            Self::Copying => "vfs",
        }
    }

    /// The one for a store of which this is a directory.
    fn fitting(dir: &Path, marks: Marks) -> Self {
        let probe = dir.join("probe");
        // Of a process that was killed in the middle of it.
        let _ = fs::remove_dir_all(&probe);
        if fs::create_dir(&probe).is_ok() && overlay::is_possible(&probe, marks) {
            Self::Overlay
        } else {
            Self::Copying
        }
    }
}

/// What is known only in memory: who holds what beside the images.
#[derive(Default)]
pub(crate) struct State {
    /// Content held by a [`Lease`](crate::Lease), with the number of holders.
    pub(crate) leased: HashMap<Digest, usize>,
    /// The snapshots of containers, by container id.
    pub(crate) snapshots: HashMap<String, SnapshotRecord>,
}

/// One change of state: a transaction, the state in memory, and the files that go when it is committed.
pub(crate) struct Change<'a> {
    pub(crate) txn: WriteTransaction,
    pub(crate) state: &'a mut State,
    pub(crate) doomed: Vec<PathBuf>,
}

impl Store {
    /// Opens the store in this directory, or makes one. Whatever a killed process left half done is removed.
    ///
    /// Fails with [`Error::Locked`] when another process has it open.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(root, None)
    }

    /// As [`Store::open`], with snapshots made in this way; without one an overlay is tried, and layers are copied where
    /// there is none. Snapshots that are there already stay what they are.
    pub fn open_with(root: impl AsRef<Path>, driver: Option<Driver>) -> Result<Self> {
        let root = root.as_ref();
        fs::create_dir_all(root).map_err(Error::file("creating", root))?;
        // Lower directories are written into mount options, which have no working directory.
        let root = fs::canonicalize(root).map_err(Error::file("resolving", root))?;
        for (dir, mode) in DIRECTORIES {
            make_dir(&root.join(dir), mode)?;
        }
        spread(&root.join(UNPACKING));
        let db = db::Handle::open(&root.join(db::FILE))?;
        let reaper = Reaper::new(root.join(REMOVING));
        let marks = Marks::of(&root.join(UNPACKING));
        let driver = driver.unwrap_or_else(|| Driver::fitting(&root.join(UNPACKING), marks));
        let mut state = State::default();
        crate::recover::sweep(&root, &db.read()?, &mut state, &reaper)?;
        let store = Self(Arc::new(Inner {
            root,
            db,
            gate: Mutex::new(state),
            counter: AtomicU64::new(0),
            reaper,
            mounted: Mounted::default(),
            syncer: Syncer::default(),
            boot_id: durable::boot_id(),
            marks,
            driver,
            arriving: Mutex::default(),
        }));
        store.recover_layers()?;
        store.recover_blobs()?;
        // Content of a pull that never became an image: no lease survives its process.
        store.collect_garbage()?;
        Ok(store)
    }

    /// How the root file systems of new containers are made.
    #[must_use]
    pub fn driver(&self) -> Driver {
        self.0.driver
    }

    /// Are overlay's marks those of user namespaces (`user.overlay.*`, mount option `userxattr`)?
    #[must_use]
    pub fn has_user_marks(&self) -> bool {
        self.0.marks == Marks::User
    }

    /// The directory of the store.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }
}

/// Directories for what is not complete yet and what is on its way out: emptied when a store is opened.
pub(crate) const INGEST: &str = "blobs/ingest";
/// Blobs that broke off on their way in, by their digest; the next attempt goes on with them.
pub(crate) const PARTIAL: &str = "blobs/partial";
pub(crate) const REMOVING: &str = "removing";
pub(crate) const BLOBS: &str = "blobs/sha256";
pub(crate) const LAYERS: &str = "layers";
pub(crate) const UNPACKING: &str = "layers/unpacking";
/// Damaged layers that a good copy took the place of, `<diff id>.<n>`, as long as a container may be running on them.
pub(crate) const REPLACED: &str = "replaced";
pub(crate) const INITS: &str = "inits";
pub(crate) const SNAPSHOTS: &str = "snapshots";

/// Only root looks into these, but a user namespace's root must be able to pass through to a layer's files.
const DIRECTORIES: [(&str, u32); 10] = [
    ("blobs", 0o700),
    (BLOBS, 0o700),
    (INGEST, 0o700),
    (PARTIAL, 0o700),
    (REMOVING, 0o700),
    (LAYERS, 0o711),
    (UNPACKING, 0o700),
    (REPLACED, 0o700),
    (INITS, 0o711),
    (SNAPSHOTS, 0o711),
];

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    match fs::DirBuilder::new().mode(mode).create(path) {
        // The umask may have taken bits away.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::file("creating", path)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::file("creating", path)(error)),
    }
}

/// Asks the file system to put each new directory in here into another part of the disk (`chattr +T`).
///
/// ext4 does not use the inode of a file that was just deleted, and looks at all of those one by one for each new file:
/// unpacking a layer soon after another was removed would take ten times as long if both were in the same place.
fn spread(dir: &Path) {
    use rustix::fs::{IFlags, Mode, OFlags};
    let Ok(dir) = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
        return;
    };
    // File systems without such a flag have no such trouble.
    if let Ok(flags) = rustix::fs::ioctl_getflags(&dir)
        && !flags.contains(IFlags::TOPDIR)
    {
        let _ = rustix::fs::ioctl_setflags(&dir, flags | IFlags::TOPDIR);
    }
}

impl Inner {
    /// Looks at one consistent state of the database.
    pub(crate) fn read(&self) -> Result<db::View> {
        self.db.read()
    }

    /// The state in memory. A poisoned lock only means that another thread panicked between two of its operations.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one change: all of it is committed, or on an error nothing.
    pub(crate) fn change<T>(&self, work: impl FnOnce(&mut Change<'_>) -> Result<T>) -> Result<T> {
        self.change_if(|change| work(change).map(|value| (value, true)))
    }

    /// As [`Inner::change`], for work that may find that there is nothing to commit.
    pub(crate) fn change_if<T>(&self, work: impl FnOnce(&mut Change<'_>) -> Result<(T, bool)>) -> Result<T> {
        let mut state = self.state();
        let (txn, health) = self.db.write()?;
        let mut change = Change { txn, state: &mut state, doomed: Vec::new() };
        let outcome = work(&mut change).and_then(|(value, changed)| {
            let Change { txn, doomed, .. } = change;
            if changed {
                txn.commit()?;
            } else {
                txn.abort()?;
            }
            Ok((value, doomed))
        });
        let (value, doomed) = health.note(outcome)?;
        // Still behind the gate: nobody may make a new file of this name before the old one is out of the way.
        for path in doomed {
            self.discard(&path);
        }
        Ok(value)
    }

    /// Moves a file or directory out of the way at once and deletes it in the background.
    pub(crate) fn discard(&self, path: &Path) {
        let away = self.root.join(REMOVING).join(self.unique());
        if fs::rename(path, away).is_ok() {
            self.reaper.wake();
        }
    }

    /// A name that no other file of the store has. Never the same again: see [`spread`], which goes by the name.
    pub(crate) fn unique(&self) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{}-{:x}", self.counter.fetch_add(1, Ordering::Relaxed), now.as_nanos())
    }

    /// Waits until everything discarded so far is deleted. For tests and for an orderly shutdown.
    pub(crate) fn drain(&self) {
        self.reaper.drain();
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(BLOBS).join(blob_name(digest))
    }

    /// The directory of a layer; its files are in `fs` inside.
    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join(LAYERS).join(blob_name(diff_id))
    }
}

/// The key of a file that [`blob_name`] named.
pub(crate) fn key_of(name: &str) -> String {
    match name.split_once('-') {
        Some((algorithm, hex)) => format!("{algorithm}:{hex}"),
        None => format!("sha256:{name}"),
    }
}

/// The file of a digest. SHA-256 goes without its name, others are rare and carry it.
pub(crate) fn blob_name(digest: &Digest) -> String {
    match digest.algorithm() {
        oci::digest::Algorithm::Sha256 => digest.hex().to_owned(),
        other => format!("{}-{}", other.name(), digest.hex()),
    }
}

impl Store {
    /// Waits until the files of everything that was removed so far are deleted.
    pub fn drain(&self) {
        self.0.drain();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.0.root).finish()
    }
}
