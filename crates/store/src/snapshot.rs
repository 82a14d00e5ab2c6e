//! Snapshots: the root file systems of containers, as overlays over the layers of an image.
//!
//! ```text
//! snapshots/<container>/fs            upper directory: what the container changed; of a copy, everything
//!                      /work          overlay's scratch directory
//!                      /record.json   image and layers; written last, so that it means "complete"
//! inits/<chain>/fs                    mount points (/etc/hosts, /dev/console, …): shared by all containers of one stack
//! layers/<diff>/fs                    the image's layers, each in overlay format, never changed
//! ```
//!
//! The store mounts nothing: it says what to mount, and the runtime does it inside the container's mount namespace.
//! The mount points are a layer of their own, so that they are no changes of the container: `diff` and `commit` do not
//! show them.

mod init;
pub(crate) mod mount;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Mount;
use oci::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::changes::ChangeKind;
use crate::db::{self, ImageRecord, Reading};
use crate::error::{Error, Result};
use crate::gc::chain_name;
use crate::image::ImageId;
use crate::implied;
use crate::merge;
use crate::overlay;
use crate::store::{Driver, INITS, Inner, SNAPSHOTS, Store};

/// Most layers below a snapshot: the kernel's limit for an overlay (`OVL_MAX_STACK`, 500), less the mount points.
const MAX_LAYERS: usize = 499;

/// How a snapshot is to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// It need not survive a power failure (a container with `--rm`). The overlay is mounted `volatile` then: it never
    /// waits for the disk, above all not when it is unmounted, which is when a container's last process ends.
    pub ephemeral: bool,
}

/// The file of a snapshot's record.
pub(crate) const RECORD: &str = "record.json";

/// What a snapshot is made of; its file is [`RECORD`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    /// The image that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<ImageId>,
    /// Its layers from the lowest up.
    pub(crate) layers: Vec<Digest>,
    /// See [`SnapshotOptions::ephemeral`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ephemeral: bool,
    /// The layers were copied into `fs`: see `merge`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_copy: bool,
}

impl SnapshotRecord {
    /// Reads the record of the snapshot in this directory; None if there is none, because it is not complete.
    pub(crate) fn load(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(dir.join(RECORD)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it there, whole or not at all.
    fn write(&self, dir: &Path) -> io::Result<()> {
        let begun = dir.join(format!("{RECORD}.new"));
        fs::write(&begun, serde_json::to_vec(self)?)?;
        fs::rename(begun, dir.join(RECORD))
    }
}

/// How much a container has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sum of the sizes of files and symbolic links, hard links once, in bytes.
    pub size: u64,
    /// Number of files, directories and so on.
    pub inodes: u64,
}

impl Store {
    /// Makes the snapshot of a container: a writable, empty layer over an image (or over nothing).
    pub fn snapshot_create(&self, container: &str, image: Option<&ImageId>, options: SnapshotOptions) -> Result<()> {
        check_id(container)?;
        let record = self.reserve(container, image, options)?;
        let made = self.0.make_snapshot(container, &record);
        if made.is_err() {
            self.0.state().snapshots.remove(container);
            self.0.discard(&self.0.snapshot_path(container));
        }
        made
    }

    /// Enters the snapshot into the state first: from here on its layers are no garbage.
    fn reserve(&self, container: &str, image: Option<&ImageId>, options: SnapshotOptions) -> Result<SnapshotRecord> {
        let mut state = self.0.state();
        if state.snapshots.contains_key(container) {
            return Err(Error::SnapshotExists(container.to_owned()));
        }
        let layers = match image {
            Some(id) => {
                let record: Option<ImageRecord> = self.0.read()?.get_json(db::IMAGES, id.as_str())?;
                record.ok_or_else(|| Error::NoSuchImage(id.to_string()))?.layers
            }
            None => Vec::new(),
        };
        if layers.len() > MAX_LAYERS {
            return Err(Error::TooDeep(layers.len(), MAX_LAYERS));
        }
        let is_copy = self.0.driver == Driver::Copying;
        let record = SnapshotRecord { image: image.cloned(), layers, ephemeral: options.ephemeral, is_copy };
        state.snapshots.insert(container.to_owned(), record.clone());
        Ok(record)
    }

