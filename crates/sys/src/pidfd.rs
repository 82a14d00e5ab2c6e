//! Processes by descriptor, which goes on meaning the same process when its number is used again.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

/// The process with this number now; `ESRCH` when there is none.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    use rustix::io::Errno;
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        // The process has ended, and its number lives on as that of its session, group or of a thread: how the kernel
        // says so depends on its version.
        Err(Errno::INVAL | Errno::NOENT) => Err(Errno::SRCH.into()),
        opened => Ok(opened?),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    #[test]
    fn a_number_that_is_only_a_sessions_is_no_process() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 >/dev/null & echo $!"]).stdout(Stdio::piped());
        // SAFETY: setsid is a system call alone.
        unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
        let leader = command.spawn().unwrap();
        let number = leader.id() as i32;
        let output = leader.wait_with_output().unwrap();
        let member: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        let opened = open(number);
        send_signal_to(member, libc::SIGKILL).unwrap();
        assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
