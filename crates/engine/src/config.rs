//! What an engine is told when it starts. The daemon fills it from flags and daemon.json; tests fill it with roots of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The settings of one engine. Two engines on one host differ in `data_root`, `exec_root` and `bridge_name`.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Images, volumes, records: what survives a reboot. `/var/lib/gantry`.
    pub data_root: PathBuf,
    /// Sockets, bundles, exit records: what does not. `/run/gantry`.
    pub exec_root: PathBuf,
    /// The program that is executed as `PROGRAM shim …` and bound into containers as `/sbin/docker-init`: the running binary by default.
    pub program: PathBuf,
    /// Name of the default bridge. `gantry0`.
    pub bridge_name: String,
    /// Address and prefix of the default bridge (`172.30.0.1/16`); picked free when absent.
    pub bip: Option<String>,
    /// Largest MTU given to containers; the kernel's default (1500) when absent.
    pub mtu: Option<u32>,
    /// Registries (host, host:port or CIDR) that may be spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// Mirrors of docker.io, tried in order.
    pub registry_mirrors: Vec<String>,
    /// Name servers for containers in place of the host's.
    pub dns: Vec<String>,
    /// Resolver options for containers.
    pub dns_options: Vec<String>,
    /// Search domains for containers.
    pub dns_search: Vec<String>,
    /// Log driver of containers that name none. `json-file`.
    pub log_driver: String,
    /// Options of that driver.
    pub log_options: BTreeMap<String, String>,
    /// Labels of the engine itself, shown by `info`.
    pub labels: Vec<String>,
    /// Parent of the containers' control groups. `/docker` is dockerd's; ours is `/gantry`.
    pub cgroup_parent: Option<String>,
    /// Default size of /dev/shm in bytes. 64 MiB.
    pub default_shm_size_bytes: i64,
    /// Default ulimits by name: (soft, hard).
    pub default_ulimits: BTreeMap<String, (i64, i64)>,
    /// Whether containers get `--init` unless they say otherwise.
    pub init: bool,
    /// Seccomp profile for containers that name none: `builtin`, `unconfined` or a path.
    pub seccomp_profile: String,
    /// Whether containers get `no_new_privileges` unless they say otherwise.
    pub no_new_privileges: bool,
    /// Default cgroup namespace mode, `host` or `private`; by cgroup version when absent (v1: host, v2: private), as dockerd.
    pub default_cgroupns_mode: Option<String>,
    /// Grace period of stops made by the engine itself, in seconds.
    pub shutdown_timeout_s: i64,
    /// Debug mode, shown by `info`.
    pub debug: bool,
    /// Parallel downloads of one pull.
    pub max_concurrent_downloads: usize,
    /// Parallel uploads of one push.
    pub max_concurrent_uploads: usize,
    /// Version of the whole program, shown by `version` and `info`.
    pub version: String,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            data_root: "/var/lib/gantry".into(),
            exec_root: "/run/gantry".into(),
            // The link, not what it points to: it stays good when the file is replaced by an upgrade.
            program: std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()),
            bridge_name: "gantry0".into(),
            bip: None,
            mtu: None,
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            log_driver: "json-file".into(),
            log_options: BTreeMap::new(),
            labels: Vec::new(),
            cgroup_parent: None,
            default_shm_size_bytes: 64 << 20,
            default_ulimits: BTreeMap::new(),
            init: false,
            seccomp_profile: "builtin".into(),
            no_new_privileges: false,
            default_cgroupns_mode: None,
            shutdown_timeout_s: 15,
            debug: false,
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}
