//! The root of a container that does not run, as a mount that is attached nowhere.
//!
//! It can be reached through its descriptor only, and is gone with the last one: nothing to clean up, and nothing to be
//! seen on the host.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::{Error, Result};
use crate::overlay;
use crate::store::Store;

/// A mounted snapshot. Clones share the mount.
#[derive(Debug, Clone)]
pub struct MountedSnapshot {
    mount: Arc<OwnedFd>,
    directory: Option<PathBuf>,
}

impl MountedSnapshot {
    /// The directory on the host that it shows, if it is no overlay. From another mount namespace the kernel lets only
    /// that be mounted again.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }
}

impl AsFd for MountedSnapshot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}

/// Mounts that are in use now, so that an upper directory is never mounted twice.
#[derive(Default)]
pub(crate) struct Mounted(Mutex<Vec<(String, Weak<OwnedFd>)>>);

impl Store {
    /// Mounts the root of a container for as long as the result lives. Only while the container does not run: its own
    /// mount has the same upper directory.
    pub fn snapshot_mount(&self, container: &str) -> Result<MountedSnapshot> {
        let mut mounted = self.0.mounted.0.lock().unwrap_or_else(PoisonError::into_inner);
        mounted.retain(|(_, mount)| mount.strong_count() > 0);
        let existing = mounted.iter().find(|(id, _)| id == container).and_then(|(_, mount)| mount.upgrade());
        let mounts = self.snapshot_mounts(container)?;
        let root = mounts.first().ok_or_else(|| Error::NoSuchSnapshot(container.to_owned()))?;
        let directory = (root.fstype == "bind").then(|| root.source.clone());
        if let Some(mount) = existing {
            return Ok(MountedSnapshot { mount, directory });
        }
        let mount = if root.fstype == "bind" {
            sys::mount::clone_path(&root.source, false).map_err(Error::file("mounting", &root.source))?
        } else {
            overlay::mount(&root.options).map_err(|source| Error::Mount { id: container.to_owned(), source })?
        };
        let mount = Arc::new(mount);
        mounted.push((container.to_owned(), Arc::downgrade(&mount)));
        Ok(MountedSnapshot { mount, directory })
    }
}