    /// The mounts that make the container's root file system, in order: one overlay, for the target `/`.
    pub fn snapshot_mounts(&self, container: &str) -> Result<Vec<Mount>> {
        let record = self.0.snapshot_record(container)?;
        let dir = self.0.snapshot_path(container);
        if record.is_copy {
            let mount =
                Mount { fstype: "bind".to_owned(), source: dir.join("fs"), target: "/".into(), options: vec![] };
            return Ok(vec![mount]);
        }
        let mut options: Vec<String> =
            self.0.lower_dirs(&record).iter().map(|path| format!("lowerdir+={}", path.display())).collect();
        options.push(format!("upperdir={}", dir.join("fs").display()));
        options.push(format!("workdir={}", dir.join("work").display()));
        options.extend(overlay::options(self.0.marks));
        if record.ephemeral {
            options.push("volatile".to_owned());
            // A mount that was not unmounted in order leaves this behind, and the kernel refuses the next one.
            match fs::remove_dir_all(dir.join("work/work/incompat")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::file("removing", dir.join("work/work/incompat"))(error));
                }
                _ => {}
            }
        }
        Ok(vec![Mount { fstype: "overlay".to_owned(), source: "overlay".into(), target: "/".into(), options }])
    }

    /// Removes a snapshot; its files are deleted in the background.
    pub fn snapshot_remove(&self, container: &str) -> Result<()> {
        let mut state = self.0.state();
        match state.snapshots.remove(container) {
            Some(record) => {
                self.0.touch_init(&record.layers);
                self.0.discard(&self.0.snapshot_path(container));
                Ok(())
            }
            None => Err(Error::NoSuchSnapshot(container.to_owned())),
        }
    }

    /// The ids of all containers that have a snapshot, each with the image that it was made from.
    #[must_use]
    pub fn snapshots(&self) -> Vec<(String, Option<ImageId>)> {
        let state = self.0.state();
        state.snapshots.iter().map(|(id, record)| (id.clone(), record.image.clone())).collect()
    }

    /// The directory with what the container changed, in overlay format.
    pub fn snapshot_upper(&self, container: &str) -> Result<PathBuf> {
        self.0.snapshot_record(container)?;
        Ok(self.0.snapshot_path(container).join("fs"))
    }

    /// How much the container has written.
    pub fn snapshot_usage(&self, container: &str) -> Result<Usage> {
        let upper = self.snapshot_upper(container)?;
        if !self.0.snapshot_record(container)?.is_copy {
            return crate::usage::of_directory(&upper);
        }
        let changed = self.snapshot_changes(container)?.into_iter();
        let files = changed.filter(|change| change.kind != ChangeKind::Deleted).filter_map(|change| {
            fs::symlink_metadata(upper.join(change.path.strip_prefix("/").unwrap_or(&change.path))).ok()
        });
        let count = |usage: Usage, file: fs::Metadata| Usage {
            size: usage.size + if file.is_dir() { 0 } else { file.len() },
            inodes: usage.inodes + 1,
        };
        Ok(files.fold(Usage::default(), count))
    }

    /// Size of the image below the container, in bytes.
    pub fn snapshot_image_size(&self, container: &str) -> Result<u64> {
        let record = self.0.snapshot_record(container)?;
        let txn = self.0.read()?;
        let mut size = 0;
        for diff_id in &record.layers {
            size += txn.get_json::<db::LayerRecord>(db::LAYERS, diff_id.as_str())?.map_or(0, |layer| layer.size);
        }
        Ok(size)
    }
}

/// An id becomes the name of a directory.
fn check_id(id: &str) -> Result<()> {
    let is_valid = !id.is_empty()
        && id.len() <= 128
        && !id.starts_with('.')
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if is_valid { Ok(()) } else { Err(Error::InvalidId(id.to_owned())) }
}

