//! Version 1: a directory in each controller's hierarchy, and one in the v2 hierarchy if that is mounted besides.

use super::files::{self, read_key, read_number, write, write_io};
use super::oom::OomWatch;
use super::stats::{self, Stats};
use super::{BlockIo, Cpu, Error, Hierarchies, Memory, Resources, Result, Throttle, devices, v2};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// A group of version 1.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Controllers of a hierarchy, its mount point, and the group's directory there.
    places: Vec<Place>,
    relative: PathBuf,
    /// Mount point and directory in the v2 hierarchy.
    unified: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, Clone)]
struct Place {
    names: Vec<String>,
    mount_point: PathBuf,
    directory: PathBuf,
}

impl Group {
    pub(super) fn new(hierarchies: &Hierarchies, relative: &Path) -> Self {
        let place = |c: &super::Controller| Place {
            names: c.names.clone(),
            mount_point: c.mount_point.clone(),
            directory: c.mount_point.join(relative),
        };
        Self {
            places: hierarchies.controllers().iter().map(place).collect(),
            relative: relative.to_owned(),
            unified: hierarchies.unified().map(|root| (root.to_owned(), root.join(relative))),
        }
    }

    /// Goes to a group below, in the hierarchy of a controller, or in all for an empty name; whether there is one.
    pub(super) fn descend(&mut self, controller: &str, below: &Path) -> bool {
        let all = controller.is_empty();
        let mut found = all;
        for place in &mut self.places {
            if all || place.names.iter().any(|name| name.strip_prefix("name=").unwrap_or(name) == controller) {
                place.directory.push(below);
                found = true;
            }
        }
        if let (true, Some((_, directory))) = (all, &mut self.unified) {
            directory.push(below);
            self.relative.push(below);
        }
        found
    }

    pub(super) fn limit_directories(&self) -> impl Iterator<Item = &Path> {
        self.places.iter().map(|place| place.directory.as_path())
    }

    pub(super) fn unified_directory(&self) -> Option<&Path> {
        self.unified.as_ref().map(|(_, directory)| directory.as_path())
    }

    /// Directory of a controller, if it is mounted.
    pub(super) fn controller(&self, name: &str) -> Option<&Path> {
        self.places.iter().find(|p| p.names.iter().any(|n| n == name)).map(|p| p.directory.as_path())
    }

    fn need(&self, limit: &'static str, controller: &'static str) -> Result<&Path> {
        let missing = || Error::Controller { limit, controller, path: Path::new("/").join(&self.relative) };
        self.controller(controller).ok_or_else(missing)
    }

    pub(super) fn create(&self) -> Result<()> {
        for place in &self.places {
            let cpuset = place.names.iter().any(|n| n == "cpuset");
            let mut parent = place.mount_point.clone();
            let mut made = false;
            for directory in files::ancestry(&place.mount_point, &self.relative) {
                made = files::make_directory(&directory)?;
                if cpuset {
                    inherit_cpuset(&parent, &directory, made)?;
                }
                parent = directory;
            }
            if !made {
                refuse_used(&place.directory)?;
            }
        }
        if let Some((root, directory)) = &self.unified {
            for ancestor in files::ancestry(root, &self.relative) {
                files::make_directory(&ancestor)?;
            }
            refuse_used(directory)?;
        }
        Ok(())
    }

    pub(super) fn apply(&self, resources: &Resources) -> Result<()> {
        self.apply_devices(resources)?;
        self.apply_memory(&resources.memory)?;
        self.apply_cpu(&resources.cpu)?;
        if let Some(limit) = resources.pids {
            let directory = self.need("a limit of processes", "pids")?;
            write(&directory.join("pids.max"), &limit_text(limit))?;
        }
        self.apply_block_io(&resources.block_io)?;
        self.apply_hugepages(&resources.hugepages)?;
        self.apply_network(resources)?;
        for (device, (handles, objects)) in &resources.rdma {
            let directory = self.need("an RDMA limit", "rdma")?;
            write(&directory.join("rdma.max"), &rdma_line(device, *handles, *objects))?;
        }
        if let Some(name) = resources.unified.keys().next() {
            return Err(Error::Unsupported(format!("{name} is a file of cgroup v2, and this host has cgroup v1")));
        }
        Ok(())
    }

    fn apply_devices(&self, resources: &Resources) -> Result<()> {
        if resources.devices.is_empty() {
            return Ok(());
        }
        let directory = self.need("device access", "devices")?;
        for line in devices::v1_lines(&resources.devices) {
            let (file, value) = line;
            write(&directory.join(file), &value)?;
        }
        Ok(())
    }

