//! A look into the root of a container that does not run, without mounting it anywhere.
//!
//! Two ways: single files are searched for in the overlay's directories from the top down, which costs a few system calls; where
//! that is not enough (links, whole trees) a read-only overlay is mounted that is attached to nothing and vanishes with its
//! descriptor.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci::Mount;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use sys::mount::Attributes;

/// Largest /etc/passwd or /etc/group that is read, in bytes.
const MAX_FILE: u64 = 8 << 20;
/// Deepest tree that is copied into a volume.
const MAX_DEPTH: usize = 256;

/// The directories of an overlay from the top down, or the one that is all there is.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    directories: Vec<PathBuf>,
    /// The directory as it is: no overlay.
    is_plain: bool,
    /// The overlay's marks are those of user namespaces.
    has_user_marks: bool,
}

enum Found {
    /// In this directory, with this look.
    Here(PathBuf, Metadata),
    /// Nowhere.
    Nowhere,
    /// A link is in the way: only a real mount can tell.
    Unclear,
}

impl Root {
    /// Of what the store says to mount.
    pub(crate) fn new(mounts: &[Mount]) -> Self {
        if let Some(bind) = mounts.iter().find(|m| m.fstype == "bind") {
            return Self { directories: vec![bind.source.clone()], is_plain: true, has_user_marks: false };
        }
        let overlay = mounts.iter().filter(|m| m.fstype == "overlay");
        let has_user_marks = overlay.clone().any(|m| m.options.iter().any(|option| option == "userxattr"));
        let directories = overlay.flat_map(|m| m.values("upperdir").chain(m.values("lowerdir+")).map(PathBuf::from));
        Self { directories: directories.collect(), is_plain: false, has_user_marks }
    }

    /// The content of a file, `None` when there is none; links are followed inside the root only.
    pub(crate) fn read(&self, path: &str) -> io::Result<Option<String>> {
        let opened = match self.find(Path::new(path))? {
            Found::Nowhere => return Ok(None),
            Found::Here(place, metadata) if metadata.is_file() => File::open(place)?,
            Found::Here(..) => return Ok(None),
            Found::Unclear => {
                let root = self.mount()?;
                match open_inside(&root, path, OFlags::RDONLY | OFlags::NONBLOCK) {
                    Ok(file) => File::from(file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
        };
        let mut bytes = Vec::new();
        opened.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What is at a path, when no link is in the way.
    fn find(&self, path: &Path) -> io::Result<Found> {
        let parts: Vec<&OsStr> = path
            .components()
            .filter_map(|c| match c {
                std::path::Component::Normal(part) => Some(part),
                _ => None,
            })
            .collect();
        'directory: for top in &self.directories {
            let mut place = top.clone();
            for (at, part) in parts.iter().enumerate() {
                place.push(part);
                let metadata = match std::fs::symlink_metadata(&place) {
                    Ok(metadata) => metadata,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue 'directory,
                    Err(error) => return Err(error),
                };
                let last = at + 1 == parts.len();
                if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
                    return Ok(Found::Nowhere);
                }
                if last && !metadata.is_symlink() {
                    return Ok(Found::Here(place, metadata));
                }
                if !metadata.is_dir() || self.is_opaque(&place) {
                    // Opaque directories are rare enough to leave them to the kernel.
                    return Ok(Found::Unclear);
                }
            }
        }
        Ok(Found::Nowhere)
    }

    fn is_opaque(&self, directory: &Path) -> bool {
        let mark = if self.has_user_marks { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
        let mut value = [0u8; 1];
        !self.is_plain && matches!(rustix::fs::lgetxattr(directory, mark, &mut value), Ok(1) if value[0] == b'y')
    }

    /// Whether something may be at this path (a link counts).
    pub(crate) fn may_have(&self, path: &str) -> bool {
        !matches!(self.find(Path::new(path)), Ok(Found::Nowhere))
    }

    /// A read-only mount of the whole, attached to nothing.
    pub(crate) fn mount(&self) -> io::Result<OwnedFd> {
        if self.is_plain {
            return clone_read_only(&self.directories[0]);
        }
        match self.mount_with("lowerdir+") {
            // Before 6.5 the kernel takes one list with colons, which such paths do not have.
            Err(_) => self.mount_with("lowerdir"),
            mounted => mounted,
        }
    }

    fn mount_with(&self, key: &str) -> io::Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        if key == "lowerdir" {
            let list: Vec<String> = self.directories.iter().map(|d| d.display().to_string()).collect();
            fsconfig_set_string(context.as_fd(), key, list.join(":"))?;
        } else {
            for directory in &self.directories {
                fsconfig_set_string(context.as_fd(), key, directory)?;
            }
        }
        if self.has_user_marks {
            fsconfig_set_flag(context.as_fd(), "userxattr")?;
        }
        fsconfig_create(context.as_fd())?;
        let read_only =
            MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, read_only)?)
    }

