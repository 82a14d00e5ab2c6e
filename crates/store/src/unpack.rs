//! Unpacking tar streams into directories: layers into overlay format, archives into a container's root.
//!
//! | in a layer's tar | in the directory |
//! |---|---|
//! | `dir/.wh.name` | `dir/name`, a character device 0:0: removed |
//! | `dir/.wh..wh..opq` | `dir` marked as opaque (see `overlay`): nothing below shows through |
//! | a device 0:0, or `dir` with overlay's attribute | the same two, in the spelling of those who packed an overlay |
//! | other `.wh..wh.*` | nothing: notes that AUFS made for itself |

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::digest::{Algorithm, Digest, Digester};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::compression;
use crate::error::{Error, Result};
use crate::implied;
use crate::overlay::Marks;
use crate::pipe::{self, PipeWriter};
use crate::skeleton::{self, Recorder};
use crate::store::{Inner, UNPACKING};
use crate::tar::{Entry, EntryKind, TarError, TarReader, Time};
use crate::tree::{self, CleanPath, Tree};

/// Most entries of a layer. The largest layers that are about have some hundred thousand.
pub(crate) const MAX_ENTRIES: u64 = 2_000_000;
/// What may be remembered of directories while a stream is unpacked, in bytes: some 250,000 of usual length.
const MAX_DIRS_SIZE: usize = 24 << 20;
pub(crate) const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
pub(crate) const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
/// Shorter runs of zeros are written, in bytes.
const HOLE: usize = 16 << 10;

/// How to unpack.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules<'a> {
    /// The directory to unpack into, inside the root and without links; empty for the root itself.
    pub(crate) base: &'a [u8],
    /// The stream is a layer, the directory an overlay's.
    pub(crate) is_layer: bool,
    /// How opaque directories are marked there.
    pub(crate) marks: Marks,
    /// A directory never takes the place of something else, nor the other way round.
    pub(crate) no_overwrite_dir_non_dir: bool,
    /// Everything belongs to this user and group, whatever the stream says.
    pub(crate) owner: Option<(u32, u32)>,
}

impl Rules<'_> {
    /// The directory to unpack into, as a path inside the root.
    fn target(&self) -> PathBuf {
        Path::new("/").join(display(self.base))
    }

    /// An entry's path inside the root.
    fn full(&self, dir: &[u8], name: &[u8]) -> PathBuf {
        self.target().join(display(dir)).join(display(name))
    }

    /// Docker takes no links into a container that lead out of the directory by `..`; in a layer they are common.
    fn check_symlink(&self, dir: &[u8], name: &[u8], entry: &Entry) -> Result<()> {
        // An absolute link is taken as one from here, which never leads out.
        let joined = [dir, b"/", &entry.link].concat();
        let joined = joined.strip_prefix(b"/").unwrap_or(&joined);
        if self.is_layer || self.base.is_empty() || CleanPath::new(joined).is_some() {
            return Ok(());
        }
        let full = self.full(dir, name);
        Err(Error::Archive(format!("invalid symlink {full:?} -> {:?}", display(&entry.link))))
    }
}

/// What Go says it was doing when an entry could not be made.
fn action(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Regular => "open",
        EntryKind::Directory => "mkdir",
        EntryKind::Symlink => "symlink",
        EntryKind::HardLink => "link",
        EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => "mknod",
    }
}

/// A layer that is unpacked but has no place yet. Dropped, it is removed.
pub(crate) struct Unpacked {
    inner: Arc<Inner>,
    dir: Option<PathBuf>,
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
    pub(crate) tar_size: u64,
    /// Everything that the tar contains is in the files: no later entry took the place of an earlier one.
    pub(crate) rebuilds: bool,
}

impl Unpacked {
    /// The directory with `fs` inside.
    pub(crate) fn path(&self) -> &Path {
        self.dir.as_deref().unwrap_or(Path::new(""))
    }