    fn apply_memory(&self, memory: &Memory) -> Result<()> {
        if *memory == (Memory { check_before_update: memory.check_before_update, ..Memory::default() }) {
            return Ok(());
        }
        let directory = self.need("a memory limit", "memory")?;
        set_memory_and_swap(directory, memory)?;
        for (name, value) in
            [("soft_limit_in_bytes", memory.reservation), ("kmem.tcp.limit_in_bytes", memory.kernel_tcp)]
        {
            if let Some(value) = value.filter(|v| *v != 0) {
                write(&directory.join(format!("memory.{name}")), &value.to_string())?;
            }
        }
        if let Some(disable) = memory.disable_oom_killer {
            write(&directory.join("memory.oom_control"), if disable { "1" } else { "0" })?;
        }
        match memory.swappiness {
            Some(value @ 0..=100) => write(&directory.join("memory.swappiness"), &value.to_string()),
            // Docker's way of saying 'unset'.
            None | Some(u64::MAX) => Ok(()),
            Some(value) => {
                Err(Error::Invalid(format!("invalid memory swappiness value: {value} (valid range is 0-100)")))
            }
        }
    }

    fn apply_cpu(&self, cpu: &Cpu) -> Result<()> {
        if !cpu.cpus.is_empty() || !cpu.mems.is_empty() {
            let directory = self.need("a set of processors", "cpuset")?;
            for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
                if !value.is_empty() {
                    write(&directory.join(file), value)?;
                }
            }
        }
        let rest = Cpu { cpus: String::new(), mems: String::new(), ..cpu.clone() };
        if rest == Cpu::default() {
            return Ok(());
        }
        let directory = self.need("a processor limit", "cpu")?;
        if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
            set_shares(&directory.join("cpu.shares"), shares)?;
        }
        let number = |file: &str, value: Option<String>| match value {
            Some(value) => write(&directory.join(file), &value),
            None => Ok(()),
        };
        let positive = |value: Option<u64>| value.filter(|v| *v != 0).map(|v| v.to_string());
        number("cpu.rt_period_us", positive(cpu.realtime_period))?;
        number("cpu.rt_runtime_us", cpu.realtime_runtime.filter(|v| *v != 0).map(|v| v.to_string()))?;
        set_quota(directory, cpu)?;
        number("cpu.idle", cpu.idle.map(|v| v.to_string()))
    }

    fn apply_block_io(&self, io: &BlockIo) -> Result<()> {
        if *io == BlockIo::default() {
            return Ok(());
        }
        let directory = self.need("a limit of block devices", "blkio")?;
        // The names depend on the scheduler: CFQ's were blkio.weight, BFQ brought its own.
        let weight_file = |plain: &str, bfq: &str| {
            let plain = directory.join(plain);
            if plain.exists() { plain } else { directory.join(bfq) }
        };
        if let Some(weight) = io.weight.filter(|w| *w != 0) {
            write(&weight_file("blkio.weight", "blkio.bfq.weight"), &weight.to_string())?;
        }
        if let Some(weight) = io.leaf_weight.filter(|w| *w != 0) {
            write(&directory.join("blkio.leaf_weight"), &weight.to_string())?;
        }
        for (major, minor, weight, leaf) in &io.weight_device {
            if let Some(weight) = weight.filter(|w| *w != 0) {
                let file = weight_file("blkio.weight_device", "blkio.bfq.weight_device");
                write(&file, &format!("{major}:{minor} {weight}"))?;
            }
            if let Some(weight) = leaf.filter(|w| *w != 0) {
                write(&directory.join("blkio.leaf_weight_device"), &format!("{major}:{minor} {weight}"))?;
            }
        }
        let throttles: [(&str, &[Throttle]); 4] = [
            ("read_bps", &io.read_bps),
            ("write_bps", &io.write_bps),
            ("read_iops", &io.read_iops),
            ("write_iops", &io.write_iops),
        ];
        for (name, list) in throttles {
            for throttle in list {
                let line = format!("{}:{} {}", throttle.major, throttle.minor, throttle.rate);
                write(&directory.join(format!("blkio.throttle.{name}_device")), &line)?;
            }
        }
        Ok(())
    }

    fn apply_hugepages(&self, limits: &[(String, u64)]) -> Result<()> {
        for (size, bytes) in limits {
            match (self.controller("hugetlb"), &self.unified) {
                (Some(directory), _) => {
                    write(&directory.join(format!("hugetlb.{size}.limit_in_bytes")), &bytes.to_string())?;
                    write_optional(&directory.join(format!("hugetlb.{size}.rsvd.limit_in_bytes")), *bytes)?;
                }
                // A controller that no v1 hierarchy took is offered by v2.
                (None, Some((root, directory))) => {
                    v2::delegate(root, &self.relative, &["hugetlb"])?;
                    v2::need(directory, "a limit of huge pages", "hugetlb")?;
                    write(&directory.join(format!("hugetlb.{size}.max")), &bytes.to_string())?;
                    write_optional(&directory.join(format!("hugetlb.{size}.rsvd.max")), *bytes)?;
                }
                (None, None) => drop(self.need("a limit of huge pages", "hugetlb")?),
            }
        }
        Ok(())
    }

    fn apply_network(&self, resources: &Resources) -> Result<()> {
        if let Some(class) = resources.network.class_id {
            let directory = self.need("a network class", "net_cls")?;
            write(&directory.join("net_cls.classid"), &class.to_string())?;
        }
        for (interface, priority) in &resources.network.priorities {
            let directory = self.need("a network priority", "net_prio")?;
            write(&directory.join("net_prio.ifpriomap"), &format!("{interface} {priority}"))?;
        }
        Ok(())
    }

    pub(super) fn is_frozen(&self) -> Result<bool> {
        let Some(directory) = self.controller("freezer") else { return Ok(false) };
        let text = files::read_optional(&directory.join("freezer.state"))?.unwrap_or_default();
        Ok(matches!(text.trim(), "FROZEN" | "FREEZING"))
    }

    /// The v1 freezer has no event, and may hang in FREEZING when a task forks meanwhile until it is told again.
    pub(super) fn set_frozen(&self, frozen: bool, timeout: Duration) -> Result<()> {
        let file = self.need("pausing", "freezer")?.join("freezer.state");
        let wanted = if frozen { "FROZEN" } else { "THAWED" };
        let deadline = Instant::now() + timeout;
        write(&file, wanted)?;
        while files::read(&file)?.trim() != wanted {
            if Instant::now() > deadline {
                let _ = write(&file, "THAWED");
                return Err(Error::Timeout { path: Path::new("/").join(&self.relative), state: "frozen" });
            }
            thread::sleep(Duration::from_micros(100));
            write(&file, wanted)?;
        }
        Ok(())
    }

    pub(super) fn stats(&self) -> Result<Stats> {
        let mut stats = stats::v1(|name| self.controller(name))?;
        // A controller that no v1 hierarchy took is offered by v2.
        if let (None, Some(unified)) = (self.controller("hugetlb"), self.unified_directory()) {
            stats.hugepages = stats::v2_huge_pages(unified)?;
        }
        Ok(stats)
    }

    pub(super) fn watch_oom(&self) -> Result<Option<OomWatch>> {
        self.controller("memory").map(OomWatch::v1).transpose()
    }

    pub(super) fn oom_kills(&self) -> Result<u64> {
        self.controller("memory").map_or(Ok(0), |d| read_key(&d.join("memory.oom_control"), "oom_kill"))
    }
}

