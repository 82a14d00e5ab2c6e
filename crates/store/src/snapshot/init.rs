//! The layer of mount points that lies between an image and a container's own changes.
//!
//! The engine mounts its own files over `/etc/hosts` and the like, and the runtime its file systems over `/dev` and
//! `/proc`. What they are mounted on has to exist, and must not show up as a change of the container. It depends on the
//! image alone, so one directory serves all containers of a stack of layers. Directories that a layer only implies get
//! their looks here as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::digest::Digest;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::gc::chain_name;
use crate::implied;
use crate::overlay::Marks;
use crate::pack;
use crate::store::{INITS, Inner, UNPACKING};
use crate::tree;
use crate::unpack::{self, display};

/// Directories, each after its parent.
const DIRS: [&str; 6] = ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];
/// Empty files.
const FILES: [&str; 5] = [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
/// A symbolic link and its target.
const LINK: (&str, &str) = ("etc/mtab", "/proc/mounts");

impl Inner {
    /// Makes the mount points for this stack of layers if they do not exist yet.
    pub(super) fn ensure_init(&self, layers: &[Digest]) -> Result<()> {
        let target = self.root.join(INITS).join(chain_name(layers));
        if fs::symlink_metadata(&target).is_ok() {
            self.touch_init(layers);
            return Ok(());
        }
        let work = self.root.join(UNPACKING).join(self.unique());
        fs::create_dir(&work).map_err(Error::file("creating", &work))?;
        let made = self.fill_init(&work.join("fs"), layers);
        let moved = made.and_then(|()| match fs::rename(&work, &target) {
            // Another container of the same image was faster; its directory is as good.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                self.discard(&work);
                Ok(())
            }
            other => other.map_err(Error::file("creating", &target)),
        });
        if moved.is_err() {
            self.discard(&work);
        }
        moved
    }

    /// Notes that a container uses this stack of layers now: that is what the time of the directory says (see `room`). No
    /// record, since making a container writes nothing that has to reach the disk.
    pub(super) fn touch_init(&self, layers: &[Digest]) {
        let dir = self.root.join(INITS).join(chain_name(layers));
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // Without a time the image only counts as older than it is.
        let _ = rustix::fs::utimensat(CWD, &dir, &times, AtFlags::empty());
    }

    fn fill_init(&self, fs_dir: &Path, layers: &[Digest]) -> Result<()> {
        let failed = |path: &Path| Error::file::<io::Error>("creating", path.to_owned());
        fs::create_dir(fs_dir).map_err(failed(fs_dir))?;
        let stack = Stack::open(&self.layer_dirs(layers), self.marks)?;
        let mut made: Vec<(Vec<u8>, Look)> = Vec::new();
        for (path, is_needed) in stack.wanted() {
            // Where an image has something else (a symbolic link), it stays, and nothing is made inside.
            let parent = path.iter().rposition(|byte| *byte == b'/').map(|slash| &path[..slash]);
            if parent.is_some_and(|parent| !made.iter().any(|(name, _)| name == parent)) {
                continue;
            }
            let look = stack.look_of(&path, is_needed).map_err(Error::file("reading", display(&path)))?;
            let Some(look) = look else { continue };
            let place = fs_dir.join(display(&path));
            fs::create_dir(&place).map_err(failed(&place))?;
            made.push((path, look));
        }
        let has_parent = |path: &str| match path.rsplit_once('/') {
            Some((parent, _)) => made.iter().any(|(name, _)| name == parent.as_bytes()),
            None => true,
        };
        for file in FILES.into_iter().filter(|path| has_parent(path)) {
            let path = fs_dir.join(file);
            let created = File::create_new(&path).map_err(failed(&path))?;
            rustix::fs::fchmod(&created, Mode::from_raw_mode(0o755)).map_err(Error::file("creating", &path))?;
        }
        if has_parent(LINK.0) {
            std::os::unix::fs::symlink(LINK.1, fs_dir.join(LINK.0)).map_err(failed(&fs_dir.join(LINK.0)))?;
        }
        // Last and from the inside out, because making files changes the times of their directories.
        for (dir, look) in made.iter().rev() {
            let path = fs_dir.join(display(dir));
            look.apply(&path).map_err(Error::file("creating", &path))?;
        }
        Ok(())
    }
}

