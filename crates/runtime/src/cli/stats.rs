//! What a container uses, in the JSON that `runc events` prints (its package `types`): the names of the keys, and which of
//! them are left out when they are zero, are those that readers of it know.

use std::collections::BTreeMap;

use serde::Serialize;
use sys::cgroup::{self, IoEntry, MemoryCounter, Version};

use crate::{Container, rdt};

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Figures>,
}

/// Its data, when it is about figures.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    cpu: Cpu,
    cpuset: Cpuset,
    memory: Memory,
    pids: Pids,
    blkio: BlockIo,
    hugetlb: BTreeMap<String, HugePages>,
    #[serde(skip_serializing_if = "Rdma::is_empty")]
    rdma: Rdma,
    intel_rdt: rdt::Figures,
    network_interfaces: Option<Vec<Interface>>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Debug, Serialize)]
struct Stall {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
}

#[derive(Debug, Serialize)]
struct Pressure {
    some: Stall,
    full: Stall,
}

impl Pressure {
    fn of(from: &cgroup::Pressure) -> Self {
        let stall = |from: &cgroup::Stall| Stall {
            avg10: from.avg10,
            avg60: from.avg60,
            avg300: from.avg300,
            total: from.total_us,
        };
        Self { some: stall(&from.some), full: stall(&from.full) }
    }
}

#[derive(Debug, Serialize)]
struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_user: Vec<u64>,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_time: u64,
}

#[derive(Debug, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Serialize)]
struct Cpuset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpus: Vec<u16>,
    cpu_exclusive: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mems: Vec<u16>,
    mem_hardwall: i64,
    mem_exclusive: i64,
    memory_migrate: i64,
    memory_spread_page: i64,
    memory_spread_slab: i64,
    memory_pressure: i64,
    sched_load_balance: i64,
    sched_relax_domain_level: i64,
}

#[derive(Debug, Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

impl MemoryEntry {
    fn of(from: &MemoryCounter) -> Self {
        Self { limit: from.limit, usage: from.usage, max: from.max_usage, failcnt: from.failures }
    }
}

#[derive(Debug, Serialize)]
struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    cache: u64,
    usage: MemoryEntry,
    swap: MemoryEntry,
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Debug, Serialize)]
struct BlockEntry {
    #[serde(skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    op: String,
    #[serde(skip_serializing_if = "is_zero")]
    value: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockIo {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_queue_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_time_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_wait_time_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_merged_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_time_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sectors_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Serialize)]
struct HugePages {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Serialize)]
struct RdmaEntry {
    device: String,
    hca_handles: u32,
    hca_objects: u32,
}

/// runc reads these and does not print them; the names are those of its statistics.
#[derive(Debug, Serialize)]
struct Rdma {
    current: Vec<RdmaEntry>,
    limit: Vec<RdmaEntry>,
}

impl Rdma {
    fn is_empty(&self) -> bool {
        self.current.is_empty() && self.limit.is_empty()
    }

    fn of(from: &cgroup::RdmaStats) -> Self {
        let entries = |list: &[cgroup::RdmaEntry]| {
            let entry = |e: &cgroup::RdmaEntry| RdmaEntry {
                device: e.device.clone(),
                hca_handles: e.handles,
                hca_objects: e.objects,
            };
            list.iter().map(entry).collect()
        };
        Self { current: entries(&from.current), limit: entries(&from.limit) }
    }
}

/// An interface of the container; the names have no others in runc's type.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
struct Interface {
    name: String,
    rx_bytes: u64,
    rx_packets: u64,
    rx_errors: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errors: u64,
    tx_dropped: u64,
}

impl Interface {
    /// A line of /proc/PID/net/dev.
    fn of(line: &str) -> Option<Self> {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|counter| counter.parse().ok()).collect();
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
            counters[..]
        else {
            return None;
        };
        let name = name.trim().to_owned();
        Some(Self { name, rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped })
    }
}

impl Figures {
    /// Of a container, from the figures of its cgroup.
    pub(super) fn of(container: &Container, stats: &cgroup::Stats, version: Version) -> Self {
        let hugetlb = |pages: &cgroup::HugepageStats| HugePages {
            usage: pages.usage,
            max: pages.max_usage,
            failcnt: pages.failures,
        };
        Self {
            cpu: cpu(&stats.cpu),
            cpuset: cpuset(&stats.cpuset),
            memory: memory(&stats.memory),
            pids: Pids { current: stats.pids.current, limit: stats.pids.limit.unwrap_or_default() },
            blkio: block_io(&stats.io, version),
            hugetlb: stats.hugepages.iter().map(|(size, pages)| (size.clone(), hugetlb(pages))).collect(),
            rdma: Rdma::of(&stats.rdma),
            intel_rdt: rdt::Figures::of(container.class()),
            network_interfaces: interfaces(container),
        }
    }
}

