//! What a group uses, and the notice of memory running out.

use super::files::{self, pairs, read_key, read_number, read_optional};
use super::{Error, Result};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Figures of a group, with those below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes.
    pub pids: PidsStats,
    /// Block devices.
    pub io: IoStats,
}

/// Processor time in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// In all.
    pub total_ns: u64,
    /// In the kernel.
    pub kernel_ns: u64,
    /// In programs.
    pub user_ns: u64,
    /// By processor, cgroup v1 only.
    pub per_cpu_ns: Vec<u64>,
    /// Periods with a quota.
    pub periods: u64,
    /// Those in which it was used up.
    pub throttled_periods: u64,
    /// Time spent waiting for the next.
    pub throttled_ns: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, page cache included.
    pub usage: u64,
    /// The most that was in use, cgroup v1 only.
    pub max_usage: u64,
    /// How often the limit was hit, cgroup v1 only.
    pub failures: u64,
    /// The limit; `None` is no limit. (cgroup v1 has a huge number instead, which is passed on.)
    pub limit: Option<u64>,
    /// Lines of `memory.stat`.
    pub detail: BTreeMap<String, u64>,
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
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total` in v1; `read`, `write` in v2.
    pub operation: String,
    /// Bytes or operations.
    pub value: u64,
}

/// Figures of block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Bytes.
    pub bytes: Vec<IoEntry>,
    /// Operations.
    pub operations: Vec<IoEntry>,
}

/// From the directories of v1 controllers.
pub(super) fn v1<'a>(controller: impl Fn(&str) -> Option<&'a Path>) -> Result<Stats> {
    let mut stats = Stats::default();
    if let Some(directory) = controller("cpuacct") {
        let number = |name: &str| Ok::<_, Error>(read_number(&directory.join(name))?.unwrap_or(0));
        stats.cpu.total_ns = number("cpuacct.usage")?;
        stats.cpu.user_ns = number("cpuacct.usage_user")?;
        stats.cpu.kernel_ns = number("cpuacct.usage_sys")?;
        let per_cpu = read_optional(&directory.join("cpuacct.usage_percpu"))?.unwrap_or_default();
        stats.cpu.per_cpu_ns = per_cpu.split_whitespace().filter_map(|n| n.parse().ok()).collect();
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
    if let Some(directory) = controller("memory") {
        let number = |name: &str| read_number(&directory.join(format!("memory.{name}")));
        stats.memory = MemoryStats {
            usage: number("usage_in_bytes")?.unwrap_or(0),
            max_usage: number("max_usage_in_bytes")?.unwrap_or(0),
            failures: number("failcnt")?.unwrap_or(0),
            limit: number("limit_in_bytes")?,
            detail: detail(directory)?,
        };
    }
    if let Some(directory) = controller("pids") {
        stats.pids = pids(directory)?;
    }
    if let Some(directory) = controller("blkio") {
        stats.io.bytes = blkio(directory, "io_service_bytes_recursive")?;
        stats.io.operations = blkio(directory, "io_serviced_recursive")?;
    }
    Ok(stats)
}

/// From the directory of a v2 group.
pub(super) fn v2(directory: &Path) -> Result<Stats> {
    let mut stats = Stats::default();
    let text = read_optional(&directory.join("cpu.stat"))?.unwrap_or_default();
    for (key, value) in pairs(&text) {
        match key {
            "usage_usec" => stats.cpu.total_ns = value * 1000,
            "user_usec" => stats.cpu.user_ns = value * 1000,
            "system_usec" => stats.cpu.kernel_ns = value * 1000,
            "nr_periods" => stats.cpu.periods = value,
            "nr_throttled" => stats.cpu.throttled_periods = value,
            "throttled_usec" => stats.cpu.throttled_ns = value * 1000,
            _ => {}
        }
    }
    stats.memory = MemoryStats {
        usage: read_number(&directory.join("memory.current"))?.unwrap_or(0),
        max_usage: 0,
        failures: 0,
        limit: read_number(&directory.join("memory.max"))?,
        detail: detail(directory)?,
    };
    stats.pids = pids(directory)?;
    let text = read_optional(&directory.join("io.stat"))?.unwrap_or_default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut stats.io.bytes, "read"),
                "wbytes" => (&mut stats.io.bytes, "write"),
                "rios" => (&mut stats.io.operations, "read"),
                "wios" => (&mut stats.io.operations, "write"),
                _ => continue,
            };
            let value = value.parse().unwrap_or(0);
            list.push(IoEntry { major, minor, operation: operation.to_owned(), value });
        }
    }
    Ok(stats)
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

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines `MAJOR:MINOR OPERATION VALUE`. BFQ's file has them where BFQ is in use, the throttling layer's everywhere.
fn blkio(directory: &Path, name: &str) -> Result<Vec<IoEntry>> {
    for prefix in ["blkio.bfq", "blkio.throttle"] {
        let text = read_optional(&directory.join(format!("{prefix}.{name}")))?.unwrap_or_default();
        let entries: Vec<_> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (major, minor) = device(words.next()?)?;
                let operation = words.next()?.to_owned();
                Some(IoEntry { major, minor, operation, value: words.next()?.parse().ok()? })
            })
            .collect();
        if !entries.is_empty() {
            return Ok(entries);
        }
    }
    Ok(Vec::new())
}

/// Tells when a group runs out of memory.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    edge: bool,
    counter: PathBuf,
    /// Kills that were told of.
    known: Cell<u64>,
}

impl OomWatch {
    /// cgroup v1 writes to an eventfd (memory.txt, section 9).
    pub(super) fn v1(directory: &Path) -> Result<Self> {
        let counter = directory.join("memory.oom_control");
        let control = rustix::fs::open(&counter, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|source| Error::Read { path: counter.clone(), source: source.into() })?;
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|source| Error::Read { path: counter.clone(), source: source.into() })?;
        let registration = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
        files::write(&directory.join("cgroup.event_control"), &registration)?;
        Ok(Self { fd, edge: false, counter, known: Cell::new(0) })
    }

    /// cgroup v2 notifies those who poll `memory.events`.
    pub(super) fn v2(directory: &Path) -> Result<Option<Self>> {
        let counter = directory.join("memory.events");
        match rustix::fs::open(&counter, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, edge: true, counter, known: Cell::new(0) })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(source) => Err(Error::Read { path: counter, source: source.into() }),
        }
    }

    /// What to poll for: the notice is 'priority' in v2, and something to read in v1.
    pub fn poll_flags(&self) -> PollFlags {
        if self.edge { PollFlags::PRI } else { PollFlags::IN }
    }

    /// Takes the notice; whether a process was killed since the last time.
    pub fn happened(&self) -> Result<bool> {
        let kills = self.acknowledge()?;
        Ok(self.known.replace(kills) < kills)
    }

    /// Takes the notice, and says how many processes have been killed by now. A group that is gone has none.
    pub fn acknowledge(&self) -> Result<u64> {
        let mut buffer = [0; 512];
        if self.edge {
            let _ = rustix::io::pread(&self.fd, &mut buffer, 0);
        } else {
            let _ = rustix::io::read(&self.fd, &mut buffer[..8]);
        }
        read_key(&self.counter, "oom_kill")
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
