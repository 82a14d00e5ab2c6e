//! `linux`: namespaces, ids, kernel parameters, devices and what else only Linux has. Limits and the filter of system
//! calls are checked by their conversion ([`crate::limits`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use oci::spec::{Device, IdMapping, IntelRdt, Linux, MemoryPolicy};
use sys::namespace::Kinds;

use super::{absolute, invalid, text};
use crate::error::Result;
use crate::numbers::{self, number_of};

/// Checks all of it, and returns the namespaces that the container has.
pub(super) fn check(linux: &Linux) -> Result<Kinds> {
    let kinds = namespaces(linux)?;
    id_mappings(linux, kinds)?;
    time_offsets(linux, kinds)?;
    for name in linux.sysctl.keys() {
        parameter(name, linux, kinds)?;
    }
    for (field, paths) in [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)] {
        for (index, path) in paths.iter().enumerate() {
            absolute(format!("linux.{field}[{index}]"), path)?;
        }
    }
    cgroups_path(linux)?;
    devices(&linux.devices)?;
    net_devices(linux, kinds)?;
    linux.intel_rdt.as_ref().map_or(Ok(()), intel_rdt)?;
    linux.memory_policy.as_ref().map_or(Ok(()), memory_policy)?;
    if let Some(personality) = &linux.personality {
        if !["LINUX", "LINUX32"].contains(&personality.domain.as_str()) {
            return invalid("linux.personality.domain", format!("unknown domain {:?}", personality.domain));
        }
        if let Some(flag) = personality.flags.first() {
            return invalid("linux.personality.flags", format!("{flag:?}: the specification has no flags yet"));
        }
    }
    if let Some(word) = linux.rootfs_propagation.as_deref().filter(|word| !word.is_empty())
        && crate::mount_options::propagation(word).is_none()
    {
        return invalid(
            "linux.rootfsPropagation",
            format!("rootfsPropagation={} is not supported", word.escape_debug()),
        );
    }
    text("linux.mountLabel", linux.mount_label.as_deref().unwrap_or_default())?;
    Ok(kinds)
}

fn namespaces(linux: &Linux) -> Result<Kinds> {
    let mut seen = BTreeSet::new();
    let mut kinds = Kinds::default();
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        let field = |name: &str| format!("linux.namespaces[{index}].{name}");
        if namespace.kind.is_empty() {
            return invalid(field("type"), "missing");
        }
        let Some(kind) = Kinds::from_name(&namespace.kind) else {
            return invalid(field("type"), format!("unknown type {:?}", namespace.kind));
        };
        if !seen.insert(&namespace.kind) {
            return invalid(field("type"), format!("malformed spec file: duplicated ns {:?}", namespace.kind));
        }
        if let Some(path) = namespace.path.as_deref().filter(|path| !path.is_empty()) {
            absolute(field("path"), path)?;
        }
        kinds |= kind;
    }
    if !kinds.contains(Kinds::MOUNT) {
        // Its mounts would be the host's, and whatever it is not allowed to see would be one `chroot` away.
        return invalid("linux.namespaces", "a container without a mount namespace is not supported");
    }
    Ok(kinds)
}

fn joins<'a>(linux: &'a Linux, kind: &str) -> Option<&'a str> {
    let namespace = linux.namespaces.iter().find(|namespace| namespace.kind == kind)?;
    namespace.path.as_deref().filter(|path| !path.is_empty())
}

fn id_mappings(linux: &Linux, kinds: Kinds) -> Result<()> {
    let maps = [("linux.uidMappings", &linux.uid_mappings), ("linux.gidMappings", &linux.gid_mappings)];
    for (field, map) in maps {
        if !map.is_empty() && !kinds.contains(Kinds::USER) {
            let text = "user namespace mappings specified, but user namespace isn't enabled in the config";
            return invalid(field, text);
        }
        if kinds.contains(Kinds::USER) && joins(linux, "user").is_none() && map.is_empty() {
            return invalid(field, "user namespaces enabled, but no uid and gid mappings found");
        }
        id_map(field, map)?;
    }
    Ok(())
}

/// What user_namespaces(7) says of the lines of a map.
pub(super) fn id_map(field: &str, map: &[IdMapping]) -> Result<()> {
    const MAX_LINES: usize = 340;
    if map.len() > MAX_LINES {
        return invalid(field, format!("{} ranges, and the kernel takes {MAX_LINES}", map.len()));
    }
    for (index, range) in map.iter().enumerate() {
        let field = |name: &str| format!("{field}[{index}].{name}");
        if range.size == 0 {
            return invalid(field("size"), "missing or 0");
        }
        for (name, first) in [("containerID", range.container_id), ("hostID", range.host_id)] {
            if first.checked_add(range.size).is_none() {
                return invalid(field(name), format!("{first} and {} more are beyond the last id", range.size));
            }
        }
        let meets = |first: u32, size: u32, other: u32, others: u32| first < other + others && other < first + size;
        for before in map.get(..index).unwrap_or_default() {
            if meets(range.container_id, range.size, before.container_id, before.size) {
                return invalid(field("containerID"), "overlaps with an earlier range");
            }
            if meets(range.host_id, range.size, before.host_id, before.size) {
                return invalid(field("hostID"), "overlaps with an earlier range");
            }
        }
    }
    Ok(())
}

