//! The mounts of the configuration, each made detached and attached by descriptor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode};
use sys::mount::{self, Attributes};
use sys::path::Root;

use super::rootfs::RootFs;
use super::{cgroup_mount, copy_up};
use crate::detached::{self, Detached};
use crate::error::Stage;
use crate::failure::{Context, Failure, Step};
use crate::mount_options::MountOptions;
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
        MountSource::Filesystem(fstype, source) => filesystem(mount, fstype, source, rootfs),
        MountSource::Cgroup => cgroup_mount::make(plan, mount, rootfs),
    };
    result.map_err(|failure| named(mount, failure))
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
    }
}

fn bind(mount: &MountPlan, tree: &Detached, rootfs: &RootFs) -> Step {
    let directory = tree.is_directory().map_err(Failure::of)?;
    let attached = target(&rootfs.root, &mount.destination, directory).and_then(|target| {
        refuse_proc(target.as_fd(), &mount.destination, false)?;
        mount::attach(tree.fd().map_err(Failure::of)?, target.as_fd()).context(Stage::Rootfs, "attaching")
    });
    attached.map_err(|failure| named(mount, failure))
}

/// What the mount covers, made if missing.
pub(super) fn target(root: &Root, destination: &Path, directory: bool) -> Step<OwnedFd> {
    let mode = Mode::from_raw_mode(0o755);
    let made = if directory { root.create_directories(destination, mode) } else { root.create_file(destination, mode) };
    made.with_context(Stage::Rootfs, || format!("create mountpoint for {}", destination.display()))
}

/// A mount inside procfs could make the runtime, or the container, believe lies.
fn refuse_proc(target: std::os::fd::BorrowedFd<'_>, destination: &Path, is_proc: bool) -> Step {
    let inside = mount::filesystem_magic(target).context(Stage::Rootfs, "statfs")? == mount::PROC_MAGIC;
    let is_root = mount::is_mount_root(target).unwrap_or(false);
    if !inside || (is_root && is_proc) || COVERABLE.iter().any(|path| destination == Path::new(path)) {
        return Ok(());
    }
    let message = format!("{:?} cannot be mounted because it is inside /proc", destination.display().to_string());
    Err(Failure::new(Stage::Rootfs, message))
}

fn filesystem(mount: &MountPlan, fstype: &str, source: &Path, rootfs: &mut RootFs) -> Step {
    let options = &mount.options;
    let target = target(&rootfs.root, &mount.destination, true)?;
    refuse_proc(target.as_fd(), &mount.destination, fstype == "proc")?;
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
    let tree = mount::new_filesystem(fstype, source, &data, read_only, attributes).map_err(|error| Failure {
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
    if late {
        rootfs.late_read_only.push(tree);
    }
    Ok(())
}

/// The file system's own words first, as far as there are any.
pub(super) fn mount_message(error: &mount::Error) -> String {
    let messages = if error.messages.is_empty() { String::new() } else { format!(" ({})", error.messages.join("; ")) };
    format!("{}: {}{messages}", error.operation, crate::failure::plain(&error.source))
}
