//! Packing directories into tar streams: an overlay's upper directory into a layer, a part of a container's root into
//! an archive.
//!
//! Names are sorted, and nothing but the files decides the bytes. Files may change while they are packed (a container
//! goes on running): what vanishes is left out, what shrinks is filled up with zeros, what grows is cut.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::overlay::Marks;
use crate::tar::{Entry, EntryKind, TarWriter, Time};
use crate::tree;
use crate::unpack::{WHITEOUT, display};

/// Deepest directory, in levels: each holds a file descriptor open. Paths that deep cannot be used by name anyway.
const MAX_DEPTH: usize = 2048;
/// Read buffer, in bytes.
const BUFFER: usize = 128 << 10;

/// How to pack.
pub(crate) struct Plan<'a> {
    /// The directory is an overlay's upper one, and the stream a layer: whiteouts are written as AUFS did.
    pub(crate) is_layer: bool,
    /// Times are cut to seconds, as Docker does for archives.
    pub(crate) whole_seconds: bool,
    /// For a layer: does something below this directory need to be hidden? It is asked for opaque directories, given by
    /// their path inside.
    pub(crate) is_opaque: &'a dyn Fn(&[u8]) -> bool,
    /// Directories that get no entry of their own: nobody asked for them (see `implied`).
    pub(crate) implied: Option<&'a BTreeSet<Vec<u8>>>,
    /// How opaque directories are marked.
    pub(crate) marks: Marks,
    /// File systems other than that of the root are left out: only the directory that they are mounted on is packed.
    pub(crate) one_file_system: bool,
}

/// A stream that directories are packed into.
pub(crate) struct Packer<'a, W> {
    out: TarWriter<W>,
    plan: &'a Plan<'a>,
    /// The first name of files with several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// Where the packer is.
#[derive(Clone, Copy)]
struct Place<'a> {
    dir: BorrowedFd<'a>,
    name: &'a [u8],
    /// Name in the archive, without a slash at the end.
    path: &'a [u8],
    depth: usize,
    /// The file system of `dir`; None: not known, it is the start.
    device: Option<u64>,
}

impl<'a, W: Write> Packer<'a, W> {
    pub(crate) fn new(out: W, plan: &'a Plan<'a>) -> Self {
        Self { out: TarWriter::new(out), plan, links: HashMap::new(), buffer: vec![0; BUFFER] }
    }

    /// Packs what is inside a directory (not the directory itself), with names that start with `prefix`.
    pub(crate) fn contents(&mut self, dir: BorrowedFd<'_>, prefix: &[u8]) -> Result<()> {
        let device = tree::look(dir, b".").map_err(Error::entry("lstat", "/"))?.map(|stat| stat.st_dev);
        self.list(Place { dir, name: b".", path: prefix, depth: 0, device })
    }

    /// Packs a name with everything below it, as `path` in the archive.
    pub(crate) fn tree(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
        self.item(Place { dir, name, path, depth: 0, device: None })
    }

    /// Packs one name of a layer, without what is below it.
    pub(crate) fn one(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
        let place = Place { dir, name, path, depth: 0, device: None };
        let stat = tree::look(dir, name).map_err(Error::entry("lstat", display(path)))?;
        let Some(stat) = stat else { return Ok(()) };
        let Some(mut entry) = self.entry_of(place, &stat)? else { return Ok(()) };
        if entry.kind == EntryKind::Regular { self.file(place, &stat, &mut entry) } else { self.header(&entry) }
    }

    /// Packs the mark that a name is removed.
    pub(crate) fn removed(&mut self, path: &[u8]) -> Result<()> {
        self.mark(&with_name_prefix(path, b".wh."))
    }

