//! Namespaces: making them, and moving into existing ones.
#![allow(unsafe_code)]

use std::io;
use std::ops::{BitOr, BitOrAssign};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A set of kinds of namespaces, as the flags of clone(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds(u64);

impl Kinds {
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// Roots of the cgroup trees.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);
    /// Host and domain name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Ids and capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// Network.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u64);
    /// Monotonic and boot-time clocks.
    pub const TIME: Self = Self(0x80);

    /// The flags.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The kind that the runtime specification calls `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "mount" => Self::MOUNT,
            "cgroup" => Self::CGROUP,
            "uts" => Self::UTS,
            "ipc" => Self::IPC,
            "user" => Self::USER,
            "pid" => Self::PID,
            "network" => Self::NETWORK,
            "time" => Self::TIME,
            _ => return None,
        })
    }
}

impl BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Kinds {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The name of the file of a kind in `/proc/PID/ns`, for the kinds of the runtime specification.
#[must_use]
pub fn proc_name(name: &str) -> &str {
    match name {
        "network" => "net",
        "mount" => "mnt",
        other => other,
    }
}

/// Moves the calling thread into a namespace, given by its file, or into several of a process, given by its pidfd.
///
/// `PID` changes only what later children are in.
pub fn enter(descriptor: BorrowedFd<'_>, kinds: Kinds) -> io::Result<()> {
    // SAFETY: takes numbers. Descriptors and memory stay as they are.
    check(unsafe { libc::setns(descriptor.as_raw_fd(), kinds.0 as libc::c_int) })
}

/// Moves the calling thread into new namespaces. `PID` and `TIME` change only what later children are in.
pub fn unshare(kinds: Kinds) -> io::Result<()> {
    // SAFETY: CLONE_FILES, the one flag that would surprise owners of descriptors, cannot be in `kinds`.
    check(unsafe { libc::unshare(kinds.0 as libc::c_int) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