fn time_offsets(linux: &Linux, kinds: Kinds) -> Result<()> {
    if linux.time_offsets.is_empty() {
        return Ok(());
    }
    if !kinds.contains(Kinds::TIME) {
        return invalid("linux.timeOffsets", "needs a time namespace");
    }
    if joins(linux, "time").is_some() {
        return invalid("linux.timeOffsets", "the clocks of a time namespace that is joined by path cannot be set");
    }
    for (clock, offset) in &linux.time_offsets {
        if !["monotonic", "boottime"].contains(&clock.as_str()) {
            return invalid("linux.timeOffsets", format!("unknown clock {clock:?}"));
        }
        if offset.nanosecs >= 1_000_000_000 {
            return invalid(format!("linux.timeOffsets.{clock}.nanosecs"), "a second or more");
        }
    }
    Ok(())
}

/// Where a kernel parameter is below `/proc/sys`. The first separator says which one it is: sysctl(8) writes a dot
/// within a name as `/` when dots separate (`net.ipv4.conf.eth0/100.rp_filter`), and as itself when slashes do.
pub(crate) fn parameter_path(name: &str) -> Option<String> {
    let by_dots = name.find(['.', '/']).and_then(|at| name.get(at..)).is_some_and(|rest| rest.starts_with('.'));
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if by_dots { name.chars().map(swap).collect() } else { name.to_owned() };
    let proper = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    (proper && !path.contains('\0')).then_some(path)
}

