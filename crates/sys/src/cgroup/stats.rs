//! What a group uses. A figure whose controller or file is missing is zero, a list is empty, pressure is absent.

mod v1;
mod v2;

use super::Result;
use super::files::{pairs, read_number, read_optional};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) use v1::read as v1;
pub(super) use v2::{huge_pages as v2_huge_pages, read as v2};

/// Figures of a group, with those below it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Processor.
    pub cpu: CpuStats,
    /// Processors and memory nodes that may be used.
    pub cpuset: CpusetStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes.
    pub pids: PidsStats,
    /// Block devices.
    pub io: IoStats,
    /// Huge pages by size, `2MB`.
    pub hugepages: BTreeMap<String, HugepageStats>,
    /// RDMA devices.
    pub rdma: RdmaStats,
}

/// Processor time in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuStats {
    /// In all.
    pub total_ns: u64,
    /// In the kernel.
    pub kernel_ns: u64,
    /// In programs.
    pub user_ns: u64,
    /// By processor, cgroup v1 only.
    pub per_cpu_ns: Vec<u64>,
    /// In the kernel by processor, cgroup v1 only.
    pub per_cpu_kernel_ns: Vec<u64>,
    /// In programs by processor, cgroup v1 only.
    pub per_cpu_user_ns: Vec<u64>,
    /// Periods with a quota.
    pub periods: u64,
    /// Those in which it was used up.
    pub throttled_periods: u64,
    /// Time spent waiting for the next.
    pub throttled_ns: u64,
    /// Time lost waiting for a processor, cgroup v2 only.
    pub pressure: Option<Pressure>,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Time in which some task waited.
    pub some: Stall,
    /// Time in which all of them did.
    pub full: Stall,
}

/// How long tasks waited for something.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds in all.
    pub total_us: u64,
}

/// The `cpuset.*` files. Version 2 has the two lists alone, which are those in effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpusetStats {
    /// Numbers of processors.
    pub cpus: Vec<u16>,
    /// Numbers of memory nodes.
    pub mems: Vec<u16>,
    /// The other files of version 1 that hold a number, by their names after the dot.
    pub flags: BTreeMap<&'static str, i64>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryStats {
    /// In use, page cache included.
    pub usage: u64,
    /// The most that was in use.
    pub max_usage: u64,
    /// How often the limit was hit, cgroup v1 only.
    pub failures: u64,
    /// The limit; `None` is no limit. (cgroup v1 has a huge number instead, which is passed on.)
    pub limit: Option<u64>,
    /// Memory and swap together.
    pub swap: MemoryCounter,
    /// The kernel's own, cgroup v1 only.
    pub kernel: MemoryCounter,
    /// TCP buffers, cgroup v1 only.
    pub kernel_tcp: MemoryCounter,
    /// Lines of `memory.stat`.
    pub detail: BTreeMap<String, u64>,
    /// Time lost waiting for memory, cgroup v2 only.
    pub pressure: Option<Pressure>,
}

/// One thing that is counted in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryCounter {
    /// In use.
    pub usage: u64,
    /// The most that was in use.
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failures: u64,
    /// The limit; `u64::MAX` is none.
    pub limit: u64,
}

/// Numbers of processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// At most; `None` is no limit.
    pub limit: Option<u64>,
}

/// A figure of a block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total` in v1; `read`, `write` in v2; empty where there is one
    /// figure alone.
    pub operation: String,
    /// Bytes, operations, nanoseconds or sectors.
    pub value: u64,
}

/// Figures of block devices. All but bytes and operations are those of a scheduler of cgroup v1 that counts them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IoStats {
    /// Bytes.
    pub bytes: Vec<IoEntry>,
    /// Operations.
    pub operations: Vec<IoEntry>,
    /// Operations that wait.
    pub queued: Vec<IoEntry>,
    /// Nanoseconds between dispatch and completion.
    pub service_time: Vec<IoEntry>,
    /// Nanoseconds in queues.
    pub wait_time: Vec<IoEntry>,
    /// Operations that were merged into others.
    pub merged: Vec<IoEntry>,
    /// Milliseconds of the device.
    pub time: Vec<IoEntry>,
    /// Sectors.
    pub sectors: Vec<IoEntry>,
    /// Time lost waiting for devices, cgroup v2 only.
    pub pressure: Option<Pressure>,
}

