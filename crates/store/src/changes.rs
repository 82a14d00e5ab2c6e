//! What a container changed: the entries of its upper directory, compared with the layers below.
//!
//! As `docker diff` shows it: what is new is added (A); what was there is changed (C) if its looks, size or time differ,
//! or if it is a directory in which anything changed; what is gone is deleted (D). Docker compares the two mounted trees
//! file by file. Overlay has everything that can differ in the upper directory, so only that is walked here; of a
//! snapshot that is a copy, everything is.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::overlay::Marks;
use crate::pack;
use crate::snapshot::RECORD;
use crate::store::Store;
use crate::tree;
use crate::unpack::display;

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
        self.changes(container, false)
    }

    /// The same; `is_exact`: files that differ in their attributes alone too, which Docker does not show.
    pub(crate) fn changes(&self, container: &str, is_exact: bool) -> Result<Vec<PathChange>> {
        let record = self.0.snapshot_record(container)?;
        let upper = self.0.snapshot_path(container).join("fs");
        let upper = tree::open_root(&upper).map_err(Error::file("opening", &upper))?;
        let lower = self.0.lower_dirs(&record);
        let lower = lower
            .iter()
            .map(|path| tree::open_root(path).map_err(Error::file("opening", path)))
            .collect::<Result<Vec<_>>>()?;
        let made = std::fs::metadata(self.0.snapshot_path(container).join(RECORD));
        let made = made.map_or((0, 0), |found| (found.ctime(), found.ctime_nsec()));
        let mut comparison = Comparison { is_exact, made, ..Comparison::default() };
        if let Some(dir) = open_dir(upper.as_fd(), b".").map_err(Error::entry("open", "/"))? {
            // A copy is all there is: what is not in it is gone.
            let (dir, hides, marks) = (dir.as_fd(), record.is_copy, self.0.marks);
            comparison.directory(&Level { dir, lower: &lower, hides, path: b"", depth: 0, marks })?;
        }
        Ok(comparison.finish())
    }
}

/// A directory that is looked into.
struct Level<'a> {
    dir: BorrowedFd<'a>,
    /// The layers' directories of the same name, as far down as they show through.
    lower: &'a [OwnedFd],
    /// Nothing below shows through: what is not in `dir` is gone.
    hides: bool,
    path: &'a [u8],
    depth: usize,
    marks: Marks,
}

#[derive(Default)]
struct Comparison {
    is_exact: bool,
    /// When the snapshot was made: seconds since 1970, and nanoseconds.
    made: (i64, i64),
    changes: Vec<PathChange>,
    /// Files with several names of which one is new or changed, by inode.
    linked: HashSet<u64>,
    /// Names of files with several that are as they were.
    unchanged: Vec<(u64, PathBuf)>,
}

impl Comparison {
    fn directory(&mut self, level: &Level<'_>) -> Result<()> {
        let failed = |error: io::Error| Error::entry("open", display(level.path))(error);
        if level.depth > MAX_DEPTH {
            return Err(failed(Errno::NAMETOOLONG.into()));
        }
        let mut names: BTreeSet<Vec<u8>> =
            tree::list(level.dir).map_err(failed)?.into_iter().map(|(name, _)| name).collect();
        if level.hides {
            for lower in level.lower {
                let lower = open_dir(lower.as_fd(), b".").map_err(|error| failed(error.into()))?;
                if let Some(lower) = lower {
                    names.extend(tree::list(lower.as_fd()).map_err(failed)?.into_iter().map(|(name, _)| name));
                }
            }
        }
        for name in names {
            let path = [level.path, b"/", &name].concat();
            self.name(level, &name, &path)?;
        }
        Ok(())
    }

    fn name(&mut self, level: &Level<'_>, name: &[u8], path: &[u8]) -> Result<()> {
        let failed = |error: Errno| Error::entry("lstat", display(path))(error);
        let below = find(level.lower, name).map_err(failed)?;
        let stat = tree::look(level.dir, name).map_err(failed)?;
        let Some(stat) = stat.filter(|stat| !tree::is_whiteout(stat)) else {
            if below.is_some() {
                self.note(ChangeKind::Deleted, path);
            }
            return Ok(());
        };
        let start = self.changes.len();
        let is_noted = match &below {
            None => Some(ChangeKind::Added),
            Some(below) if self.is_different(level, name, &stat, below) => Some(ChangeKind::Modified),
            Some(_) => None,
        };
        if let Some(kind) = is_noted {
            self.note(kind, path);
        }
        if self.is_exact && stat.st_nlink > 1 && tree::kind_of(&stat) != FileType::Directory {
            match is_noted {
                Some(_) => self.linked.extend([stat.st_ino]),
                None => self.unchanged.push((stat.st_ino, display(path))),
            }
        }
        if tree::kind_of(&stat) != FileType::Directory {
            return Ok(());
        }
        let Some(dir) = open_dir(level.dir, name).map_err(failed)? else { return Ok(()) };
        let lower = if below.is_some() { descend(level.lower, name, level.marks).map_err(failed)? } else { Vec::new() };
        let hides = level.hides || level.marks.is_opaque(level.dir, name);
        let (dir, depth) = (dir.as_fd(), level.depth + 1);
        self.directory(&Level { dir, lower: &lower, hides, path, depth, marks: level.marks })?;
        // A directory in which something changed is changed, and stands before what is in it.
        if is_noted.is_none() && self.changes.len() > start {
            self.changes.insert(start, PathChange { kind: ChangeKind::Modified, path: display(path) });
        }
        Ok(())
    }