fn cpu(from: &cgroup::CpuStats) -> Cpu {
    Cpu {
        usage: CpuUsage {
            total: from.total_ns,
            percpu: from.per_cpu_ns.clone(),
            percpu_kernel: from.per_cpu_kernel_ns.clone(),
            percpu_user: from.per_cpu_user_ns.clone(),
            kernel: from.kernel_ns,
            user: from.user_ns,
        },
        throttling: Throttling {
            periods: from.periods,
            throttled_periods: from.throttled_periods,
            throttled_time: from.throttled_ns,
        },
        psi: from.pressure.as_ref().map(Pressure::of),
    }
}

fn cpuset(from: &cgroup::CpusetStats) -> Cpuset {
    let flag = |name: &str| from.flags.get(name).copied().unwrap_or_default();
    Cpuset {
        cpus: from.cpus.clone(),
        cpu_exclusive: flag("cpu_exclusive"),
        mems: from.mems.clone(),
        mem_hardwall: flag("mem_hardwall"),
        mem_exclusive: flag("mem_exclusive"),
        memory_migrate: flag("memory_migrate"),
        memory_spread_page: flag("memory_spread_page"),
        memory_spread_slab: flag("memory_spread_slab"),
        memory_pressure: flag("memory_pressure"),
        sched_load_balance: flag("sched_load_balance"),
        sched_relax_domain_level: flag("sched_relax_domain_level"),
    }
}

fn memory(from: &cgroup::MemoryStats) -> Memory {
    let own = MemoryCounter {
        usage: from.usage,
        max_usage: from.max_usage,
        failures: from.failures,
        limit: from.limit.unwrap_or(u64::MAX),
    };
    Memory {
        cache: from.detail.get("cache").or_else(|| from.detail.get("file")).copied().unwrap_or_default(),
        usage: MemoryEntry::of(&own),
        swap: MemoryEntry::of(&from.swap),
        kernel: MemoryEntry::of(&from.kernel),
        kernel_tcp: MemoryEntry::of(&from.kernel_tcp),
        raw: from.detail.clone(),
        psi: from.pressure.as_ref().map(Pressure::of),
    }
}

fn block_io(from: &cgroup::IoStats, version: Version) -> BlockIo {
    // runc gives what version 2 counts the names that version 1 has for it.
    let operation = |name: &str| match (name, version) {
        ("read", Version::V2) => "Read".to_owned(),
        ("write", Version::V2) => "Write".to_owned(),
        (name, _) => name.to_owned(),
    };
    let entries = |list: &[IoEntry]| -> Vec<BlockEntry> {
        let entry =
            |e: &IoEntry| BlockEntry { major: e.major, minor: e.minor, op: operation(&e.operation), value: e.value };
        list.iter().map(entry).collect()
    };
    BlockIo {
        io_service_bytes_recursive: entries(&from.bytes),
        io_serviced_recursive: entries(&from.operations),
        io_queue_recursive: entries(&from.queued),
        io_service_time_recursive: entries(&from.service_time),
        io_wait_time_recursive: entries(&from.wait_time),
        io_merged_recursive: entries(&from.merged),
        io_time_recursive: entries(&from.time),
        sectors_recursive: entries(&from.sectors),
        psi: from.pressure.as_ref().map(Pressure::of),
    }
}

/// Counters of the interfaces of the container's own network namespace, but `lo`; none (`null`, as with runc) when it has
/// the host's, or no interfaces.
fn interfaces(container: &Container) -> Option<Vec<Interface>> {
    let linux = container.spec().linux.as_ref()?;
    linux.namespaces.iter().find(|namespace| namespace.kind == "network")?;
    let text = std::fs::read_to_string(format!("/proc/{}/net/dev", container.pid())).ok()?;
    let found: Vec<Interface> = text.lines().filter_map(Interface::of).filter(|one| one.name != "lo").collect();
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_from_the_kernels_table() {
        let found = Interface::of("  eth0: 1472 22 1 2 0 0 0 0 90 7 3 4 0 0 0 0").unwrap();
        assert_eq!((found.name.as_str(), found.rx_bytes, found.tx_packets, found.tx_dropped), ("eth0", 1472, 7, 4));
        assert_eq!(Interface::of("Inter-|   Receive"), None);
    }

    #[test]
    fn what_is_zero_is_left_out_where_runc_leaves_it_out() {
        let text = serde_json::to_string(&memory(&cgroup::MemoryStats::default())).unwrap();
        let entry = r#"{"limit":0,"failcnt":0}"#;
        let usage = r#"{"limit":18446744073709551615,"failcnt":0}"#;
        let wanted = format!(r#"{{"usage":{usage},"swap":{entry},"kernel":{entry},"kernelTCP":{entry}}}"#);
        assert_eq!(text, wanted);
    }
}
