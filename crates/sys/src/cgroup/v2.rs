//! Version 2: one directory for everything, controllers handed down from the root, events on files.

use super::files::{self, read_key, write, write_io};
use super::oom::OomWatch;
use super::stats::{self, Stats};
use super::v1::{limit_text, rdma_line, write_optional};
use super::{BlockIo, Cpu, Error, Memory, Resources, Result, Throttle, devices, shares_to_weight};
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is handed down when the root has it.
const CONTROLLERS: &[&str] = &["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];

/// Where processes of the namespace's root go when controllers are to be handed down from there.
const ROOT_PROCESSES: &str = "init";

/// A group of version 2.
#[derive(Debug, Clone)]
pub(super) struct Group {
    root: PathBuf,
    relative: PathBuf,
    directory: PathBuf,
}

impl Group {
    pub(super) fn new(root: &Path, relative: &Path) -> Self {
        Self { root: root.to_owned(), relative: relative.to_owned(), directory: root.join(relative) }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Goes to a group below.
    pub(super) fn descend(&mut self, below: &Path) -> bool {
        self.relative.push(below);
        self.directory.push(below);
        true
    }

    pub(super) fn create(&self) -> Result<()> {
        delegate(&self.root, &self.relative, CONTROLLERS)?;
        self.make()
    }

    /// The directory alone.
    pub(super) fn make(&self) -> Result<()> {
        if !files::make_directory(&self.directory)? {
            let mut pids = Vec::new();
            files::collect_processes(&self.directory, &mut pids)?;
            if !pids.is_empty() {
                return Err(Error::InUse { path: self.directory.clone(), count: pids.len() });
            }
        }
        Ok(())
    }

    pub(super) fn apply(&self, resources: &Resources) -> Result<()> {
        self.apply_memory(&resources.memory)?;
        self.apply_cpu(&resources.cpu)?;
        if let Some(limit) = resources.pids {
            self.set("a limit of processes", "pids", "pids.max", &limit_text(limit))?;
        }
        self.apply_block_io(&resources.block_io)?;
        for (size, bytes) in &resources.hugepages {
            self.set("a limit of huge pages", "hugetlb", &format!("hugetlb.{size}.max"), &bytes.to_string())?;
            write_optional(&self.directory.join(format!("hugetlb.{size}.rsvd.max")), *bytes)?;
        }
        for (device, (handles, objects)) in &resources.rdma {
            self.set("an RDMA limit", "rdma", "rdma.max", &rdma_line(device, *handles, *objects))?;
        }
        if resources.network.class_id.is_some() || !resources.network.priorities.is_empty() {
            return Err(Error::Unsupported("network classes are of cgroup v1, and this host has cgroup v2".to_owned()));
        }
        if !resources.devices.is_empty() {
            devices::replace_program(&self.directory, &resources.devices)?;
        }
        for (name, value) in &resources.unified {
            if name.contains('/') || !name.contains('.') {
                return Err(Error::Invalid(format!("{name:?} is no file of a cgroup")));
            }
            // The file can hold several values, each to be written by itself.
            for line in value.lines() {
                write(&self.directory.join(name), line)?;
            }
        }
        Ok(())
    }

    fn set(&self, limit: &'static str, controller: &'static str, file: &str, value: &str) -> Result<()> {
        let path = self.directory.join(file);
        match write_io(&path, value) {
            Ok(()) => Ok(()),
            Err(source) => {
                need(&self.directory, limit, controller)?;
                Err(Error::Write { path, value: value.to_owned(), source })
            }
        }
    }

    fn apply_memory(&self, memory: &Memory) -> Result<()> {
        for (set, what) in [
            (memory.swappiness.is_some_and(|v| v != u64::MAX), "memory swappiness"),
            (memory.disable_oom_killer == Some(true), "disabling the OOM killer"),
            (memory.kernel_tcp.is_some_and(|v| v > 0), "a limit of TCP memory"),
        ] {
            if set {
                return Err(Error::Unsupported(format!("{what} is of cgroup v1, and this host has cgroup v2")));
            }
        }
        let limit = memory.limit.filter(|v| *v != 0);
        if memory.check_before_update {
            self.check_usage(limit)?;
        }
        let swap = swap_alone(memory)?;
        const LIMIT: &str = "a memory limit";
        if let Some(swap) = &swap {
            let file = "memory.swap.max";
            // A kernel without swap accounting has nothing to lift.
            if swap != "max" || self.directory.join(file).exists() {
                self.set(LIMIT, "memory", file, swap)?;
            }
        }
        let bytes = |value: i64| if value == -1 { "max".to_owned() } else { value.to_string() };
        if let Some(limit) = limit {
            self.set(LIMIT, "memory", "memory.max", &bytes(limit))?;
        }
        // cgroup v2 has no soft limit that is its namesake; runc takes memory.low.
        memory.reservation.filter(|v| *v != 0).map_or(Ok(()), |v| self.set(LIMIT, "memory", "memory.low", &bytes(v)))
    }

    /// The kernel would kill to reach the new limit.
    fn check_usage(&self, limit: Option<i64>) -> Result<()> {
        let Some(limit) = limit.filter(|v| *v > 0) else { return Ok(()) };
        let usage = files::read_number(&self.directory.join("memory.current"))?.unwrap_or(0);
        if usage > limit.unsigned_abs() {
            let peak = files::read_number(&self.directory.join("memory.peak"))?.unwrap_or(usage);
            return Err(Error::MemoryInUse { limit, usage, peak });
        }
        Ok(())
    }

    fn apply_cpu(&self, cpu: &Cpu) -> Result<()> {
        const LIMIT: &str = "a processor limit";
        if cpu.realtime_runtime.is_some_and(|v| v != 0) || cpu.realtime_period.is_some_and(|v| v != 0) {
            return Err(Error::Unsupported(
                "real-time limits are of cgroup v1, and this host has cgroup v2".to_owned(),
            ));
        }
        if let Some(idle) = cpu.idle {
            self.set(LIMIT, "cpu", "cpu.idle", &idle.to_string())?;
        }
        if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
            self.set(LIMIT, "cpu", "cpu.weight", &shares_to_weight(shares).to_string())?;
        }
        let (period, quota) = (cpu.period.filter(|v| *v != 0), cpu.quota.filter(|v| *v != 0));
        // The burst may be at most the quota, so that which of them comes first depends on the direction.
        let mut burst = cpu.burst;
        if burst.is_some_and(|burst| write_io(&self.directory.join("cpu.max.burst"), &burst.to_string()).is_ok()) {
            burst = None;
        }
        if period.is_some() || quota.is_some() {
            let file = self.directory.join("cpu.max");
            // A part that is not given stays; the file has the form 'QUOTA PERIOD'.
            let now = files::read_optional(&file)?.unwrap_or_default();
            let mut now = now.split_whitespace();
            let old_quota = now.next().unwrap_or("max").to_owned();
            let quota = quota.map_or(old_quota, |q| if q > 0 { q.to_string() } else { "max".to_owned() });
            let period = period.map_or(now.next().unwrap_or("100000").to_owned(), |p| p.to_string());
            self.set(LIMIT, "cpu", "cpu.max", &format!("{quota} {period}"))?;
        }
        if let Some(burst) = burst {
            self.set(LIMIT, "cpu", "cpu.max.burst", &burst.to_string())?;
        }
        for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
            if !value.is_empty() {
                self.set("a set of processors", "cpuset", file, value)?;
            }
        }
        Ok(())
    }

    fn apply_block_io(&self, io: &BlockIo) -> Result<()> {
        const LIMIT: &str = "a limit of block devices";
        if io.leaf_weight.is_some_and(|w| w != 0) || io.weight_device.iter().any(|d| d.3.is_some_and(|w| w != 0)) {
            return Err(Error::Unsupported("leaf weights are of cgroup v1, and this host has cgroup v2".to_owned()));
        }
        // BFQ takes Docker's range as it is; io.weight has a range of its own.
        let bfq = self.directory.join("io.bfq.weight").exists();
        let scaled = |w: u16| if bfq { u64::from(w) } else { 1 + (u64::from(w.clamp(10, 1000)) - 10) * 9999 / 990 };
        let file = if bfq { "io.bfq.weight" } else { "io.weight" };
        if let Some(weight) = io.weight.filter(|w| *w != 0) {
            self.set(LIMIT, "io", file, &scaled(weight).to_string())?;
        }
        for (major, minor, weight, _) in &io.weight_device {
            if let Some(weight) = weight.filter(|w| *w != 0) {
                self.set(LIMIT, "io", file, &format!("{major}:{minor} {}", scaled(weight)))?;
            }
        }
        let throttles: [(&str, &[Throttle]); 4] =
            [("rbps", &io.read_bps), ("wbps", &io.write_bps), ("riops", &io.read_iops), ("wiops", &io.write_iops)];
        for (key, list) in throttles {
            for Throttle { major, minor, rate } in list {
                let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
                self.set(LIMIT, "io", "io.max", &format!("{major}:{minor} {key}={rate}"))?;
            }
        }
        Ok(())
    }

    pub(super) fn stats(&self) -> Result<Stats> {
        stats::v2(&self.directory)
    }

    pub(super) fn watch_oom(&self) -> Result<Option<OomWatch>> {
        OomWatch::v2(&self.directory)
    }

    pub(super) fn oom_kills(&self) -> Result<u64> {
        read_key(&self.directory.join("memory.events"), "oom_kill")
    }
}

