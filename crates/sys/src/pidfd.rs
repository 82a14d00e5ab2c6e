//! Processes by descriptor, which goes on meaning the same process when its number is used again.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

/// The process with this number now; `ESRCH` when there is none.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends any signal, real-time ones too; 0 only asks whether it would be allowed.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: takes numbers and a null pointer.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends any signal to a number. Prefer [`send_signal`] where the process may be gone meanwhile.
pub fn send_signal_to(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(rustix::io::Errno::SRCH.into());
    }
    // SAFETY: takes numbers.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until the process ended, for at most `timeout_ms` (`None`: for ever); whether it did.
pub fn wait_for_end(pidfd: BorrowedFd<'_>, timeout_ms: Option<u64>) -> io::Result<bool> {
    let timeout = timeout_ms.map(|ms| Timespec {
        tv_sec: (ms / 1000).try_into().unwrap_or(i64::MAX),
        tv_nsec: ((ms % 1000) * 1_000_000) as _,
    });
    loop {
        let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut watched, timeout.as_ref()) {
            Ok(count) => return Ok(count > 0),
            // The time starts again, which no caller relies on.
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl End {
    /// The exit code in the way of shells: 128 and the signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

/// Waits for a child to end and reaps it.
pub fn reap(pidfd: BorrowedFd<'_>) -> io::Result<End> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => End::Exited(code),
                    (None, signal) => End::Signaled(signal.unwrap_or_default()),
                });
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
