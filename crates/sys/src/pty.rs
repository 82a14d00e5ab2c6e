//! Pseudo terminals: a pair from a devpts of one's choice, its size, and becoming its foreground.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// Both sides of a pseudo terminal.
#[derive(Debug)]
pub struct Pair {
    /// The side of the one who watches.
    pub master: OwnedFd,
    /// The side of the programs.
    pub slave: OwnedFd,
}

/// A pair from this process's `/dev/ptmx`.
pub fn open() -> io::Result<Pair> {
    from_master(rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?)
}

/// A pair from the devpts that `directory` is open on, e.g. a container's `/dev/pts`. `EXDEV` when that is something
/// else, or when something lies over its `ptmx`: whoever lives there must not choose which terminal it becomes.
pub fn open_in(directory: BorrowedFd<'_>) -> io::Result<Pair> {
    if crate::mount::filesystem_magic(directory)? != DEVPTS_MAGIC {
        return Err(rustix::io::Errno::XDEV.into());
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    from_master(rustix::fs::openat2(directory, "ptmx", flags, Mode::empty(), resolve)?)
}

const DEVPTS_MAGIC: u64 = 0x1cd1;

/// The pair of a master that was just opened. The slave is found by the master, not by a path that may lie.
fn from_master(master: OwnedFd) -> io::Result<Pair> {
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok(Pair { master, slave })
}

/// Sets the size in characters; the foreground process group gets SIGWINCH when it changed.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    Ok(rustix::termios::tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

/// Rows and columns.
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_row, size.ws_col))
}

/// Makes `slave` the controlling terminal of the calling process, which must lead a session without one.
pub fn control(slave: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(slave)?)
}

/// Turns off what a terminal does to bytes on the way (`cfmakeraw`); returns the settings before, for [`restore`].
pub fn make_raw(terminal: BorrowedFd<'_>) -> io::Result<rustix::termios::Termios> {
    let before = rustix::termios::tcgetattr(terminal)?;
    let mut raw = before.clone();
    raw.make_raw();
    rustix::termios::tcsetattr(terminal, rustix::termios::OptionalActions::Now, &raw)?;
    Ok(before)
}

/// Sets a terminal's settings.
pub fn restore(terminal: BorrowedFd<'_>, settings: &rustix::termios::Termios) -> io::Result<()> {
    Ok(rustix::termios::tcsetattr(terminal, rustix::termios::OptionalActions::Now, settings)?)
}

/// Turns off the translation of `\n` into `\r\n` on output, as runtimes leave a master that they hand to a program.
pub fn keep_newlines(master: BorrowedFd<'_>) -> io::Result<()> {
    let mut settings = rustix::termios::tcgetattr(master)?;
    settings.output_modes.remove(rustix::termios::OutputModes::ONLCR);
    Ok(rustix::termios::tcsetattr(master.as_fd(), rustix::termios::OptionalActions::Now, &settings)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_a_devpts_alone() {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = |path: &str| rustix::fs::open(path, flags, Mode::empty()).unwrap();
        assert!(open_in(directory("/dev/pts").as_fd()).is_ok());
        assert!(open_in(directory("/dev").as_fd()).is_err());
    }

    #[test]
    fn size_is_seen_on_the_other_side() {
        let pair = open().unwrap();
        resize(pair.master.as_fd(), 7, 90).unwrap();
        assert_eq!(size(pair.slave.as_fd()).unwrap(), (7, 90));
    }
}
