//! Whether a create or update request makes sense on this host, in dockerd's order and words.
//!
//! What this host cannot do is discarded with a warning (as dockerd), so these functions change the request; what is wrong is an
//! error. The order matters: clients see the first complaint.

use api::container::{Config, HealthConfig, HostConfig, RestartPolicy, UpdateConfig};

use super::sysinfo::{SysInfo, parse_list};
use super::{capability, mounts, signal};
use crate::error::{Error, Result};

/// 6 MiB: what the runtime itself needs to come up.
const MIN_MEMORY: i64 = 6 << 20;
/// 1 ms, in nanoseconds.
const MIN_DURATION: i64 = 1_000_000;

fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::invalid(text))
}

/// Combinations that contradict each other, which dockerd refuses before anything else.
pub(crate) fn combinations(config: &Config, host: &HostConfig) -> Result<()> {
    let conflict = |what: &str| refuse(format!("conflicting options: {what}"));
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    if let Some(other) =
        host.network_mode.strip_prefix("container:").or((host.network_mode == "container").then_some(""))
    {
        if other.is_empty() {
            return refuse("invalid container format container:<name|id>");
        }
        if !config.hostname.is_empty() {
            return conflict("hostname and the network mode");
        }
        if some(&host.links) {
            return conflict(
                "container type network can't be used with links. This would result in undefined behavior",
            );
        }
        if some(&host.dns) {
            return conflict("dns and the network mode");
        }
        if some(&host.extra_hosts) {
            return conflict("custom host-to-IP mapping and the network mode");
        }
        if !config.mac_address.is_empty() {
            return conflict("mac-address and the network mode");
        }
        if host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) || host.publish_all_ports {
            return conflict("port publishing and the container type network mode");
        }
        if !config.exposed_ports.is_empty() {
            return conflict("port exposing and the container type network mode");
        }
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    if host.network_mode == "host" && some(&host.links) {
        return conflict("host type networking can't be used with links. This would result in undefined behavior");
    }
    if host.cpu_shares < 0 {
        return refuse(format!("invalid CPU shares ({}): value must be a positive integer", host.cpu_shares));
    }
    if (host.cpu_realtime_period != 0 || host.cpu_realtime_runtime != 0) && !SysInfo::get().cpu_realtime {
        return refuse("kernel does not support CPU real-time scheduler");
    }
    Ok(())
}

/// Checks (and cleans) what runs.
pub(crate) fn config(config: &mut Config) -> Result<()> {
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            let given = &config.working_dir;
            return refuse(format!("the working directory '{given}' is invalid, it needs to be an absolute path"));
        }
        config.working_dir = mounts::clean(&config.working_dir);
    }
    if !config.stop_signal.is_empty() {
        signal::parse(&config.stop_signal)?;
    }
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return refuse(format!("invalid environment variable: {variable}"));
        }
    }
    config.healthcheck.as_ref().map_or(Ok(()), health)
}

fn health(check: &HealthConfig) -> Result<()> {
    let short = |value: i64| value != 0 && value < MIN_DURATION;
    let names = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    // Retries come after Timeout in dockerd's order, which nobody can tell: one request rarely has both wrong.
    if let Some((name, _)) = names.iter().find(|(_, value)| short(*value)) {
        return refuse(format!("{name} in Healthcheck cannot be less than 1ms"));
    }
    if check.retries < 0 {
        return refuse("Retries in Healthcheck cannot be negative");
    }
    Ok(())
}

/// Checks (and cleans) how it is bound to the host; gives the warnings.
pub(crate) fn host_config(host: &mut HostConfig) -> Result<Vec<String>> {
    common(host)?;
    let info = SysInfo::get();
    let mut warnings = Vec::new();
    limits(&mut Limits::of_host(host), info, false, &mut warnings)?;
    platform(host, &mut warnings)?;
    Ok(warnings)
}

fn common(host: &HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    if host.auto_remove && !matches!(policy.name.as_str(), "" | "no") {
        return refuse("can't create 'AutoRemove' container with restart policy");
    }
    for mount in &host.mounts {
        mounts::validate(mount, true)?;
    }
    for extra in host.extra_hosts.iter().flatten() {
        extra_host(extra)?;
    }
    port_bindings(host)?;
    if let Some(option) = host.storage_opt.keys().next() {
        let text = match option.as_str() {
            "size" => "--storage-opt is supported only for overlay over xfs with 'pquota' mount option".to_owned(),
            _ => format!("Unknown option {option}"),
        };
        // A mistake of the caller, but dockerd answers 500.
        return Err(Error::system(text));
    }
    restart_policy(policy)?;
    capability::normalize(host.cap_add.as_deref().unwrap_or_default()).map_err(|e| e.prefixed("invalid CapAdd"))?;
    capability::normalize(host.cap_drop.as_deref().unwrap_or_default()).map_err(|e| e.prefixed("invalid CapDrop"))?;
    if !matches!(host.isolation.as_str(), "" | "default") {
        return refuse(format!("invalid isolation '{}' on linux", host.isolation));
    }
    if host.annotations.contains_key("") {
        return refuse("invalid Annotations: the empty string is not permitted as an annotation key");
    }
    Ok(())
}

