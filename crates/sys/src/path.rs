//! Paths inside a root that is not trusted: resolved by the kernel with openat2(2), never by string, so that neither a
//! symbolic link nor a rename in the middle of the work leads out.
//!
//! What exists is opened with `RESOLVE_IN_ROOT`. What has to be made is walked component by component, each step by
//! descriptor and without following links; links are read and walked too, `..` goes back along the walk.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dev, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// A directory that paths are resolved in as if it were `/`.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// The directory at a path of this process.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// An open directory, e.g. a detached mount.
    #[must_use]
    pub fn from_fd(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens what is at `path`. A link at the end is followed, unless `flags` has `NOFOLLOW`.
    pub fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_with(path, flags, Mode::empty())
    }

    /// The same with a mode for `OFlags::CREATE`. The parent must exist.
    pub fn open_with(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // The kernel gives up with EAGAIN when something is renamed meanwhile; it is right to try again, not forever.
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN) if tries < 128 => tries += 1,
                result => return Ok(result?),
            }
        }
    }

    /// A descriptor for use with `*at` calls and mounts.
    pub fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH)
    }

    /// The directory that the last component of `path` is in, and that component. `/` has none: `EINVAL`.
    pub fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let (parent, name) = split(path)?;
        Ok((self.open_at(parent, OFlags::PATH | OFlags::DIRECTORY)?, name))
    }

    /// The directory at `path`; whatever is missing on the way is made with `mode`. Links on the way are followed
    /// inside the root, also to directories that are still to be made.
    pub fn create_directories(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        match self.open_at(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => self.walk(path, mode),
            result => result,
        }
    }

    fn walk(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        let mut queue: VecDeque<OsString> = components(path).collect();
        let mut way: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(name) = queue.pop_front() {
            if name == ".." {
                way.pop();
                continue;
            }
            let here = way.last().unwrap_or(&self.0).as_fd();
            match step(here, &name, mode)? {
                Step::Into(directory) => way.push(directory),
                Step::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    if target.is_absolute() {
                        way.clear();
                    }
                    for component in components(&target).rev() {
                        queue.push_front(component);
                    }
                }
            }
        }
        match way.pop() {
            Some(directory) => Ok(directory),
            None => self.0.try_clone(),
        }
    }

    /// The file at `path`, made empty with `mode` if missing, its directories too (with 0755). Anything else that
    /// exists there is returned as it is.
    pub fn create_file(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        match self.resolve(path) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            result => return result,
        }
        let (parent, name) = split(path)?;
        let parent = Self(self.create_directories(parent, Mode::from_raw_mode(0o755))?);
        // A dangling link at the end is followed by the kernel, but only inside; the file is then made there.
        match rustix::fs::openat(
            &parent.0,
            name,
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
            mode,
        ) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        match self.resolve(path) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                self.open_with(path, OFlags::CREATE | OFlags::WRONLY, mode)?;
                self.resolve(path)
            }
            result => result,
        }
    }

    /// The directory at `path`, reached without any link, made with `mode` if missing: for what must lie where its name
    /// says, because others rely on finding it there. `ELOOP` when there is a link.
    pub fn plain_directory(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve);
        match open() {
            Err(Errno::NOENT) => {
                self.create_directories(path, mode)?;
                Ok(open()?)
            }
            result => Ok(result?),
        }
    }

    /// The file at `path`, made empty if missing as by [`Root::create_file`], but never by a link at the end: `ELOOP`.
    pub fn plain_file(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        let (parent, name) = split(path)?;
        let parent = self.create_directories(parent, Mode::from_raw_mode(0o755))?;
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent, name, new, mode) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        no_link(&parent, name)
    }

    /// Makes a device node, fifo or socket at `path`, whose directory is made if missing, and gives it an owner. `EEXIST`
    /// if something is there.
    pub fn make_node(&self, path: &Path, kind: FileType, mode: Mode, device: Dev, owner: (u32, u32)) -> io::Result<()> {
        let (parent, name) = split(path)?;
        let parent = self.create_directories(parent, Mode::from_raw_mode(0o755))?;
        rustix::fs::mknodat(&parent, name, kind, mode, device)?;
        // Somebody may have put another file in its place meanwhile, which must not get a new owner.
        let made = no_link(&parent, name)?;
        let stat = rustix::fs::fstat(&made)?;
        if FileType::from_raw_mode(stat.st_mode) != kind
            || (matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) && stat.st_rdev != device)
        {
            return Err(Errno::STALE.into());
        }
        let (uid, gid) = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
        Ok(rustix::fs::chownat(&made, "", uid, gid, AtFlags::EMPTY_PATH)?)
    }

    /// Makes a symbolic link at `path`.
    pub fn make_link(&self, target: &Path, path: &Path) -> io::Result<()> {
        let (parent, name) = split(path)?;
        let parent = self.create_directories(parent, Mode::from_raw_mode(0o755))?;
        Ok(rustix::fs::symlinkat(target, &parent, name)?)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

enum Step {
    Into(OwnedFd),
    Link(std::path::PathBuf),
}

/// Goes down one name, making a directory when there is nothing.
fn step(here: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> io::Result<Step> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match rustix::fs::openat(here, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            match rustix::fs::mkdirat(here, name, mode) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            rustix::fs::openat(here, name, flags, Mode::empty())?
        }
        result => result?,
    };
    match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
        FileType::Directory => Ok(Step::Into(found)),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
            Ok(Step::Link(OsString::from_vec(target).into()))
        }
        _ => Err(Errno::NOTDIR.into()),
    }
}

