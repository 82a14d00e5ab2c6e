//! Layers put over one another into one directory, by copying.
//!
//! That is what a snapshot is where no overlay can be mounted: dearer than one in every way, but it works on any file
//! system. And it is how several layers of an image become one. Where the file system can share blocks between files
//! (btrfs, XFS) the copies share them until one is written to, and only directories and inodes are new.
//!
//! When there is something below the layers, their marks are kept, so that the result hides of it what they hid:
//!
//! | layers, from the top down | in the result |
//! |---|---|
//! | a whiteout | a whiteout |
//! | an opaque directory, or a directory over anything that is none | an opaque directory |

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::implied;
use crate::overlay::Marks;
use crate::pack;
use crate::tree;
use crate::unpack::{self, display};

/// Deepest directory, in levels; each holds some file descriptors open.
const MAX_DEPTH: usize = 400;
/// What is copied at once where blocks cannot be shared, in bytes.
const PIECE: usize = 1 << 20;

/// Copies layers, given from the lowest up, into an empty directory. Returns the directories that none of them asks for
/// (see `implied`).
pub(crate) fn fill(
    target: &Path,
    layers: &[impl AsRef<Path>],
    marks: Marks,
    has_below: bool,
) -> Result<BTreeSet<Vec<u8>>> {
    let target = tree::open_root(target).map_err(Error::file("opening", target))?;
    let mut all_implied = BTreeSet::from([implied::ROOT_PATH.to_vec()]);
    for layer in layers {
        let layer = layer.as_ref();
        let source = tree::open_root(layer).map_err(Error::file("opening", layer))?;
        let implied = implied::read(layer.parent().unwrap_or(layer))?;
        let root = target.try_clone().map_err(Error::file("opening", layer))?;
        let mut copy = Copy { marks, has_below, implied, all_implied, root, linked: HashMap::new() };
        copy.directory(Pair { source: source.as_fd(), target: target.as_fd(), name: b"." }, b"", 0, false)?;
        all_implied = copy.all_implied;
    }
    Ok(all_implied)
}

struct Copy {
    marks: Marks,
    /// What the layers hide has to stay hidden.
    has_below: bool,
    /// Directories of this layer that look as they do below.
    implied: BTreeSet<Vec<u8>>,
    /// Those of the result.
    all_implied: BTreeSet<Vec<u8>>,
    /// Where all is copied to.
    root: OwnedFd,
    /// The first copy of files with several names, by inode: its path there.
    linked: HashMap<u64, Vec<u8>>,
}

/// A name in a directory of the layer, and in the one that it is copied to.
#[derive(Clone, Copy)]
struct Pair<'a> {
    source: BorrowedFd<'a>,
    target: BorrowedFd<'a>,
    name: &'a [u8],
}