    /// Moves it to its place. What is there already has no record: it was placed for a change that was not committed.
    pub(crate) fn place(mut self, target: &Path) -> Result<()> {
        if let Some(dir) = &self.dir {
            let placed = fs::rename(dir, target).or_else(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty => {
                    self.inner.discard(target);
                    fs::rename(dir, target)
                }
                _ => Err(error),
            });
            placed.map_err(Error::file("creating", target))?;
        }
        self.dir = None;
        Ok(())
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take() {
            self.inner.discard(&dir);
        }
    }
}

/// Unpacks a layer in whatever compression into a directory of its own: inflating and hashing on one thread, making files on another.
pub(crate) fn layer(inner: &Arc<Inner>, stream: impl Read + Send, algorithm: Algorithm) -> Result<Unpacked> {
    unpack_into_place(inner, algorithm, || compression::plain(stream))
}

/// As [`layer`], for a stream that is known to be no compressed one whatever its first bytes (a name) look like.
pub(crate) fn plain_layer(inner: &Arc<Inner>, stream: impl Read + Send) -> Result<Unpacked> {
    unpack_into_place(inner, Algorithm::Sha256, || Ok(Box::new(stream)))
}

fn unpack_into_place<'a>(
    inner: &Arc<Inner>,
    algorithm: Algorithm,
    plain: impl FnOnce() -> Result<Box<dyn Read + Send + 'a>>,
) -> Result<Unpacked> {
    let dir = inner.root.join(UNPACKING).join(inner.unique());
    // From here on the directory is removed whatever happens.
    let mut unpacked = Unpacked {
        inner: Arc::clone(inner),
        dir: Some(dir.clone()),
        diff_id: Digest::of(b""),
        size: 0,
        tar_size: 0,
        rebuilds: false,
    };
    let root = dir.join("fs");
    for path in [&dir, &root] {
        fs::create_dir(path).map_err(Error::file("creating", path))?;
    }
    tree::chmod(&dir, 0o711).and_then(|()| tree::chmod(&root, 0o755)).map_err(Error::file("creating", &root))?;
    let root = tree::open_root(&root).map_err(Error::file("opening", &root))?;
    let rules = Rules { is_layer: true, marks: inner.marks, ..Rules::default() };
    let records = dir.join(skeleton::NAME);
    let recorder = Recorder::create(&records).map_err(Error::file("creating", &records))?;
    let (digest, length, extracted) =
        in_parallel(plain()?, algorithm, |source| extract(TarReader::recording(source, recorder), root, rules))?;
    extracted.recorder.map_or(Ok(()), Recorder::finish).map_err(Error::file("writing", &records))?;
    (unpacked.diff_id, unpacked.tar_size) = (digest, length);
    (unpacked.size, unpacked.rebuilds) = (extracted.size, !extracted.has_replaced);
    implied::write(&dir, &extracted.implied, extracted.has_root)?;
    Ok(unpacked)
}

/// Reads (and so inflates) and hashes on a second thread while `work` consumes the bytes on this one.
fn in_parallel<T>(
    mut plain: Box<dyn Read + Send + '_>,
    algorithm: Algorithm,
    work: impl FnOnce(pipe::PipeReader) -> Result<T>,
) -> Result<(Digest, u64, T)> {
    let (writer, reader) = pipe::new();
    std::thread::scope(|scope| {
        let inflating = std::thread::Builder::new()
            .name("layer-inflate".into())
            .spawn_scoped(scope, move || inflate(&mut plain, Digester::new(algorithm), writer))
            .map_err(|_| Error::Thread)?;
        let worked = work(reader);
        match (inflating.join(), worked) {
            (Ok(Inflated::Whole(digest, length)), Ok(value)) => Ok((digest, length, value)),
            // Its error is the cause when the tar seems to end too early.
            (Ok(Inflated::Failed(error)), _) => Err(Error::Decompress(error)),
            (_, Err(error)) => Err(error),
            (_, Ok(_)) => Err(Error::Thread),
        }
    })
}

enum Inflated {
    Whole(Digest, u64),
    Failed(io::Error),
    /// Nobody reads any more.
    Cut,
}

