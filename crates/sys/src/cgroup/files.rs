//! The files of a group: small texts, read and written whole, with the path in every error.

use super::{Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::time::Timespec;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// `None` when there is no such file: the controller or the kernel's feature is not there.
pub(super) fn read_optional(path: &Path) -> Result<Option<String>> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(Error::Read { source, .. }) if absent(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A single number; `max` and what is no number are `None`.
pub(super) fn read_number(path: &Path) -> Result<Option<u64>> {
    Ok(read_optional(path)?.and_then(|text| text.trim().parse().ok()))
}

/// Lines `key value`.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// The value of one key of such a file, 0 without.
pub(super) fn read_key(path: &Path, key: &str) -> Result<u64> {
    let text = read_optional(path)?.unwrap_or_default();
    Ok(pairs(&text).find(|(k, _)| *k == key).map_or(0, |(_, value)| value))
}

pub(super) fn write(path: &Path, value: &str) -> Result<()> {
    write_io(path, value).map_err(|source| Error::Write { path: path.to_owned(), value: value.to_owned(), source })
}

/// The same for a caller that looks at the reason.
pub(super) fn write_io(path: &Path, value: &str) -> io::Result<()> {
    // Neither creating nor truncating: a file that is not there must not be made, on whatever file system this is.
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

pub(super) fn absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP))
}

pub(super) fn open_for_writing(path: &Path) -> Result<(PathBuf, OwnedFd)> {
    match rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok((path.to_owned(), fd)),
        Err(source) => Err(Error::Read { path: path.to_owned(), source: source.into() }),
    }
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|source| Error::Read { path: path.to_owned(), source: source.into() })
}

/// Makes a directory; `true` if it was not there.
pub(super) fn make_directory(path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(Error::Create { path: path.to_owned(), source }),
    }
}

/// Every directory on the way from `root` to `root/relative`, the outermost first, `root` itself left out.
pub(super) fn ancestry(root: &Path, relative: &Path) -> Vec<PathBuf> {
    let mut at = root.to_owned();
    relative
        .components()
        .map(|component| {
            at.push(component);
            at.clone()
        })
        .collect()
}

fn children(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut directories = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            directories.push(entry.path());
        }
    }
    Ok(directories)
}

/// Ids in `cgroup.procs` of a directory and of all below it. Ids of processes outside the pid namespace show as 0 and are left out.
pub(super) fn collect_processes(directory: &Path, pids: &mut Vec<i32>) -> Result<()> {
    if let Some(text) = read_optional(&directory.join("cgroup.procs"))? {
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    children(directory)?.iter().try_for_each(|child| collect_processes(child, pids))
}

/// Removes a directory with those below it.
pub(super) fn remove_tree(directory: &Path) -> Result<()> {
    match fs::remove_dir(directory) {
        Ok(()) => return Ok(()),
        Err(error) if absent(&error) => return Ok(()),
        // Busy: processes, or groups that the container made for itself.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        Err(source) => return Err(Error::Remove { path: directory.to_owned(), source }),
    }
    children(directory)?.iter().try_for_each(|child| remove_tree(child))?;
    match fs::remove_dir(directory) {
        Err(error) if !absent(&error) => Err(Error::Remove { path: directory.to_owned(), source: error }),
        _ => Ok(()),
    }
}

/// Waits until `processes` lists none, on their descriptors; for hosts where no file tells of it.
pub(super) fn wait_processes(processes: impl Fn() -> Result<Vec<i32>>, deadline: Instant) -> Result<bool> {
    loop {
        let pids = processes()?;
        if pids.is_empty() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        for pid in pids.into_iter().filter_map(rustix::process::Pid::from_raw) {
            // One that cannot be opened has ended already.
            if let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
                wait_readable(&fd, PollFlags::IN, deadline);
            }
        }
    }
}

/// Waits for an event on a descriptor, until the deadline. Errors end the wait: the caller looks again anyway.
pub(super) fn wait_readable(fd: &OwnedFd, flags: PollFlags, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).ok();
    let _ = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(fd, flags)], timeout.as_ref()));
}
