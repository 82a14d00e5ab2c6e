//! Containers: what is asked for ([`CreateRequest`]), what it became ([`InspectResponse`], [`Summary`]), and its figures.
//!
//! Fields carry the meaning that the Engine API document gives them; comments here say only what differs or surprises.

mod config;
mod host_config;
mod inspect;
mod mounts;
mod request;
mod stats;

pub use config::{Config, EmptyObject, HealthConfig};
pub use host_config::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortBinding, PortMap, RestartPolicy, ThrottleDevice, Ulimit,
    UpdateConfig, WeightDevice,
};
pub use inspect::{
    DefaultNetworkAddress, GraphDriver, Health, HealthcheckResult, InspectResponse, NetworkSettings, State, Summary,
    SummaryHostConfig, SummaryNetworkSettings, SummaryPort,
};
pub use mounts::{BindOptions, DriverConfig, ImageOptions, Mount, MountPoint, TmpfsOptions, VolumeOptions};
pub use request::{
    Change, CreateRequest, CreateResponse, NetworkingConfig, PathStat, PruneResponse, TopResponse, UpdateResponse,
    WaitError, WaitResponse,
};
pub use stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats, StorageStats,
    ThrottlingData,
};
