//! The container's cgroup: where it is, what it allows by default, and how the container sees it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use oci::spec::Linux;
use sys::cgroup::{self, Access, Cgroup, DeviceKind, DeviceRule, Hierarchies, Version};

use crate::error::{Error, Result};
use crate::limits;

/// Where containers are that do not say where.
const DEFAULT_PARENT: &str = "/gantry";

/// The cgroup of a container and how its file systems are mounted inside.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) cgroup: Cgroup,
    pub(crate) layout: Layout,
}

/// Where the container's group is in the host's mounts.
#[derive(Debug)]
pub(crate) enum Layout {
    /// One directory.
    V2 {
        /// The container's group.
        directory: PathBuf,
    },
    /// One for each hierarchy.
    V1 {
        /// What is mounted for each.
        hierarchies: Vec<Hierarchy>,
    },
}

/// One hierarchy of a host with version 1.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    /// Name of its mount point, e.g. `cpu,cpuacct`.
    pub(crate) name: String,
    /// The options that select it, e.g. `cpu,cpuacct` or `name=systemd`; none for version 2 besides.
    pub(crate) option: Option<String>,
    /// The container's group in it.
    pub(crate) directory: PathBuf,
}

/// The path below the hierarchies. A relative one starts at their root.
pub(crate) fn path(linux: &Linux, id: &str) -> PathBuf {
    match linux.cgroups_path.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => Path::new("/").join(path),
        None => Path::new(DEFAULT_PARENT).join(id),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn failed(error: cgroup::Error) -> Error {
    Error::Cgroup(error.to_string())
}

/// The hierarchies of the host, looked up once: a runtime lives for one command, and mounts of cgroups stay.
pub(crate) fn open(path: &Path) -> Result<Cgroup> {
    static HIERARCHIES: OnceLock<Hierarchies> = OnceLock::new();
    let hierarchies = match HIERARCHIES.get() {
        Some(known) => known,
        None => {
            let found = Hierarchies::detect().map_err(failed)?;
            HIERARCHIES.get_or_init(|| found)
        }
    };
    Cgroup::open_in(hierarchies, path).map_err(failed)
}

/// The group that processes can be added to: the container's own, or the one that its first process moved itself to,
/// when that has given its own children limits (systemd does), since version 2 then keeps processes out of it.
pub(crate) fn for_added(cgroup: Cgroup, pid: i32) -> Result<Cgroup> {
    let divided = cgroup.directories().iter().any(|directory| {
        std::fs::read_to_string(directory.join("cgroup.subtree_control")).is_ok_and(|text| !text.trim().is_empty())
    });
    if !divided {
        return Ok(cgroup);
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let unified = text.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new);
    match unified.filter(|path| path.starts_with(cgroup.path())) {
        Some(path) => open(path),
        None => Ok(cgroup),
    }
}

/// Makes the group with its limits. After an error nothing of it is left.
pub(crate) fn create(linux: &Linux, id: &str) -> Result<View> {
    let path = path(linux, id);
    let mut resources = linux.resources.as_ref().map(limits::resources).transpose()?.unwrap_or_default();
    resources.devices = device_rules(&resources.devices);
    let cgroup = Cgroup::create(&path).map_err(failed)?;
    let made = cgroup.apply(&resources).and_then(|()| layout(&cgroup));
    match made {
        Ok(layout) => Ok(View { cgroup, layout }),
        Err(error) => {
            let _ = cgroup.delete();
            Err(failed(error))
        }
    }
}

fn layout(cgroup: &Cgroup) -> cgroup::Result<Layout> {
    let hierarchies = Hierarchies::detect()?;
    let below = |mount_point: &Path| mount_point.join(cgroup.path().strip_prefix("/").unwrap_or(cgroup.path()));
    if hierarchies.version() == Version::V2 {
        let directory = below(hierarchies.unified().unwrap_or(Path::new("/sys/fs/cgroup")));
        return Ok(Layout::V2 { directory });
    }
    let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let v1 = hierarchies.controllers().iter().map(|controller| Hierarchy {
        name: name_of(&controller.mount_point),
        option: Some(controller.names.join(",")),
        directory: below(&controller.mount_point),
    });
    let unified = hierarchies.unified().map(|mount_point| Hierarchy {
        name: name_of(mount_point),
        option: None,
        directory: below(mount_point),
    });
    Ok(Layout::V1 { hierarchies: v1.chain(unified).collect() })
}

/// Nothing but what is asked for, and the devices that every container has (runtime specification,
/// config-linux.md#default-devices; the list is runc's). Nodes of any device may be made: using them is another matter.
fn device_rules(asked: &[DeviceRule]) -> Vec<DeviceRule> {
    let rule = |kind, major, minor, access| DeviceRule { allow: true, kind, major, minor, access };
    let none = DeviceRule { allow: false, kind: DeviceKind::All, major: None, minor: None, access: Access::ALL };
    let mut rules = Vec::with_capacity(asked.len() + 12);
    if asked.first().is_none_or(|first| first.kind != DeviceKind::All) {
        rules.push(none);
    }
    rules.extend_from_slice(asked);
    // A privileged container has everything already; more rules would only be more to write.
    if asked.last().is_some_and(|last| last.allow && last.kind == DeviceKind::All) {
        return rules;
    }
    rules.push(rule(DeviceKind::Char, None, None, Access(Access::MKNOD)));
    rules.push(rule(DeviceKind::Block, None, None, Access(Access::MKNOD)));
    for (major, minor) in [(1, 3), (1, 8), (1, 7), (5, 0), (1, 5), (1, 9), (5, 2)] {
        rules.push(rule(DeviceKind::Char, Some(major), Some(minor), Access::ALL));
    }
    rules.push(rule(DeviceKind::Char, Some(136), None, Access::ALL));
    rules
}