/// Limits reserved huge pages too, where the kernel can (Linux 5.7): a program that maps more than it may fails then, and
/// is not killed when it touches them.
pub(super) fn write_optional(path: &Path, bytes: u64) -> Result<()> {
    if path.exists() { write(path, &bytes.to_string()) } else { Ok(()) }
}

pub(super) fn limit_text(limit: i64) -> String {
    if limit > 0 { limit.to_string() } else { "max".to_owned() }
}

pub(super) fn rdma_line(device: &str, handles: Option<u32>, objects: Option<u32>) -> String {
    let text = |value: Option<u32>| value.map_or("max".to_owned(), |v| v.to_string());
    format!("{device} hca_handle={} hca_object={}", text(handles), text(objects))
}

fn refuse_used(directory: &Path) -> Result<()> {
    let mut pids = Vec::new();
    files::collect_processes(directory, &mut pids)?;
    if pids.is_empty() { Ok(()) } else { Err(Error::InUse { path: directory.to_owned(), count: pids.len() }) }
}

/// A new cpuset is empty, and nobody may enter it until it has processors and memory nodes (cpuset(7)).
///
/// Writing them takes longer the more sets there are: the kernel compares all siblings and rebuilds its scheduling domains.
/// So a set that is made here hands its own down to those that are made in it, which is one comparison and no rebuilding
/// (`cgroup.clone_children`, Documentation/admin-guide/cgroup-v1/cgroups.rst).
fn inherit_cpuset(parent: &Path, child: &Path, made: bool) -> Result<()> {
    let mut handed_down = true;
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = child.join(name);
        if files::read(&file)?.trim().is_empty() {
            let value = files::read(&parent.join(name))?;
            write(&file, value.trim())?;
            handed_down = false;
        }
    }
    if made && !handed_down { write(&child.join("cgroup.clone_children"), "1") } else { Ok(()) }
}

