//! The OCI runtime configuration of a container: what dockerd would write, from the same record.
//!
//! [`generate`] is pure: everything that has to be looked up on the host (users, devices, process ids) comes in [`Inputs`], so
//! that it can be compared with dockerd's own files in a test.

mod device;
mod mount;
mod resources;

use std::collections::BTreeMap;

use oci::spec::{Capabilities, ConsoleSize, Linux, Namespace, Process, Rlimit, Root, Seccomp, Spec, User as SpecUser};

pub(crate) use device::{HostDevice, from_path as device_from_path, host_devices};
pub(crate) use mount::EtcFiles;
pub(crate) use resources::update as update_resources;

use super::record::{MountRecord, Record};
use super::{capability, merge, user};
use crate::error::Result;

/// Where `--init` puts its minimal init.
pub(crate) const INIT_PATH: &str = "/sbin/docker-init";

const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The default list of masked paths, as inspect shows it.
pub(crate) fn default_masked_paths() -> Vec<String> {
    MASKED.map(str::to_owned).to_vec()
}

/// The default list of read-only paths, as inspect shows it.
pub(crate) fn default_readonly_paths() -> Vec<String> {
    READ_ONLY.map(str::to_owned).to_vec()
}

/// What had to be looked up for one start.
#[derive(Debug, Default)]
pub(crate) struct Inputs<'a> {
    /// Path of the root: the bundle's `rootfs`.
    pub(crate) root: String,
    /// The mounts with the sources of volumes filled in.
    pub(crate) mounts: &'a [MountRecord],
    /// The generated files of /etc, which are bound over the image's.
    pub(crate) etc: EtcFiles,
    /// Who the process runs as.
    pub(crate) user: user::User,
    /// `--group-add`, resolved.
    pub(crate) more_groups: Vec<u32>,
    /// The network namespace to join.
    pub(crate) network_namespace: Option<String>,
    /// The IPC namespace to join.
    pub(crate) ipc_namespace: Option<String>,
    /// The PID namespace to join.
    pub(crate) pid_namespace: Option<String>,
    /// What to bind as /dev/shm in place of a fresh tmpfs.
    pub(crate) shm: Option<String>,
    /// Every device of the host (privileged only), and those of `--device`.
    pub(crate) devices: Vec<HostDevice>,
    /// The filter, compiled from a profile; `None` is unconfined.
    pub(crate) seccomp: Option<Seccomp>,
    /// Default parent of control groups.
    pub(crate) cgroup_parent: &'a str,
    /// The program to bind as init; `None` without `--init`.
    pub(crate) init: Option<String>,
    /// Ulimits of the engine, for those that the container does not set.
    pub(crate) default_ulimits: BTreeMap<String, (i64, i64)>,
    /// Which capabilities (by number) the engine itself has.
    pub(crate) held_capabilities: u64,
}

/// The configuration of this container for one start.
pub(crate) fn generate(record: &Record, inputs: &Inputs<'_>) -> Result<Spec> {
    let host = &record.host_config;
    let mut mounts = mount::defaults();
    if let Some(program) = &inputs.init {
        mounts.push(mount::bind(INIT_PATH, program, &["bind", "ro"]));
    }
    let rootfs_propagation = mount::assemble(&mut mounts, record, inputs)?;
    let own_uts = host.uts_mode != "host";
    let linux = Linux {
        sysctl: sysctls(record),
        resources: Some(resources::of(record, &inputs.devices)?),
        cgroups_path: Some(cgroups_path(record, inputs.cgroup_parent)),
        namespaces: namespaces(record, inputs),
        devices: inputs.devices.iter().map(HostDevice::node).collect(),
        seccomp: inputs.seccomp.clone(),
        rootfs_propagation,
        masked_paths: protected(host.masked_paths.as_deref(), &MASKED, record),
        readonly_paths: protected(host.readonly_paths.as_deref(), &READ_ONLY, record),
        ..Linux::default()
    };
    Ok(Spec {
        oci_version: oci::spec::VERSION.to_owned(),
        root: Some(Root { path: inputs.root.clone(), readonly: host.readonly_rootfs, ..Root::default() }),
        process: Some(process(record, inputs)?),
        hostname: Some(record.config.hostname.clone()).filter(|name| own_uts && !name.is_empty()),
        mounts,
        annotations: host.annotations.clone(),
        linux: Some(linux),
        ..Spec::default()
    })
}

/// The user's list, else the default one; nothing for a privileged container.
fn protected(asked: Option<&[String]>, default: &[&str], record: &Record) -> Vec<String> {
    if let Some(list) = asked {
        return list.to_vec();
    }
    if record.host_config.privileged || record.security.unconfined_paths {
        return Vec::new();
    }
    default.iter().map(|path| (*path).to_owned()).collect()
}

