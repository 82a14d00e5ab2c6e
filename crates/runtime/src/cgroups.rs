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

/// Whether a caller does without what it has no right to: as it was told, or when it is not root of the machine.
pub(crate) fn is_rootless(asked: Option<bool>) -> bool {
    asked.unwrap_or_else(|| !rustix::process::geteuid().is_root() || sys::user::in_user_namespace())
}

/// The path below the hierarchies that the container's group is to have. A relative one starts at their root for root,
/// and for others beside the group that they are in. `None`: the caller may make none, and has not said where.
pub(crate) fn place(linux: &Linux, id: &str, rootless: bool) -> Result<Option<PathBuf>> {
    let asked = linux.cgroups_path.as_deref().filter(|path| !path.is_empty()).map(Path::new);
    let from_root = || match asked {
        Some(path) => Path::new("/").join(path),
        None => Path::new(DEFAULT_PARENT).join(id),
    };
    if !rootless || asked.is_some_and(Path::is_absolute) {
        return Ok(Some(from_root()));
    }
    let hierarchies = match hierarchies() {
        Err(_) if asked.is_none() => return Ok(None),
        found => found?,
    };
    let (Version::V2, Some(root)) = (hierarchies.version(), hierarchies.unified()) else {
        let writable = hierarchies.controllers().iter().all(|controller| may_write(&controller.mount_point));
        return Ok((asked.is_some() || writable).then(from_root));
    };
    // The caller's own group has processes, at least the caller, so that its children cannot have limits: those of the
    // group above can.
    let Some(own) = cgroup::own() else { return Ok(asked.is_some().then(from_root)) };
    let above = own.parent().unwrap_or(&own);
    let name = asked.unwrap_or(Path::new(id));
    let place = [above, &own].into_iter().find(|parent| {
        let directory = below(root, parent);
        may_write(&directory) && may_write(&directory.join("cgroup.procs"))
    });
    Ok(place.or(asked.map(|_| above)).map(|parent| parent.join(name)))
}

fn may_write(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// A path of a group as one of the host.
fn below(mount_point: &Path, path: &Path) -> PathBuf {
    mount_point.join(path.strip_prefix("/").unwrap_or(path))
}

/// Whether the caller may move processes of its own group there: the kernel asks for the right to write to the nearest
/// group that both are in. Only in version 2; in the other who may write to the group may put processes there.
pub(crate) fn may_enter(cgroup: &Cgroup) -> bool {
    let (Ok(hierarchies), Some(own)) = (hierarchies(), cgroup::own()) else { return true };
    let (Version::V2, Some(root)) = (hierarchies.version(), hierarchies.unified()) else { return true };
    let common: PathBuf =
        own.components().zip(cgroup.path().components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    may_write(&below(root, &common).join("cgroup.procs"))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn failed(error: cgroup::Error) -> Error {
    Error::Cgroup(error.to_string())
}

/// The hierarchies of the host, looked up once: a runtime lives for one command, and mounts of cgroups stay.
fn hierarchies() -> Result<&'static Hierarchies> {
    static HIERARCHIES: OnceLock<Hierarchies> = OnceLock::new();
    if let Some(known) = HIERARCHIES.get() {
        return Ok(known);
    }
    let found = Hierarchies::detect().map_err(failed)?;
    Ok(HIERARCHIES.get_or_init(|| found))
}

pub(crate) fn open(path: &Path) -> Result<Cgroup> {
    Cgroup::open_in(hierarchies()?, path).map_err(failed)
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
pub(crate) fn create(linux: &Linux, path: &Path, rootless: bool, warnings: &mut Vec<String>) -> Result<View> {
    let mut resources = linux.resources.as_ref().map(limits::resources).transpose()?.unwrap_or_default();
    let rules = device_rules(&std::mem::take(&mut resources.devices));
    let cgroup = match Cgroup::create(path) {
        Err(cgroup::Error::InternalProcesses(_)) if rootless => Cgroup::create_without_controllers(path),
        made => made,
    }
    .map_err(failed)?;
    let made = if rootless && !may_enter(&cgroup) {
        let reason = "the group that both have in common is not the caller's";
        Err(cgroup::Error::Invalid(format!("processes cannot be moved to {}: {reason}", path.display())))
    } else {
        apply(&cgroup, &resources, &rules, rootless).and_then(|devices| Ok((devices, layout(&cgroup)?)))
    };
    match made {
        Ok((devices, layout)) => {
            if !devices {
                warn_of_devices(linux, warnings);
            }
            Ok(View { cgroup, layout })
        }
        Err(error) => {
            let _ = cgroup.delete();
            Err(failed(error))
        }
    }
}

/// Puts limits in force, and rules for devices; whether those were. They need more than the right to a group: a caller
/// without it can make no device nodes either, so what its files allow is what there is.
fn apply(cgroup: &Cgroup, resources: &cgroup::Resources, rules: &[DeviceRule], rootless: bool) -> cgroup::Result<bool> {
    let devices = cgroup::Resources { devices: rules.to_vec(), ..cgroup::Resources::default() };
    let devices = match cgroup.apply(&devices) {
        Err(error) if rootless && error.is_permission() => false,
        result => result.map(|()| true)?,
    };
    cgroup.apply(resources)?;
    Ok(devices)
}

fn warn_of_devices(linux: &Linux, warnings: &mut Vec<String>) {
    if linux.resources.as_ref().is_some_and(|resources| !resources.devices.is_empty()) {
        let text = "linux.resources.devices was not applied, which needs root: a device can be used as its file allows";
        warnings.push(text.into());
    }
}

/// What it means to have no group: no limit may have been asked for.
pub(crate) fn do_without(linux: &Linux, warnings: &mut Vec<String>) -> Result<()> {
    let resources = serde_json::to_value(linux.resources.clone().unwrap_or_default()).unwrap_or_default();
    let limit =
        resources.as_object().into_iter().flatten().find(|(name, value)| *name != "devices" && limits_any(value));
    if let Some((name, _)) = limit {
        return Err(Error::Spec(format!(
            "linux.resources.{name}: there is no right to make a cgroup, so it cannot be applied"
        )));
    }
    warn_of_devices(linux, warnings);
    Ok(())
}

/// Zero is no limit to any of them, less is one that is lifted.
fn limits_any(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => false,
        serde_json::Value::Bool(set) => *set,
        serde_json::Value::Number(number) => number.as_f64().is_some_and(|number| number > 0.0),
        serde_json::Value::String(text) => !text.is_empty(),
        serde_json::Value::Array(list) => !list.is_empty(),
        serde_json::Value::Object(fields) => fields.values().any(limits_any),
    }
}

fn layout(cgroup: &Cgroup) -> cgroup::Result<Layout> {
    let hierarchies = Hierarchies::detect()?;
    let below = |mount_point: &Path| below(mount_point, cgroup.path());
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
