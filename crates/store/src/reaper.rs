//! Deletes what was moved to `removing/`, on a thread that exists only while there is something to delete.
//!
//! Deleting a large directory tree takes long, and nobody has to wait for it: what was moved away is gone for
//! everybody, and if the process dies the next one finds it in the same place.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::tree;

pub(crate) struct Reaper(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    state: Mutex<Running>,
    idle: Condvar,
}

#[derive(Default)]
struct Running {
    running: bool,
    /// Something was added after the running thread looked.
    again: bool,
}

impl Reaper {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self(Arc::new(Shared { dir, state: Mutex::default(), idle: Condvar::new() }))
    }

    /// Says that there is something to delete.
    pub(crate) fn wake(&self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.running {
            state.again = true;
            return;
        }
        let shared = Arc::clone(&self.0);
        // Without a thread the files wait for the next wake, or for the next start.
        let spawned = std::thread::Builder::new().name("store-reaper".into()).spawn(move || shared.run());
        state.running = spawned.is_ok();
    }

    /// Waits until nothing is left to delete.
    pub(crate) fn drain(&self) {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.idle.wait_while(state, |state| state.running).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Shared {
    fn run(&self) {
        loop {
            empty_dir(&self.dir);
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if !state.again {
                state.running = false;
                self.idle.notify_all();
                return;
            }
            state.again = false;
        }
    }
}

/// Deletes everything in a directory. What cannot be deleted (a file made immutable) stays for the next time.
fn empty_dir(dir: &Path) {
    let Ok(fd) = tree::open_root(dir) else { return };
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if let Err(error) = tree::remove_all(fd.as_fd(), entry.file_name().as_bytes()) {
            tracing::warn!(path = %entry.path().display(), %error, "deleting a leftover");
        }
    }
}
