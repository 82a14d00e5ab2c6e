//! Known escapes from containers, each tried in earnest: the case does what the attack does, as often as a race needs, and
//! looks for what it would have brought. docs/security.md says which case belongs to which attack.
//!
//! Attackers that need system calls of their own run inside as this test program itself, see [`attacker`]. Others are
//! threads of the case: who shares a directory with a container can exchange what is in it from anywhere.

mod attacker;
mod descriptors;
mod kernel_files;
mod links;
mod program;
mod rights;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Exchanges two files or directories for each other, over and over, until it is dropped; then both are where they were.
struct Exchange {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Exchange {
    fn new(one: &Path, other: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (one, other, stopped): (PathBuf, PathBuf, _) = (one.to_owned(), other.to_owned(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut exchanged = false;
            while exchanged || !stopped.load(Ordering::Relaxed) {
                exchanged ^= renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).is_ok();
                // A few moments in each of the two states: the runtime takes many steps.
                std::thread::yield_now();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
