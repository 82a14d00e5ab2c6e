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
    let text = example(context.arguments.is_set("rootless"))?;
    std::fs::write(&path, text).map_err(|error| format!("writing {}: {error}", path.display()))?;
    Ok(0)
}

/// A shell with few rights, as runc's example has it.
fn example(rootless: bool) -> Result<String, Failure> {
    let mut spec: Spec = serde_json::from_str(include_str!("example.json"))?;
    let linux = spec.linux.get_or_insert_with(Linux::default);
    // With cgroup v2 alone a namespace shows its one hierarchy as far as it is the container's.
    if Hierarchies::detect().is_ok_and(|found| found.version() == Version::V2) {
        linux.namespaces.push(Namespace { kind: "cgroup".into(), ..Namespace::default() });
    }
    if rootless {
        leave_to_a_user(&mut spec);
    }
    let mut text = Vec::new();
    spec.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"\t")))?;
    Ok(String::from_utf8(text)?)
}

/// Changes it for an ordinary user, as runc changes its own: the user becomes root inside, all that it may map; the
/// network is the host's, and so is `/sys`, which belongs to it; there are no limits and no ids in mount options.
fn leave_to_a_user(spec: &mut Spec) {
    let linux = spec.linux.get_or_insert_with(Linux::default);
    linux.namespaces.retain(|namespace| !["network", "user"].contains(&namespace.kind.as_str()));
    linux.namespaces.push(Namespace { kind: "user".into(), ..Namespace::default() });
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
}
