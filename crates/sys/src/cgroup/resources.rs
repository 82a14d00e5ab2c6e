//! Limits of a control group, as plain data: what `linux.resources` of the runtime specification says, without its JSON.
//!
//! An absent field leaves what is in force, so that the same type serves creation and update.

use std::collections::BTreeMap;

/// All limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Device access, in order: a later rule overrides an earlier one. Empty leaves what is in force.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Memory,
    /// Processor.
    pub cpu: Cpu,
    /// The most processes; 0 or less is no limit.
    pub pids: Option<i64>,
    /// Block devices.
    pub block_io: BlockIo,
    /// Huge pages: size as the kernel names it (`2MB`) and bytes.
    pub hugepages: Vec<(String, u64)>,
    /// Network classes, cgroup v1 only.
    pub network: Network,
    /// RDMA: device → (handles, objects); absent is no limit.
    pub rdma: BTreeMap<String, (Option<u32>, Option<u32>)>,
    /// Files of cgroup v2 and what is written to them, after everything else.
    pub unified: BTreeMap<String, String>,
}

/// Which devices a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Every device there is: the rule replaces all before it.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// A device access rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allowed or denied.
    pub allow: bool,
    /// Which devices.
    pub kind: DeviceKind,
    /// Major number, any when absent.
    pub major: Option<u32>,
    /// Minor number, any when absent.
    pub minor: Option<u32>,
    /// What.
    pub access: Access,
}

/// What is done with a device: bits as the kernel's device controller has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access(pub u8);

impl Access {
    /// mknod(2).
    pub const MKNOD: u8 = 1;
    /// Open for reading.
    pub const READ: u8 = 2;
    /// Open for writing.
    pub const WRITE: u8 = 4;
    /// All three.
    pub const ALL: Self = Self(7);

    /// From letters of `rwm`; `None` for another letter.
    pub fn parse(letters: &str) -> Option<Self> {
        letters
            .chars()
            .try_fold(0, |bits, letter| {
                Some(
                    bits | [('m', Self::MKNOD), ('r', Self::READ), ('w', Self::WRITE)]
                        .iter()
                        .find(|p| p.0 == letter)?
                        .1,
                )
            })
            .map(Self)
    }

    /// As letters, in the order in which the kernel prints them.
    pub fn letters(self) -> String {
        let all = [('r', Self::READ), ('w', Self::WRITE), ('m', Self::MKNOD)];
        all.iter().filter(|(_, bit)| self.0 & bit != 0).map(|(letter, _)| *letter).collect()
    }
}

/// Memory limits in bytes; -1 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// Soft limit: what is left to the group under pressure.
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// TCP buffers, cgroup v1 only.
    pub kernel_tcp: Option<i64>,
    /// 0 to 100, cgroup v1 only.
    pub swappiness: Option<u64>,
    /// Processes wait rather than die when memory is out, cgroup v1 only.
    pub disable_oom_killer: Option<bool>,
    /// Refuse a limit below what is in use, where the kernel would rather kill (cgroup v2).
    pub check_before_update: bool,
}

/// Processor limits; times in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Relative weight, 2 to 262144; 0 leaves it.
    pub shares: Option<u64>,
    /// Time in each period; 0 leaves it, -1 is no limit.
    pub quota: Option<i64>,
    /// What may be saved up for later.
    pub burst: Option<u64>,
    /// Length of a period; 0 leaves it.
    pub period: Option<u64>,
    /// Time of real-time tasks, cgroup v1 only.
    pub realtime_runtime: Option<i64>,
    /// Their period, cgroup v1 only.
    pub realtime_period: Option<u64>,
    /// Processors: `0-2,7`; empty leaves them.
    pub cpus: String,
    /// Memory nodes.
    pub mems: String,
    /// 1: runs only when nothing else does.
    pub idle: Option<i64>,
}

/// Block device limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// 10 to 1000; 0 leaves it.
    pub weight: Option<u16>,
    /// The same against inner groups, cgroup v1 only.
    pub leaf_weight: Option<u16>,
    /// (major, minor, weight, leaf weight)
    pub weight_device: Vec<(u32, u32, Option<u16>, Option<u16>)>,
    /// Bytes per second.
    pub read_bps: Vec<Throttle>,
    /// Bytes per second.
    pub write_bps: Vec<Throttle>,
    /// Operations per second.
    pub read_iops: Vec<Throttle>,
    /// Operations per second.
    pub write_iops: Vec<Throttle>,
}

/// A rate limit of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Per second; 0 is no limit.
    pub rate: u64,
}

/// Network classes of cgroup v1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Class id of packets.
    pub class_id: Option<u32>,
    /// Priorities by interface.
    pub priorities: Vec<(String, u32)>,
}
