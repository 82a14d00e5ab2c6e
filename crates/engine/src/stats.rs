//! Figures of running containers, as a stream of one sample per second.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::container::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats, ThrottlingData,
};
use futures_util::{Stream, StreamExt, stream};
use sys::cgroup::Cgroup;

use crate::container::Container;
use crate::container::record::Record;
use crate::container::spec::cgroups_path;
use crate::container::sysinfo::SysInfo;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::system::memory_total;

/// Time between two samples.
const EVERY: Duration = Duration::from_secs(1);
/// Clock ticks per second in /proc/stat, on every architecture that is supported.
const TICKS: u64 = 100;

/// What `GET /containers/ID/stats` asks for.
#[derive(Debug, Clone, Copy)]
pub struct StatsOptions {
    /// A sample every second until the container is gone; otherwise one.
    pub stream: bool,
    /// With `stream` off: do not wait for a second sample to compare with.
    pub one_shot: bool,
}

impl Engine {
    /// Samples. A container that does not run gives empty ones.
    pub async fn container_stats(
        &self,
        id: &str,
        options: StatsOptions,
    ) -> Result<impl Stream<Item = Stats> + Send + 'static + use<>> {
        let container = self.containers.get(id)?;
        let parent = self.config.cgroup_parent.clone().unwrap_or_else(|| "/gantry".to_owned());
        // A stream starts with a sample that has nothing before it; a single one is only useful with two.
        let first = if options.stream || options.one_shot { None } else { Some(sample(&container, &parent).await?) };
        if first.as_ref().is_some_and(|stats| stats.read != api::time::ZERO) {
            tokio::time::sleep(EVERY).await;
        }
        let state = Some((container, parent, first, true));
        let samples = stream::unfold(state, move |state| async move {
            let (container, parent, before, is_first) = state?;
            if !is_first {
                tokio::time::sleep(EVERY).await;
            }
            if container.watch().has_changed().is_err() {
                return None;
            }
            let mut now = sample(&container, &parent).await.ok()?;
            if let Some(before) = before {
                now.preread = before.read;
                now.precpu_stats = before.cpu_stats;
            }
            let next = options.stream.then(|| (container, parent, Some(now.clone()), false));
            Some((now, next))
        });
        Ok(samples.boxed())
    }
}

async fn sample(container: &Container, parent: &str) -> Result<Stats> {
    let record = container.record();
    let parent = parent.to_owned();
    let work = tokio::task::spawn_blocking(move || read(&record, &parent));
    work.await.map_err(|e| Error::system(format!("reading figures: {e}")))?
}

fn read(record: &Arc<Record>, parent: &str) -> Result<Stats> {
    let mut stats = Stats {
        read: api::time::ZERO.to_owned(),
        preread: api::time::ZERO.to_owned(),
        name: format!("/{}", record.name),
        id: record.id.clone(),
        ..Stats::default()
    };
    if !record.state.status.has_process() {
        return Ok(stats);
    }
    let failed = |e: sys::cgroup::Error| Error::caused(Kind::System, "reading the control group", e);
    let path = PathBuf::from(cgroups_path(record, parent));
    let figures = Cgroup::open(&path).and_then(|group| group.stats()).map_err(failed)?;
    stats.read = api::time::now();
    stats.pids_stats = PidsStats { current: figures.pids.current, limit: figures.pids.limit.unwrap_or(0) };
    stats.cpu_stats = cpu(&figures.cpu);
    stats.memory_stats = memory(&figures.memory);
    stats.blkio_stats = blkio(&figures.io);
    if record.host_config.network_mode != "host" && !record.host_config.network_mode.starts_with("container:") {
        stats.networks = Some(interfaces(record.state.pid));
    }
    Ok(stats)
}

fn cpu(cpu: &sys::cgroup::CpuStats) -> CpuStats {
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cpu.total_ns,
            percpu_usage: cpu.per_cpu_ns.clone(),
            usage_in_kernelmode: cpu.kernel_ns,
            usage_in_usermode: cpu.user_ns,
        },
        system_cpu_usage: system_cpu(),
        online_cpus: u32::try_from(SysInfo::get().cpu_count).unwrap_or(1),
        throttling_data: ThrottlingData {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled_ns,
        },
    }
}

/// Nanoseconds of all CPUs since boot: the first seven columns of the first line of /proc/stat.
fn system_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: u64 = line.split_whitespace().skip(1).take(7).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks * (1_000_000_000 / TICKS)
}

/// Whether dockerd passes a figure of v1 on; of v2 it passes all.
fn reported(name: &str) -> bool {
    let own = name.strip_prefix("total_").unwrap_or(name);
    SysInfo::get().cgroup_version != 1
        || !(own.starts_with("workingset_") || matches!(own, "shmem" | "swap" | "swapcached"))
}

fn memory(memory: &sys::cgroup::MemoryStats) -> MemoryStats {
    let total = memory_total();
    MemoryStats {
        usage: memory.usage,
        // dockerd has no such figure on a host with version 2.
        max_usage: if SysInfo::get().cgroup_version == 1 { memory.max_usage } else { 0 },
        stats: memory.detail.iter().filter(|(name, _)| reported(name)).map(|(n, v)| (n.clone(), *v)).collect(),
        failcnt: memory.failures,
        // "Unlimited" is what the host has.
        limit: memory.limit.unwrap_or(total).min(total),
    }
}

fn blkio(io: &sys::cgroup::IoStats) -> BlkioStats {
    let entries = |list: &[sys::cgroup::IoEntry]| {
        let entry = |e: &sys::cgroup::IoEntry| BlkioEntry {
            major: e.major,
            minor: e.minor,
            op: e.operation.clone(),
            value: e.value,
        };
        Some(list.iter().map(entry).collect::<Vec<_>>())
    };
    // cgroup v2 has nothing for the others, which dockerd shows as null.
    let legacy = (SysInfo::get().cgroup_version == 1).then(Vec::new);
    BlkioStats {
        io_service_bytes_recursive: entries(&io.bytes),
        io_serviced_recursive: if legacy.is_some() { entries(&io.operations) } else { None },
        io_queue_recursive: legacy.clone(),
        io_service_time_recursive: legacy.clone(),
        io_wait_time_recursive: legacy.clone(),
        io_merged_recursive: legacy.clone(),
        io_time_recursive: legacy.clone(),
        sectors_recursive: legacy,
    }
}

/// The counters of the container's interfaces but `lo`, as its first process sees them.
fn interfaces(pid: u32) -> BTreeMap<String, NetworkStats> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    text.lines().skip(2).filter_map(interface).filter(|(name, _)| name != "lo").collect()
}

fn interface(line: &str) -> Option<(String, NetworkStats)> {
    let (name, counters) = line.split_once(':')?;
    let n: Vec<u64> = counters.split_whitespace().filter_map(|c| c.parse().ok()).collect();
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
        n[..]
    else {
        return None;
    };
    let stats =
        NetworkStats { rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped };
    Some((name.trim().to_owned(), stats))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_from_the_kernels_table() {
        let (name, stats) = interface("  eth0: 1472 22 1 2 0 0 0 0 90 7 3 4 0 0 0 0").unwrap();
        assert_eq!((name.as_str(), stats.rx_bytes, stats.tx_packets, stats.tx_dropped), ("eth0", 1472, 7, 4));
        assert!(interface("Inter-|   Receive").is_none());
        assert!(system_cpu() > 0);
    }
}
