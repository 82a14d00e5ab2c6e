//! Archives in and out of a container's root: `cp` and `export`.
//!
//! A root is a directory descriptor: whatever is mounted below it is seen, and no path or link leads out of it. What
//! names mean is Docker's: `PATH/` and `PATH/.` are a directory's content, the last component is not followed when an
//! archive is read, and is when one is unpacked.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::compression;
use crate::error::{Error, Result};
use crate::overlay::Marks;
use crate::pack::{Packer, Plan};
use crate::tar::TarReader;
use crate::tree::{self, CleanPath};
use crate::unpack::{self, Rules, display};

/// As many links as Docker follows.
const MAX_LINKS: usize = 255;

/// What is at a path in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Last component of the path as it was given; `/` for the root.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Of a symbolic link: the absolute path that it leads to in the end, whether that exists or not.
    pub link_target: String,
}

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Refuse to replace a directory by something else, or the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Give everything to this user and group, whatever the archive says.
    pub owner: Option<(u32, u32)>,
}

/// Looks at a path. The last component is not followed unless a slash comes after it.
pub fn stat(root: BorrowedFd<'_>, path: &str) -> Result<PathStat> {
    let found = lstat(root, path.as_bytes()).map_err(failed("lstat", path))?;
    let is_link = tree::kind_of(&found) == FileType::Symlink;
    let link_target = if is_link { follow(root, path)? } else { String::new() };
    let times = tree::times_of(&found).last_modification;
    Ok(PathStat {
        name: String::from_utf8_lossy(base(path.as_bytes())).into_owned(),
        size: u64::try_from(found.st_size).unwrap_or_default(),
        mode: found.st_mode,
        mtime: (times.tv_sec, u32::try_from(times.tv_nsec).unwrap_or_default()),
        link_target,
    })
}

/// The path that an archive is made of: `..` is taken by its text, unlike in [`stat`], which asks the kernel.
#[must_use]
pub fn lexical(path: &str) -> String {
    absolute(path)
}

/// Packs what is at a path, with everything below it, as Docker names it: `/etc` as `etc/…`, `/etc/.` as `./…`, and
/// the root as `/…`.
pub fn pack(root: BorrowedFd<'_>, path: &str, out: impl Write) -> Result<()> {
    let path = absolute(path);
    let found = lstat(root, path.as_bytes()).map_err(failed("lstat", &path))?;
    let plan = Plan {
        is_layer: false,
        whole_seconds: true,
        is_opaque: &|_| false,
        marks: Marks::Trusted,
        implied: None,
        one_file_system: false,
    };
    let mut packer = Packer::new(out, &plan);
    if tree::kind_of(&found) == FileType::Directory {
        let dir = tree::open_in_root(root, relative(path.as_bytes()), OFlags::PATH | OFlags::DIRECTORY)
            .map_err(failed("open", &path))?;
        packer.tree(dir.as_fd(), b".", base(path.as_bytes()))?;
    } else {
        let (dir, name) = split(path.as_bytes());
        let dir =
            tree::open_in_root(root, relative(dir), OFlags::PATH | OFlags::DIRECTORY).map_err(failed("open", &path))?;
        packer.tree(dir.as_fd(), name, name)?;
    }
    packer.finish()?;
    Ok(())
}

/// Packs a whole root file system, without a root entry and without what is mounted in it.
pub fn export(root: BorrowedFd<'_>, out: impl Write) -> Result<()> {
    let plan = Plan {
        is_layer: false,
        whole_seconds: true,
        is_opaque: &|_| false,
        marks: Marks::Trusted,
        implied: None,
        one_file_system: true,
    };
    let mut packer = Packer::new(out, &plan);
    packer.contents(root, b"")?;
    packer.finish()?;
    Ok(())
}

/// A directory that an archive can be unpacked into.
#[derive(Debug)]
pub struct Target {
    root: OwnedFd,
    /// Its absolute path inside the root, without links: tells what is mounted there.
    pub path: PathBuf,
}

/// Finds the directory that an archive is to be unpacked into, all links followed.
pub fn open_target(root: BorrowedFd<'_>, path: &str) -> Result<Target> {
    let path = absolute(path);
    let dir = tree::open_in_root(root, relative(path.as_bytes()), OFlags::PATH).map_err(|error| match error {
        Errno::LOOP => Error::Archive("EvalSymlinks: too many links".to_owned()),
        Errno::NOTDIR => Error::Archive("not a directory".to_owned()),
        error => failed("lstat", &path)(error),
    })?;
    let found = rustix::fs::fstat(&dir).map_err(failed("lstat", &path))?;
    if tree::kind_of(&found) != FileType::Directory {
        return Err(Error::Archive("extraction point is not a directory".to_owned()));
    }
    let root = root.try_clone_to_owned().map_err(Error::file("opening", "/"))?;
    let path = PathBuf::from(follow(root.as_fd(), &path)?);
    Ok(Target { root, path })
}

