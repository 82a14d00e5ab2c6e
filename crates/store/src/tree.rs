//! Making and removing files below a directory that must not be left, whatever the names and links in it say.
//!
//! Every path is resolved by the kernel with the directory as its root (`openat2` with `RESOLVE_IN_ROOT`): `..` and
//! absolute links lead to places inside, as they would for a process whose root it is. The last component is then used
//! alone, with calls that never follow it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::tar::Time;

/// Below this many levels, directories are moved up before they are removed: a tree may be deeper than there are file
/// descriptors.
const MAX_REMOVE_DEPTH: usize = 64;

/// A path without `.`, `..` and double slashes, relative to the root of a [`Tree`]; empty for the root itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CleanPath(Vec<u8>);

impl CleanPath {
    /// Cleans the name of a tar entry by its text alone, as Go's `filepath.Clean` does. None if it leads out: `..` at
    /// the start of a relative name. (At the start of an absolute one it means nothing.)
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        let is_absolute = name.starts_with(b"/");
        let mut clean: Vec<u8> = Vec::with_capacity(name.len());
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." if clean.is_empty() => {
                    if !is_absolute {
                        return None;
                    }
                }
                b".." => clean.truncate(clean.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
                part => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(part);
                }
            }
        }
        Some(Self(clean))
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Directory and last component; both are empty for the root.
    pub(crate) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        }
    }
}

/// A directory that files are made in.
pub(crate) struct Tree {
    /// Nothing outside is ever reached; absolute links start here.
    root: OwnedFd,
    /// The directory that paths are relative to, inside the root.
    base: Vec<u8>,
    top: OwnedFd,
    /// Directories that were made because something was to be made in them, by their path.
    implied: BTreeSet<Vec<u8>>,
    /// What that needs, in bytes.
    implied_size: usize,
    /// The directory that was used last, since the entries of an archive come directory by directory.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree {
    /// Paths are relative to `base`, a path without links inside `root`; empty for the root itself.
    pub(crate) fn new(root: OwnedFd, base: &[u8]) -> rustix::io::Result<Self> {
        let top = open_in_root(root.as_fd(), base, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Self { root, base: base.to_vec(), top, implied: BTreeSet::new(), implied_size: 0, last: None })
    }

    /// The directory that paths are relative to.
    pub(crate) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// Opens the directory with this path; makes it and its parents (0755, root's) if they are missing.
    pub(crate) fn dir(&mut self, path: &[u8]) -> io::Result<BorrowedFd<'_>> {
        if path.is_empty() {
            return Ok(self.top.as_fd());
        }
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            let fd = match self.open_dir(path) {
                Err(Errno::NOENT) => self.make_dirs(path)?,
                other => other?,
            };
            self.last = Some((path.to_vec(), fd));
        }
        match &self.last {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Ok(self.top.as_fd()),
        }
    }

    /// Forgets the directory that was used last: a link or directory was replaced, and the path may lead elsewhere now.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    pub(crate) fn open_dir(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Opens something that exists, inside the root.
    pub(crate) fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        if self.base.is_empty() {
            return open_in_root(self.root.as_fd(), path, flags);
        }
        open_in_root(self.root.as_fd(), &[&self.base, &b"/"[..], path].concat(), flags)
    }

    /// Directories that nobody asked for: see [`crate::implied`].
    pub(crate) fn implied(&mut self) -> &mut BTreeSet<Vec<u8>> {
        &mut self.implied
    }

    /// How many of them were made, and what it takes to remember them, in bytes.
    pub(crate) fn implied_size(&self) -> (usize, usize) {
        (self.implied.len(), self.implied_size)
    }

    fn make_dirs(&mut self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut parent = self.open(b"", OFlags::PATH | OFlags::DIRECTORY)?;
        let mut start = 0;
        for end in ends.chain([path.len()]) {
            parent = match self.open_dir(&path[..end]) {
                Err(Errno::NOENT) => {
                    // A dangling link is in the way if this says that the name exists.
                    rustix::fs::mkdirat(&parent, &path[start..end], Mode::from_raw_mode(0o755))?;
                    self.implied_size += size_of::<Vec<u8>>() + end;
                    self.implied.insert(path[..end].to_vec());
                    self.open_dir(&path[..end])?
                }
                other => other?,
            };
            start = end + 1;
        }
        Ok(parent)
    }
}