impl Copy {
    fn directory(&mut self, pair: Pair<'_>, path: &[u8], depth: usize, is_new: bool) -> Result<()> {
        let failed = |error: Errno| Error::entry("copy", display(path))(error);
        if depth > MAX_DEPTH {
            return Err(failed(Errno::NAMETOOLONG));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |dir| rustix::fs::openat(dir, pair.name, flags, Mode::empty()).map_err(failed);
        let (source, target) = (open(pair.source)?, open(pair.target)?);
        if self.marks.is_opaque(&source, b".") {
            for (name, _) in tree::list(target.as_fd()).map_err(Error::entry("copy", display(path)))? {
                tree::remove_all(target.as_fd(), &name).map_err(Error::entry("copy", display(path)))?;
            }
            self.hide_below(&target, b".").map_err(failed)?;
        }
        for (name, _) in tree::list(source.as_fd()).map_err(Error::entry("copy", display(path)))? {
            let path = [path, b"/", &name].concat();
            let pair = Pair { source: source.as_fd(), target: target.as_fd(), name: &name };
            self.name(pair, &path, depth)?;
        }
        let path = path.strip_prefix(b"/").unwrap_or(path);
        match (self.implied.contains(path), is_new) {
            (true, false) => return Ok(()),
            (true, true) => self.all_implied.extend([path.to_vec()]),
            (false, _) => drop(self.all_implied.remove(path)),
        }
        // Last, because making files in it changes its time.
        let stat = rustix::fs::fstat(&source).map_err(failed)?;
        dress(Pair { source: source.as_fd(), target: target.as_fd(), name: b"." }, &stat).map_err(failed)
    }

    fn name(&mut self, pair: Pair<'_>, path: &[u8], depth: usize) -> Result<()> {
        let failed = |error: io::Error| Error::entry("copy", display(path))(error);
        let Some(stat) = tree::look(pair.source, pair.name).map_err(|error| failed(error.into()))? else {
            return Ok(());
        };
        let is_dir = tree::kind_of(&stat) == FileType::Directory;
        let existing = tree::look(pair.target, pair.name).map_err(|error| failed(error.into()))?;
        let was_dir = existing.is_some_and(|stat| tree::kind_of(&stat) == FileType::Directory);
        if existing.is_some() && !(is_dir && was_dir) {
            tree::remove_all(pair.target, pair.name).map_err(failed)?;
        }
        if tree::is_whiteout(&stat) {
            if self.has_below {
                let made = rustix::fs::mknodat(pair.target, pair.name, FileType::CharacterDevice, Mode::empty(), 0);
                made.map_err(|error| failed(error.into()))?;
            }
            return Ok(());
        }
        if is_dir {
            if !was_dir {
                rustix::fs::mkdirat(pair.target, pair.name, Mode::RWXU).map_err(|error| failed(error.into()))?;
            }
            if existing.is_some() && !was_dir {
                self.hide_below(pair.target, pair.name).map_err(|error| failed(error.into()))?;
            }
            return self.directory(pair, path, depth + 1, !was_dir);
        }
        self.file(pair, path.strip_prefix(b"/").unwrap_or(path), &stat).map_err(failed)
    }

    fn hide_below(&self, dir: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
        if self.has_below { self.marks.set_opaque(dir.as_fd(), name) } else { Ok(()) }
    }

    fn file(&mut self, pair: Pair<'_>, path: &[u8], stat: &Stat) -> io::Result<()> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&stat.st_ino) {
                // All directories on the way were made here, so none of them is a link.
                return Ok(rustix::fs::linkat(&self.root, &first[..], pair.target, pair.name, AtFlags::empty())?);
            }
            self.linked.insert(stat.st_ino, path.to_vec());
        }
        match tree::kind_of(stat) {
            FileType::RegularFile => content(pair, stat)?,
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(pair.source, pair.name, Vec::new())?;
                rustix::fs::symlinkat(&*link, pair.target, pair.name)?;
            }
            kind => rustix::fs::mknodat(pair.target, pair.name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?,
        }
        Ok(dress(pair, stat)?)
    }
}

/// Copies what is in a file: by sharing its blocks, else by the kernel, else through here.
fn content(pair: Pair<'_>, stat: &Stat) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(pair.source, pair.name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(pair.target, pair.name, flags, Mode::RUSR | Mode::WUSR)?;
    if stat.st_size == 0 || rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let (source, target) = (std::fs::File::from(source), std::fs::File::from(target));
    let mut at = 0;
    while let Some(data) = next_data(&source, at, size)? {
        range(&source, &target, data.clone())?;
        at = data.end;
    }
    // What is a hole at the end counts as well.
    Ok(rustix::fs::ftruncate(&target, size)?)
}

/// Where a file has data next, from an offset on; a file system that knows no holes has data everywhere.
fn next_data(file: &std::fs::File, from: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    use rustix::fs::{SeekFrom, seek};
    if from >= size {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(from)) {
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(from..size)),
        found => found?,
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some(start..end.min(size)))
}

/// Copies a part of a file to the same place in another.
fn range(source: &std::fs::File, target: &std::fs::File, mut part: Range<u64>) -> io::Result<()> {
    while !part.is_empty() {
        let wanted = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
        let (mut from, mut to) = (part.start, part.start);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), wanted.min(64 * PIECE)) {
            Ok(0) => break,
            Ok(copied) => part.start += copied as u64,
            Err(Errno::INTR) => {}
            // Not between these two file systems, or not by this one.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::BADF) => {
                let mut buffer = vec![0; wanted.min(PIECE)];
                let length = source.read_at(&mut buffer, part.start)?;
                target.write_all_at(&buffer[..length], part.start)?;
                if length == 0 {
                    break;
                }
                part.start += length as u64;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Owner first (it clears setuid and capabilities), then attributes, mode and times.
fn dress(pair: Pair<'_>, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(pair.target, pair.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    for (key, value) in pack::xattrs(pair.source, pair.name, |key| !unpack::is_overlays(key))? {
        let path = tree::fd_path(pair.target, pair.name);
        match rustix::fs::lsetxattr(path, &key[..], &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    if tree::kind_of(stat) != FileType::Symlink {
        rustix::fs::chmodat(pair.target, pair.name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    let times: Timestamps = tree::times_of(stat);
    rustix::fs::utimensat(pair.target, pair.name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
