//! The mounts of the configuration, each made detached and attached by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use sys::mount::{self, Attributes};
use sys::namespace::Kinds;
use sys::path::Root;
use sys::procfs;

use super::rootfs::RootFs;
use super::{cgroup_mount, copy_up};
use crate::detached::{self, Detached};
use crate::error::Stage;
use crate::failure::{Context, Failure, Step};
use crate::mount_options::MountOptions;
use crate::overlay;
use crate::plan::{MountPlan, MountSource, Plan};

/// Files of procfs that may be covered, because programs read them and nothing depends on them (as runc has it).
const COVERABLE: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Makes one mount.
pub(super) fn make(plan: &Plan, mount: &MountPlan, rootfs: &mut RootFs) -> Step {
    let result = match &mount.source {
        MountSource::Tree(tree) => return bind(mount, tree, rootfs),
        MountSource::Filesystem(fstype, source) => {
            filesystem(mount, fstype, source, rootfs).map_err(|failure| explain(plan, fstype, failure))
        }
        MountSource::Cgroup => cgroup_mount::make(plan, mount, rootfs),
        MountSource::Present => remount(mount, rootfs),
    };
    result.map_err(|failure| named(mount, failure))
}

/// The kernel shows what belongs to a namespace only to a user namespace that owns it.
fn explain(plan: &Plan, fstype: &str, mut failure: Failure) -> Failure {
    let (kind, name) = match fstype {
        "sysfs" => (Kinds::NETWORK, "network"),
        "proc" => (Kinds::PID, "pid"),
        _ => return failure,
    };
    if failure.errno == Some(Errno::PERM.raw_os_error()) && !plan.namespaces.new.contains(kind) {
        failure.message.push_str(&format!(
            " (without root of the machine it needs a new {name} namespace; that of the host can be bound instead)"
        ));
    }
    failure
}

fn named(mount: &MountPlan, mut failure: Failure) -> Failure {
    let prefix = format!("error mounting {:?} to rootfs at {:?}: ", label(mount), mount.destination);
    failure.message.insert_str(0, &prefix);
    failure
}

fn label(mount: &MountPlan) -> &str {
    match &mount.source {
        MountSource::Tree(..) => "bind",
        MountSource::Filesystem(fstype, source) => source.to_str().filter(|s| !s.is_empty()).unwrap_or(fstype),
        MountSource::Cgroup => "cgroup",
        MountSource::Present => "remount",
    }
}

fn bind(mount: &MountPlan, tree: &Detached, rootfs: &mut RootFs) -> Step {
    let directory = tree.is_directory().map_err(Failure::of)?;
    let tree = tree.fd().map_err(Failure::of)?;
    let attached = target(&rootfs.root, &mount.destination, directory).and_then(|target| {
        let is_proc = procfs::is_top(tree).context(Stage::Rootfs, "statfs")?;
        refuse_lies(&rootfs.root, target.as_fd(), &mount.destination, is_proc)?;
        mount::attach(tree, target.as_fd()).context(Stage::Rootfs, "attaching")?;
        remember(tree, &mount.destination, rootfs)
    });
    attached.map_err(|failure| named(mount, failure))
}

/// What the mount covers, made if missing.
pub(super) fn target(root: &Root, destination: &Path, directory: bool) -> Step<OwnedFd> {
    let mode = Mode::from_raw_mode(0o755);
    let made = if directory { root.create_directories(destination, mode) } else { root.create_file(destination, mode) };
    made.with_context(Stage::Rootfs, || format!("create mountpoint for {}", destination.display()))
}

/// A mount inside procfs, or something else in the place of procfs, could make the runtime, or the container, believe
/// lies. `is_proc`: what is mounted is a whole procfs.
pub(super) fn refuse_lies(root: &Root, target: BorrowedFd<'_>, destination: &Path, is_proc: bool) -> Step {
    if is_proc && is_mount_of_proc(target)? {
        return Ok(());
    }
    if !COVERABLE.iter().any(|path| destination == Path::new(path)) {
        refuse_inside_proc(target, destination)?;
    }
    let place = root.open_at(Path::new("/proc"), OFlags::PATH);
    if !is_proc && place.is_ok_and(|place| is_same(place.as_fd(), target)) {
        let message =
            format!("{:?} cannot be mounted because it is not of type proc", destination.display().to_string());
        return Err(Failure::new(Stage::Rootfs, message));
    }
    Ok(())
}

fn is_mount_of_proc(target: BorrowedFd<'_>) -> Step<bool> {
    let is_top = procfs::is_top(target).context(Stage::Rootfs, "statfs")?;
    Ok(is_top && mount::is_mount_root(target).unwrap_or(false))
}