    /// Packs the mark that nothing below a directory shows; empty for the root.
    pub(crate) fn opaque(&mut self, path: &[u8]) -> Result<()> {
        let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
        self.mark(&[path, slash, b".wh..wh..opq"].concat())
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> Result<W> {
        self.out.finish().map_err(Error::Write)
    }

    /// Packs the entries of a directory; `place.device` is its own.
    fn list(&mut self, place: Place<'_>) -> Result<()> {
        if place.depth > MAX_DEPTH {
            return Err(Error::entry("open", display(place.path))(io::Error::from(Errno::NAMETOOLONG)));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::openat(place.dir, place.name, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(Error::entry("open", display(place.path))(io::Error::from(error))),
        };
        // Files of the kernel (/proc/kcore has 128 TiB) cannot be packed.
        if tree::is_virtual(&dir) {
            return Ok(());
        }
        let mut names = tree::list(dir.as_fd()).map_err(Error::entry("open", display(place.path)))?;
        names.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, _) in names {
            let slash: &[u8] = if place.path.is_empty() || place.path.ends_with(b"/") { b"" } else { b"/" };
            let path = [place.path, slash, &name].concat();
            self.item(Place {
                dir: dir.as_fd(),
                name: &name,
                path: &path,
                depth: place.depth + 1,
                device: place.device,
            })?;
        }
        Ok(())
    }

    fn item(&mut self, place: Place<'_>) -> Result<()> {
        let stat = tree::look(place.dir, place.name).map_err(Error::entry("lstat", display(place.path)))?;
        let Some(stat) = stat else { return Ok(()) };
        if self.plan.is_layer && tree::is_whiteout(&stat) {
            return self.mark(&with_name_prefix(place.path, b".wh."));
        }
        if self.plan.is_layer && place.name.starts_with(WHITEOUT) {
            return Err(Error::Archive(format!(
                "{} cannot be part of a layer, where a name that begins with .wh. means that another one is removed",
                display(place.path).display()
            )));
        }
        let Some(mut entry) = self.entry_of(place, &stat)? else { return Ok(()) };
        match entry.kind {
            EntryKind::Regular => self.file(place, &stat, &mut entry),
            EntryKind::Directory => {
                if !self.plan.implied.is_some_and(|implied| implied.contains(place.path)) {
                    self.header(&entry)?;
                }
                if self.plan.is_layer && self.is_opaque(place) {
                    self.opaque(place.path)?;
                }
                let is_mount = place.device.is_some_and(|device| device != stat.st_dev);
                if is_mount && self.plan.one_file_system {
                    return Ok(());
                }
                self.list(Place { device: Some(stat.st_dev), ..place })
            }
            _ => self.header(&entry),
        }
    }

    fn header(&mut self, entry: &Entry) -> Result<()> {
        self.out.entry(entry).map_err(Error::Write)
    }

    /// What the header of a file says; None for what a tar cannot hold (a socket).
    fn entry_of(&mut self, place: Place<'_>, stat: &Stat) -> Result<Option<Entry>> {
        let kind = match tree::kind_of(stat) {
            FileType::RegularFile => EntryKind::Regular,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            _ => return Ok(None),
        };
        let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let mut entry = Entry {
            path: place.path.to_vec(),
            link: Vec::new(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: self.mtime(stat),
            major: if is_device { rustix::fs::major(stat.st_rdev) } else { 0 },
            minor: if is_device { rustix::fs::minor(stat.st_rdev) } else { 0 },
            size: if kind == EntryKind::Regular { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 },
            xattrs: Vec::new(),
            segments: None,
        };
        if kind == EntryKind::Directory {
            if !entry.path.ends_with(b"/") {
                entry.path.push(b'/');
            }
        } else if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                (entry.kind, entry.link, entry.size) = (EntryKind::HardLink, first.clone(), 0);
                return Ok(Some(entry));
            }
            self.links.insert((stat.st_dev, stat.st_ino), place.path.to_vec());
        }
        let failed = Error::entry::<io::Error>("readlink", display(place.path));
        if kind == EntryKind::Symlink {
            match rustix::fs::readlinkat(place.dir, place.name, Vec::new()) {
                Ok(target) => entry.link = target.into_bytes(),
                Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                Err(error) => return Err(failed(error.into())),
            }
        }
        let xattrs = xattrs(place.dir, place.name, is_portable);
        entry.xattrs = xattrs.map_err(Error::entry("getxattr", display(place.path)))?;
        for (key, value) in &mut entry.xattrs {
            if key == b"security.capability" {
                make_portable(value);
            }
        }
        Ok(Some(entry))
    }