/// The layers of an image, from the top down.
struct Stack {
    layers: Vec<(OwnedFd, BTreeSet<Vec<u8>>)>,
    marks: Marks,
}

impl Stack {
    fn open(dirs: &[PathBuf], marks: Marks) -> Result<Self> {
        let open = |dir: &PathBuf| {
            let layer = dir.parent().unwrap_or(dir);
            Ok((open_dir(dir).map_err(Error::file("opening", dir))?, implied::read(layer)?))
        };
        Ok(Self { layers: dirs.iter().map(open).collect::<Result<_>>()?, marks })
    }

    /// The directories to make, each after its parent, and whether a container needs it even where the image has none: the
    /// mount points, and those that are only implied by some layer, with their parents.
    fn wanted(&self) -> BTreeMap<Vec<u8>, bool> {
        let mut wanted = BTreeMap::new();
        let implied = self.layers.iter().flat_map(|(_, implied)| implied);
        for path in implied.filter(|path| *path != implied::ROOT_PATH) {
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            wanted.extend(ends.chain([path.len()]).map(|end| (path[..end].to_vec(), false)));
        }
        wanted.extend(DIRS.map(|dir| (dir.as_bytes().to_vec(), true)));
        wanted
    }

    /// How a directory has to look: as in the uppermost layer that says so, or as usual if none does. None: the image has
    /// something else there, or nothing and it is not needed.
    fn look_of(&self, path: &[u8], is_needed: bool) -> io::Result<Option<Look>> {
        let usual = |is_there: bool| Some(Look::usual()).filter(|_| is_there || is_needed);
        let mut is_there = false;
        for (layer, implied) in &self.layers {
            match find(layer, path)? {
                Place::Missing => {}
                Place::Directory(look) if !implied.contains(path) => return Ok(Some(look)),
                Place::Directory(_) => is_there = true,
                Place::Whiteout => return Ok(usual(is_there)),
                Place::Other => return Ok(if is_there { usual(true) } else { None }),
            }
            if self.hides(layer, path) {
                return Ok(usual(is_there));
            }
        }
        Ok(usual(is_there))
    }

    /// Does this layer let nothing below it show at this path?
    fn hides(&self, layer: &OwnedFd, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([path.len()]).any(|end| self.marks.is_opaque(layer, &path[..end]))
    }
}

/// What a layer has at a path.
enum Place {
    Missing,
    Directory(Look),
    /// Removed by this layer.
    Whiteout,
    /// Something that is no directory, there or above.
    Other,
}

fn find(layer: &OwnedFd, path: &[u8]) -> io::Result<Place> {
    let found = rustix::fs::openat2(
        layer,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    );
    let stat = match found {
        Ok(fd) => rustix::fs::fstat(&fd)?,
        Err(Errno::NOENT) => return Ok(Place::Missing),
        // Something above it is no directory here, so it does not exist in lower layers either.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(Place::Other),
        Err(error) => return Err(error.into()),
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Place::Directory(Look {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            times: Some(tree::times_of(&stat)),
            xattrs: pack::xattrs(layer.as_fd(), path, |key| !unpack::is_overlays(key))?,
        }),
        FileType::CharacterDevice if stat.st_rdev == 0 => Place::Whiteout,
        _ => Place::Other,
    })
}

/// How a directory looks in the image.
struct Look {
    mode: u32,
    uid: u32,
    gid: u32,
    times: Option<Timestamps>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Look {
    fn apply(&self, path: &Path) -> io::Result<()> {
        rustix::fs::chownat(CWD, path, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)), AtFlags::empty())?;
        for (key, value) in &self.xattrs {
            rustix::fs::lsetxattr(path, &key[..], value, XattrFlags::empty())?;
        }
        rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        if let Some(times) = &self.times {
            rustix::fs::utimensat(CWD, path, times, AtFlags::empty())?;
        }
        Ok(())
    }
}

impl Look {
    fn usual() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, times: None, xattrs: Vec::new() }
    }
}

fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