    /// A layer links names only to what is in it: all names of a changed file belong into it, as overlay has them.
    fn finish(mut self) -> Vec<PathChange> {
        let linked = self.linked;
        let more = self.unchanged.into_iter().filter(|(inode, _)| linked.contains(inode));
        let more = more.map(|(_, path)| PathChange { kind: ChangeKind::Modified, path });
        let before = self.changes.len();
        self.changes.extend(more);
        if self.changes.len() > before {
            self.changes.sort_by(|one, other| one.path.cmp(&other.path));
        }
        self.changes
    }

    fn is_different(&self, level: &Level<'_>, name: &[u8], new: &Stat, old: &Stat) -> bool {
        if is_different(level, name, new, old) {
            return true;
        }
        // A file may have taken the place of another one of the same length and time. The kernel knows that it was
        // touched since; only then what it contains is compared.
        let touched = (new.st_ctime, new.st_ctime_nsec.try_into().unwrap_or_default());
        let is_touched = tree::kind_of(new) == FileType::RegularFile && is_since(touched, self.made);
        self.is_exact && (has_other_xattrs(level, name) || (is_touched && has_other_content(level, name)))
    }

    fn note(&mut self, kind: ChangeKind, path: &[u8]) {
        self.changes.push(PathChange { kind, path: display(path) });
    }
}

/// Did the container change this, or did overlay only copy it up? Of directories neither size nor time tells.
fn is_different(level: &Level<'_>, name: &[u8], new: &Stat, old: &Stat) -> bool {
    let time = |stat: &Stat| tree::times_of(stat).last_modification;
    let looks = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    if looks(new) != looks(old) {
        return true;
    }
    if tree::kind_of(new) == FileType::Directory {
        return false;
    }
    new.st_size != old.st_size || !is_same_time(&time(new), &time(old)) || has_other_capability(level, name)
}

fn has_other_capability(level: &Level<'_>, name: &[u8]) -> bool {
    let capability = |dir: BorrowedFd<'_>| {
        let mut value = [0; 64];
        let length = rustix::fs::lgetxattr(tree::fd_path(dir, name), "security.capability", &mut value[..]);
        length.ok().map(|length| value[..length].to_vec())
    };
    let old = level.lower.iter().find(|layer| matches!(tree::look(layer, name), Ok(Some(_))));
    capability(level.dir) != old.and_then(|layer| capability(layer.as_fd()))
}

fn has_other_xattrs(level: &Level<'_>, name: &[u8]) -> bool {
    let xattrs = |dir: BorrowedFd<'_>| pack::xattrs(dir, name, pack::is_portable).unwrap_or_default();
    let old = level.lower.iter().find(|layer| matches!(tree::look(layer, name), Ok(Some(_))));
    old.is_some_and(|layer| xattrs(level.dir) != xattrs(layer.as_fd()))
}

/// Is a time not before another one, as far as the kernel's clock of files (its ticks) can tell?
fn is_since(time: (i64, i64), start: (i64, i64)) -> bool {
    const TICKS_NS: i128 = 20_000_000;
    let ns = |(sec, nsec): (i64, i64)| i128::from(sec) * 1_000_000_000 + i128::from(nsec);
    ns(time) + TICKS_NS >= ns(start)
}

fn has_other_content(level: &Level<'_>, name: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |dir: BorrowedFd<'_>| rustix::fs::openat(dir, name, flags, Mode::empty()).map(File::from);
    let old = level.lower.iter().find(|layer| matches!(tree::look(layer, name), Ok(Some(_))));
    let Some((Ok(new), Ok(old))) = old.map(|old| (open(level.dir), open(old.as_fd()))) else { return true };
    let (mut new, mut old) = (BufReader::new(new), BufReader::new(old));
    loop {
        let (Ok(one), Ok(other)) = (new.fill_buf(), old.fill_buf()) else { return true };
        let length = one.len().min(other.len());
        if one[..length] != other[..length] || one.is_empty() != other.is_empty() {
            return true;
        }
        if length == 0 {
            return false;
        }
        new.consume(length);
        old.consume(length);
    }
}

/// Opens a directory for reading; None if it is not one (any more).
fn open_dir(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
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
fn descend(lower: &[OwnedFd], name: &[u8], marks: Marks) -> rustix::io::Result<Vec<OwnedFd>> {
    let mut found = Vec::new();
    for layer in lower {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(layer, name, flags, Mode::empty()) {
            Ok(dir) => {
                let ends = marks.is_opaque(layer, name);
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

/// Times from tars may be cut to seconds.
fn is_same_time(one: &rustix::fs::Timespec, other: &rustix::fs::Timespec) -> bool {
    one.tv_sec == other.tv_sec && (one.tv_nsec == other.tv_nsec || one.tv_nsec == 0 || other.tv_nsec == 0)
}