/// Only what belongs to a namespace of the container's own may be changed: anything else would change the host.
fn parameter(name: &str, linux: &Linux, kinds: Kinds) -> Result<()> {
    const IPC: &[&str] = &["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let field = format!("linux.sysctl[{name:?}]");
    let Some(path) = parameter_path(name) else { return invalid(field, "no kernel parameter has this name") };
    let kernel = path.strip_prefix("kernel/").unwrap_or_default();
    if IPC.contains(&kernel) || path.starts_with("fs/mqueue/") {
        return match kinds.contains(Kinds::IPC) {
            true => Ok(()),
            false => invalid(field, format!("sysctl {name:?} is not allowed in the hosts ipc namespace")),
        };
    }
    if path.starts_with("net/") {
        let same = |a: &Path, b: &Path| Some(rustix::fs::stat(a).ok()?.st_ino == rustix::fs::stat(b).ok()?.st_ino);
        let is_host = |path: &str| same(Path::new(path), Path::new("/proc/self/ns/net")) == Some(true);
        return match kinds.contains(Kinds::NETWORK) && !joins(linux, "network").is_some_and(is_host) {
            true => Ok(()),
            false => invalid(field, format!("sysctl {name:?} not allowed in host network namespace")),
        };
    }
    if path.starts_with("user/") && kinds.contains(Kinds::USER) && joins(linux, "user").is_none() {
        return Ok(());
    }
    if kinds.contains(Kinds::UTS) && kernel == "domainname" {
        return Ok(());
    }
    if kinds.contains(Kinds::UTS) && kernel == "hostname" {
        let text = format!("sysctl {name:?} is not allowed as it conflicts with the OCI \"hostname\" field");
        return invalid(field, text);
    }
    invalid(field, format!("sysctl {name:?} is not in a separate kernel namespace"))
}

fn cgroups_path(linux: &Linux) -> Result<()> {
    let path = linux.cgroups_path.as_deref().unwrap_or_default();
    text("linux.cgroupsPath", path)?;
    if Path::new(path).components().any(|component| component == Component::ParentDir) {
        return invalid("linux.cgroupsPath", format!("{path:?} leads out of itself"));
    }
    Ok(())
}

fn devices(devices: &[Device]) -> Result<()> {
    let mut seen: BTreeMap<&str, &Device> = BTreeMap::new();
    for (index, device) in devices.iter().enumerate() {
        let field = |name: &str| format!("linux.devices[{index}].{name}");
        absolute(field("path"), &device.path)?;
        if Path::new(&device.path).file_name().is_none() {
            return invalid(field("path"), format!("{:?} is the name of a directory", device.path));
        }
        match device.kind.as_str() {
            "" => return invalid(field("type"), "missing"),
            "p" => {}
            "b" | "c" | "u" => {
                for (name, number, bits) in [("major", device.major, 12), ("minor", device.minor, 20)] {
                    match number {
                        None => return invalid(field(name), "missing"),
                        Some(number) if !(0..1 << bits).contains(&number) => {
                            return invalid(field(name), format!("{number} is no {name} number"));
                        }
                        _ => {}
                    }
                }
            }
            other => return invalid(field("type"), format!("unknown type {other:?}")),
        }
        // Podman gives the file's type with it, as stat(2) has it.
        if let Some(mode) = device.file_mode.filter(|mode| *mode > 0o177_777) {
            return invalid(field("fileMode"), format!("{mode} is more than the mode of a file"));
        }
        for (name, id) in [("uid", device.uid), ("gid", device.gid)] {
            if id == Some(u32::MAX) {
                return invalid(field(name), format!("{} is no id", u32::MAX));
            }
        }
        let number = |device: &Device| (device.kind.replace('u', "c"), device.major, device.minor);
        if let Some(before) = seen.insert(&device.path, device)
            && number(before) != number(device)
        {
            return invalid(field("path"), format!("{:?} is there twice, as different devices", device.path));
        }
    }
    Ok(())
}

/// Whether an interface may have this name, `dev_valid_name` of the kernel.
fn device_name(name: &str) -> bool {
    let plain = |byte: u8| !byte.is_ascii_whitespace() && byte != 0x0b && ![b'/', b':', 0].contains(&byte);
    !name.is_empty()
        && name.len() <= sys::netlink::link::NAME_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(plain)
}

fn net_devices(linux: &Linux, kinds: Kinds) -> Result<()> {
    if !linux.net_devices.is_empty() && !kinds.contains(Kinds::NETWORK) {
        return invalid("linux.netDevices", "unable to move network devices without a network namespace");
    }
    let mut inside = BTreeSet::new();
    for (name, device) in &linux.net_devices {
        let field = format!("linux.netDevices[{name:?}]");
        if !device_name(name) {
            return invalid(field, format!("invalid network device name {name:?}"));
        }
        let new = device.name.as_deref().filter(|new| !new.is_empty()).unwrap_or(name);
        if !device_name(new) {
            return invalid(format!("{field}.name"), format!("invalid network device name {new:?}"));
        }
        // The kernel replaces one `%d`, and refuses any other use of the sign.
        if new.contains('%') && (new.matches('%').count() > 1 || !new.contains("%d")) {
            return invalid(format!("{field}.name"), format!("{new:?}: the one thing to stand after a % is a d"));
        }
        if new == "lo" || (!new.contains('%') && !inside.insert(new)) {
            return invalid(format!("{field}.name"), format!("two devices of the container would be called {new:?}"));
        }
    }
    Ok(())
}

pub(crate) fn intel_rdt(rdt: &IntelRdt) -> Result<()> {
    let class = rdt.clos_id.as_deref().unwrap_or_default();
    text("linux.intelRdt.closID", class)?;
    if class == "." || class == ".." || (class.len() > 1 && class.contains('/')) || class.contains('\n') {
        return invalid("linux.intelRdt.closID", format!("{class:?} is no name of a directory"));
    }
    let line = |field: String, line: &str, start: &str| {
        if line.contains(['\n', '\0']) {
            return invalid(field, "contains a line break or a NUL byte");
        }
        if !line.is_empty() && !line.starts_with(start) {
            return invalid(field, format!("{line:?} does not begin with {start:?}"));
        }
        Ok(())
    };
    line("linux.intelRdt.l3CacheSchema".into(), rdt.l3_cache_schema.as_deref().unwrap_or_default(), "L3")?;
    line("linux.intelRdt.memBwSchema".into(), rdt.mem_bw_schema.as_deref().unwrap_or_default(), "MB:")?;
    for (index, schema) in rdt.schemata.iter().enumerate() {
        line(format!("linux.intelRdt.schemata[{index}]"), schema, "")?;
    }
    Ok(())
}

fn memory_policy(policy: &MemoryPolicy) -> Result<()> {
    let mode = policy.mode.as_str();
    if mode.is_empty() {
        return invalid("linux.memoryPolicy.mode", "missing");
    }
    if number_of(numbers::MEMORY_MODES, mode).is_none() {
        return invalid("linux.memoryPolicy.mode", format!("unknown mode {mode:?}"));
    }
    let list = policy.nodes.as_deref().unwrap_or_default();
    let Some(nodes) = numbers::list(list) else {
        return invalid("linux.memoryPolicy.nodes", format!("{list:?} is no list of nodes"));
    };
    match mode {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if !nodes.is_empty() => {
            return invalid("linux.memoryPolicy.nodes", format!("{mode} has none"));
        }
        "MPOL_BIND" | "MPOL_INTERLEAVE" | "MPOL_WEIGHTED_INTERLEAVE" | "MPOL_PREFERRED_MANY" if nodes.is_empty() => {
            return invalid("linux.memoryPolicy.nodes", format!("{mode} needs one at least"));
        }
        _ => {}
    }
    match policy.flags.iter().position(|flag| number_of(numbers::MEMORY_MODE_FLAGS, flag).is_none()) {
        Some(index) => invalid(format!("linux.memoryPolicy.flags[{index}]"), "unknown flag"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kernel_parameters() {
        let path = parameter_path;
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eth0.100/forwarding").unwrap(), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(path("net.ipv4.conf.eth0/100.forwarding").unwrap(), "net/ipv4/conf/eth0.100/forwarding");
        for name in ["", "net..x", "net/../vm/x", "/net/x", "net.ipv4.", "net.//.vm.x"] {
            assert_eq!(path(name), None, "{name}");
        }
    }
}
