//! What is pulled survives a loss of power, without a pull that waits for the disk.
//!
//! The files of a layer are written into the page cache; the record that says the layer is here is in the database, which
//! writes through. Between the two a machine can lose power. So a record names the boot in which its files were written,
//! until they are known to be on the disk:
//!
//! ```text
//! placed ── a few seconds ──► syncfs, on a thread of its own ──► the record forgets the boot
//!    └─ power lost ─► next start: another boot ─► the layer is verified; what is damaged goes, with the images that need it
//! ```
//!
//! A few seconds, because a layer that is removed at once again never has to be written at all. The records of containers
//! are written in the same way, each by itself: what other containers write meanwhile has nothing to do with them.
//!
//! A damaged layer that a container has cannot go. It is marked, and so is one that `verify` finds: a marked layer counts
//! as missing, so that the next pull brings it again and the good copy takes its place.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use oci::digest::Digest;

use crate::db::{self, ImageRecord, LayerRecord, Reading, Writing};
use crate::error::{Error, Result};
use crate::gc;
use crate::snapshot::RECORD;
use crate::store::{Change, Inner, REPLACED, Store, blob_name};

/// How long after a layer was placed its files are written to the disk.
const DELAY: Duration = Duration::from_secs(5);
/// The key under which the database has the boot in which it was last opened.
const BOOT: &str = "boot";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Writes layers and records to the disk, on a thread that exists only while there is something to write.
#[derive(Default)]
pub(crate) struct Syncer {
    is_running: Mutex<bool>,
    /// Directories of snapshots whose records may not be on the disk.
    records: Mutex<Vec<PathBuf>>,
}

/// Names this boot of the machine. Without one every start counts as another boot, and what was not synced is verified.
pub(crate) fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
}

impl Inner {
    /// What a record says whose files were written just now: the boot, and what tells this from any other moment.
    pub(crate) fn unsynced_now(&self) -> String {
        format!("{} {}", self.boot_id, self.unique())
    }

    /// Says that a layer was placed whose files are not on the disk yet.
    pub(crate) fn sync_soon(self: &Arc<Self>) {
        let mut is_running = self.syncer.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_running {
            return;
        }
        let weak = Arc::downgrade(self);
        // Without a thread the layers are verified after the next loss of power, or synced with a later one.
        let spawned = std::thread::Builder::new().name("store-sync".into()).spawn(move || run(&weak));
        *is_running = spawned.is_ok();
    }

    /// Says that a snapshot was made in this directory whose record is not on the disk yet.
    pub(crate) fn sync_record_soon(self: &Arc<Self>, dir: PathBuf) {
        self.records().push(dir);
        self.sync_soon();
    }

