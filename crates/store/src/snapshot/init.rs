//! The layer of mount points that lies between an image and a container's own changes.
//!
//! The engine mounts its own files over `/etc/hosts` and the like, and the runtime its file systems over `/dev` and
//! `/proc`. What they are mounted on has to exist, and must not show up as a change of the container. It depends on the
//! image alone, so one directory serves all containers of a stack of layers.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use oci::digest::Digest;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};

use crate::error::{Error, Result};
use crate::gc::chain_name;
use crate::store::{INITS, Inner, UNPACKING};

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
        let lower = self
            .layer_dirs(layers)
            .iter()
            .map(|dir| open_dir(dir).map_err(Error::file("opening", dir)))
            .collect::<Result<Vec<_>>>()?;
        let mut made = Vec::new();
        for dir in DIRS {
            // Where an image has something else (a symbolic link), it stays, and nothing is made inside.
            let parent = dir.rsplit_once('/').map(|(parent, _)| parent);
            if parent.is_some_and(|parent| !made.iter().any(|(name, _)| *name == parent)) {
                continue;
            }
            let Some(look) = look_of(&lower, dir).map_err(Error::file("reading", dir))? else { continue };
            let path = fs_dir.join(dir);
            fs::create_dir(&path).map_err(failed(&path))?;
            made.push((dir, look));
        }
        let has_parent = |path: &str| match path.rsplit_once('/') {
            Some((parent, _)) => made.iter().any(|(name, _)| *name == parent),
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
            look.apply(&fs_dir.join(dir)).map_err(Error::file("creating", fs_dir.join(dir)))?;
        }
        Ok(())
    }
}

/// How a directory looks in the image.
struct Look {
    mode: u32,
    uid: u32,
    gid: u32,
    times: Option<Timestamps>,
}

impl Look {
    fn apply(&self, path: &Path) -> io::Result<()> {
        rustix::fs::chownat(CWD, path, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)), AtFlags::empty())?;
        rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        if let Some(times) = &self.times {
            rustix::fs::utimensat(CWD, path, times, AtFlags::empty())?;
        }
        Ok(())
    }
}

/// How a directory has to look: as in the uppermost layer that has it, or as usual if none has. None: it is there and no
/// directory.
fn look_of(lower: &[OwnedFd], path: &str) -> io::Result<Option<Look>> {
    for layer in lower {
        let found = rustix::fs::openat2(
            layer,
            path,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        );
        let stat = match found {
            Ok(fd) => rustix::fs::fstat(&fd)?,
            Err(rustix::io::Errno::NOENT) => continue,
            // Something above it is no directory here, so it does not exist in lower layers either.
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP | rustix::io::Errno::XDEV) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        return Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Some(Look {
                mode: stat.st_mode & 0o7777,
                uid: stat.st_uid,
                gid: stat.st_gid,
                times: Some(crate::tree::times_of(&stat)),
            }),
            // A whiteout: the image removed it.
            FileType::CharacterDevice if stat.st_rdev == 0 => Some(Look::usual()),
            _ => None,
        });
    }
    Ok(Some(Look::usual()))
}

impl Look {
    fn usual() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, times: None }
    }
}

fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
