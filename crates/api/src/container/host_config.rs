//! The half of a container that depends on its host: limits, binds, published ports, namespaces.
#![allow(missing_docs)] // the fields are those of the Engine API document's `HostConfig` and `Resources`

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::Mount;
use crate::json::is_default;

/// `"80/tcp"` → host bindings; `None` (`null`) is an exposed port that is not published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// Whether a member of `HostConfig` belongs to the `Resources` that Go embeds there: error texts name both.
pub(super) fn is_resource(member: &str) -> bool {
    // What an update can change is exactly that, and the restart policy.
    let known =
        serde_json::to_value(UpdateConfig { kernel_memory: 1, kernel_memory_tcp: 1, ..UpdateConfig::default() });
    member != "RestartPolicy" && known.is_ok_and(|known| known.get(member).is_some())
}

/// Go embeds `Resources` in two structures; a flattened field would lose the forgiving reading (serde buffers it), so the
/// fields are written once here and pasted into both.
macro_rules! with_resources {
    ($(#[$meta:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            $($own)*
            pub cpu_shares: i64,
            /// Bytes; 0 is no limit.
            pub memory: i64,
            /// Processors in units of 10^-9.
            pub nano_cpus: i64,
            pub cgroup_parent: String,
            pub blkio_weight: u16,
            pub blkio_weight_device: Option<Vec<WeightDevice>>,
            pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
            pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
            #[serde(rename = "BlkioDeviceReadIOps")]
            pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
            #[serde(rename = "BlkioDeviceWriteIOps")]
            pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
            /// Microseconds.
            pub cpu_period: i64,
            /// Microseconds per period.
            pub cpu_quota: i64,
            pub cpu_realtime_period: i64,
            pub cpu_realtime_runtime: i64,
            pub cpuset_cpus: String,
            pub cpuset_mems: String,
            pub devices: Option<Vec<DeviceMapping>>,
            pub device_cgroup_rules: Option<Vec<String>>,
            pub device_requests: Option<Vec<DeviceRequest>>,
            #[serde(skip_serializing_if = "is_default")]
            pub kernel_memory: i64,
            #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "is_default")]
            pub kernel_memory_tcp: i64,
            pub memory_reservation: i64,
            /// Memory and swap together; -1 is unlimited.
            pub memory_swap: i64,
            pub memory_swappiness: Option<i64>,
            pub oom_kill_disable: Option<bool>,
            /// 0 and -1 are unlimited, `None` leaves it alone.
            pub pids_limit: Option<i64>,
            pub ulimits: Option<Vec<Ulimit>>,
            pub cpu_count: i64,
            pub cpu_percent: i64,
            #[serde(rename = "IOMaximumIOps")]
            pub io_maximum_iops: u64,
            #[serde(rename = "IOMaximumBandwidth")]
            pub io_maximum_bandwidth: u64,
        }
    };
}

with_resources! {
    /// `HostConfig`: everything about a container that another host might not offer. The fields of `Resources` follow its own.
    pub struct HostConfig {
        pub binds: Option<Vec<String>>,
        #[serde(rename = "ContainerIDFile")]
        pub container_id_file: String,
        pub log_config: LogConfig,
        /// `default`, `bridge`, `host`, `none`, `container:ID` or a network's name.
        pub network_mode: String,
        pub port_bindings: Option<PortMap>,
        pub restart_policy: RestartPolicy,
        pub auto_remove: bool,
        pub volume_driver: String,
        pub volumes_from: Option<Vec<String>>,
        /// Height and width.
        #[serde(deserialize_with = "crate::json::pair")]
        pub console_size: [u64; 2],
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub annotations: BTreeMap<String, String>,
        #[serde(deserialize_with = "crate::json::string_or_list")]
        pub cap_add: Option<Vec<String>>,
        #[serde(deserialize_with = "crate::json::string_or_list")]
        pub cap_drop: Option<Vec<String>>,
        /// Cgroup namespace: `private`, `host` or empty for the engine's default.
        pub cgroupns_mode: String,
        pub dns: Option<Vec<String>>,
        pub dns_options: Option<Vec<String>>,
        pub dns_search: Option<Vec<String>>,
        pub extra_hosts: Option<Vec<String>>,
        pub group_add: Option<Vec<String>>,
        pub ipc_mode: String,
        pub cgroup: String,
        pub links: Option<Vec<String>>,
        pub oom_score_adj: i64,
        pub pid_mode: String,
        pub privileged: bool,
        pub publish_all_ports: bool,
        pub readonly_rootfs: bool,
        pub security_opt: Option<Vec<String>>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub storage_opt: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub tmpfs: BTreeMap<String, String>,
        #[serde(rename = "UTSMode")]
        pub uts_mode: String,
        pub userns_mode: String,
        /// Size of /dev/shm in bytes; 0 asks for the engine's default.
        pub shm_size: i64,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub sysctls: BTreeMap<String, String>,
        pub runtime: String,
        pub isolation: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub mounts: Vec<Mount>,
        /// `None` asks for the default list, `Some([])` for none.
        pub masked_paths: Option<Vec<String>>,
        /// `None` asks for the default list, `Some([])` for none.
        pub readonly_paths: Option<Vec<String>>,
        /// `None` asks for the engine's default.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub init: Option<bool>,
    }
}

with_resources! {
    /// Body of `POST /containers/ID/update`: new limits; zero values leave the old ones.
    pub struct UpdateConfig {
        /// An empty name leaves the policy alone.
        pub restart_policy: RestartPolicy,
    }
}

/// Which log driver writes what the container says, with its options.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    #[serde(rename = "Type")]
    pub driver: String,
    pub config: Option<BTreeMap<String, String>>,
}

/// One address on the host that a container's port is published at. The port may be a range; empty means "pick one".
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    pub host_ip: String,
    pub host_port: String,
}

/// `no`, `always`, `unless-stopped` or `on-failure` with a count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    pub name: String,
    pub maximum_retry_count: i64,
}

/// A device's weight in block I/O.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    pub path: String,
    pub weight: u16,
}

/// A device's limit, in bytes or operations per second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    pub path: String,
    pub rate: u64,
}

/// A device of the host shown inside, with the access that the device cgroup gives (`rwm`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    pub path_on_host: String,
    pub path_in_container: String,
    pub cgroup_permissions: String,
}

/// A request to a device driver (`--gpus`, CDI).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceRequest {
    pub driver: String,
    pub count: i64,
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    pub capabilities: Option<Vec<Vec<String>>>,
    pub options: Option<BTreeMap<String, String>>,
}

/// One resource limit of the container's processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    pub name: String,
    pub hard: i64,
    pub soft: i64,
}