    fn records(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.syncer.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the records of snapshots to the disk that were made so far.
    fn sync_records(&self) -> Result<()> {
        let dirs = std::mem::take(&mut *self.records());
        let mut parent = None;
        for dir in dirs {
            for path in [dir.join(RECORD), dir] {
                match fs::File::open(&path).and_then(|file| file.sync_all()) {
                    // Its container is gone already.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    written => written.map_err(Error::file("writing to the disk", &path))?,
                }
                parent = path.parent().map(Path::to_owned);
            }
        }
        // Their names.
        parent.map_or(Ok(()), |path| {
            fs::File::open(&path).and_then(|file| file.sync_all()).map_err(Error::file("writing to the disk", &path))
        })
    }

    /// Writes all layers and records to the disk that were placed so far, and notes that they are there.
    pub(crate) fn sync(&self) -> Result<()> {
        self.sync_records()?;
        self.sync_layers(&self.unsynced_here()?)
    }

    /// Layers that were written in this boot, and may not be on the disk.
    fn unsynced_here(&self) -> Result<Vec<(Digest, String)>> {
        let mut layers = unsynced(self)?;
        layers.retain(|(_, written)| self.is_of_this_boot(written));
        Ok(layers)
    }

    fn is_of_this_boot(&self, written: &str) -> bool {
        written.split(' ').next() == Some(&self.boot_id)
    }

    fn sync_layers(&self, layers: &[(Digest, String)]) -> Result<()> {
        if layers.is_empty() {
            return Ok(());
        }
        let root = fs::File::open(&self.root).map_err(Error::file("opening", &self.root))?;
        rustix::fs::syncfs(&root).map_err(Error::file("writing to the disk of", &self.root))?;
        self.settle(layers)
    }

    /// Notes that layers are on the disk as they were when they were listed. To some something may have come since.
    fn settle(&self, synced: &[(Digest, String)]) -> Result<()> {
        self.change(|change| {
            for (diff_id, then) in synced {
                let layer = change.txn.get_json::<LayerRecord>(db::LAYERS, diff_id.as_str())?;
                if let Some(mut layer) = layer.filter(|layer| layer.unsynced.as_ref() == Some(then)) {
                    layer.unsynced = None;
                    change.txn.put_json(db::LAYERS, diff_id.as_str(), &layer)?;
                }
            }
            Ok(())
        })
    }

    /// Marks a layer as damaged, or as sound again.
    pub(crate) fn mark_damaged(&self, change: &Change<'_>, diff_id: &Digest, is_damaged: bool) -> Result<()> {
        if let Some(mut layer) = change.txn.get_json::<LayerRecord>(db::LAYERS, diff_id.as_str())? {
            layer.is_damaged = is_damaged;
            change.txn.put_json(db::LAYERS, diff_id.as_str(), &layer)?;
        }
        Ok(())
    }

    /// Takes a damaged layer out of its place. Containers may be running on its files, which would be gone from under
    /// them: as long as one has the layer they stay.
    pub(crate) fn set_aside(&self, change: &Change<'_>, diff_id: &Digest) -> Result<()> {
        let path = self.layer_path(diff_id);
        if !change.state.snapshots.values().any(|snapshot| snapshot.layers.contains(diff_id)) {
            self.discard(&path);
            return Ok(());
        }
        let aside = self.root.join(REPLACED).join(format!("{}.{}", blob_name(diff_id), self.unique()));
        match fs::rename(&path, aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("replacing", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Removes blobs whose bytes are lost or wrong. A layer that such a blob came as is one without a blob: the files
    /// stand for it, and the next pull brings the blob again.
    pub(crate) fn forget_blobs(&self, change: &mut Change<'_>, lost: &BTreeSet<Digest>) -> Result<()> {
        for (diff_id, mut layer) in change.txn.all_json::<LayerRecord>(db::LAYERS)? {
            if layer.forget_blobs(|digest| lost.contains(digest)) {
                // Where neither the files nor another blob can stand for it, nothing gives the tar any more.
                layer.is_damaged |= !layer.rebuilds && layer.blobs().next().is_none();
                change.txn.put_json(db::LAYERS, diff_id.as_str(), &layer)?;
            }
        }
        for digest in lost {
            change.txn.remove(db::BLOBS, digest.as_str())?;
            change.doomed.push(self.blob_path(digest));
        }
        Ok(())
    }
}

fn run(inner: &Weak<Inner>) {
    loop {
        std::thread::sleep(DELAY);
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = inner.sync() {
            tracing::warn!(%error, "writing layers to the disk");
        }
        // Behind the lock, so that a layer that is placed now finds either this thread going on or none.
        let mut is_running = inner.syncer.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.records().is_empty() || inner.unsynced_here().is_ok_and(|left| !left.is_empty()) {
            continue;
        }
        *is_running = false;
        return;
    }
}

/// Layers whose files may not be on the disk, with what their records say of when they were written.
fn unsynced(inner: &Inner) -> Result<Vec<(Digest, String)>> {
    let layers = inner.read()?.all_json::<LayerRecord>(db::LAYERS)?;
    Ok(layers.into_iter().filter_map(|(diff_id, layer)| Some((diff_id, layer.unsynced?))).collect())
}

impl Store {
    /// Waits until everything that was placed so far is on the disk. For an orderly end.
    pub fn sync(&self) -> Result<()> {
        self.0.sync()
    }

    /// Looks at what may have been lost with the power. Layers that are not whole are removed with the images that need
    /// them, so that the next pull brings them again. Returns the layers that were lost.
    pub(crate) fn recover_layers(&self) -> Result<Vec<Digest>> {
        let (here, before): (Vec<_>, Vec<_>) =
            unsynced(&self.0)?.into_iter().partition(|(_, written)| self.0.is_of_this_boot(written));
        if !here.is_empty() {
            self.0.sync_soon();
        }
        if before.is_empty() {
            return Ok(Vec::new());
        }
        let (mut layers, mut blobs) = (BTreeSet::new(), BTreeSet::new());
        let mut looked_at = Vec::new();
        for (diff_id, written) in before {
            let Some(record) = self.0.read()?.get_json::<LayerRecord>(db::LAYERS, diff_id.as_str())? else { continue };
            match self.layer_problems(&diff_id, &record).as_ref().map(|problems| problems.first()) {
                Ok(None) => {}
                Ok(Some(problem)) => {
                    tracing::warn!(%diff_id, problem, "a layer was lost with the power");
                    layers.insert(diff_id.clone());
                }
                // The next start looks again.
                Err(error) => {
                    tracing::warn!(%diff_id, %error, "a layer cannot be looked at after a loss of power");
                    continue;
                }
            }
            looked_at.push((diff_id, written));
            for blob in record.blobs() {
                if let Err(fault) = self.verify_blob(&blob.digest, &mut 0) {
                    tracing::warn!(digest = %blob.digest, problem = fault.problem, "a blob was lost with the power");
                    blobs.insert(blob.digest.clone());
                }
            }
        }
        self.0.change(|change| {
            self.0.forget_blobs(change, &blobs)?;
            self.forget_layers(change, &layers)
        })?;
        self.0.sync_layers(&looked_at)?;
        Ok(layers.into_iter().collect())
    }

    /// After another boot, removes blobs that are shorter than they were: those that no layer vouches for.
    pub(crate) fn recover_blobs(&self) -> Result<()> {
        let boot = &self.0.boot_id;
        if self.0.read()?.get(db::META, BOOT)?.is_some_and(|last| last == boot.as_bytes()) {
            return Ok(());
        }
        self.0.change(|change| {
            let mut short = BTreeSet::new();
            change.txn.scan(db::BLOBS, "", &mut |key, value| {
                let digest = db::parse_key(key)?;
                let size: u64 = db::decode(key, value)?;
                if fs::metadata(self.0.blob_path(&digest)).map_or(0, |found| found.len()) != size {
                    tracing::warn!(%digest, "a blob was lost with the power");
                    short.insert(digest);
                }
                Ok(true)
            })?;
            self.0.forget_blobs(change, &short)?;
            // Whatever ran on these ended with the boot.
            let replaced = fs::read_dir(self.0.root.join(REPLACED)).into_iter().flatten().flatten();
            change.doomed.extend(replaced.map(|entry| entry.path()));
            change.txn.put(db::META, BOOT, boot.as_bytes())
        })
    }

    /// Removes layers, their blobs and the images that need them. Containers that have such a layer keep it as it is,
    /// marked as damaged.
    fn forget_layers(&self, change: &mut Change<'_>, lost: &BTreeSet<Digest>) -> Result<()> {
        for diff_id in lost {
            self.0.mark_damaged(change, diff_id, true)?;
        }
        let is_lost = |layers: &[Digest]| layers.iter().any(|layer| lost.contains(layer));
        let images = change.txn.all_json::<ImageRecord>(db::IMAGES)?;
        for (id, _) in images.into_iter().filter(|(_, record)| is_lost(&record.layers)) {
            let mut names = Vec::new();
            change.txn.scan(db::NAMES, "", &mut |name, value| {
                if value == id.as_str().as_bytes() {
                    names.push(name.to_owned());
                }
                Ok(true)
            })?;
            for name in names {
                change.txn.remove(db::NAMES, &name)?;
            }
            change.txn.remove(db::IMAGES, id.as_str())?;
        }
        gc::collect(change, &self.0).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_the_disk_is_written_to_is_not_on_it() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path().join("store")).unwrap();
        let lease = store.lease();
        let layer = store.layer_import(&lease, None, &[0; 1024][..]).unwrap();
        let listed = unsynced(&store.0).unwrap();
        assert_eq!(listed.len(), 1);
        store.layer_blob(&lease, &layer.diff_id, |_, _| {}).unwrap();
        store.0.settle(&listed).unwrap();
        assert_eq!(unsynced(&store.0).unwrap().len(), 1);
        store.sync().unwrap();
        assert_eq!(unsynced(&store.0).unwrap(), []);
    }
}