/// `memory.swap.max` counts swap alone, where the configuration counts memory and swap together.
fn swap_alone(memory: &Memory) -> Result<Option<String>> {
    let limit = memory.limit.filter(|v| *v != 0);
    match memory.swap.filter(|v| *v != 0) {
        None if limit == Some(-1) => Ok(Some("max".to_owned())),
        None => Ok(None),
        Some(-1) => Ok(Some("max".to_owned())),
        Some(swap) => match limit {
            None => Err(Error::Invalid("unable to set swap limit without memory limit".to_owned())),
            Some(limit) if limit < 0 => Err(Error::Invalid(format!("invalid memory limit {limit} with a swap limit"))),
            Some(limit) if swap < limit => {
                Err(Error::Invalid("memory+swap limit should be >= memory limit".to_owned()))
            }
            Some(limit) => Ok(Some((swap - limit).to_string())),
        },
    }
}

/// Fails when the group lacks a controller.
pub(super) fn need(directory: &Path, limit: &'static str, controller: &'static str) -> Result<()> {
    let offered = files::read_optional(&directory.join("cgroup.controllers"))?.unwrap_or_default();
    if offered.split_whitespace().any(|c| c == controller) {
        Ok(())
    } else {
        Err(Error::Controller { limit, controller, path: directory.to_owned() })
    }
}

