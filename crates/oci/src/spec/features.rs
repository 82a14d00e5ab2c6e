//! What a runtime can do, as `runc features` prints it (`specs-go/features`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The features of a runtime.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Features {
    /// Lowest version of the specification that is understood.
    pub oci_version_min: String,
    /// Highest.
    pub oci_version_max: String,
    /// Kinds of hooks.
    pub hooks: Vec<String>,
    /// Mount options.
    pub mount_options: Vec<String>,
    /// What only Linux has.
    pub linux: LinuxFeatures,
    /// Free words of the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of bundles that could weaken the host when passed through by an engine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub potentially_unsafe_config_annotations: Vec<String>,
}

/// Features of the Linux parts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxFeatures {
    /// Kinds of namespaces.
    pub namespaces: Vec<String>,
    /// Capability names.
    pub capabilities: Vec<String>,
    /// Cgroups.
    pub cgroup: CgroupFeatures,
    /// The filter on system calls.
    pub seccomp: SeccompFeatures,
    /// AppArmor.
    pub apparmor: Enabled,
    /// SELinux.
    pub selinux: Enabled,
    /// Intel's resource director.
    pub intel_rdt: Enabled,
    /// Extensions of mounts.
    pub mount_extensions: MountExtensions,
    /// Network devices that go into the container.
    pub net_devices: Enabled,
}

/// Whether something is compiled in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Enabled {
    /// Compiled in.
    pub enabled: bool,
}

/// Cgroup versions and drivers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CgroupFeatures {
    /// Version 1.
    pub v1: bool,
    /// Version 2.
    pub v2: bool,
    /// Through systemd.
    pub systemd: bool,
    /// Through systemd of a user.
    pub systemd_user: bool,
    /// The RDMA controller.
    pub rdma: bool,
}

/// What filters may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompFeatures {
    /// Compiled in.
    pub enabled: bool,
    /// Actions.
    pub actions: Vec<String>,
    /// Comparisons.
    pub operators: Vec<String>,
    /// Call tables.
    pub archs: Vec<String>,
    /// Flags that are known.
    pub known_flags: Vec<String>,
    /// Flags that this kernel takes.
    pub supported_flags: Vec<String>,
}

/// Extensions of mounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountExtensions {
    /// Id-mapped mounts.
    pub idmap: Enabled,
}
