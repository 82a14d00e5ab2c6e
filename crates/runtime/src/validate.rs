//! What a configuration must be like before anything is made from it. Whatever is not supported is refused here, by
//! the name of its field.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use oci::spec::{IdMapping, Linux, Process, Spec};
use sys::namespace::Kinds;

use crate::error::{Error, Result};

fn invalid<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Spec(message.into()))
}

/// Letters, digits and `_+-.`, and no name of a directory.
pub(crate) fn id(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id == "." || id == ".." || id.len() > 1024 || !id.bytes().all(allowed) {
        return Err(Error::InvalidId(id.to_owned()));
    }
    Ok(())
}

/// A configuration to make a container from.
pub(crate) fn spec(spec: &Spec) -> Result<()> {
    let Some(linux) = &spec.linux else { return invalid("linux: missing") };
    let Some(process) = &spec.process else { return invalid("process: missing") };
    version(&spec.oci_version)?;
    let kinds = namespaces(linux)?;
    if !kinds.contains(Kinds::MOUNT) {
        return invalid("linux.namespaces: a container without a mount namespace is not supported");
    }
    if !kinds.contains(Kinds::UTS) && (spec.hostname.is_some() || spec.domainname.is_some()) {
        let is_set = |name: &Option<String>| name.as_deref().is_some_and(|name| !name.is_empty());
        if is_set(&spec.hostname) || is_set(&spec.domainname) {
            return invalid("unable to set hostname without a private UTS namespace");
        }
    }
    id_mappings(linux, kinds)?;
    if !kinds.contains(Kinds::USER) && !rustix::process::geteuid().is_root() {
        return invalid("rootless container requires user namespaces");
    }
    mapped_ids(spec, linux)?;
    if !linux.time_offsets.is_empty() && !kinds.contains(Kinds::TIME) {
        return invalid("linux.timeOffsets: needs a time namespace");
    }
    if let Some(clock) = linux.time_offsets.keys().find(|clock| !["monotonic", "boottime"].contains(&clock.as_str())) {
        return invalid(format!("linux.timeOffsets: unknown clock {clock:?}"));
    }
    for name in linux.sysctl.keys() {
        sysctl(name, linux, kinds)?;
    }
    unsupported(linux)?;
    paths(spec, linux)?;
    self::process(process)
}

fn version(version: &str) -> Result<()> {
    // 1.x in any spelling; the fields that newer versions add are refused where they would change what runs.
    if version.is_empty() || version.starts_with("1.") {
        return Ok(());
    }
    invalid(format!("ociVersion: {version:?} is not supported"))
}

fn namespaces(linux: &Linux) -> Result<Kinds> {
    let mut seen = BTreeSet::new();
    let mut kinds = Kinds::default();
    for namespace in &linux.namespaces {
        let Some(kind) = Kinds::from_name(&namespace.kind) else {
            return invalid(format!("linux.namespaces: unknown type {:?}", namespace.kind));
        };
        if !seen.insert(&namespace.kind) {
            return invalid(format!("malformed spec file: duplicated ns {:?}", namespace.kind));
        }
        kinds |= kind;
    }
    Ok(kinds)
}

fn id_mappings(linux: &Linux, kinds: Kinds) -> Result<()> {
    let user = linux.namespaces.iter().find(|namespace| namespace.kind == "user");
    let joins = user.is_some_and(|namespace| namespace.path.as_deref().is_some_and(|path| !path.is_empty()));
    let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if mapped && !kinds.contains(Kinds::USER) {
        return invalid("user namespace mappings specified, but user namespace isn't enabled in the config");
    }
    if kinds.contains(Kinds::USER) && !joins && (linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty()) {
        return invalid("user namespaces enabled, but no uid and gid mappings found");
    }
    Ok(())
}

fn is_mapped(map: &[IdMapping], id: u32) -> bool {
    map.iter().any(|range| id >= range.container_id && id - range.container_id < range.size)
}

/// In a user namespace that is made for it, a container can only name ids that are mapped.
fn mapped_ids(spec: &Spec, linux: &Linux) -> Result<()> {
    if linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty() {
        return Ok(());
    }
    for (map, field) in [(&linux.uid_mappings, "uidMappings"), (&linux.gid_mappings, "gidMappings")] {
        if !is_mapped(map, 0) {
            return invalid(format!("linux.{field}: id 0 of the container must be mapped"));
        }
    }
    let Some(process) = &spec.process else { return Ok(()) };
    user_is_mapped(process, linux)?;
    for mount in &spec.mounts {
        for option in &mount.options {
            let (map, id) = match option.split_once('=') {
                Some(("uid", id)) => (&linux.uid_mappings, id),
                Some(("gid", id)) => (&linux.gid_mappings, id),
                _ => continue,
            };
            if id.parse().is_ok_and(|id| !is_mapped(map, id)) {
                let name = &mount.destination;
                return invalid(format!("mounts: {name:?}: option {option:?} names an id that is not mapped"));
            }
        }
    }
    Ok(())
}