/// Makes the groups above the last one, and hands `controllers` down so that the last one can have them. What the
/// root does not offer is left out: a limit that needs it is refused when it is applied.
pub(super) fn delegate(root: &Path, relative: &Path, controllers: &[&str]) -> Result<()> {
    let mut parent = root.to_owned();
    for directory in files::ancestry(root, relative.parent().unwrap_or(Path::new(""))) {
        hand_down(&parent, controllers, parent == root)?;
        files::make_directory(&directory)?;
        parent = directory;
    }
    hand_down(&parent, controllers, parent == root)
}

fn hand_down(directory: &Path, controllers: &[&str], is_root: bool) -> Result<()> {
    let file = directory.join("cgroup.subtree_control");
    let offered = files::read(&directory.join("cgroup.controllers"))?;
    let enabled = files::read(&file)?;
    let has = |text: &str, name: &str| text.split_whitespace().any(|c| c == name);
    let missing: Vec<String> =
        controllers.iter().filter(|c| has(&offered, c) && !has(&enabled, c)).map(|c| format!("+{c}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    match write_io(&file, &missing.join(" ")) {
        // A group of somebody else's, above those that were left to this caller.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EROFS)) => return Ok(()),
        Ok(()) => return Ok(()),
        Err(_) => {}
    }
    // One controller that cannot be handed down (cpu with real-time tasks) must not keep the others; and a group with
    // processes cannot hand down any, but for the real root.
    for controller in missing {
        match write_io(&file, &controller) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if !is_root {
                    return Err(Error::InternalProcesses(directory.to_owned()));
                }
                move_root_processes(directory)?;
                write(&file, &controller)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// In a container, the root of what is seen is a group like any other: its processes go into a leaf, as Docker's own
/// image for Docker in Docker does it.
fn move_root_processes(root: &Path) -> Result<()> {
    let leaf = root.join(ROOT_PROCESSES);
    files::make_directory(&leaf)?;
    let text = files::read(&root.join("cgroup.procs"))?;
    for pid in text.lines() {
        // Processes come and go; what could not be moved shows when the controller is enabled again.
        let _ = write_io(&leaf.join("cgroup.procs"), pid);
    }
    Ok(())
}

pub(super) fn is_frozen(directory: &Path) -> Result<bool> {
    let text = files::read_optional(&directory.join("cgroup.freeze"))?.unwrap_or_default();
    Ok(text.trim() == "1")
}

pub(super) fn set_frozen(directory: &Path, frozen: bool, timeout: Duration) -> Result<()> {
    write(&directory.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
    if frozen && !wait_event(directory, "frozen", true, Instant::now() + timeout)? {
        let _ = write(&directory.join("cgroup.freeze"), "0");
        return Err(Error::Timeout { path: directory.to_owned(), state: "frozen" });
    }
    Ok(())
}

/// Waits until a key of `cgroup.events` has a value; `false` when the time ran out. A group that is gone has neither
/// processes nor anything else.
pub(super) fn wait_event(directory: &Path, key: &str, wanted: bool, deadline: Instant) -> Result<bool> {
    let path = directory.join("cgroup.events");
    let file = match rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(!wanted),
        Err(source) => return Err(Error::Read { path, source: source.into() }),
    };
    loop {
        // Reading arms the notification, so it comes before the check; a change in between is not lost.
        let mut buffer = [0; 256];
        let length = match rustix::io::pread(&file, &mut buffer, 0) {
            Ok(length) => length,
            Err(rustix::io::Errno::NODEV) => return Ok(!wanted),
            Err(source) => return Err(Error::Read { path, source: source.into() }),
        };
        let text = std::str::from_utf8(&buffer[..length]).unwrap_or_default();
        let value = files::pairs(text).find(|(k, _)| *k == key).is_some_and(|(_, value)| value == 1);
        if value == wanted {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        files::wait_readable(&file, PollFlags::PRI, deadline);
    }
}