/// Unpacks an archive, in whatever compression, into a directory.
///
/// Names cannot lead out of the directory; links that are there may, as for any process in the container, but never out
/// of the root.
pub fn extract(target: Target, stream: impl Read + Send, options: ExtractOptions) -> Result<()> {
    let rules = Rules {
        base: relative(target.path.as_os_str().as_bytes()),
        is_layer: false,
        marks: Marks::Trusted,
        no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
        owner: options.owner,
    };
    let plain = compression::plain(stream)?;
    let reader = TarReader::new(BufReader::with_capacity(128 << 10, plain));
    unpack::extract(reader, target.root, rules).map(drop)
}

fn failed(action: &'static str, path: &str) -> impl FnOnce(Errno) -> Error + use<> {
    let path = path.to_owned();
    move |error| match error {
        Errno::NOENT => Error::NoSuchPath(path.into()),
        error => Error::File { action, path: path.into(), source: error.into() },
    }
}

fn lstat(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Stat> {
    // A slash at the end makes the kernel follow a link all the same.
    let found = tree::open_in_root(root, relative(path), OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = rustix::fs::fstat(&found)?;
    // Docker looks at the root file system and volumes without the kernel's file systems: there is no such file then.
    if tree::kind_of(&stat) != FileType::Directory && tree::is_virtual(&found) {
        return Err(Errno::NOENT);
    }
    Ok(stat)
}

/// A path relative to the root: "/" itself is ".".
fn relative(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    &path[start..]
}

/// Cleans a path by its text, as a user of a shell would write it from the root; a slash or dot at the end stays.
fn absolute(path: &str) -> String {
    let clean = CleanPath::new(&[b"/", path.as_bytes()].concat());
    let mut clean =
        format!("/{}", clean.map_or_else(String::new, |clean| display(clean.as_bytes()).display().to_string()));
    let (wants_dot, wants_slash) = (base(path.as_bytes()) == b".", path.ends_with('/'));
    if (wants_dot || wants_slash) && !clean.ends_with('/') {
        clean.push('/');
    }
    if wants_dot {
        clean.push('.');
    }
    clean
}

/// The last component, without slashes after it, as Go's `filepath.Base`.
fn base(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let trimmed = &path[..end];
    match trimmed.iter().rposition(|byte| *byte == b'/') {
        _ if trimmed.is_empty() && path.is_empty() => b".",
        _ if trimmed.is_empty() => b"/",
        Some(slash) => &trimmed[slash + 1..],
        None => trimmed,
    }
}

/// Directory and last component of a path that does not end with a slash.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Where a path leads when all links in it are followed; what does not exist is taken as it is written.
fn follow(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    let mut pending: VecDeque<Vec<u8>> = components(path.as_bytes()).collect();
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(part) = pending.pop_front() {
        if part == b".." {
            done.pop();
            continue;
        }
        done.push(part);
        let here = done.join(&b'/');
        let target = tree::open_in_root(root, &here, OFlags::PATH | OFlags::NOFOLLOW)
            // The links in /proc lead to where Docker does not look.
            .and_then(|found| if tree::is_virtual(&found) { Err(Errno::INVAL) } else { Ok(found) })
            .and_then(|found| rustix::fs::readlinkat(&found, "", Vec::new()));
        if let Ok(target) = target {
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::Archive(format!("evalSymlinksInScope: too many links in {path}")));
            }
            done.pop();
            if target.as_bytes().starts_with(b"/") {
                done.clear();
            }
            for part in components(target.as_bytes()).collect::<Vec<_>>().into_iter().rev() {
                pending.push_front(part);
            }
        }
    }
    Ok(format!("/{}", OsStr::from_bytes(&done.join(&b'/')).to_string_lossy()))
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_gos() {
        for (path, clean, last) in [
            ("/", "/", "/"),
            ("/.", "/.", "."),
            (".", "/.", "."),
            ("..", "/", ".."),
            ("d", "/d", "d"),
            ("/d/", "/d/", "d"),
            ("/d/.", "/d/.", "."),
            ("/d/../x//y", "/x/y", "y"),
        ] {
            assert_eq!((absolute(path).as_str(), base(path.as_bytes())), (clean, last.as_bytes()), "{path}");
        }
    }
}
