//! Figures from the directory of a v2 group.

use super::super::Result;
use super::super::files::{pairs, read_key, read_number, read_optional};
use super::{
    CpuStats, CpusetStats, HugepageStats, IoEntry, IoStats, MemoryCounter, MemoryStats, Pressure, Stats, detail,
    device, huge_page_sizes, numbers, pids, pressure, rdma,
};
use std::collections::BTreeMap;
use std::path::Path;

/// All figures.
pub(in super::super) fn read(directory: &Path) -> Result<Stats> {
    Ok(Stats {
        cpu: cpu(directory)?,
        cpuset: cpuset(directory)?,
        memory: memory(directory)?,
        pids: pids(directory)?,
        io: io(directory)?,
        hugepages: huge_pages(directory)?,
        rdma: rdma(directory)?,
    })
}

fn stalls(directory: &Path, name: &str) -> Result<Option<Pressure>> {
    Ok(read_optional(&directory.join(name))?.as_deref().and_then(pressure))
}

fn cpu(directory: &Path) -> Result<CpuStats> {
    let mut cpu = CpuStats { pressure: stalls(directory, "cpu.pressure")?, ..CpuStats::default() };
    let text = read_optional(&directory.join("cpu.stat"))?.unwrap_or_default();
    for (key, value) in pairs(&text) {
        match key {
            "usage_usec" => cpu.total_ns = value * 1000,
            "user_usec" => cpu.user_ns = value * 1000,
            "system_usec" => cpu.kernel_ns = value * 1000,
            "nr_periods" => cpu.periods = value,
            "nr_throttled" => cpu.throttled_periods = value,
            "throttled_usec" => cpu.throttled_ns = value * 1000,
            _ => {}
        }
    }
    Ok(cpu)
}

fn cpuset(directory: &Path) -> Result<CpusetStats> {
    let list = |name: &str| {
        let text = read_optional(&directory.join(format!("cpuset.{name}.effective")))?;
        Ok::<_, super::super::Error>(numbers(&text.unwrap_or_default()))
    };
    Ok(CpusetStats { cpus: list("cpus")?, mems: list("mems")?, flags: BTreeMap::new() })
}

fn memory(directory: &Path) -> Result<MemoryStats> {
    let number = |name: &str| read_number(&directory.join(format!("memory.{name}")));
    let (usage, limit) = (number("current")?.unwrap_or(0), number("max")?);
    // Counted apart here; the figures are for readers who know them together, as version 1 has them.
    let swap = match number("swap.current")? {
        None => MemoryCounter::default(),
        Some(swap) => {
            let both = number("swap.max")?.map(|swap| swap.saturating_add(limit.unwrap_or(u64::MAX)));
            MemoryCounter { usage: swap + usage, limit: both.unwrap_or(u64::MAX), ..MemoryCounter::default() }
        }
    };
    Ok(MemoryStats {
        usage,
        // Since Linux 5.19.
        max_usage: number("peak")?.unwrap_or(0),
        limit,
        swap,
        detail: detail(directory)?,
        pressure: stalls(directory, "memory.pressure")?,
        ..MemoryStats::default()
    })
}

fn io(directory: &Path) -> Result<IoStats> {
    let mut io = IoStats { pressure: stalls(directory, "io.pressure")?, ..IoStats::default() };
    let text = read_optional(&directory.join("io.stat"))?.unwrap_or_default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut io.bytes, "read"),
                "wbytes" => (&mut io.bytes, "write"),
                "rios" => (&mut io.operations, "read"),
                "wios" => (&mut io.operations, "write"),
                _ => continue,
            };
            let value = value.parse().unwrap_or(0);
            list.push(IoEntry { major, minor, operation: operation.to_owned(), value });
        }
    }
    Ok(io)
}

/// Huge pages by size; also for the v2 directory of a host whose other controllers are those of version 1.
pub(in super::super) fn huge_pages(directory: &Path) -> Result<BTreeMap<String, HugepageStats>> {
    let mut found = BTreeMap::new();
    for size in huge_page_sizes() {
        let file = |name: &str| directory.join(format!("hugetlb.{size}.{name}"));
        // Reserved pages where the kernel counts them (Linux 5.7): what fails first.
        let reserved = read_number(&file("rsvd.current"))?;
        let Some(usage) = reserved.map_or_else(|| read_number(&file("current")), |usage| Ok(Some(usage)))? else {
            continue;
        };
        let failures = read_key(&file("events"), "max")?;
        found.insert(size, HugepageStats { usage, max_usage: 0, failures });
    }
    Ok(found)
}