/// Opens a path with a directory as its root.
pub(crate) fn open_in_root(root: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    loop {
        let opened = rustix::fs::openat2(
            &root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        // The kernel could not rule out that a `..` raced with a rename; the manual page says to try again.
        if opened.as_ref().err() != Some(&Errno::AGAIN) {
            return opened;
        }
    }
}

/// Looks at a name in a directory without following it; None if there is nothing.
pub(crate) fn look(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Is this a file system of the kernel's own, without files to copy (proc, sysfs, cgroup, …)?
pub(crate) fn is_virtual(fd: impl AsFd) -> bool {
    /// proc, sysfs, cgroup, cgroup2, devpts, mqueue, debugfs, tracefs, securityfs, bpf, configfs, nsfs, binfmt_misc
    const MAGIC: [u64; 13] = [
        0x9fa0,
        0x6265_6572,
        0x0027_e0eb,
        0x6367_7270,
        0x1cd1,
        0x1980_0202,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xcafe_4a11,
        0x6265_6570,
        0x6e73_6673,
        0x4249_4e4d,
    ];
    rustix::fs::fstatfs(fd).is_ok_and(|found| MAGIC.contains(&(found.f_type as u64)))
}

/// Overlay's mark for "removed": a character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    kind_of(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Access and modification time.
pub(crate) fn times_of(stat: &Stat) -> Timestamps {
    #[allow(clippy::unnecessary_cast, reason = "the width of the fields depends on the architecture")]
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as i64, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as i64, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// Both times set to one.
pub(crate) fn timestamps(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.sec, tv_nsec: time.nsec.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Sets the owner of a name without following it.
pub(crate) fn chown(dir: impl AsFd, name: &[u8], uid: u32, gid: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets the mode of a name. There is no call for this that never follows a link, and a container may put one there at any
/// moment; so what is changed is what was opened.
pub(crate) fn set_mode(dir: impl AsFd, name: &[u8], mode: u32) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", found.as_raw_fd()), Mode::from_raw_mode(mode))
}

/// Sets an extended attribute of a name without following it.
pub(crate) fn set_xattr(dir: BorrowedFd<'_>, name: &[u8], key: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(fd_path(dir, name), key, value, XattrFlags::empty())
}

/// A path for calls that have no form with a directory: through the descriptor, so that it cannot lead elsewhere.
pub(crate) fn fd_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    use std::os::fd::AsRawFd;
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Removes a name with everything below it. Returns the bytes that its files had, as [`crate::usage`] counts.
pub(crate) fn remove_all(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<u64> {
    let Some(stat) = look(dir, name)? else { return Ok(0) };
    if kind_of(&stat) != FileType::Directory {
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        return Ok(if stat.st_nlink == 1 { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 });
    }
    let mut removal = Deletion { top: dir, moved: Vec::new(), counter: 0, freed: 0 };
    removal.directory(dir, name, 0)?;
    while let Some(name) = removal.moved.pop() {
        removal.directory(dir, &name, 0)?;
    }
    Ok(removal.freed)
}

/// The removal of a directory.
struct Deletion<'a> {
    top: BorrowedFd<'a>,
    /// Names in `top` that deep directories were moved to.
    moved: Vec<Vec<u8>>,
    counter: u32,
    freed: u64,
}

impl Deletion<'_> {
    fn directory(&mut self, parent: BorrowedFd<'_>, name: &[u8], depth: usize) -> io::Result<()> {
        if depth > MAX_REMOVE_DEPTH {
            return self.move_up(parent, name);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        for (name, kind) in list(fd.as_fd())? {
            // File systems that do not tell the kind are asked.
            let is_dir = match kind {
                FileType::Unknown => look(&fd, &name)?.is_some_and(|stat| kind_of(&stat) == FileType::Directory),
                kind => kind == FileType::Directory,
            };
            if is_dir {
                self.directory(fd.as_fd(), &name, depth + 1)?;
            } else {
                if let Some(stat) = look(&fd, &name)?.filter(|stat| stat.st_nlink == 1) {
                    self.freed += u64::try_from(stat.st_size).unwrap_or_default();
                }
                rustix::fs::unlinkat(&fd, &name, AtFlags::empty())?;
            }
        }
        drop(fd);
        rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
        Ok(())
    }

    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        loop {
            self.counter += 1;
            let away = format!(".removing-{}-{}", std::process::id(), self.counter).into_bytes();
            if look(self.top, &away)?.is_none() {
                rustix::fs::renameat(parent, name, self.top, &away)?;
                self.moved.push(away);
                return Ok(());
            }
        }
    }
}

/// The names in a directory with their kinds, without `.` and `..`, in the order of the file system.
pub(crate) fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let mut buffer = Vec::with_capacity(16 << 10);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    Ok(names)
}

/// Sets the mode of a directory of the store, whatever the umask was when it was made.
pub(crate) fn chmod(path: &std::path::Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Opens a directory by its path on the host, to be the root of a [`Tree`].
pub(crate) fn open_root(path: &std::path::Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go_does() {
        for (name, clean) in [
            ("a/b", Some("a/b")),
            ("./a//b/.", Some("a/b")),
            ("/a/../b", Some("b")),
            ("a/..", Some("")),
            ("/", Some("")),
            ("", Some("")),
            ("/../../x", Some("x")),
            ("..", None),
            ("a/../../x", None),
            ("../x", None),
        ] {
            let found = CleanPath::new(name.as_bytes());
            assert_eq!(found.as_ref().map(CleanPath::as_bytes), clean.map(str::as_bytes), "{name}");
        }
    }

    #[test]
    fn removes_trees_deeper_than_there_are_descriptors() {
        let temp = tempfile::tempdir().unwrap();
        let top = open_root(temp.path()).unwrap();
        let mut dir = top.try_clone().unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&dir, "d", Mode::RWXU).unwrap();
            dir = rustix::fs::openat(&dir, "d", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        drop(dir);
        std::fs::write(temp.path().join("d/file"), b"12345").unwrap();
        assert_eq!(remove_all(top.as_fd(), b"d").unwrap(), 5);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
