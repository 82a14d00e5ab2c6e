//! `/sys/fs/cgroup` inside.
//!
//! With a cgroup namespace the cgroup file systems themselves are mounted, whose root is then the container's group.
//! Without one version 2 shows the host's groups, where `/proc/self/cgroup` names the container's own; version 1 has one
//! mount for each controller, in a small tmpfs with links for those that share one, and each shows the container's group
//! alone. Both are as runc has them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use sys::mount::{self, Attributes};
use sys::namespace::Kinds;

use super::mounts::{mount_message, refuse_lies, target};
use super::rootfs::RootFs;
use crate::cgroups::{Hierarchy, Layout};
use crate::error::Stage;
use crate::failure::{Context, Failure, Step};
use crate::plan::{MountPlan, Plan};

/// Mounts whatever version the host has.
pub(super) fn make(plan: &Plan, mount: &MountPlan, rootfs: &mut RootFs) -> Step {
    match plan.cgroup.as_ref().map(|view| &view.layout) {
        Some(Layout::V2 { directory }) => v2(mount, directory, rootfs),
        Some(Layout::V1 { hierarchies }) => v1(plan, mount, hierarchies, rootfs),
        None => without_group(plan, mount, rootfs),
    }
}

/// A container without a group of its own sees nothing of those of the host, but for what a cgroup namespace of its own
/// shows of the one group of version 2 that it is in.
fn without_group(plan: &Plan, mount: &MountPlan, rootfs: &RootFs) -> Step {
    let covered = target(&rootfs.root, &mount.destination, true)?;
    let is_v2 = sys::cgroup::Hierarchies::detect().is_ok_and(|found| found.version() == sys::cgroup::Version::V2);
    let attributes = mount.options.attributes.set;
    let shown = (is_v2 && plan.namespaces.new.contains(Kinds::CGROUP))
        .then(|| mount::new_filesystem("cgroup2", Path::new("cgroup"), &mount.options.data, false, attributes).ok())
        .flatten();
    let tree = match shown {
        Some(tree) => tree,
        None => mount::new_filesystem("tmpfs", Path::new("tmpfs"), &["mode=555".to_owned()], true, attributes)
            .map_err(|error| failure(&error))?,
    };
    mount::attach(tree.as_fd(), covered.as_fd()).context(Stage::Rootfs, "attaching")
}

fn failure(error: &mount::Error) -> Failure {
    Failure { stage: Stage::Rootfs, errno: error.source.raw_os_error(), message: mount_message(error) }
}

fn v2(mount: &MountPlan, directory: &Path, rootfs: &RootFs) -> Step {
    let covered = target(&rootfs.root, &mount.destination, true)?;
    refuse_lies(&rootfs.root, covered.as_fd(), &mount.destination, false)?;
    let attributes = mount.options.attributes;
    let tree = match mount::new_filesystem("cgroup2", Path::new("cgroup"), &mount.options.data, false, attributes.set) {
        Ok(tree) => tree,
        // In a user namespace without a cgroup namespace of its own: the container's group is bound.
        Err(error) if refused(&error.source) => group(directory, attributes)?,
        Err(error) => return Err(failure(&error)),
    };
    mount::attach(tree.as_fd(), covered.as_fd()).context(Stage::Rootfs, "attaching")
}

fn refused(error: &std::io::Error) -> bool {
    [rustix::io::Errno::PERM, rustix::io::Errno::BUSY].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

fn v1(plan: &Plan, mount: &MountPlan, hierarchies: &[Hierarchy], rootfs: &mut RootFs) -> Step {
    let covered = target(&rootfs.root, &mount.destination, true)?;
    refuse_lies(&rootfs.root, covered.as_fd(), &mount.destination, false)?;
    let attributes = mount.options.attributes.set & !Attributes::READ_ONLY;
    let options = ["mode=755".to_owned()];
    let tmpfs = mount::new_filesystem("tmpfs", Path::new("tmpfs"), &options, false, attributes)
        .map_err(|error| failure(&error))?;
    mount::attach(tmpfs.as_fd(), covered.as_fd()).context(Stage::Rootfs, "attaching")?;
    let own = plan.namespaces.new.contains(Kinds::CGROUP) || plan.namespaces.joins(Kinds::CGROUP);
    for hierarchy in hierarchies {
        let name = hierarchy.name.as_str();
        rustix::fs::mkdirat(&tmpfs, name, Mode::from_raw_mode(0o755)).context(Stage::Rootfs, name)?;
        let inside = rustix::fs::openat(
            &tmpfs,
            name,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
            Mode::empty(),
        )
        .context(Stage::Rootfs, name)?;
        let tree = hierarchy_mount(hierarchy, own, mount.options.attributes)?;
        mount::attach(tree.as_fd(), inside.as_fd()).context(Stage::Rootfs, name)?;
        // `cpu` and `cpuacct` for what is mounted as `cpu,cpuacct`.
        for link in name.split(',').filter(|link| *link != name) {
            rustix::fs::symlinkat(name, &tmpfs, link).context(Stage::Rootfs, link)?;
        }
    }
    if mount.options.read_only() {
        rootfs.late_read_only.push(tmpfs);
    }
    Ok(())
}

fn hierarchy_mount(hierarchy: &Hierarchy, own: bool, attributes: Attributes) -> Step<OwnedFd> {
    if own {
        let (fstype, options) = match &hierarchy.option {
            Some(option) => ("cgroup", option.split(',').map(str::to_owned).collect()),
            None => ("cgroup2", Vec::new()),
        };
        return mount::new_filesystem(fstype, Path::new("cgroup"), &options, false, attributes.set)
            .map_err(|error| failure(&error));
    }
    group(&hierarchy.directory, attributes)
}

/// The container's group of the host, which is a group and nothing else.
fn group(directory: &Path, attributes: Attributes) -> Step<OwnedFd> {
    let tree = mount::clone_path(directory, true).context(Stage::Rootfs, directory.display())?;
    let magic = mount::filesystem_magic(tree.as_fd()).context(Stage::Rootfs, "statfs")?;
    if magic != mount::CGROUP_MAGIC && magic != mount::CGROUP2_MAGIC {
        return Err(Failure::new(Stage::Rootfs, format!("{} is no cgroup", directory.display())));
    }
    mount::set_attributes(tree.as_fd(), attributes, true).context(Stage::Rootfs, "mount_setattr")?;
    Ok(tree)
}
