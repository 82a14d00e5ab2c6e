//! The notice of memory running out.

use super::files::{self, read_key};
use super::{Error, Result};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Tells when a group runs out of memory.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    edge: bool,
    counter: PathBuf,
    /// Kills that were told of.
    known: Cell<u64>,
}

impl OomWatch {
    /// cgroup v1 writes to an eventfd (memory.txt, section 9).
    pub(super) fn v1(directory: &Path) -> Result<Self> {
        let counter = directory.join("memory.oom_control");
        let control = rustix::fs::open(&counter, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|source| Error::Read { path: counter.clone(), source: source.into() })?;
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|source| Error::Read { path: counter.clone(), source: source.into() })?;
        let registration = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
        files::write(&directory.join("cgroup.event_control"), &registration)?;
        Ok(Self { fd, edge: false, counter, known: Cell::new(0) })
    }

    /// cgroup v2 notifies those who poll `memory.events`.
    pub(super) fn v2(directory: &Path) -> Result<Option<Self>> {
        let counter = directory.join("memory.events");
        match rustix::fs::open(&counter, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, edge: true, counter, known: Cell::new(0) })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(source) => Err(Error::Read { path: counter, source: source.into() }),
        }
    }

    /// What to poll for: the notice is 'priority' in v2, and something to read in v1.
    pub fn poll_flags(&self) -> PollFlags {
        if self.edge { PollFlags::PRI } else { PollFlags::IN }
    }

    /// Takes the notice; whether a process was killed since the last time.
    pub fn happened(&self) -> Result<bool> {
        let kills = self.acknowledge()?;
        Ok(self.known.replace(kills) < kills)
    }

    /// Takes the notice, and says how many processes have been killed by now. A group that is gone has none.
    pub fn acknowledge(&self) -> Result<u64> {
        let mut buffer = [0; 512];
        if self.edge {
            let _ = rustix::io::pread(&self.fd, &mut buffer, 0);
        } else {
            let _ = rustix::io::read(&self.fd, &mut buffer[..8]);
        }
        read_key(&self.counter, "oom_kill")
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
