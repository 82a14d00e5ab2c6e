//! Paths that the container must not read (masked) or write (read-only).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;
use sys::mount::{self, Attributes};
use sys::path::Root;

use super::mounts::mount_message;
use super::rootfs::RootFs;
use crate::error::Stage;
use crate::failure::{Context, Failure, Step};
use crate::plan::Plan;

/// Covers them; a path that is not there needs nothing.
pub(super) fn apply(plan: &Plan, rootfs: &RootFs) -> Step {
    let Some(linux) = &plan.spec.linux else { return Ok(()) };
    for path in &linux.readonly_paths {
        read_only(Path::new(path), rootfs).map_err(|failure| named("read-only path", path, failure))?;
    }
    let mut empty = None;
    for path in &linux.masked_paths {
        mask(Path::new(path), rootfs, &mut empty).map_err(|failure| named("masked path", path, failure))?;
    }
    Ok(())
}

fn named(what: &str, path: &str, mut failure: Failure) -> Failure {
    failure.message.insert_str(0, &format!("{what} {path}: "));
    failure
}

fn find(path: &Path, rootfs: &RootFs) -> Step<Option<OwnedFd>> {
    // The last one that was mounted at a place covers the others.
    let below =
        |(place, tree): &(PathBuf, OwnedFd)| Some((path.strip_prefix(place).ok()?.to_owned(), tree.try_clone()));
    let resolved = match rootfs.kernel.iter().rev().find_map(below) {
        Some((rest, tree)) => Root::from_fd(tree.context(Stage::Rootfs, "dup")?).resolve(&rest),
        None => rootfs.root.resolve(path),
    };
    match resolved {
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(None),
        result => result.map(Some).context(Stage::Rootfs, "open"),
    }
}

/// A bind mount of the path on itself.
fn read_only(path: &Path, rootfs: &RootFs) -> Step {
    let Some(found) = find(path, rootfs)? else { return Ok(()) };
    let tree = mount::clone_tree(found.as_fd(), Path::new(""), true).context(Stage::Rootfs, "open_tree")?;
    let attributes = Attributes { set: Attributes::READ_ONLY, clear: 0 };
    mount::set_attributes(tree.as_fd(), attributes, true).context(Stage::Rootfs, "mount_setattr")?;
    mount::attach(tree.as_fd(), found.as_fd()).context(Stage::Rootfs, "attaching")
}

/// A directory is covered by an empty read-only tmpfs, which all of them share; anything else by `/dev/null`.
fn mask(path: &Path, rootfs: &RootFs, empty: &mut Option<OwnedFd>) -> Step {
    let Some(found) = find(path, rootfs)? else { return Ok(()) };
    let stat = rustix::fs::statat(&found, "", AtFlags::EMPTY_PATH).context(Stage::Rootfs, "stat")?;
    let tree = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        match empty {
            Some(first) => {
                mount::clone_tree(first.as_fd(), Path::new(""), false).context(Stage::Rootfs, "open_tree")?
            }
            None => empty_directory()?,
        }
    } else {
        null(rootfs)?
    };
    mount::attach(tree.as_fd(), found.as_fd()).context(Stage::Rootfs, "attaching")?;
    if empty.is_none() && FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        *empty = Some(tree);
    }
    Ok(())
}

fn empty_directory() -> Step<OwnedFd> {
    let options = ["nr_blocks=1".to_owned(), "nr_inodes=1".to_owned()];
    mount::new_filesystem("tmpfs", Path::new("tmpfs"), &options, true, Attributes::READ_ONLY).map_err(|error| Failure {
        stage: Stage::Rootfs,
        errno: error.source.raw_os_error(),
        message: mount_message(&error),
    })
}

/// The container's `/dev/null`, if it is what it says: an image could have put something else there.
fn null(rootfs: &RootFs) -> Step<OwnedFd> {
    let found = rootfs.root.open_at(Path::new("/dev/null"), OFlags::PATH | OFlags::NOFOLLOW);
    let found = found.context(Stage::Rootfs, "/dev/null")?;
    let stat = rustix::fs::statat(&found, "", AtFlags::EMPTY_PATH).context(Stage::Rootfs, "/dev/null")?;
    let is_null =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3);
    if !is_null {
        return Err(Failure::new(Stage::Rootfs, "/dev/null of the container is not the null device"));
    }
    mount::clone_tree(found.as_fd(), Path::new(""), false).context(Stage::Rootfs, "/dev/null")
}
