//! What a container changed: the entries of its upper directory, compared with the layers below.
//!
//! As `docker diff` shows it: what is new is added (A), what was there is changed (C), a whiteout is a removal (D), and
//! a directory in which something was added or removed counts as changed. A directory that overlay only copied up
//! to get at something deeper is no change itself.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::store::Store;
use crate::tree;
use crate::unpack::{OPAQUE_XATTR, display};

/// Deepest directory that is looked into, in levels; each holds some file descriptors open.
const MAX_DEPTH: usize = 2048;

/// How a path differs from the image. The numbers are the Engine API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// `C`, 0
    Modified = 0,
    /// `A`, 1
    Added = 1,
    /// `D`, 2
    Deleted = 2,
}

/// A path that differs from the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// How.
    pub kind: ChangeKind,
    /// Absolute, inside the container.
    pub path: PathBuf,
}

impl Store {
    /// What the container changed since it was created, sorted by path.
    pub fn snapshot_changes(&self, container: &str) -> Result<Vec<PathChange>> {
        let record = self.0.snapshot_record(container)?;
        let upper = self.0.snapshot_path(container).join("fs");
        let upper = tree::open_root(&upper).map_err(Error::file("opening", &upper))?;
        let lower = self.0.lower_dirs(&record);
        let lower = lower
            .iter()
            .map(|path| tree::open_root(path).map_err(Error::file("opening", path)))
            .collect::<Result<Vec<_>>>()?;
        let mut comparison = Comparison { changes: Vec::new(), touched: HashSet::new() };
        comparison.directory(upper.as_fd(), b".", &lower, b"", 0)?;
        Ok(comparison.changes)
    }
}

struct Comparison {
    changes: Vec<PathChange>,
    /// Directories that are in the list, or are known not to have to be.
    touched: HashSet<Vec<u8>>,
}

impl Comparison {
    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        lower: &[OwnedFd],
        path: &[u8],
        depth: usize,
    ) -> Result<()> {
        let failed = |error: io::Error| Error::Entry { path: display(path), source: error };
        if depth > MAX_DEPTH {
            return Err(failed(Errno::NAMETOOLONG.into()));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(failed(error.into())),
        };
        let mut names = tree::list(dir.as_fd()).map_err(failed)?;
        names.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, _) in names {
            let child = [path, b"/", &name].concat();
            let failed = |error: Errno| Error::Entry { path: display(&child), source: error.into() };
            let Some(stat) = tree::look(&dir, &name).map_err(failed)? else { continue };
            let below = find(lower, &name).map_err(failed)?;
            let is_dir = tree::kind_of(&stat) == FileType::Directory;
            let hides = is_dir && is_opaque(dir.as_fd(), &name);
            self.entry(&child, path, &stat, below.as_ref(), hides);
            if is_dir {
                let lower = if hides { Vec::new() } else { descend(lower, &name).map_err(failed)? };
                self.directory(dir.as_fd(), &name, &lower, &child, depth + 1)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8], parent: &[u8], stat: &Stat, below: Option<&Stat>, hides: bool) {
        let is_dir = tree::kind_of(stat) == FileType::Directory;
        let below_is_dir = below.is_some_and(|below| tree::kind_of(below) == FileType::Directory);
        let kind = if tree::is_whiteout(stat) {
            ChangeKind::Deleted
        } else {
            match below {
                None => ChangeKind::Added,
                // Removed and made again: what was inside is gone.
                Some(_) if hides && below_is_dir => ChangeKind::Deleted,
                Some(below) if is_dir && below_is_dir && looks_same(stat, below) => return,
                Some(_) => ChangeKind::Modified,
            }
        };
        if is_dir {
            self.touched.insert(path.to_vec());
        }
        let is_in_parent = matches!(kind, ChangeKind::Added | ChangeKind::Deleted);
        if is_in_parent && !parent.is_empty() && self.touched.insert(parent.to_vec()) {
            self.changes.push(PathChange { kind: ChangeKind::Modified, path: display(parent) });
        }
        self.changes.push(PathChange { kind, path: display(path) });
    }
}

/// The uppermost of the layers' entries with this name; None if there is none, or it was removed.
fn find(lower: &[OwnedFd], name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    for layer in lower {
        if let Some(stat) = tree::look(layer, name)? {
            return Ok(Some(stat).filter(|stat| !tree::is_whiteout(stat)));
        }
    }
    Ok(None)
}

/// The directories with this name in the layers, as far down as they show through.
fn descend(lower: &[OwnedFd], name: &[u8]) -> rustix::io::Result<Vec<OwnedFd>> {
    let mut found = Vec::new();
    for layer in lower {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(layer, name, flags, Mode::empty()) {
            Ok(dir) => {
                let ends = is_opaque(layer.as_fd(), name);
                found.push(dir);
                if ends {
                    break;
                }
            }
            Err(Errno::NOENT) => {}
            // A whiteout or a file: nothing below it shows.
            Err(Errno::NOTDIR | Errno::LOOP) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn is_opaque(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    let mut value = [0; 2];
    rustix::fs::lgetxattr(tree::fd_path(dir, name), OPAQUE_XATTR, &mut value[..]) == Ok(1) && value[0] == b'y'
}

/// Size, mode and time of two directories are the same.
fn looks_same(one: &Stat, other: &Stat) -> bool {
    let time = |stat: &Stat| tree::times_of(stat).last_modification;
    one.st_size == other.st_size && one.st_mode == other.st_mode && same_time(&time(one), &time(other))
}

/// Times from tars may be cut to seconds.
fn same_time(one: &rustix::fs::Timespec, other: &rustix::fs::Timespec) -> bool {
    one.tv_sec == other.tv_sec && (one.tv_nsec == other.tv_nsec || one.tv_nsec == 0 || other.tv_nsec == 0)
}
