//! Files that are replaced as a whole, so that a reader and a crash find the old content or the new one.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};

/// What survives a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The file is whole, old or new, after a crash of any process. Its content means nothing after a restart of the
    /// machine (state below /run), so that no file system is made to write it to a disk.
    Volatile,
    /// The file is whole, old or new, after a crash of any process; after a loss of power when the file system says so.
    Process,
    /// The new content is on the disk when this returns.
    Power,
}

/// Replaces the content of `path`, or makes it, with permission bits `mode`.
pub fn replace(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let temporary = temporary_name(path)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(&temporary, flags, Mode::from_raw_mode(mode))?;
    let written = write_all(&file, content)
        .and_then(|()| match durability {
            Durability::Volatile | Durability::Process => Ok(()),
            Durability::Power => Ok(rustix::fs::fsync(&file)?),
        })
        .and_then(|()| match durability {
            Durability::Volatile => exchange(&temporary, path),
            _ => Ok(rustix::fs::rename(&temporary, path)?),
        });
    if let Err(error) = written {
        let _ = rustix::fs::unlink(&temporary);
        return Err(error);
    }
    if durability == Durability::Power {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::fsync(rustix::fs::open(parent, flags, Mode::empty())?)?;
    }
    Ok(())
}

/// Renaming over a file makes ext4 write the new one out at once, which costs milliseconds, and again when it is removed;
/// changing places with it does not.
fn exchange(temporary: &Path, path: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, temporary, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(rustix::fs::unlink(temporary)?),
        // There is nothing to change places with, or the file system cannot.
        Err(_) => Ok(rustix::fs::rename(temporary, path)?),
    }
}

/// A name beside `path` that no other process or thread uses. It starts with a dot and ends with `.tmp`, so that
/// leftovers of killed processes can be told.
fn temporary_name(path: &Path) -> io::Result<std::path::PathBuf> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().ok_or(rustix::io::Errno::INVAL)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}-{count}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}

/// Writes everything, in as many calls as it takes.
pub fn write_all(file: &OwnedFd, mut content: &[u8]) -> io::Result<()> {
    while !content.is_empty() {
        match rustix::io::write(file, content) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => content = content.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_and_nothing_left_beside_it() {
        let directory = std::env::temp_dir().join(format!("sys-file-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("state");
        replace(&path, b"zero", 0o600, Durability::Process).unwrap();
        replace(&path, b"one", 0o600, Durability::Volatile).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        replace(&path, b"two", 0o600, Durability::Power).unwrap();
        let names = std::fs::read_dir(&directory).unwrap().count();
        let content = std::fs::read(&path).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!((names, content.as_slice()), (1, b"two".as_slice()));
    }
}