    fn mtime(&self, stat: &Stat) -> Time {
        let times = tree::times_of(stat).last_modification;
        let nsec = if self.plan.whole_seconds { 0 } else { u32::try_from(times.tv_nsec).unwrap_or_default() };
        Time { sec: times.tv_sec, nsec }
    }

    fn file(&mut self, place: Place<'_>, stat: &Stat, entry: &mut Entry) -> Result<()> {
        let failed = |error: Errno| Error::entry("read", display(place.path))(error);
        // O_NONBLOCK, because the name may be that of a pipe by now.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(place.dir, place.name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => {
                self.links.remove(&(stat.st_dev, stat.st_ino));
                return Ok(());
            }
            Err(error) => return Err(failed(error)),
        };
        if tree::kind_of(&rustix::fs::fstat(&file).map_err(failed)?) != FileType::RegularFile {
            return Ok(());
        }
        self.header(entry)?;
        let mut left = entry.size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
            let length = match rustix::io::read(&file, &mut self.buffer[..wanted]) {
                Ok(0) => {
                    let path = display(place.path);
                    tracing::warn!(path = %path.display(), "the file became shorter while it was packed");
                    self.buffer[..wanted].fill(0);
                    wanted
                }
                Ok(length) => length,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(failed(error)),
            };
            self.out.data(&self.buffer[..length]).map_err(Error::Write)?;
            left -= length as u64;
        }
        Ok(())
    }

    fn is_opaque(&self, place: Place<'_>) -> bool {
        self.plan.marks.is_opaque(place.dir, place.name) && (self.plan.is_opaque)(place.path)
    }

    /// An empty file that stands for something. Always the same, since an overlay's own mark has no looks to keep.
    fn mark(&mut self, path: &[u8]) -> Result<()> {
        self.header(&Entry {
            path: path.to_vec(),
            link: Vec::new(),
            kind: EntryKind::Regular,
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            major: 0,
            minor: 0,
            size: 0,
            xattrs: Vec::new(),
            segments: None,
        })
    }
}

fn with_name_prefix(path: &[u8], prefix: &[u8]) -> Vec<u8> {
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&path[..start], prefix, &path[start..]].concat()
}

/// The attributes of a file that are wanted, sorted by name.
pub(crate) fn xattrs(
    dir: BorrowedFd<'_>,
    name: &[u8],
    is_wanted: impl Fn(&[u8]) -> bool,
) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = tree::fd_path(dir, name);
    // Most files have none at all: one call tells.
    let mut names = vec![0; 1024];
    let length = loop {
        match rustix::fs::llistxattr(&path[..], &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < 64 << 10 => names.resize(64 << 10, 0),
            Err(Errno::NOTSUP | Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    };
    let mut found = Vec::new();
    for key in names[..length].split(|byte| *byte == 0).filter(|key| !key.is_empty() && is_wanted(key)) {
        let mut value = vec![0; 64 << 10];
        match rustix::fs::lgetxattr(&path[..], key, &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA | Errno::NOENT | Errno::RANGE) => continue,
            Err(error) => return Err(error),
        }
        found.push((key.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// Does this attribute belong to the file, and not to this host?
pub(crate) fn is_portable(key: &[u8]) -> bool {
    key == b"security.capability"
        || key.starts_with(b"system.posix_acl_")
        || (key.starts_with(b"user.") && !key.starts_with(b"user.overlay."))
}

/// File capabilities of a user namespace (revision 3) name a user id that means nothing elsewhere: revision 2 is the
/// same without it.
fn make_portable(value: &mut Vec<u8>) {
    if value.len() > 20 && value[3] == 3 {
        value[3] = 2;
        value.truncate(20);
    }
}