/// Huge pages of a size, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HugepageStats {
    /// In use.
    pub usage: u64,
    /// The most that was in use, cgroup v1 only.
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

/// RDMA devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaStats {
    /// What is in use.
    pub current: Vec<RdmaEntry>,
    /// Limits; `u32::MAX` is none.
    pub limit: Vec<RdmaEntry>,
}

/// Figures of an RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// Its name.
    pub device: String,
    /// Handles.
    pub handles: u32,
    /// Objects.
    pub objects: u32,
}

fn detail(directory: &Path) -> Result<BTreeMap<String, u64>> {
    let text = read_optional(&directory.join("memory.stat"))?.unwrap_or_default();
    Ok(pairs(&text).map(|(key, value)| (key.to_owned(), value)).collect())
}

fn pids(directory: &Path) -> Result<PidsStats> {
    Ok(PidsStats {
        current: read_number(&directory.join("pids.current"))?.unwrap_or(0),
        limit: read_number(&directory.join("pids.max"))?,
    })
}

/// `0-2,7` as numbers.
fn numbers(list: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

/// Numbers `major:minor` of a device.
fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn rdma(directory: &Path) -> Result<RdmaStats> {
    let entries = |name: &str| -> Result<Vec<RdmaEntry>> {
        let text = read_optional(&directory.join(name))?.unwrap_or_default();
        Ok(text.lines().filter_map(rdma_entry).collect())
    };
    Ok(RdmaStats { current: entries("rdma.current")?, limit: entries("rdma.max")? })
}

/// `mlx4_0 hca_handle=2 hca_object=max`
fn rdma_entry(line: &str) -> Option<RdmaEntry> {
    let (device, rest) = line.split_once(' ')?;
    let number = |key: &str| {
        let value = rest.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
        if value == "max" { Some(u32::MAX) } else { value.parse().ok() }
    };
    Some(RdmaEntry { device: device.to_owned(), handles: number("hca_handle")?, objects: number("hca_object")? })
}

/// The sizes of huge pages that this kernel has, in the words of its controller: `2MB`, `1GB`.
fn huge_page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let size = |name: &str| {
        let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(match kilobytes {
            _ if kilobytes >= 1 << 20 => format!("{}GB", kilobytes >> 20),
            _ if kilobytes >= 1 << 10 => format!("{}MB", kilobytes >> 10),
            _ => format!("{kilobytes}KB"),
        })
    };
    entries.filter_map(|entry| size(entry.file_name().to_str()?)).collect()
}

/// The lines of a `*.pressure` file. Absent where the kernel counts none, or was told not to count for this group.
fn pressure(text: &str) -> Option<Pressure> {
    let stall = |line: &str| {
        let mut stall = Stall::default();
        for (key, value) in line.split(' ').filter_map(|pair| pair.split_once('=')) {
            match key {
                "avg10" => stall.avg10 = value.parse().ok()?,
                "avg60" => stall.avg60 = value.parse().ok()?,
                "avg300" => stall.avg300 = value.parse().ok()?,
                "total" => stall.total_us = value.parse().ok()?,
                _ => {}
            }
        }
        Some(stall)
    };
    let line = |name: &str| text.lines().find_map(|line| stall(line.strip_prefix(name)?));
    Some(Pressure { some: line("some ")?, full: line("full ").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel() {
        let text =
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=8263\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let found = pressure(text).unwrap();
        assert_eq!(
            (found.some.avg10, found.some.avg60, found.some.total_us, found.full.total_us),
            (1.5, 0.25, 8263, 7)
        );
        assert_eq!(pressure(""), None);
        assert_eq!(numbers("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(numbers("\n"), [0_u16; 0]);
        let entry = rdma_entry("mlx4_0 hca_handle=2 hca_object=max").unwrap();
        assert_eq!((entry.device.as_str(), entry.handles, entry.objects), ("mlx4_0", 2, u32::MAX));
    }
}
