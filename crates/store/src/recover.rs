//! Opening a store after its last user died at any instruction: what has no record goes.
//!
//! Files come before their record and go after it, so a file without a record is either unfinished or on its way out. One
//! whose record is there and cannot be read is neither.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::arrival;
use crate::db::{self, Reading};
use crate::error::{Error, Result};
use crate::reaper::Reaper;
use crate::snapshot::SnapshotRecord;
use crate::store::{BLOBS, INGEST, LAYERS, PARTIAL, REMOVING, SNAPSHOTS, State, UNPACKING, key_of};

/// Removes leftovers, and loads the records of the snapshots.
pub(crate) fn sweep(root: &Path, txn: &db::View, state: &mut State, reaper: &Reaper) -> Result<()> {
    let mut broom = Broom { root, count: 0 };
    for dir in [INGEST, UNPACKING] {
        broom.sweep(dir, |_| Ok(false))?;
    }
    broom.sweep(PARTIAL, |name| Ok(!arrival::is_given_up(&root.join(PARTIAL).join(name))))?;
    broom.sweep(BLOBS, |name| Ok(txn.get(db::BLOBS, &key_of(name))?.is_some()))?;
    broom.sweep(LAYERS, |name| Ok(name == "unpacking" || txn.get(db::LAYERS, &key_of(name))?.is_some()))?;
    broom.sweep(SNAPSHOTS, |name| {
        let dir = root.join(SNAPSHOTS).join(name);
        let record = match SnapshotRecord::load(&dir) {
            Ok(record) => record,
            Err(error) => return Ok(is_kept_unread(&dir, &error)),
        };
        let is_whole = record.is_some();
        state.snapshots.extend(record.map(|record| (name.to_owned(), record)));
        Ok(is_whole)
    })?;
    reaper.wake();
    Ok(())
}

/// What a container wrote is nowhere else: it stays where it is when its record cannot be read, for whoever wants it back.
fn is_kept_unread(dir: &Path, error: &std::io::Error) -> bool {
    let is_empty = fs::read_dir(dir.join("fs")).is_ok_and(|mut files| files.next().is_none());
    if !is_empty {
        tracing::error!(%error, dir = %dir.display(), "a container's record cannot be read; its files are left alone");
    }
    !is_empty
}

struct Broom<'a> {
    root: &'a Path,
    count: u32,
}

impl Broom<'_> {
    /// Moves every entry of a directory away that is not to be kept. Names that are no text are never ours.
    fn sweep(&mut self, dir: &str, mut keep: impl FnMut(&str) -> Result<bool>) -> Result<()> {
        let dir = self.root.join(dir);
        for entry in fs::read_dir(&dir).map_err(Error::file("reading", &dir))? {
            let name = entry.map_err(Error::file("reading", &dir))?.file_name();
            if !name.to_str().map_or(Ok(false), &mut keep)? {
                self.remove(&dir, &name)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, dir: &Path, name: &OsStr) -> Result<()> {
        // Distinct from the names of a running process, of which some may be left here.
        let removing = self.root.join(REMOVING);
        let away = loop {
            self.count += 1;
            let away = removing.join(format!("left-{}", self.count));
            if fs::symlink_metadata(&away).is_err() {
                break away;
            }
        };
        let path = dir.join(name);
        fs::rename(&path, &away).map_err(Error::file("removing", &path))
    }
}