/// Nothing covers a file of procfs.
pub(super) fn refuse_inside_proc(target: BorrowedFd<'_>, destination: &Path) -> Step {
    if mount::filesystem_magic(target).context(Stage::Rootfs, "statfs")? != mount::PROC_MAGIC {
        return Ok(());
    }
    let message = format!("{:?} cannot be mounted because it is inside /proc", destination.display().to_string());
    Err(Failure::new(Stage::Rootfs, message))
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let identity = |file| rustix::fs::statat(file, "", AtFlags::EMPTY_PATH).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Where procfs and sysfs lie is what paths like `/proc/sys` rely on. A link there could lead into a volume whose other
/// users exchange what is in it (CVE-2019-19921, CVE-2023-27561).
fn kernel_target(root: &Root, fstype: &str, destination: &Path) -> Step<OwnedFd> {
    root.plain_directory(destination, Mode::from_raw_mode(0o755)).map_err(|error| {
        let is_link = [Errno::LOOP, Errno::NOTDIR].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()));
        let message = if is_link {
            format!("filesystem {fstype:?} must be mounted on ordinary directory")
        } else {
            format!("create mountpoint for {}: {}", destination.display(), crate::failure::plain(&error))
        };
        Failure { stage: Stage::Rootfs, message, errno: error.raw_os_error() }
    })
}

/// Remembers where the kernel's own file systems are, see [`RootFs::kernel`].
fn remember(tree: BorrowedFd<'_>, destination: &Path, rootfs: &mut RootFs) -> Step {
    // What it covers is out of reach.
    rootfs.kernel.retain(|(place, _)| !place.starts_with(destination));
    let magic = mount::filesystem_magic(tree).context(Stage::Rootfs, "statfs")?;
    if magic == mount::PROC_MAGIC || magic == mount::SYSFS_MAGIC {
        let tree = tree.try_clone_to_owned().context(Stage::Rootfs, "dup")?;
        rootfs.kernel.push((destination.components().collect(), tree));
    }
    Ok(())
}

fn filesystem(mount: &MountPlan, fstype: &str, source: &Path, rootfs: &mut RootFs) -> Step {
    let options = &mount.options;
    let is_kernel = fstype == "proc" || fstype == "sysfs";
    let target = if is_kernel {
        kernel_target(&rootfs.root, fstype, &mount.destination)?
    } else {
        target(&rootfs.root, &mount.destination, true)?
    };
    refuse_lies(&rootfs.root, target.as_fd(), &mount.destination, fstype == "proc")?;
    let mut data = [options.filesystem.as_slice(), options.data.as_slice()].concat();
    let is_tmpfs = fstype == "tmpfs";
    let has_mode = data.iter().any(|option| option.starts_with("mode="));
    if is_tmpfs && !has_mode {
        // The new directory looks like the one that it covers.
        let covered = rustix::fs::statat(&target, "", AtFlags::EMPTY_PATH).context(Stage::Rootfs, "stat")?;
        data.push(format!("mode={:04o}", covered.st_mode & 0o7777));
    }
    // Mount points and device nodes are still to be made in a tmpfs.
    let late = is_tmpfs && options.read_only();
    let mut attributes = options.attributes.set;
    if late {
        attributes &= !Attributes::READ_ONLY;
    }
    let source = if source.as_os_str().is_empty() { Path::new(fstype) } else { source };
    let read_only = options.read_only() && !late;
    let tree = overlay::new_filesystem(fstype, source, &data, read_only, attributes).map_err(|error| Failure {
        stage: Stage::Rootfs,
        errno: error.source.raw_os_error(),
        message: mount_message(&error),
    })?;
    if options.copy_up {
        copy_up::copy(target.as_fd(), tree.as_fd())
            .with_context(Stage::Rootfs, || format!("tmpcopyup: copying {}", mount.destination.display()))?;
    }
    let after = MountOptions { attributes: Attributes::default(), ..options.clone() };
    detached::finish(tree.as_fd(), &after).context(Stage::Rootfs, "mount_setattr")?;
    mount::attach(tree.as_fd(), target.as_fd()).context(Stage::Rootfs, "attaching")?;
    remember(tree.as_fd(), &mount.destination, rootfs)?;
    if late {
        rootfs.late_read_only.push(tree);
    }
    Ok(())
}

/// Changes a mount that an earlier entry made, or that the image's part of the root is. What is not named stays.
///
/// `ro` and the like are about the mount alone; the file system itself, which others may use too, is touched only when
/// the entry names an option of its own.
fn remount(mount: &MountPlan, rootfs: &RootFs) -> Step {
    let options = &mount.options;
    let place = rootfs.root.resolve(&mount.destination).context(Stage::Rootfs, "finding it")?;
    if !mount::is_mount_root(place.as_fd()).context(Stage::Rootfs, "statx")? {
        return Err(Failure::new(Stage::Rootfs, "remount: nothing is mounted there"));
    }
    let data = [options.filesystem.as_slice(), options.data.as_slice()].concat();
    if options.bind.is_none() && !data.is_empty() {
        mount::reconfigure(place.as_fd(), &data).map_err(|error| Failure {
            stage: Stage::Rootfs,
            errno: error.source.raw_os_error(),
            message: mount_message(&error),
        })?;
    }
    detached::finish(place.as_fd(), options).context(Stage::Rootfs, "mount_setattr")
}

/// The file system's own words first, as far as there are any.
pub(super) fn mount_message(error: &mount::Error) -> String {
    let messages = if error.messages.is_empty() { String::new() } else { format!(" ({})", error.messages.join("; ")) };
    format!("{}: {}{messages}", error.operation, crate::failure::plain(&error.source))
}