/// Opens a name, for use with `*at` calls and mounts; `ELOOP` for a link.
fn no_link(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
        FileType::Symlink => Err(Errno::LOOP.into()),
        _ => Ok(found),
    }
}

/// The names of a path, `..` included.
fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    Ok((path.parent().unwrap_or(Path::new("/")), name))
}

/// The path by which the kernel finds an open descriptor of this process, for calls that only take paths.
#[must_use]
pub fn of_descriptor(descriptor: BorrowedFd<'_>) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into()
}

/// The path that an open descriptor has now, as the kernel sees it.
pub fn real(descriptor: BorrowedFd<'_>) -> io::Result<std::path::PathBuf> {
    let bytes = rustix::fs::readlink(of_descriptor(descriptor), Vec::new())?;
    Ok(Path::new(OsStr::from_bytes(bytes.as_bytes())).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    struct Directory(std::path::PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sys-path-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("root")).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn links_never_lead_out() {
        let directory = Directory::new("out");
        let root = directory.0.join("root");
        symlink("../../../..", root.join("up")).unwrap();
        symlink("/absolute/place", root.join("away")).unwrap();
        let inside = Root::open(&root).unwrap();
        let made = inside.create_directories(Path::new("/up/up/a/b"), Mode::from_raw_mode(0o755)).unwrap();
        assert_eq!(real(made.as_fd()).unwrap(), root.join("a/b"));
        let made = inside.create_directories(Path::new("away/x/../y"), Mode::from_raw_mode(0o755)).unwrap();
        assert_eq!(real(made.as_fd()).unwrap(), root.join("absolute/place/y"));
        let made = inside.create_file(Path::new("/away/file"), Mode::from_raw_mode(0o644)).unwrap();
        assert_eq!(real(made.as_fd()).unwrap(), root.join("absolute/place/file"));
        assert!(!directory.0.join("absolute").exists());
    }

    #[test]
    fn a_dangling_link_at_the_end_is_made_inside() {
        let directory = Directory::new("dangling");
        let root = directory.0.join("root");
        symlink("/target", root.join("link")).unwrap();
        let inside = Root::open(&root).unwrap();
        let made = inside.create_file(Path::new("link"), Mode::from_raw_mode(0o600)).unwrap();
        assert_eq!(real(made.as_fd()).unwrap(), root.join("target"));
    }

    #[test]
    fn plain_places_are_no_links() {
        let directory = Directory::new("plain");
        let root = directory.0.join("root");
        fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("link")).unwrap();
        symlink("real/file", root.join("file")).unwrap();
        let inside = Root::open(&root).unwrap();
        let mode = Mode::from_raw_mode(0o755);
        assert!(inside.plain_directory(Path::new("/real/made"), mode).is_ok());
        assert!(inside.plain_file(Path::new("/link/made-too"), mode).is_ok());
        let is_loop =
            |result: io::Result<OwnedFd>| result.unwrap_err().raw_os_error() == Some(Errno::LOOP.raw_os_error());
        assert!(is_loop(inside.plain_directory(Path::new("/link"), mode)));
        assert!(is_loop(inside.plain_directory(Path::new("/link/below"), mode)));
        assert!(is_loop(inside.plain_file(Path::new("/file"), mode)));
        assert!(!root.join("real/file").exists());
    }

    #[test]
    fn a_circle_of_links_ends() {
        let directory = Directory::new("circle");
        let root = directory.0.join("root");
        symlink("b", root.join("a")).unwrap();
        symlink("a/x", root.join("b")).unwrap();
        let inside = Root::open(&root).unwrap();
        let error = inside.create_directories(Path::new("a/c"), Mode::from_raw_mode(0o755)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let directory = Directory::new("file");
        fs::write(directory.0.join("root/f"), "").unwrap();
        let inside = Root::open(&directory.0.join("root")).unwrap();
        let error = inside.create_directories(Path::new("f/x"), Mode::from_raw_mode(0o755)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOTDIR.raw_os_error()));
    }
}
