//! What this host's kernel and cgroups offer: decides which limits are accepted, and what `info` says.

use std::path::Path;
use std::sync::OnceLock;

/// Facts of the host that do not change while the engine runs.
#[derive(Debug, Clone)]
pub(crate) struct SysInfo {
    /// 2 when /sys/fs/cgroup is a cgroup2 mount.
    pub cgroup_version: u8,
    /// memory.limit
    pub memory: bool,
    /// memory and swap together
    pub swap: bool,
    /// memory.soft_limit / memory.low
    pub memory_reservation: bool,
    /// memory.oom_control
    pub oom_kill_disable: bool,
    /// memory.swappiness
    pub swappiness: bool,
    /// cpu.cfs
    pub cpu_cfs: bool,
    /// cpu.shares / cpu.weight
    pub cpu_shares: bool,
    /// cpu.rt
    pub cpu_realtime: bool,
    /// cpuset
    pub cpuset: bool,
    /// pids.max
    pub pids: bool,
    /// blkio weight
    pub blkio_weight: bool,
    /// blkio limits per device
    pub blkio_throttle: bool,
    /// CPUs that may be used, as `0-3`
    pub cpus: String,
    /// Memory nodes that may be used
    pub mems: String,
    /// How many CPUs are online
    pub cpu_count: usize,
    /// Seccomp filters
    pub seccomp: bool,
}

impl SysInfo {
    /// Read once.
    pub(crate) fn get() -> &'static Self {
        static INFO: OnceLock<SysInfo> = OnceLock::new();
        INFO.get_or_init(|| Self::read(Path::new("/sys/fs/cgroup")))
    }

    fn read(root: &Path) -> Self {
        let unified = root.join("cgroup.controllers").exists();
        let has = |path: &str| root.join(path).exists();
        let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default().trim().to_owned();
        let cpu_count = std::thread::available_parallelism().map_or(1, usize::from);
        let seccomp = Path::new("/proc/sys/kernel/seccomp").exists();
        if unified {
            let controllers = text("cgroup.controllers");
            let on = |name: &str| controllers.split_whitespace().any(|c| c == name);
            return Self {
                cgroup_version: 2,
                memory: on("memory"),
                swap: on("memory") && std::fs::exists("/proc/swaps").unwrap_or(false),
                memory_reservation: on("memory"),
                oom_kill_disable: false,
                swappiness: false,
                cpu_cfs: on("cpu"),
                cpu_shares: on("cpu"),
                cpu_realtime: false,
                cpuset: on("cpuset"),
                pids: on("pids"),
                blkio_weight: on("io"),
                blkio_throttle: on("io"),
                cpus: text("cpuset.cpus.effective"),
                mems: text("cpuset.mems.effective"),
                cpu_count,
                seccomp,
            };
        }
        Self {
            cgroup_version: 1,
            memory: has("memory/memory.limit_in_bytes"),
            swap: has("memory/memory.memsw.limit_in_bytes"),
            memory_reservation: has("memory/memory.soft_limit_in_bytes"),
            oom_kill_disable: has("memory/memory.oom_control"),
            swappiness: has("memory/memory.swappiness"),
            cpu_cfs: has("cpu/cpu.cfs_quota_us"),
            cpu_shares: has("cpu/cpu.shares"),
            cpu_realtime: has("cpu/cpu.rt_period_us"),
            cpuset: has("cpuset/cpuset.cpus"),
            pids: has("pids"),
            blkio_weight: has("blkio/blkio.weight"),
            blkio_throttle: has("blkio/blkio.throttle.read_bps_device"),
            cpus: text("cpuset/cpuset.cpus"),
            mems: text("cpuset/cpuset.mems"),
            cpu_count,
            seccomp,
        }
    }
}

/// `0-2,7` → the numbers. Fails on what is not a list, or names more than 8192.
pub(crate) fn parse_list(text: &str) -> Result<Vec<u32>, String> {
    const LIMIT: u32 = 8192;
    let mut numbers = Vec::new();
    if text.is_empty() {
        return Ok(numbers);
    }
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("invalid format: {part}"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= LIMIT {
            return Err(format!("value of out range, maximum is {}", LIMIT - 1));
        }
        numbers.extend(first..=last);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_list("0-2,7").unwrap(), [0, 1, 2, 7]);
        assert!(parse_list("2-1").is_err() && parse_list("x").is_err() && parse_list("0-99999999").is_err());
    }
}
