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
    /// Part of the bridge's subnet that containers get addresses of (`172.30.1.0/24`); all of it when absent.
    pub fixed_cidr: Option<String>,
    /// Gateway of containers in place of the bridge's address.
    pub default_gateway: Option<std::net::Ipv4Addr>,
    /// Address on the host that ports are published at when their binding names none.
    pub default_host_ip: std::net::IpAddr,
    /// Whether containers reach each other on ports that are not published.
    pub inter_container: bool,
    /// Whether containers hide behind the host's address on their way out.
    pub masquerade: bool,
    /// Whether net.ipv4.ip_forward is turned on.
    pub ip_forward: bool,
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
    /// How much may be kept on the disk; without it, all that fits.
    pub disk_budget: Option<crate::DiskBudget>,
    /// Requests at once at one registry's host, over all pulls and pushes; at least 2.
    pub max_connections_per_host: usize,
    /// The file that allows and blocks registries; `/etc/gantry/policy.toml`, if that exists, when absent.
    pub policy_file: Option<PathBuf>,
    /// How the roots of containers are made; without it, as overlays where that works.
    pub storage_driver: Option<store::Driver>,
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
            fixed_cidr: None,
            default_gateway: None,
            default_host_ip: std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            inter_container: true,
            masquerade: true,
            ip_forward: true,
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
            disk_budget: None,
            storage_driver: None,
            max_connections_per_host: 6,
            policy_file: None,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}