fn inflate(plain: &mut impl Read, mut digester: Digester, mut writer: PipeWriter) -> Inflated {
    let mut length = 0;
    loop {
        match writer.read_from(plain, |bytes| digester.update(bytes)) {
            Ok(Ok(0)) => break,
            Ok(Ok(count)) => length += count as u64,
            Ok(Err(_)) => return Inflated::Cut,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Inflated::Failed(error),
        }
    }
    if writer.finish().is_ok() { Inflated::Whole(digester.finish(), length) } else { Inflated::Cut }
}

/// What became of a stream.
pub(crate) struct Extracted {
    /// Size of what was made as Docker counts, in bytes.
    size: u64,
    /// Something that was there, from this stream or before it, had to go.
    has_replaced: bool,
    /// Directories that the stream did not mention.
    implied: BTreeSet<Vec<u8>>,
    /// It mentioned the root.
    has_root: bool,
    recorder: Option<Recorder>,
}

/// Unpacks a plain tar stream below a directory of a root, and reads the stream to its end.
pub(crate) fn extract(mut reader: TarReader<impl BufRead>, root: OwnedFd, rules: Rules<'_>) -> Result<Extracted> {
    let tree = Tree::new(root, rules.base).map_err(Error::entry("open", display(rules.base)))?;
    let mut extraction =
        Extraction { tree, rules, dirs: Vec::new(), dirs_size: 0, size: 0, has_replaced: false, has_root: false };
    let mut count = 0;
    while let Some(entry) = reader.next_entry()? {
        count += 1;
        if rules.is_layer && count > MAX_ENTRIES {
            return Err(Error::TooMany("entries", MAX_ENTRIES));
        }
        extraction.entry(&entry, &mut reader)?;
    }
    extraction.set_dir_times();
    let Extraction { size, has_replaced, has_root, mut tree, .. } = extraction;
    let implied = std::mem::take(tree.implied());
    Ok(Extracted { size, has_replaced, implied, has_root, recorder: reader.drain()? })
}

struct Extraction<'a> {
    tree: Tree,
    rules: Rules<'a>,
    /// Directories and their times, to be set when nothing is made in them any more.
    dirs: Vec<(CleanPath, Time)>,
    /// What that needs, in bytes.
    dirs_size: usize,
    size: u64,
    has_replaced: bool,
    has_root: bool,
}

/// What the entry is about to take the place of.
struct Existing {
    kind: FileType,
    is_whiteout: bool,
}

