//! `spec`: a configuration to begin with.

use std::path::Path;

use oci::spec::{IdMapping, Linux, Mount, Namespace, Spec};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use sys::cgroup::{Hierarchies, Version};

use super::{Context, Failure, Outcome};

pub(super) fn spec(context: &Context) -> Outcome {
    let path = Path::new(context.arguments.value("bundle").unwrap_or(".")).join("config.json");
    if path.exists() {
        return Err(format!("File {} exists. Remove it first", path.display()).into());
    }
    let text = if context.arguments.is_set("rootless") { rootless()? } else { EXAMPLE.to_owned() };
    std::fs::write(&path, text).map_err(|error| format!("writing {}: {error}", path.display()))?;
    Ok(0)
}

/// A shell with few rights, as runc's example has it.
pub(super) const EXAMPLE: &str = include_str!("example.json");

/// The example for an ordinary user, changed as runc changes its own: the user becomes root inside, all that it may map;
/// the network is the host's, and so is `/sys`, which belongs to it; there are no limits and no ids in mount options.
fn rootless() -> Result<String, Failure> {
    let mut spec: Spec = serde_json::from_str(EXAMPLE)?;
    let linux = spec.linux.get_or_insert_with(Linux::default);
    linux.namespaces.retain(|namespace| !["network", "user"].contains(&namespace.kind.as_str()));
    let kinds = if is_unified() { &["cgroup", "user"][..] } else { &["user"] };
    linux.namespaces.extend(kinds.iter().map(|kind| Namespace { kind: (*kind).into(), ..Namespace::default() }));
    let own = |host_id| vec![IdMapping { container_id: 0, host_id, size: 1, ..IdMapping::default() }];
    linux.uid_mappings = own(rustix::process::geteuid().as_raw());
    linux.gid_mappings = own(rustix::process::getegid().as_raw());
    linux.resources = None;
    for mount in &mut spec.mounts {
        if mount.destination == "/sys" {
            *mount = Mount {
                destination: "/sys".into(),
                kind: Some("none".into()),
                source: Some("/sys".into()),
                options: ["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).into(),
                ..Mount::default()
            };
        }
        mount.options.retain(|option| !option.starts_with("uid=") && !option.starts_with("gid="));
    }
    let mut text = Vec::new();
    spec.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"\t")))?;
    Ok(String::from_utf8(text)?)
}

/// Whether there is cgroup v2 alone, whose one hierarchy a namespace shows as far as it is the container's.
fn is_unified() -> bool {
    Hierarchies::detect().is_ok_and(|found| found.version() == Version::V2)
}
