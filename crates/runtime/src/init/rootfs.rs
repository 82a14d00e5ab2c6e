//! The root filesystem: attached, filled with mounts and devices, made the root, and closed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::mount::{self, Attributes, Propagation};
use sys::namespace::Kinds;
use sys::path::Root;

use super::{devices, hook_failure, mounts};
use crate::channel::{Channel, Message};
use crate::error::Stage;
use crate::failure::{Context, Failure, Step};
use crate::hooks;
use crate::mount_options;
use crate::plan::{MountSource, Plan};

/// The mounted root filesystem.
pub(super) struct RootFs {
    pub(super) root: Root,
    /// Mounts in it that become read-only when everything is in place.
    pub(super) late_read_only: Vec<OwnedFd>,
    /// Procfs and sysfs with their places: what is to be masked in them is found from here. By a path whoever shares the
    /// root filesystem could move them away for a moment, and have something else masked (CVE-2025-52881).
    pub(super) kernel: Vec<(PathBuf, OwnedFd)>,
}

/// Attaches the root over `/` of the new mount namespace and makes everything in it. The old root is still there, so
/// hooks run with the paths of the host.
pub(super) fn build(plan: &Plan, channel: &Channel) -> Step<RootFs> {
    let open = |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let place = if joins_mounts(plan) {
        // The namespace belongs to others too: their root stays, this one lies where its directory is.
        open(&plan.root_path.to_string_lossy()).context(Stage::Rootfs, "opening the root filesystem")?
    } else {
        let old = open("/").context(Stage::Rootfs, "opening the old root")?;
        // What is mounted on the host from now on is not for the container, except below bind mounts, which carry
        // their own propagation.
        mount::set_propagation(old.as_fd(), Propagation::Private, true).context(Stage::Rootfs, "making / private")?;
        old
    };
    let root = plan.root.fd().map_err(Failure::of)?;
    mount::attach(root, place.as_fd()).context(Stage::Rootfs, "attaching the root filesystem")?;
    let root = root.try_clone_to_owned().context(Stage::Rootfs, "the root filesystem")?;
    let mut rootfs = RootFs { root: Root::from_fd(root), late_read_only: Vec::new(), kernel: Vec::new() };
    for (target, tree) in &plan.root_parts {
        let inside = rootfs.root.create_directories(target, Mode::from_raw_mode(0o755));
        let inside = inside.with_context(Stage::Rootfs, || format!("creating {}", target.display()))?;
        mount::attach(tree.fd().map_err(Failure::of)?, inside.as_fd())
            .with_context(Stage::Rootfs, || format!("mounting {}", target.display()))?;
    }
    for mount in &plan.mounts {
        mounts::make(plan, mount, &mut rootfs)?;
    }
    if !binds_dev(plan) {
        devices::make(plan, &rootfs.root)?;
    }
    // runc makes the working directory when the image lacks it.
    let cwd = Path::new(&plan.process.process.cwd);
    rootfs
        .root
        .create_directories(cwd, Mode::from_raw_mode(0o755))
        .with_context(Stage::Program, || format!("mkdir {}", cwd.display()))?;
    run_hooks(plan, channel)?;
    Ok(rootfs)
}

/// A container that brings `/dev` from outside has its devices there.
fn binds_dev(plan: &Plan) -> bool {
    let is_dev = |path: &PathBuf| path.components().eq(Path::new("/dev").components());
    plan.mounts.iter().any(|mount| matches!(mount.source, MountSource::Tree(..)) && is_dev(&mount.destination))
}

fn run_hooks(plan: &Plan, channel: &Channel) -> Step {
    let Some(hooks) = &plan.spec.hooks else { return Ok(()) };
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        channel.send(&Message::Hooks, None).context(Stage::Hooks, "asking for hooks")?;
        channel.wait_for_answer().context(Stage::Hooks, "waiting for hooks")?;
    }
    hooks::run("createContainer", &hooks.create_container, &plan.hook_state).map_err(|error| hook_failure(&error))
}

fn joins_mounts(plan: &Plan) -> bool {
    plan.namespaces.joins(Kinds::MOUNT)
}

/// Makes it the root of the process and of the namespace.
pub(super) fn pivot(plan: &Plan, rootfs: &RootFs) -> Step {
    let root = rootfs.root.as_fd();
    if joins_mounts(plan) {
        enter(root)
    } else if plan.no_pivot {
        hide_kernel_files(plan)?;
        mount::enter_over_root(root).context(Stage::Rootfs, "changing the root")
    } else {
        mount::pivot(root).context(Stage::Rootfs, "pivot_root")
    }
}

fn enter(root: BorrowedFd<'_>) -> Step {
    rustix::process::fchdir(root).context(Stage::Rootfs, "fchdir")?;
    rustix::process::chroot(".").context(Stage::Rootfs, "chroot")?;
    rustix::process::chdir("/").context(Stage::Rootfs, "chdir")
}

/// Without pivot_root(2) the old root stays below the new one. Nobody sees it there, but the kernel lets a user namespace
/// mount a procfs or sysfs of its own, without masked paths, as long as the mount namespace has one without.
fn hide_kernel_files(plan: &Plan) -> Step {
    let points = plan.proc.mount_points(&["proc", "sysfs"]).context(Stage::Rootfs, "reading mountinfo")?;
    // The new root covers the old one, so some of these are places in it; by their paths the old ones are found.
    for point in points.iter().rev() {
        let failed = || format!("hiding {} of the host", point.display());
        match mount::detach(point) {
            Ok(()) => {}
            Err(error) if is(&error, Errno::NOENT) => {}
            // Not a mount of the old root, or one that a user namespace must keep, which is covered instead.
            Err(error) if is(&error, Errno::INVAL) || is(&error, Errno::PERM) => {
                cover(point).with_context(Stage::Rootfs, failed)?;
            }
            Err(error) => return Err(error).with_context(Stage::Rootfs, failed),
        }
    }
    Ok(())
}

fn is(error: &std::io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn cover(point: &Path) -> std::io::Result<()> {
    let place = rustix::fs::open(point, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let magic = mount::filesystem_magic(place.as_fd())?;
    if magic != mount::PROC_MAGIC && magic != mount::SYSFS_MAGIC {
        return Ok(());
    }
    let empty = mount::new_filesystem("tmpfs", Path::new("tmpfs"), &[], true, Attributes::READ_ONLY);
    mount::attach(empty.map_err(|error| error.source)?.as_fd(), place.as_fd())
}

/// Closes it: what was asked to be read-only becomes so, and the root gets its propagation.
pub(super) fn finish(plan: &Plan, rootfs: &RootFs) -> Step {
    let read_only = Attributes { set: Attributes::READ_ONLY, clear: 0 };
    for tree in &rootfs.late_read_only {
        mount::set_attributes(tree.as_fd(), read_only, false).context(Stage::Rootfs, "remounting read-only")?;
    }
    if plan.spec.root.as_ref().is_some_and(|root| root.readonly) {
        mount::set_attributes(rootfs.root.as_fd(), read_only, false)
            .context(Stage::Rootfs, "making the root filesystem read-only")?;
    }
    let word = plan.spec.linux.as_ref().and_then(|linux| linux.rootfs_propagation.as_deref()).unwrap_or_default();
    if let Some((propagation, recursive)) = mount_options::propagation(word) {
        mount::set_propagation(rootfs.root.as_fd(), propagation, recursive)
            .with_context(Stage::Rootfs, || format!("making / {word}"))?;
    }
    Ok(())
}