fn extra_host(text: &str) -> Result<()> {
    // The address may hold colons itself (IPv6), so only the first one splits.
    let (name, address) = text.split_once(':').unwrap_or(("", ""));
    if name.is_empty() || address.is_empty() {
        return refuse(format!("bad format for add-host: {text:?}"));
    }
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if address != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
        return refuse(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(())
}

fn port_bindings(host: &HostConfig) -> Result<()> {
    for (port, bindings) in host.port_bindings.iter().flatten() {
        let number = port.split('/').next().unwrap_or_default();
        if number.parse::<u16>().is_err() {
            return refuse(format!("invalid port specification: {number:?}"));
        }
        for binding in bindings.iter().flatten() {
            let (first, last) = binding.host_port.split_once('-').unwrap_or((&binding.host_port, &binding.host_port));
            let valid = |text: &str| text.is_empty() || text.parse::<u16>().is_ok();
            if !valid(first) || !valid(last) {
                return refuse(format!("invalid port specification: {:?}", binding.host_port));
            }
        }
    }
    Ok(())
}

/// `no`, `always`, `unless-stopped`, `on-failure` with a count.
pub(crate) fn restart_policy(policy: &RestartPolicy) -> Result<()> {
    let count = policy.maximum_retry_count;
    match policy.name.as_str() {
        "always" | "no" | "unless-stopped" if count != 0 => {
            let negative = if count < 0 { " and cannot be negative" } else { "" };
            refuse(format!("invalid restart policy: maximum retry count can only be used with 'on-failure'{negative}"))
        }
        "on-failure" if count < 0 => refuse("invalid restart policy: maximum retry count cannot be negative"),
        "always" | "no" | "unless-stopped" | "on-failure" | "" => Ok(()),
        other => refuse(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

/// The limits that create and update share, borrowed from either request.
struct Limits<'a> {
    memory: &'a mut i64,
    memory_swap: &'a mut i64,
    memory_reservation: &'a mut i64,
    memory_swappiness: &'a mut Option<i64>,
    kernel_memory: &'a mut i64,
    oom_kill_disable: &'a mut Option<bool>,
    pids_limit: &'a mut Option<i64>,
    nano_cpus: i64,
    cpu_period: &'a mut i64,
    cpu_quota: &'a mut i64,
    cpu_shares: &'a mut i64,
    cpu_percent: &'a mut i64,
    cpuset_cpus: &'a mut String,
    cpuset_mems: &'a mut String,
    blkio_weight: &'a mut u16,
    io_maximum: bool,
    throttled: bool,
}

macro_rules! borrow_limits {
    ($from:ident) => {
        Limits {
            throttled: [
                &$from.blkio_device_read_bps,
                &$from.blkio_device_write_bps,
                &$from.blkio_device_read_iops,
                &$from.blkio_device_write_iops,
            ]
            .iter()
            .any(|list| list.as_ref().is_some_and(|l| !l.is_empty())),
            memory: &mut $from.memory,
            memory_swap: &mut $from.memory_swap,
            memory_reservation: &mut $from.memory_reservation,
            memory_swappiness: &mut $from.memory_swappiness,
            kernel_memory: &mut $from.kernel_memory,
            oom_kill_disable: &mut $from.oom_kill_disable,
            pids_limit: &mut $from.pids_limit,
            nano_cpus: $from.nano_cpus,
            cpu_period: &mut $from.cpu_period,
            cpu_quota: &mut $from.cpu_quota,
            cpu_shares: &mut $from.cpu_shares,
            cpu_percent: &mut $from.cpu_percent,
            cpuset_cpus: &mut $from.cpuset_cpus,
            cpuset_mems: &mut $from.cpuset_mems,
            blkio_weight: &mut $from.blkio_weight,
            io_maximum: $from.io_maximum_bandwidth != 0 || $from.io_maximum_iops != 0,
        }
    };
}

impl<'a> Limits<'a> {
    fn of_host(host: &'a mut HostConfig) -> Self {
        borrow_limits!(host)
    }

    fn of_update(update: &'a mut UpdateConfig) -> Self {
        borrow_limits!(update)
    }
}

/// Checks the limits of an update.
pub(crate) fn update(update: &mut UpdateConfig) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    limits(&mut Limits::of_update(update), SysInfo::get(), true, &mut warnings)?;
    restart_policy(&update.restart_policy)?;
    Ok(warnings)
}

fn limits(limits: &mut Limits<'_>, info: &SysInfo, update: bool, warnings: &mut Vec<String>) -> Result<()> {
    memory_limits(limits, info, update, warnings)?;
    cpu_limits(limits, info, warnings)?;
    blkio_limits(limits, info, warnings)
}

const NOT_MOUNTED: &str = "or the cgroup is not mounted.";

fn memory_limits(l: &mut Limits<'_>, info: &SysInfo, update: bool, warnings: &mut Vec<String>) -> Result<()> {
    // -1 asks for the kernel's default.
    if *l.memory_swappiness == Some(-1) {
        *l.memory_swappiness = None;
    }
    if *l.memory != 0 && *l.memory < MIN_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if *l.memory > 0 && !info.memory {
        warnings.push(format!(
            "Your kernel does not support memory limit capabilities {NOT_MOUNTED} Limitation discarded."
        ));
        (*l.memory, *l.memory_swap) = (0, -1);
    }
    if *l.memory > 0 && *l.memory_swap != -1 && !info.swap {
        warnings.push(format!(
            "Your kernel does not support swap limit capabilities {NOT_MOUNTED} Memory limited without swap."
        ));
        *l.memory_swap = -1;
    }
    if *l.memory > 0 && *l.memory_swap > 0 && *l.memory_swap < *l.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if *l.memory == 0 && *l.memory_swap > 0 && !update {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if l.memory_swappiness.is_some() && !info.swappiness {
        warnings.push(format!(
            "Your kernel does not support memory swappiness capabilities {NOT_MOUNTED} Memory swappiness discarded."
        ));
        *l.memory_swappiness = None;
    }
    if let Some(value) = *l.memory_swappiness
        && !(0..=100).contains(&value)
    {
        return refuse(format!("Invalid value: {value}, valid memory swappiness range is 0-100"));
    }
    if *l.memory_reservation > 0 && !info.memory_reservation {
        warnings.push(format!(
            "Your kernel does not support memory soft limit capabilities {NOT_MOUNTED} Limitation discarded."
        ));
        *l.memory_reservation = 0;
    }
    if *l.memory_reservation > 0 && *l.memory_reservation < MIN_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if *l.memory > 0 && *l.memory_reservation > 0 && *l.memory < *l.memory_reservation {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if *l.kernel_memory > 0 {
        // Gone from the kernel since 5.16 and without effect for long before.
        warnings.push(format!(
            "Your kernel does not support kernel memory limit capabilities {NOT_MOUNTED} Limitation discarded."
        ));
        *l.kernel_memory = 0;
    }
    oom_and_pids(l, info, warnings);
    Ok(())
}

fn oom_and_pids(l: &mut Limits<'_>, info: &SysInfo, warnings: &mut Vec<String>) {
    if l.oom_kill_disable.is_some() && !info.oom_kill_disable {
        if *l.oom_kill_disable == Some(true) {
            warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
        }
        *l.oom_kill_disable = None;
    }
    if *l.oom_kill_disable == Some(true) && *l.memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
    }
    if l.pids_limit.is_some() && !info.pids {
        if l.pids_limit.is_some_and(|limit| limit > 0) {
            warnings.push(format!(
                "Your kernel does not support PIDs limit capabilities {NOT_MOUNTED} PIDs limit discarded."
            ));
        }
        *l.pids_limit = None;
    }
}

fn cpu_limits(l: &mut Limits<'_>, info: &SysInfo, warnings: &mut Vec<String>) -> Result<()> {
    if l.nano_cpus > 0 && *l.cpu_period > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if l.nano_cpus > 0 && *l.cpu_quota > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if l.nano_cpus > 0 && !info.cpu_cfs {
        return refuse(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    let count = info.cpu_count;
    if l.nano_cpus < 0 || l.nano_cpus > count as i64 * 1_000_000_000 {
        return refuse(format!("Range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"));
    }
    if *l.cpu_shares > 0 && !info.cpu_shares {
        warnings.push(format!("Your kernel does not support CPU shares {NOT_MOUNTED} Shares discarded."));
        *l.cpu_shares = 0;
    }
    if (*l.cpu_period != 0 || *l.cpu_quota != 0) && !info.cpu_cfs {
        warnings.push("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.".to_owned());
        (*l.cpu_period, *l.cpu_quota) = (0, 0);
    }
    if *l.cpu_period != 0 && !(1000..=1_000_000).contains(l.cpu_period) {
        return refuse("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if *l.cpu_quota > 0 && *l.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if *l.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".to_owned());
        *l.cpu_percent = 0;
    }
    if (!l.cpuset_cpus.is_empty() || !l.cpuset_mems.is_empty()) && !info.cpuset {
        warnings.push("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.".to_owned());
        l.cpuset_cpus.clear();
        l.cpuset_mems.clear();
    }
    available(l.cpuset_cpus, &info.cpus, "CPUs", "cpuset cpus")?;
    available(l.cpuset_mems, &info.mems, "memory nodes", "cpuset mems")
}

fn available(asked: &str, present: &str, what: &str, field: &str) -> Result<()> {
    let wanted =
        parse_list(asked).map_err(|why| Error::invalid(format!("Invalid value {asked} for {field}: {why}")))?;
    let offered = parse_list(present).unwrap_or_default();
    if wanted.iter().all(|n| offered.contains(n)) {
        return Ok(());
    }
    refuse(format!("Requested {what} are not available - requested {asked}, available: {present}"))
}

fn blkio_limits(l: &mut Limits<'_>, info: &SysInfo, warnings: &mut Vec<String>) -> Result<()> {
    if *l.blkio_weight > 0 && !info.blkio_weight {
        warnings.push(format!("Your kernel does not support Block I/O weight {NOT_MOUNTED} Weight discarded."));
        *l.blkio_weight = 0;
    }
    if *l.blkio_weight > 0 && !(10..=1000).contains(l.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    if l.io_maximum {
        return refuse("Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps");
    }
    if l.throttled && !info.blkio_throttle {
        warnings.push(format!(
            "Your kernel does not support BPS Block I/O read limit {NOT_MOUNTED} Block I/O BPS read limit discarded."
        ));
    }
    Ok(())
}

/// `MODE` or `container:ID` with a non-empty id.
fn mode_is(mode: &str, words: &[&str]) -> bool {
    words.contains(&mode) || mode.strip_prefix("container:").is_some_and(|id| !id.is_empty() && !id.contains(':'))
}

fn platform(host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    if !mode_is(&host.ipc_mode, &["", "none", "private", "shareable", "host"]) {
        return refuse(format!("invalid IPC mode: {}", host.ipc_mode));
    }
    if !mode_is(&host.pid_mode, &["", "host"]) {
        return refuse(format!("invalid PID mode: {}", host.pid_mode));
    }
    if host.shm_size < 0 {
        return refuse("SHM size can not be less than 0");
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return refuse(format!("invalid UTS mode: {}", host.uts_mode));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return refuse(format!("Invalid value {}, range for oom score adj is [-1000, 1000]", host.oom_score_adj));
    }
    if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return refuse(format!("invalid USER mode: {}", host.userns_mode));
    }
    match host.runtime.as_str() {
        "" => "runc".clone_into(&mut host.runtime),
        "runc" | "io.containerd.runc.v2" | "gantry" => {}
        other => return refuse(format!("unknown or invalid runtime name: {other}")),
    }
    for destination in host.tmpfs.keys() {
        mounts::validate_target(destination).map_err(Error::invalid)?;
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "private" | "host") {
        return refuse(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(change: impl FnOnce(&mut HostConfig)) -> String {
        let mut host = HostConfig::default();
        change(&mut host);
        host_config(&mut host).err().map(|e| e.message().to_owned()).unwrap_or_default()
    }

    #[test]
    fn limits_are_refused_in_dockerds_words() {
        assert_eq!(complaint(|h| h.memory = 1000), "Minimum memory limit allowed is 6MB");
        assert_eq!(
            complaint(|h| h.memory_swap = 1000),
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        );
        assert_eq!(
            complaint(|h| h.cpu_period = 1),
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        );
        assert_eq!(complaint(|h| h.ipc_mode = "zork".into()), "invalid IPC mode: zork");
        assert_eq!(complaint(|h| h.shm_size = -1), "SHM size can not be less than 0");
        assert_eq!(complaint(|h| h.runtime = "zork".into()), "unknown or invalid runtime name: zork");
        assert_eq!(complaint(|h| h.extra_hosts = Some(vec!["nosuch".into()])), "bad format for add-host: \"nosuch\"");
    }

    #[test]
    fn restart_policies() {
        let policy = |name: &str, count| RestartPolicy { name: name.to_owned(), maximum_retry_count: count };
        assert!(restart_policy(&policy("on-failure", 3)).is_ok());
        assert_eq!(
            restart_policy(&policy("always", 3)).unwrap_err().message(),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        );
        assert_eq!(
            restart_policy(&policy("zork", 0)).unwrap_err().message(),
            "invalid restart policy: unknown policy 'zork'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        );
    }
}
