//! The kernel's `/proc`, by a descriptor that is known to lead there.
//!
//! What is written below `/proc` decides how safe a container is: its label, kernel parameters, clocks. A path could lead
//! to something else, a tmpfs with the same names or another of the kernel's own files, once whoever the container
//! belongs to has a say in what is mounted where. So the host's `/proc` is opened and checked once, before anything of
//! the container's can be in the way, and everything is found from that descriptor.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::mount::{PROC_MAGIC, filesystem_magic};

/// Of the topmost directory of every procfs (`PROC_ROOT_INO` of the kernel).
const ROOT_INODE: u64 = 1;

/// A procfs, from its top.
#[derive(Debug)]
pub struct Proc(OwnedFd);

impl Proc {
    /// The one at `/proc`; `ENOTDIR` or [`wrong`]'s error when there is something else.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open("/proc", flags, Mode::empty())?;
        if is_top(directory.as_fd())? { Ok(Self(directory)) } else { Err(wrong()) }
    }

    /// Opens a file of the calling process, e.g. `attr/exec`. No link but `self` is on the way.
    pub fn open_own(&self, file: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let own = self.resolve(Path::new("self"), OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())?;
        let file = rustix::fs::openat2(
            &own,
            file,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )?;
        checked(file)
    }

    /// Opens the file of a kernel parameter: `net/ipv4/ip_forward`.
    pub fn open_parameter(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let directory = self.resolve(Path::new("sys"), OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        checked(rustix::fs::openat2(&directory, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// Opens a namespace of the calling process: `time_for_children`.
    pub fn open_own_namespace(&self, name: &str) -> io::Result<OwnedFd> {
        let directory = self.open_own("ns", OFlags::PATH | OFlags::DIRECTORY)?;
        // The last step is one of the kernel's own links, to something that no path leads to.
        let file = rustix::fs::openat(&directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        if filesystem_magic(file.as_fd())? == NAMESPACE_MAGIC { Ok(file) } else { Err(wrong()) }
    }

    /// Where file systems of these kinds are mounted in the calling process's mount namespace, the topmost last.
    pub fn mount_points(&self, kinds: &[&str]) -> io::Result<Vec<PathBuf>> {
        let mut text = String::new();
        File::from(self.open_own("mountinfo", OFlags::RDONLY)?).read_to_string(&mut text)?;
        let points = text.lines().filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let kind = filesystem.split(' ').next()?;
            kinds.contains(&kind).then(|| mount.split(' ').nth(4).map(unescape))?
        });
        Ok(points.collect())
    }

    fn resolve(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | more;
        checked(rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }
}

/// Octal escapes of mountinfo: space, tab, newline, backslash.
pub(crate) fn unescape(text: &str) -> PathBuf {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
        .into()
}

impl AsFd for Proc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether a descriptor is open on the top of a procfs.
pub fn is_top(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    if filesystem_magic(descriptor)? != PROC_MAGIC {
        return Ok(false);
    }
    Ok(rustix::fs::statat(descriptor, "", AtFlags::EMPTY_PATH)?.st_ino == ROOT_INODE)
}

const NAMESPACE_MAGIC: u64 = libc::NSFS_MAGIC as u64;

fn checked(file: OwnedFd) -> io::Result<OwnedFd> {
    if filesystem_magic(file.as_fd())? == PROC_MAGIC { Ok(file) } else { Err(wrong()) }
}

/// Something pretends to be procfs.
fn wrong() -> io::Error {
    Errno::XDEV.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_files_and_parameters() {
        let proc = Proc::open().unwrap();
        assert!(proc.mount_points(&["proc"]).unwrap().contains(&PathBuf::from("/proc")));
        assert!(proc.open_own("attr/exec", OFlags::RDONLY).is_ok());
        assert!(proc.open_own_namespace("mnt").is_ok());
        assert!(proc.open_parameter("kernel/osrelease", OFlags::RDONLY).is_ok());
    }

    #[test]
    fn nothing_outside_is_found() {
        let proc = Proc::open().unwrap();
        // Links of the kernel lead anywhere; a path upwards would find other kinds of files.
        assert!(proc.open_own("exe", OFlags::RDONLY).is_err());
        assert!(proc.open_own("root/etc/passwd", OFlags::RDONLY).is_err());
        assert!(proc.open_own("../1/environ", OFlags::RDONLY).is_err());
        assert!(proc.open_parameter("../sysrq-trigger", OFlags::RDONLY).is_err());
    }
}