/// The kernel refuses a limit of memory above that of memory and swap together, so the order depends on the direction.
fn set_memory_and_swap(directory: &Path, memory: &Memory) -> Result<()> {
    let limit = memory.limit.filter(|v| *v != 0);
    // Without a limit of memory there is none of swap either, unless one is asked for.
    let swap = memory.swap.filter(|v| *v != 0).or(if limit == Some(-1) { Some(-1) } else { None });
    let limit_file = directory.join("memory.limit_in_bytes");
    let swap_file = directory.join("memory.memsw.limit_in_bytes");
    let set_limit = || limit.map_or(Ok(()), |value| set_memory(directory, &limit_file, value));
    let set_swap = || match swap {
        // A kernel without swap accounting has nothing to lift.
        Some(-1) if !swap_file.exists() => Ok(()),
        Some(value) => write(&swap_file, &value.to_string()),
        None => Ok(()),
    };
    let current = read_number(&limit_file)?.unwrap_or(u64::MAX);
    match (limit, swap) {
        (Some(_), Some(swap)) if swap == -1 || current < u64::try_from(swap).unwrap_or(0) => {
            set_swap()?;
            set_limit()
        }
        _ => {
            set_limit()?;
            set_swap()
        }
    }
}

fn set_memory(directory: &Path, file: &Path, limit: i64) -> Result<()> {
    match write_io(file, &limit.to_string()) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let number = |name: &str| read_number(&directory.join(name)).ok().flatten().unwrap_or(0);
            let (usage, peak) = (number("memory.usage_in_bytes"), number("memory.max_usage_in_bytes"));
            Err(Error::MemoryInUse { limit, usage, peak })
        }
        written => written.map_err(|source| Error::Write { path: file.to_owned(), value: limit.to_string(), source }),
    }
}

/// The kernel clamps silently; runc says so.
fn set_shares(file: &Path, shares: u64) -> Result<()> {
    write(file, &shares.to_string())?;
    match read_number(file)? {
        Some(set) if set < shares => Err(Error::Invalid(format!("the maximum allowed cpu-shares is {set}"))),
        Some(set) if set > shares => Err(Error::Invalid(format!("the minimum allowed cpu-shares is {set}"))),
        _ => Ok(()),
    }
}

/// Period and quota are checked against each other and against those above, so a change may be possible in one order only.
fn set_quota(directory: &Path, cpu: &Cpu) -> Result<()> {
    let (period, quota) = (cpu.period.filter(|v| *v != 0), cpu.quota.filter(|v| *v != 0));
    let period_file = directory.join("cpu.cfs_period_us");
    let quota_file = directory.join("cpu.cfs_quota_us");
    let burst_file = directory.join("cpu.cfs_burst_us");
    // The burst may be at most the quota, so that which of them comes first depends on the direction.
    let mut burst = cpu.burst;
    if let Some(value) = burst {
        match write_io(&burst_file, &value.to_string()) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && quota.is_some() => {}
            written => {
                written.map_err(|e| failed(&burst_file, &value.to_string(), e))?;
                burst = None;
            }
        }
    }
    let mut later = None;
    if let Some(period) = period {
        match write_io(&period_file, &period.to_string()) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && quota.is_some() => later = Some(period),
            written => written.map_err(|e| failed(&period_file, &period.to_string(), e))?,
        }
    }
    if let Some(quota) = quota {
        write(&quota_file, &quota.to_string())?;
    }
    if let Some(period) = later {
        write(&period_file, &period.to_string())?;
    }
    burst.map_or(Ok(()), |burst| write(&burst_file, &burst.to_string()))
}

fn failed(path: &Path, value: &str, source: io::Error) -> Error {
    Error::Write { path: path.to_owned(), value: value.to_owned(), source }
}