/// `<parent>/<id>`.
pub(crate) fn cgroups_path(record: &Record, default_parent: &str) -> String {
    let asked = record.host_config.cgroup_parent.as_str();
    let parent = if asked.is_empty() { default_parent } else { asked };
    super::mounts::clean(&format!("/{parent}/{}", record.id))
}

fn process(record: &Record, inputs: &Inputs<'_>) -> Result<Process> {
    let (config, host) = (&record.config, &record.host_config);
    let mut args = vec![record.path.clone()];
    args.extend(record.args.iter().cloned());
    if inputs.init.is_some() {
        args.splice(0..0, [INIT_PATH.to_owned(), "--".to_owned()]);
    }
    let mut groups = vec![inputs.user.gid];
    groups.extend(inputs.user.groups.iter().chain(&inputs.more_groups));
    let [height, width] = host.console_size;
    let sized = config.tty && height > 0 && width > 0;
    Ok(Process {
        terminal: config.tty,
        console_size: sized.then(|| ConsoleSize {
            height: height.min(u64::from(u16::MAX)) as u32,
            width: width.min(u64::from(u16::MAX)) as u32,
            ..ConsoleSize::default()
        }),
        user: SpecUser { uid: inputs.user.uid, gid: inputs.user.gid, additional_gids: groups, ..SpecUser::default() },
        args,
        env: merge::environment(config, config.tty),
        cwd: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() },
        capabilities: Some(capabilities(record, inputs.held_capabilities)?),
        rlimits: rlimits(record, &inputs.default_ulimits),
        no_new_privileges: record.security.no_new_privileges,
        oom_score_adj: i32::try_from(host.oom_score_adj).ok(),
        ..Process::default()
    })
}

/// The capability sets of the container's processes.
pub(crate) fn capabilities(record: &Record, held: u64) -> Result<Capabilities> {
    let host = &record.host_config;
    let (add, drop) = (host.cap_add.as_deref().unwrap_or_default(), host.cap_drop.as_deref().unwrap_or_default());
    let set = capability::effective(add, drop, host.privileged, |bit| held & (1 << bit) != 0)?;
    Ok(Capabilities { bounding: set.clone(), effective: set.clone(), permitted: set, ..Capabilities::default() })
}

fn rlimits(record: &Record, defaults: &BTreeMap<String, (i64, i64)>) -> Vec<Rlimit> {
    let limit = |name: &str, soft: i64, hard: i64| Rlimit {
        kind: format!("RLIMIT_{}", name.to_uppercase()),
        // -1 is unlimited, which the kernel writes as all ones.
        hard: hard as u64,
        soft: soft as u64,
        ..Rlimit::default()
    };
    let own = record.host_config.ulimits.as_deref().unwrap_or_default();
    let mut limits: Vec<Rlimit> = own.iter().map(|u| limit(&u.name, u.soft, u.hard)).collect();
    let missing = defaults.iter().filter(|(name, _)| !own.iter().any(|u| u.name == **name));
    limits.extend(missing.map(|(name, (soft, hard))| limit(name, *soft, *hard)));
    limits
}

/// Whether a network mode gives the container a namespace that it does not share.
fn has_own_network(mode: &str) -> bool {
    mode != "host" && !mode.starts_with("container:")
}

fn sysctls(record: &Record) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if has_own_network(&record.host_config.network_mode) {
        // Ping without CAP_NET_RAW, and low ports without CAP_NET_BIND_SERVICE.
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        all.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    let domain = &record.config.domainname;
    if !domain.is_empty() && record.host_config.uts_mode != "host" {
        // As dockerd, for runtimes that do not know the specification's own field.
        all.insert("kernel.domainname".to_owned(), domain.clone());
    }
    all.extend(record.host_config.sysctls.clone());
    all
}

fn namespaces(record: &Record, inputs: &Inputs<'_>) -> Vec<Namespace> {
    let host = &record.host_config;
    let fresh = |kind: &str| Namespace { kind: kind.to_owned(), ..Namespace::default() };
    let joined = |kind: &str, path: &Option<String>| Namespace { path: path.clone(), ..fresh(kind) };
    let mut list = vec![fresh("mount")];
    if host.network_mode != "host" {
        list.push(joined("network", &inputs.network_namespace));
    }
    if host.uts_mode != "host" {
        list.push(fresh("uts"));
    }
    if host.pid_mode != "host" {
        list.push(joined("pid", &inputs.pid_namespace));
    }
    if host.ipc_mode != "host" {
        list.push(joined("ipc", &inputs.ipc_namespace));
    }
    if host.cgroupns_mode == "private" {
        list.push(fresh("cgroup"));
    }
    list
}

#[cfg(test)]
mod tests;
