//! What is particular to Linux: namespaces, devices, limits (runtime specification, config-linux.md).

use super::Seccomp;
use super::{Other, is_false};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is particular to Linux (runtime specification, config-linux.md).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// Maps of user ids, for a new user namespace.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub uid_mappings: Vec<IdMapping>,
    /// Maps of group ids.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel parameters of the container's namespaces: `net.ipv4.ip_forward` → `1`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "super::null_as_default")]
    pub sysctl: BTreeMap<String, String>,
    /// Limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the control group is, absolute within the hierarchies or relative to the runtime's own choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<String>,
    /// Namespaces to join or to make.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub namespaces: Vec<Namespace>,
    /// Device nodes to make.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub devices: Vec<Device>,
    /// Network devices moved into the container: name on the host → settings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "super::null_as_default")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// System call filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// `shared`, `slave`, `private` or `unbindable`, perhaps with a leading `r`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<String>,
    /// Paths that the container cannot read.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub masked_paths: Vec<String>,
    /// Paths that the container cannot write.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub readonly_paths: Vec<String>,
    /// SELinux label of mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    /// Intel Resource Director Technology.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// Where memory is taken from on a machine with several nodes, set_mempolicy(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// Execution domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// Offsets of clocks in a time namespace: `monotonic`, `boottime`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "super::null_as_default")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// A run of ids: `size` ids from `container_id` on are `host_id` on outside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// A namespace to make, or with a path to join.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespace {
    /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
    #[serde(rename = "type")]
    pub kind: String,
    /// File of an existing namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// Absolute path inside.
    pub path: String,
    /// `c`, `u`, `b` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number; none for a fifo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// Minor number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Permission bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Owner, in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Settings of a network device that is moved in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetDevice {
    /// Its name inside; the same by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Intel RDT settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IntelRdt {
    /// Class of service.
    #[serde(rename = "closID", skip_serializing_if = "Option::is_none")]
    pub clos_id: Option<String>,
    /// Lines of a schemata file.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub schemata: Vec<String>,
    /// L3 cache schema.
    #[serde(rename = "l3CacheSchema", skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// Monitor cache occupancy.
    #[serde(rename = "enableCMT", skip_serializing_if = "is_false")]
    pub enable_cmt: bool,
    /// Monitor memory bandwidth.
    #[serde(rename = "enableMBM", skip_serializing_if = "is_false")]
    pub enable_mbm: bool,
    /// Monitored in a group of its own.
    #[serde(skip_serializing_if = "is_false")]
    pub enable_monitoring: bool,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Where memory is taken from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryPolicy {
    /// `MPOL_*`
    pub mode: String,
    /// Nodes, `0-3,7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// `MPOL_F_*`
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub flags: Vec<String>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Execution domain, personality(2).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    pub domain: String,
    /// More flags; none are defined.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub flags: Vec<String>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Offset of a clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TimeOffset {
    /// Whole seconds.
    pub secs: i64,
    /// Nanoseconds.
    pub nanosecs: u32,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Limits of a container's control group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// Device access rules, the last match wins.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub devices: Vec<DeviceRule>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Number of processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
    /// Block devices.
    #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none")]
    pub block_io: Option<BlockIo>,
    /// Huge pages.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Network priorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// RDMA: device → limits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "super::null_as_default")]
    pub rdma: BTreeMap<String, Rdma>,
    /// Files of cgroup v2 → what is written.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "super::null_as_default")]
    pub unified: BTreeMap<String, String>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// A device access rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceRule {
    /// Allowed or denied.
    pub allow: bool,
    /// `a`, `c` or `b`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Major number, all when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// Minor number, all when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Letters of `rwm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Memory limits, in bytes; -1 is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// Hard limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// Soft limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// Memory and swap together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// Kernel memory; obsolete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<i64>,
    /// Kernel memory of TCP.
    #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<i64>,
    /// 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// No process is killed for memory.
    #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
    pub disable_oom_killer: Option<bool>,
    /// Account for children in cgroup v1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// Refuse a limit below what is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_before_update: Option<bool>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Processor limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Relative weight, 2 to 262144.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Microseconds of each period; -1 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Microseconds that may be saved up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Length of a period, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Real-time microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// Real-time period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// Processors: `0-2,7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// 1 is SCHED_IDLE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Limit of processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pids {
    /// At most; 0 or -1 is none.
    pub limit: i64,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Block device limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockIo {
    /// 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The same against tasks of inner groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes per second read.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes per second written.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Reads per second.
    #[serde(
        rename = "throttleReadIOPSDevice",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::null_as_default"
    )]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Writes per second.
    #[serde(
        rename = "throttleWriteIOPSDevice",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::null_as_default"
    )]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Weight of a block device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The same for leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Throttle of a block device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Per second.
    pub rate: u64,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Limit of huge pages of a size.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HugepageLimit {
    /// `2MB`
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Network classes of cgroup v1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// Class id of packets.
    #[serde(rename = "classID", skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// Priorities by interface.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub priorities: Vec<InterfacePriority>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Priority of an interface's packets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InterfacePriority {
    /// Interface.
    pub name: String,
    /// Priority.
    pub priority: u32,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// RDMA limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rdma {
    /// Handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// Objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}