impl Extraction<'_> {
    fn entry<R: BufRead>(&mut self, entry: &Entry, reader: &mut TarReader<R>) -> Result<()> {
        self.check_dirs()?;
        // In the root itself, `..` leads nowhere else, and Docker takes it so. A layer has no business with it.
        let name = &entry.path[..];
        let is_in_root = !self.rules.is_layer && self.rules.base.is_empty();
        let path = if is_in_root { CleanPath::new(&[b"/", name].concat()) } else { CleanPath::new(name) };
        let path = path.ok_or_else(|| Error::Breakout { path: display(name), target: self.rules.target() })?;
        if path.is_root() {
            return self.root_entry(entry);
        }
        let (dir, name) = path.split();
        if self.rules.is_layer && name.starts_with(WHITEOUT) {
            return self.whiteout(dir, name).map_err(Error::entry("mknod", display(path.as_bytes())));
        }
        let replaced = self.make_room(entry, dir, name)?;
        self.make(entry, &path, reader, replaced.is_some_and(|existing| existing.is_whiteout))
    }

    /// One name can imply two thousand directories, so these count as well as those that are named.
    fn check_dirs(&self) -> Result<()> {
        let (implied, implied_size) = self.tree.implied_size();
        if self.dirs_size + implied_size > MAX_DIRS_SIZE {
            return Err(Error::TooMany("directories", (self.dirs.len() + implied) as u64));
        }
        Ok(())
    }

    /// `./`: a layer may set the looks of the root, an archive does not change the directory it goes into.
    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if self.rules.is_layer && entry.kind == EntryKind::Directory {
            let root = self.tree.top().try_clone_to_owned().map_err(Error::entry("open", "/"))?;
            dress_dir(root.as_fd(), b".", entry, self.owner(entry)).map_err(Error::entry("chmod", "/"))?;
            self.has_root = true;
            self.remember(&CleanPath::default(), entry.mtime)?;
        }
        Ok(())
    }

    /// Notes the time that a directory is to have in the end.
    fn remember(&mut self, path: &CleanPath, time: Time) -> Result<()> {
        self.dirs_size += size_of::<(CleanPath, Time)>() + path.as_bytes().len();
        self.dirs.push((path.clone(), time));
        self.tree.implied().remove(path.as_bytes());
        Ok(())
    }

    fn owner(&self, entry: &Entry) -> (u32, u32) {
        self.rules.owner.unwrap_or((entry.uid, entry.gid))
    }

    fn whiteout(&mut self, dir: &[u8], name: &[u8]) -> io::Result<()> {
        if name == WHITEOUT_OPAQUE {
            let marks = self.rules.marks;
            marks.set_opaque(self.tree.dir(dir)?, b".")?;
            return Ok(());
        }
        if name.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        let name = &name[WHITEOUT.len()..];
        if name.is_empty() || name == b"." || name == b".." {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let marks = self.rules.marks;
        let dir = self.tree.dir(dir)?;
        match tree::look(dir, name)? {
            // A whiteout speaks of lower layers only: what this layer brings itself stays, cut off from below.
            Some(stat) if tree::kind_of(&stat) == FileType::Directory => Ok(marks.set_opaque(dir, name)?),
            Some(_) => Ok(()),
            None => Ok(rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)?),
        }
    }

    /// Removes what is in the entry's way, unless both are directories.
    fn make_room(&mut self, entry: &Entry, dir: &[u8], name: &[u8]) -> Result<Option<Existing>> {
        let full = self.rules.full(dir, name);
        let failed = |error: io::Error| Error::entry(action(entry.kind), &full)(error);
        let parent = self.tree.dir(dir).map_err(failed)?;
        let Some(stat) = tree::look(parent, name).map_err(|error| failed(error.into()))? else { return Ok(None) };
        let existing = Existing { kind: tree::kind_of(&stat), is_whiteout: tree::is_whiteout(&stat) };
        let was_dir = existing.kind == FileType::Directory;
        let is_dir = entry.kind == EntryKind::Directory;
        if was_dir && is_dir {
            return Ok(Some(existing));
        }
        if self.rules.no_overwrite_dir_non_dir && (was_dir || is_dir) {
            let [old, new] = if was_dir { ["directory", "non-directory"] } else { ["non-directory", "directory"] };
            let target = self.rules.target();
            return Err(Error::Archive(format!("cannot overwrite {old} {full:?} with {new} {target:?}")));
        }
        let freed = tree::remove_all(parent, name).map_err(failed)?;
        self.size = self.size.saturating_sub(freed);
        self.has_replaced = true;
        if matches!(existing.kind, FileType::Directory | FileType::Symlink) {
            self.tree.forget();
        }
        Ok(Some(existing))
    }

    fn make<R: BufRead>(
        &mut self,
        entry: &Entry,
        path: &CleanPath,
        reader: &mut TarReader<R>,
        was_whiteout: bool,
    ) -> Result<()> {
        let (dir, name) = path.split();
        let full = self.rules.full(dir, name);
        let failed = Error::entry::<io::Error>(action(entry.kind), &full);
        let owner = self.owner(entry);
        if entry.kind == EntryKind::HardLink {
            return self.hard_link(entry, dir, name);
        }
        let parent = self.tree.dir(dir).map_err(Error::entry(action(entry.kind), &full))?;
        match entry.kind {
            EntryKind::Regular => {
                reader.content(path, entry);
                regular(parent, name, entry, owner, reader, &full)?;
                self.size += entry.size;
            }
            EntryKind::Directory => {
                let is_marked = Marks::are_opaque(entry.xattrs.iter().map(|(key, value)| (&key[..], &value[..])));
                let opaque = Some(self.rules.marks).filter(|_| (was_whiteout || is_marked) && self.rules.is_layer);
                directory(parent, name, entry, owner, opaque).map_err(failed)?;
                self.remember(path, entry.mtime)?;
            }
            EntryKind::Symlink => {
                self.rules.check_symlink(dir, name, entry)?;
                symlink(parent, name, entry, owner).map_err(failed)?;
                self.size += entry.link.len() as u64;
            }
            _ => match special(parent, name, entry, owner) {
                // The root of a user namespace makes no devices, and Docker leaves them out there.
                Err(error) if self.rules.marks == Marks::User && is_refused_device(entry, &error) => {
                    tracing::debug!(path = %full.display(), "a device that this user namespace cannot make is left out");
                }
                made => made.map_err(failed)?,
            },
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, dir: &[u8], name: &[u8]) -> Result<()> {
        let full = self.rules.full(dir, name);
        let failed = |error: io::Error| Error::entry("link", &full)(error);
        let target = CleanPath::new(&entry.link);
        let target = target.ok_or_else(|| {
            let outside = CleanPath::new(&[b"/", self.rules.base, b"/", &entry.link].concat());
            let outside = outside.map_or_else(PathBuf::new, |path| display(path.as_bytes()));
            Error::Archive(format!("invalid hardlink {:?} -> {:?}", Path::new("/").join(outside), display(&entry.link)))
        })?;
        if target.is_root() {
            return Err(failed(Errno::PERM.into()));
        }
        let (target_dir, target_name) = target.split();
        let target_dir = self.tree.open_dir(target_dir).map_err(|error| failed(error.into()))?;
        let parent = self.tree.dir(dir).map_err(failed)?;
        // Without AT_SYMLINK_FOLLOW the link is to the name itself, even if that is a symbolic link.
        rustix::fs::linkat(&target_dir, target_name, parent, name, AtFlags::empty())
            .map_err(|error| failed(error.into()))
    }

    /// A directory that is gone or replaced by now has no time to set.
    fn set_dir_times(&self) {
        for (path, time) in self.dirs.iter().rev() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            if let Ok(dir) = self.tree.open(path.as_bytes(), flags) {
                let _ = rustix::fs::utimensat(&dir, ".", &tree::timestamps(*time), AtFlags::empty());
            }
        }
    }
}