impl Inner {
    pub(crate) fn snapshot_path(&self, container: &str) -> PathBuf {
        self.root.join(SNAPSHOTS).join(container)
    }

    pub(crate) fn snapshot_record(&self, container: &str) -> Result<SnapshotRecord> {
        let record = self.state().snapshots.get(container).cloned();
        record.ok_or_else(|| Error::NoSuchSnapshot(container.to_owned()))
    }

    /// The directories below the upper one, from the top down: mount points, then the image's layers.
    pub(crate) fn lower_dirs(&self, record: &SnapshotRecord) -> Vec<PathBuf> {
        let init = self.root.join(INITS).join(chain_name(&record.layers)).join("fs");
        std::iter::once(init).chain(self.layer_dirs(&record.layers)).collect()
    }

    /// The directories of these layers, from the top down.
    ///
    /// A stack may hold the same layer twice, which overlay refuses. Everything in the lower one (whiteouts as well) is
    /// also in the upper one and hidden by it, so it is left out. And so is what is below a layer whose root is opaque, for
    /// which overlay does not look.
    pub(crate) fn layer_dirs(&self, layers: &[Digest]) -> Vec<PathBuf> {
        let mut seen = HashSet::new();
        let once = layers.iter().rev().filter(|diff_id| seen.insert(*diff_id));
        let mut dirs = Vec::new();
        for dir in once.map(|diff_id| self.layer_path(diff_id).join("fs")) {
            let is_last = self.marks.is_opaque_at(&dir);
            dirs.push(dir);
            if is_last {
                break;
            }
        }
        dirs
    }

    fn make_snapshot(self: &Arc<Self>, container: &str, record: &SnapshotRecord) -> Result<()> {
        self.ensure_init(&record.layers)?;
        let dir = self.snapshot_path(container);
        let upper = dir.join("fs");
        let work = dir.join("work");
        let parts = [(&dir, 0o711), (&upper, 0o755), (&work, 0o700)];
        // A copy needs no scratch directory.
        for (path, mode) in parts.into_iter().take(if record.is_copy { 2 } else { 3 }) {
            fs::DirBuilder::new().mode(mode).create(path).map_err(Error::file("creating", path))?;
        }
        if record.is_copy {
            let layers: Vec<PathBuf> = self.lower_dirs(record).into_iter().rev().collect();
            merge::fill(&upper, &layers, self.marks, false)?;
        }
        // An overlay's root looks like its upper directory, so that one must look like the image's root.
        let dirs = self.layer_dirs(&record.layers);
        let says_so = |dir: &&PathBuf| dir.parent().is_some_and(implied::has_root);
        let (mode, uid, gid) = match dirs.iter().find(says_so) {
            Some(top) => {
                let top = fs::metadata(top).map_err(Error::file("reading", top))?;
                (top.mode() & 0o7777, top.uid(), top.gid())
            }
            None => (0o755, 0, 0),
        };
        fs::set_permissions(&upper, fs::Permissions::from_mode(mode)).map_err(Error::file("creating", &upper))?;
        if (uid, gid) != (0, 0) {
            chown(&upper, Some(uid), Some(gid)).map_err(Error::file("creating", &upper))?;
        }
        record.write(&dir).map_err(Error::file("writing", dir.join(RECORD)))?;
        if !record.ephemeral {
            self.sync_record_soon(dir);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_replaced_and_never_half_written() {
        let temp = tempfile::tempdir().unwrap();
        let record = SnapshotRecord { image: None, layers: Vec::new(), ephemeral: true, is_copy: false };
        let path = temp.path().join(RECORD);
        fs::write(&path, b"what somebody reads meanwhile").unwrap();
        fs::hard_link(&path, temp.path().join("read")).unwrap();
        record.write(temp.path()).unwrap();
        assert_eq!(fs::read(temp.path().join("read")).unwrap(), b"what somebody reads meanwhile");
        assert_eq!(SnapshotRecord::load(temp.path()).unwrap(), Some(record));
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
    }
}