    /// Copies what the image has at `path` into a directory; gives the look of `path` to the directory too. False when the image
    /// has no directory there.
    pub(crate) fn copy_up(&self, path: &str, into: &Path) -> io::Result<bool> {
        if !self.may_have(path) {
            return Ok(false);
        }
        let root = self.mount()?;
        let source = match open_inside(&root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let target = rustix::fs::open(into, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        copy_tree(&source, &target, 0)?;
        Ok(true)
    }
}

/// A mount of a directory that is attached to nothing.
fn clone_read_only(directory: &Path) -> io::Result<OwnedFd> {
    let tree = sys::mount::clone_path(directory, false)?;
    let set = Attributes::READ_ONLY | Attributes::NO_DEV | Attributes::NO_SUID;
    sys::mount::set_attributes(tree.as_fd(), Attributes { set, clear: 0 }, false)?;
    Ok(tree)
}

/// Opens a path of the container's as the container would, never leaving the root.
pub(crate) fn open_inside(root: impl AsFd, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?)
}

/// Copies the content of a directory with owners, modes, times and extended attributes; hard links become files of their own.
fn copy_tree(source: &OwnedFd, target: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("the image's directory is nested too deeply"));
    }
    for entry in rustix::fs::Dir::read_from(source)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(target, name, Mode::RWXU)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
                let to = rustix::fs::openat(target, name, flags, Mode::empty())?;
                copy_tree(&from, &to, depth + 1)?;
                continue;
            }
            FileType::RegularFile => copy_file(source, target, name)?,
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(source, name, Vec::new())?;
                rustix::fs::symlinkat(&link, target, name)?;
            }
            kind => rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev)?,
        }
        let owner = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(target, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            rustix::fs::chmodat(target, name, mode, AtFlags::empty())?;
        }
        rustix::fs::utimensat(target, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    // Last: making entries changed the directory's times.
    let stat = rustix::fs::fstat(source)?;
    rustix::fs::fchown(
        target,
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
    )?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_attributes(source, target)?;
    rustix::fs::futimens(target, &times(&stat))?;
    Ok(())
}

fn copy_file(source: &OwnedFd, target: &OwnedFd, name: &std::ffi::CStr) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut from = File::from(rustix::fs::openat(source, name, OFlags::RDONLY | flags, Mode::empty())?);
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | flags;
    let mut to = File::from(rustix::fs::openat(target, name, create, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut from, &mut to)?;
    copy_attributes(&from, &to)
}

fn copy_attributes(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let mut names = vec![0u8; 64 << 10];
    let Ok(length) = rustix::fs::flistxattr(&from, &mut names) else { return Ok(()) };
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty() && !n.starts_with(b"trusted.overlay.")) {
        let mut value = vec![0u8; 64 << 10];
        let size = rustix::fs::fgetxattr(&from, name, &mut value)?;
        rustix::fs::fsetxattr(&to, name, &value[..size], rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}

fn times(stat: &rustix::fs::Stat) -> rustix::fs::Timestamps {
    let spec = |sec, nsec| rustix::fs::Timespec { tv_sec: sec, tv_nsec: nsec as _ };
    rustix::fs::Timestamps {
        last_access: spec(stat.st_atime, stat.st_atime_nsec),
        last_modification: spec(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Whether a directory is empty; a missing one is.
pub(crate) fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

impl Root {
    /// Whether something other than a directory is at this path.
    pub(crate) fn is_file(&self, path: &str) -> bool {
        match self.find(Path::new(path)) {
            Ok(Found::Here(_, metadata)) => !metadata.is_dir(),
            Ok(Found::Unclear) => {
                let flags = OFlags::PATH;
                let opened = self.mount().and_then(|root| open_inside(&root, path, flags));
                opened.is_ok_and(|fd| {
                    rustix::fs::fstat(&fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) != FileType::Directory)
                })
            }
            _ => false,
        }
    }
}
