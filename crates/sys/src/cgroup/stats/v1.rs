//! Figures from the directories of v1 controllers.

use super::super::Result;
use super::super::files::{pairs, read_number, read_optional};
use super::{
    CpuStats, CpusetStats, HugepageStats, IoEntry, IoStats, MemoryCounter, MemoryStats, Stats, detail, device,
    huge_page_sizes, numbers, pids, rdma,
};
use std::path::Path;

/// `controller` gives the directory of one, if it is mounted.
pub(in super::super) fn read<'a>(controller: impl Fn(&str) -> Option<&'a Path>) -> Result<Stats> {
    let mut stats = Stats::default();
    if let Some(directory) = controller("cpuacct") {
        usage(directory, &mut stats.cpu)?;
    }
    if let Some(directory) = controller("cpu") {
        let text = read_optional(&directory.join("cpu.stat"))?.unwrap_or_default();
        for (key, value) in pairs(&text) {
            match key {
                "nr_periods" => stats.cpu.periods = value,
                "nr_throttled" => stats.cpu.throttled_periods = value,
                "throttled_time" => stats.cpu.throttled_ns = value,
                _ => {}
            }
        }
    }
    if let Some(directory) = controller("cpuset") {
        stats.cpuset = cpuset(directory)?;
    }
    if let Some(directory) = controller("memory") {
        stats.memory = memory(directory)?;
    }
    if let Some(directory) = controller("pids") {
        stats.pids = pids(directory)?;
    }
    if let Some(directory) = controller("blkio") {
        stats.io = block_io(directory)?;
    }
    if let Some(directory) = controller("hugetlb") {
        for size in huge_page_sizes() {
            // Reserved pages where the kernel counts them (Linux 5.7): what fails first.
            let reserved = directory.join(format!("hugetlb.{size}.rsvd.usage_in_bytes")).exists();
            let prefix = if reserved { format!("hugetlb.{size}.rsvd") } else { format!("hugetlb.{size}") };
            let number = |name: &str| read_number(&directory.join(format!("{prefix}.{name}")));
            let Some(usage) = number("usage_in_bytes")? else { continue };
            let (max_usage, failures) = (number("max_usage_in_bytes")?.unwrap_or(0), number("failcnt")?.unwrap_or(0));
            stats.hugepages.insert(size, HugepageStats { usage, max_usage, failures });
        }
    }
    if let Some(directory) = controller("rdma") {
        stats.rdma = rdma(directory)?;
    }
    Ok(stats)
}

fn usage(directory: &Path, cpu: &mut CpuStats) -> Result<()> {
    let number = |name: &str| read_number(&directory.join(format!("cpuacct.{name}")));
    cpu.total_ns = number("usage")?.unwrap_or(0);
    cpu.user_ns = number("usage_user")?.unwrap_or(0);
    cpu.kernel_ns = number("usage_sys")?.unwrap_or(0);
    let per_cpu = read_optional(&directory.join("cpuacct.usage_percpu"))?.unwrap_or_default();
    cpu.per_cpu_ns = per_cpu.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    // A line with titles, then 'PROCESSOR USER SYSTEM'.
    let all = read_optional(&directory.join("cpuacct.usage_all"))?.unwrap_or_default();
    for line in all.lines().skip(1) {
        let mut columns = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok());
        if let (Some(user), Some(kernel)) = (columns.next(), columns.next()) {
            cpu.per_cpu_user_ns.push(user);
            cpu.per_cpu_kernel_ns.push(kernel);
        }
    }
    Ok(())
}

fn cpuset(directory: &Path) -> Result<CpusetStats> {
    const FLAGS: &[&str] = &[
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
        "sched_relax_domain_level",
    ];
    let text = |name: &str| read_optional(&directory.join(format!("cpuset.{name}")));
    let list = |name: &str| Ok::<_, super::super::Error>(numbers(&text(name)?.unwrap_or_default()));
    let mut found = CpusetStats { cpus: list("cpus")?, mems: list("mems")?, ..CpusetStats::default() };
    for name in FLAGS {
        if let Some(value) = text(name)?.and_then(|value| value.trim().parse().ok()) {
            found.flags.insert(name, value);
        }
    }
    Ok(found)
}

fn memory(directory: &Path) -> Result<MemoryStats> {
    let counter = |prefix: &str| -> Result<(MemoryCounter, Option<u64>)> {
        let number = |name: &str| read_number(&directory.join(format!("memory.{prefix}{name}")));
        let limit = number("limit_in_bytes")?;
        let counter = MemoryCounter {
            usage: number("usage_in_bytes")?.unwrap_or(0),
            max_usage: number("max_usage_in_bytes")?.unwrap_or(0),
            failures: number("failcnt")?.unwrap_or(0),
            limit: limit.unwrap_or(0),
        };
        Ok((counter, limit))
    };
    let (own, limit) = counter("")?;
    Ok(MemoryStats {
        usage: own.usage,
        max_usage: own.max_usage,
        failures: own.failures,
        limit,
        swap: counter("memsw.")?.0,
        kernel: counter("kmem.")?.0,
        kernel_tcp: counter("kmem.tcp.")?.0,
        detail: detail(directory)?,
        pressure: None,
    })
}

/// Which files there are depends on the schedulers: BFQ's, those of the old CFQ, and the throttling layer's, which are
/// always there. The first with figures counts, as in runc.
fn block_io(directory: &Path) -> Result<IoStats> {
    let list = |name: &str| -> Result<Vec<IoEntry>> {
        let text = read_optional(&directory.join(name))?.unwrap_or_default();
        Ok(text.lines().filter_map(entry).collect())
    };
    for prefix in ["blkio.bfq", "blkio"] {
        let scheduler = |name: &str| list(&format!("{prefix}.{name}_recursive"));
        let (bytes, operations) = (scheduler("io_service_bytes")?, scheduler("io_serviced")?);
        if bytes.is_empty() && operations.is_empty() {
            continue;
        }
        return Ok(IoStats {
            bytes,
            operations,
            queued: scheduler("io_queued")?,
            service_time: scheduler("io_service_time")?,
            wait_time: scheduler("io_wait_time")?,
            merged: scheduler("io_merged")?,
            time: scheduler("time")?,
            sectors: scheduler("sectors")?,
            pressure: None,
        });
    }
    let mut io = IoStats::default();
    for suffix in ["_recursive", ""] {
        if io.bytes.is_empty() {
            io.bytes = list(&format!("blkio.throttle.io_service_bytes{suffix}"))?;
        }
        if io.operations.is_empty() {
            io.operations = list(&format!("blkio.throttle.io_serviced{suffix}"))?;
        }
    }
    Ok(io)
}

/// `MAJOR:MINOR OPERATION VALUE`, or `MAJOR:MINOR VALUE` where nothing is told apart.
fn entry(line: &str) -> Option<IoEntry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (place, operation, value) = match words[..] {
        [place, value] => (place, "", value),
        [place, operation, value] => (place, operation, value),
        _ => return None,
    };
    let (major, minor) = device(place)?;
    Some(IoEntry { major, minor, operation: operation.to_owned(), value: value.parse().ok()? })
}