fn regular<R: BufRead>(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
    owner: (u32, u32),
    reader: &mut TarReader<R>,
    full: &Path,
) -> Result<()> {
    let failed = |error: io::Error| Error::entry("open", full)(error);
    let unwritten = |error: io::Error| Error::entry("write", full)(error);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
    match &entry.segments {
        None => copy(&file, 0, entry.size, reader, &unwritten)?,
        Some(segments) => {
            for (offset, length) in segments {
                copy(&file, *offset, *length, reader, &unwritten)?;
            }
            rustix::fs::ftruncate(&file, entry.size).map_err(|error| failed(error.into()))?;
        }
    }
    dress_file(&file, entry, owner).map_err(failed)
}

/// Owner first (it clears setuid and capabilities), then attributes, mode and times.
fn dress_file(file: &OwnedFd, entry: &Entry, (uid, gid): (u32, u32)) -> io::Result<()> {
    rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    for (key, value) in wanted_xattrs(entry) {
        tolerate(rustix::fs::fsetxattr(file, key, value, XattrFlags::empty()))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
    rustix::fs::futimens(file, &tree::timestamps(entry.mtime))?;
    Ok(())
}

/// Copies data of the entry to a place in a file, straight out of the reader's buffer. Long runs of zeros become holes:
/// they cost no room and no time.
fn copy<R: BufRead>(
    file: &OwnedFd,
    mut offset: u64,
    mut left: u64,
    reader: &mut TarReader<R>,
    failed: &dyn Fn(io::Error) -> Error,
) -> Result<()> {
    let mut ends_in_hole = false;
    while left > 0 {
        let piece = reader.fill()?;
        if piece.is_empty() {
            return Err(TarError::Truncated.into());
        }
        let available = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let length;
        (length, ends_in_hole) = run(&piece[..available], offset);
        let written = match if ends_in_hole { Ok(length) } else { rustix::io::pwrite(file, &piece[..length], offset) } {
            Ok(0) => return Err(failed(io::ErrorKind::WriteZero.into())),
            Ok(written) => written,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(failed(error.into())),
        };
        reader.consume(written);
        offset += written as u64;
        left -= written as u64;
    }
    if ends_in_hole {
        rustix::fs::ftruncate(file, offset).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

/// How many of these bytes, which belong at this offset, can be treated alike, and whether they become a hole.
fn run(bytes: &[u8], offset: u64) -> (usize, bool) {
    // Holes are of whole blocks of the file system.
    let to_boundary = HOLE - usize::try_from(offset % HOLE as u64).unwrap_or_default();
    let is_hole = |block: &[u8]| *block == [0; HOLE];
    let (first, rest) = bytes.split_at(to_boundary.min(bytes.len()));
    let as_first = is_hole(first);
    let alike = rest.chunks(HOLE).take_while(|block| is_hole(block) == as_first);
    (first.len() + alike.map(<[u8]>::len).sum::<usize>(), as_first)
}

/// `opaque`: how to mark it as hiding what is below, if it is to.
fn directory(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
    owner: (u32, u32),
    opaque: Option<Marks>,
) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(marks) = opaque {
        marks.set_opaque(parent, name)?;
    }
    dress_dir(parent, name, entry, owner)
}

fn dress_dir(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry, (uid, gid): (u32, u32)) -> io::Result<()> {
    tree::chown(parent, name, uid, gid)?;
    for (key, value) in wanted_xattrs(entry) {
        tolerate(tree::set_xattr(parent, name, key, value))?;
    }
    tree::set_mode(parent, name, entry.mode)?;
    Ok(())
}

fn symlink(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry, (uid, gid): (u32, u32)) -> io::Result<()> {
    rustix::fs::symlinkat(&entry.link[..], parent, name)?;
    tree::chown(parent, name, uid, gid)?;
    for (key, value) in wanted_xattrs(entry) {
        tolerate(tree::set_xattr(parent, name, key, value))?;
    }
    rustix::fs::utimensat(parent, name, &tree::timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn is_refused_device(entry: &Entry, error: &io::Error) -> bool {
    matches!(entry.kind, EntryKind::CharDevice | EntryKind::BlockDevice)
        && error.raw_os_error() == Some(Errno::PERM.raw_os_error())
}

fn special(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry, (uid, gid): (u32, u32)) -> io::Result<()> {
    let kind = match entry.kind {
        EntryKind::CharDevice => FileType::CharacterDevice,
        EntryKind::BlockDevice => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let device = rustix::fs::makedev(entry.major, entry.minor);
    rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)?;
    tree::chown(parent, name, uid, gid)?;
    for (key, value) in wanted_xattrs(entry) {
        tolerate(tree::set_xattr(parent, name, key, value))?;
    }
    tree::set_mode(parent, name, entry.mode)?;
    rustix::fs::utimensat(parent, name, &tree::timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// What an entry of a layer hides: None for an entry that is no whiteout, nothing for marks that make no file.
pub(crate) fn whiteout_of(path: &CleanPath) -> Option<Option<CleanPath>> {
    let (dir, name) = path.split();
    let hidden = name.strip_prefix(WHITEOUT)?;
    Some(if name.starts_with(WHITEOUT_META) { None } else { CleanPath::new(&[dir, b"/", hidden].concat()) })
}

/// Overlay's own attributes would let a layer point at directories outside of it.
pub(crate) fn wanted_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry.xattrs.iter().map(|(key, value)| (&key[..], &value[..])).filter(|(key, _)| !is_overlays(key))
}

/// Is this attribute one of overlay's own?
pub(crate) fn is_overlays(key: &[u8]) -> bool {
    key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.")
}

/// Attributes that a file system or file type does not have are left out, as Docker does.
fn tolerate(set: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match set {
        Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        other => other,
    }
}

pub(crate) fn display(path: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(path))
}