/// The user of a process, where it can be told: the maps of a user namespace that is joined are not known here.
pub(crate) fn user_is_mapped(process: &Process, linux: &Linux) -> Result<()> {
    let check = |map: &[IdMapping], id: u32, field: &str| {
        if map.is_empty() || is_mapped(map, id) {
            Ok(())
        } else {
            invalid(format!("process.user.{field}: {id} is not mapped in the user namespace"))
        }
    };
    let user = &process.user;
    check(&linux.uid_mappings, user.uid, "uid")?;
    check(&linux.gid_mappings, user.gid, "gid")?;
    user.additional_gids.iter().try_for_each(|gid| check(&linux.gid_mappings, *gid, "additionalGids"))
}

/// Only what belongs to a namespace of the container's own may be changed: anything else would change the host.
fn sysctl(name: &str, linux: &Linux, kinds: Kinds) -> Result<()> {
    const IPC: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let dotted = name.replace('/', ".");
    if dotted.split('.').any(str::is_empty) {
        return invalid(format!("linux.sysctl: {name:?} is no kernel parameter"));
    }
    if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        return match kinds.contains(Kinds::IPC) {
            true => Ok(()),
            false => invalid(format!("sysctl {name:?} is not allowed in the hosts ipc namespace")),
        };
    }
    if dotted.starts_with("net.") {
        let network = linux.namespaces.iter().find(|namespace| namespace.kind == "network");
        let own = |path: &str| {
            let same = |a: &Path, b: &Path| Some(rustix::fs::stat(a).ok()?.st_ino == rustix::fs::stat(b).ok()?.st_ino);
            same(Path::new(path), Path::new("/proc/self/ns/net")) != Some(true)
        };
        return match network {
            Some(network) if network.path.as_deref().is_none_or(|path| path.is_empty() || own(path)) => Ok(()),
            _ => invalid(format!("sysctl {name:?} not allowed in host network namespace")),
        };
    }
    if kinds.contains(Kinds::UTS) {
        match dotted.as_str() {
            "kernel.domainname" => return Ok(()),
            "kernel.hostname" => {
                return invalid(
                    "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field",
                );
            }
            _ => {}
        }
    }
    invalid(format!("sysctl {name:?} is not in a separate kernel namespace"))
}

fn unsupported(linux: &Linux) -> Result<()> {
    if linux.intel_rdt.is_some() {
        return invalid("linux.intelRdt: not supported");
    }
    if !linux.net_devices.is_empty() {
        return invalid("linux.netDevices: not supported");
    }
    if linux.mount_label.as_deref().is_some_and(|label| !label.is_empty()) {
        return invalid("linux.mountLabel: SELinux labels of mounts are not supported");
    }
    if let Some(personality) = &linux.personality {
        if !["LINUX", "LINUX32"].contains(&personality.domain.as_str()) {
            return invalid(format!("linux.personality: unknown domain {:?}", personality.domain));
        }
        if !personality.flags.is_empty() {
            return invalid("linux.personality.flags: not supported");
        }
    }
    if let Some(word) = linux.rootfs_propagation.as_deref().filter(|word| !word.is_empty())
        && crate::mount_options::propagation(word).is_none()
    {
        return invalid(format!("rootfsPropagation={word} is not supported"));
    }
    Ok(())
}

fn paths(spec: &Spec, linux: &Linux) -> Result<()> {
    for path in linux.masked_paths.iter().chain(&linux.readonly_paths) {
        if !Path::new(path).is_absolute() {
            return invalid(format!("linux.maskedPaths and readonlyPaths: {path:?} is not absolute"));
        }
    }
    if let Some(device) = linux.devices.iter().find(|device| !Path::new(&device.path).is_absolute()) {
        return invalid(format!("linux.devices: {:?} is not absolute", device.path));
    }
    if let Some(path) = linux.cgroups_path.as_deref()
        && Path::new(path).components().any(|component| component == Component::ParentDir)
    {
        return invalid(format!("linux.cgroupsPath: {path:?} leads out of itself"));
    }
    for mount in &spec.mounts {
        if mount.destination.is_empty() {
            return invalid("mounts: a destination is missing");
        }
    }
    Ok(())
}

/// A process, the first one or an added one.
pub(crate) fn process(process: &Process) -> Result<()> {
    if process.args.is_empty() {
        return invalid("process.args: must not be empty");
    }
    if process.cwd.is_empty() {
        return invalid("Cwd property must not be empty");
    }
    if !Path::new(&process.cwd).is_absolute() {
        return invalid("Cwd must be an absolute path");
    }
    let has_nul = |text: &String| text.contains('\0');
    if process.args.iter().chain(&process.env).any(has_nul) || process.cwd.contains('\0') {
        return invalid("process: a string contains a NUL byte");
    }
    if let Some(score) = process.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        return invalid(format!("process.oomScoreAdj: {score} is not between -1000 and 1000"));
    }
    let mut seen = BTreeSet::new();
    for limit in &process.rlimits {
        if sys::user::resource(&limit.kind).is_none() {
            return invalid(format!("invalid rlimit type: {:?}", limit.kind));
        }
        if !seen.insert(&limit.kind) {
            return invalid(format!("process.rlimits: {} is there twice", limit.kind));
        }
        if limit.soft > limit.hard {
            return invalid(format!("process.rlimits: the soft limit of {} is above the hard one", limit.kind));
        }
    }
    Ok(())
}
