//! The engine about itself and its host: `info`, `version`.

use std::collections::BTreeMap;

use api::system::{
    Commit, Component, DiskUsage, FirewallInfo, IndexInfo, Info, Platform, PluginsInfo, RegistryConfig, Runtime,
    SwarmInfo, VersionResponse,
};

use crate::container::sysinfo::SysInfo;
use crate::container::transitions::Status;
use crate::engine::Engine;
use crate::error::Result;

/// Docker's word for this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The storage driver with this name.
#[must_use]
pub fn storage_driver(name: &str) -> Option<store::Driver> {
    [store::Driver::Overlay, store::Driver::Copying].into_iter().find(|driver| driver.name() == name)
}

/// A number of bytes as the API has it.
fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Bytes of memory of the host.
pub(crate) fn memory_total() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).max(1) * info.totalram
}

/// A value of /etc/os-release.
fn os_release(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").or_else(|_| std::fs::read_to_string("/usr/lib/os-release"));
    let line = text.ok()?.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))?;
    Some(line.trim_matches('"').to_owned())
}

impl Engine {
    /// What clients compare versions with.
    pub async fn version(&self) -> Result<VersionResponse> {
        let version = &self.config.version;
        let details = [
            ("ApiVersion", api::Version::LATEST.to_string()),
            ("Arch", architecture().to_owned()),
            ("Experimental", "false".to_owned()),
            ("KernelVersion", kernel()),
            ("MinAPIVersion", api::Version::OLDEST.to_string()),
            ("Os", "linux".to_owned()),
        ];
        Ok(VersionResponse {
            platform: Platform { name: format!("Gantry Engine {version}") },
            components: vec![Component {
                name: "Engine".to_owned(),
                version: version.clone(),
                details: details.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            }],
            version: version.clone(),
            api_version: api::Version::LATEST.to_string(),
            min_api_version: api::Version::OLDEST.to_string(),
            os: "linux".to_owned(),
            arch: architecture().to_owned(),
            kernel_version: kernel(),
            ..VersionResponse::default()
        })
    }

    /// The engine, its host and what it holds.
    pub async fn info(&self) -> Result<Info> {
        let store = self.store.clone();
        let (images, descriptors) = self
            .blocking(move || {
                let images = store.images()?.len();
                let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
                Ok((images, descriptors))
            })
            .await?;
        let containers = self.containers.all();
        let count = |wanted: &[Status]| {
            let all = containers.iter().filter(|c| wanted.contains(&c.record().state.status));
            i64::try_from(all.count()).unwrap_or(i64::MAX)
        };
        let paused = count(&[Status::Paused]);
        let running = count(&[Status::Running]);
        let total = i64::try_from(containers.len()).unwrap_or(i64::MAX);
        let info = SysInfo::get();
        Ok(Info {
            id: self.id.clone(),
            containers: total,
            containers_running: running,
            containers_paused: paused,
            containers_stopped: total - running - paused,
            images: i64::try_from(images).unwrap_or(i64::MAX),
            debug: self.config.debug,
            n_fd: i64::try_from(descriptors).unwrap_or(i64::MAX),
            n_goroutines: tasks(),
            n_events_listener: i64::try_from(self.events.listeners()).unwrap_or(i64::MAX),
            ..self.host_info(info)
        })
    }

    /// What is kept on disk, by kind: `container`, `image`, `volume`, `build-cache`; all without a kind.
    pub async fn disk_usage(&self, kinds: &[String]) -> Result<DiskUsage> {
        let wants = |kind: &str| kinds.is_empty() || kinds.iter().any(|k| k == kind);
        let mut usage = DiskUsage::default();
        if wants("container") {
            let options = crate::ListOptions { all: true, size: true, ..crate::ListOptions::default() };
            let mut containers = self.container_list(options).await?;
            let (store, data_root) = (self.store.clone(), self.config.data_root.clone());
            // What is on the disk, as `du` counts: also the log, and no holes.
            usage.containers = Some(
                self.blocking(move || {
                    let snapshots = store.disk_usage()?.snapshots;
                    for container in &mut containers {
                        let own = crate::budget::container_files(&data_root, &container.id);
                        container.size_rw = bytes(snapshots.get(&container.id).copied().unwrap_or_default() + own);
                    }
                    Ok(containers)
                })
                .await?,
            );
        }
        if wants("image") {
            let options = crate::image::ListOptions { shared_size: true, container_count: true, ..Default::default() };
            usage.images = Some(self.image_list(options).await?);
            let store = self.store.clone();
            usage.layers_size = bytes(self.blocking(move || Ok(store.disk_usage()?.images)).await?);
        }
        if wants("volume") {
            usage.volumes = Some(self.measured_volumes().await?);
        }
        if wants("build-cache") {
            usage.build_cache = Some(Vec::new());
        }
        Ok(usage)
    }

    async fn measured_volumes(&self) -> Result<Vec<api::volume::Volume>> {
        let used = self.volumes_in_use();
        let volumes = self.volumes.clone();
        self.blocking(move || {
            let mut all = volumes.list();
            for volume in &mut all {
                let users = used.get(&volume.name).map_or(0, Vec::len);
                volume.usage_data = Some(api::volume::UsageData {
                    ref_count: i64::try_from(users).unwrap_or(i64::MAX),
                    size: bytes(store::disk_size(volume.mountpoint.as_ref())),
                });
            }
            Ok(all)
        })
        .await
    }

    /// The part that does not change while the engine runs.
    fn host_info(&self, info: &SysInfo) -> Info {
        let config = &self.config;
        let variable =
            |name: &str| std::env::var(name.to_uppercase()).or_else(|_| std::env::var(name)).unwrap_or_default();
        Info {
            driver: self.store.driver().name().to_owned(),
            kernel_memory_tcp: std::path::Path::new("/sys/fs/cgroup/memory/memory.kmem.tcp.limit_in_bytes").exists(),
            driver_status: driver_status(&self.store),
            plugins: PluginsInfo {
                volume: vec!["local".to_owned()],
                network: ["bridge", "host", "null"].map(str::to_owned).to_vec(),
                authorization: None,
                log: ["json-file", "local", "none"].map(str::to_owned).to_vec(),
            },
            memory_limit: info.memory,
            swap_limit: info.swap,
            cpu_cfs_period: info.cpu_cfs,
            cpu_cfs_quota: info.cpu_cfs,
            cpu_shares: info.cpu_shares,
            cpu_set: info.cpuset,
            pids_limit: info.pids,
            ipv4_forwarding: std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|t| t.trim() == "1"),
            oom_kill_disable: info.oom_kill_disable,
            system_time: api::time::now(),
            logging_driver: config.log_driver.clone(),
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_version: info.cgroup_version.to_string(),
            kernel_version: kernel(),
            operating_system: os_release("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            os_version: os_release("VERSION_ID").unwrap_or_default(),
            os_type: "linux".to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            registry_config: Some(registries(&config.insecure_registries, &config.registry_mirrors)),
            n_cpu: i64::try_from(info.cpu_count).unwrap_or(i64::MAX),
            mem_total: i64::try_from(memory_total()).unwrap_or(i64::MAX),
            docker_root_dir: config.data_root.display().to_string(),
            http_proxy: variable("http_proxy"),
            https_proxy: variable("https_proxy"),
            no_proxy: variable("no_proxy"),
            name: host_name(),
            labels: config.labels.clone(),
            server_version: config.version.clone(),
            runtimes: runtimes(),
            default_runtime: "runc".to_owned(),
            swarm: SwarmInfo { local_node_state: "inactive".to_owned(), ..SwarmInfo::default() },
            // Containers always survive the engine.
            live_restore_enabled: true,
            init_binary: "docker-init".to_owned(),
            containerd_commit: Commit::default(),
            runc_commit: Commit::default(),
            init_commit: Commit::default(),
            security_options: security_options(info, &config.seccomp_profile, config.no_new_privileges),
            firewall_backend: Some(FirewallInfo { driver: "nftables".to_owned(), info: Vec::new() }),
            warnings: Some(warnings(info)).filter(|w| !w.is_empty()),
            ..Info::default()
        }
    }
}

/// What Docker's drivers say of themselves; the one that copies says nothing.
fn driver_status(store: &store::Store) -> Option<Vec<[String; 2]>> {
    if store.driver() == store::Driver::Copying {
        return None;
    }
    let of_user = if store.has_user_marks() { "true" } else { "false" };
    let status = [
        ("Backing Filesystem", filesystem(store.root())),
        ("Supports d_type", "true"),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", of_user),
    ];
    Some(status.map(|(k, v)| [k.to_owned(), v.to_owned()]).to_vec())
}

/// The kind of a file system by its magic number, in Docker's words.
fn filesystem(path: &std::path::Path) -> &'static str {
    let magic = rustix::fs::statfs(path).map_or(0, |found| found.f_type as u64);
    match magic {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x2fc1_2fc1 => "zfs",
        0x794c_7630 => "overlayfs",
        0xf2f5_2010 => "f2fs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        _ => "<unknown>",
    }
}

/// Both names are this program: clients look for them.
fn runtimes() -> BTreeMap<String, Runtime> {
    let own = Runtime { path: "gantry-runtime".to_owned(), ..Runtime::default() };
    ["io.containerd.runc.v2", "runc"].map(|name| (name.to_owned(), own.clone())).into()
}

fn registries(insecure: &[String], mirrors: &[String]) -> RegistryConfig {
    let is_network = |text: &&String| text.contains('/');
    let mut networks: Vec<String> = insecure.iter().filter(is_network).cloned().collect();
    networks.push("127.0.0.0/8".to_owned());
    let mut index = BTreeMap::new();
    for name in insecure.iter().filter(|text| !is_network(text)) {
        let entry = IndexInfo { name: name.clone(), mirrors: Vec::new(), secure: false, official: false };
        index.insert(name.clone(), entry);
    }
    let hub = IndexInfo { name: "docker.io".to_owned(), mirrors: mirrors.to_vec(), secure: true, official: true };
    index.insert("docker.io".to_owned(), hub);
    RegistryConfig {
        insecure_registry_cidrs: networks,
        index_configs: index,
        mirrors: Some(mirrors.to_vec()).filter(|m| !m.is_empty()),
        ..RegistryConfig::default()
    }
}

fn security_options(info: &SysInfo, profile: &str, no_new_privileges: bool) -> Vec<String> {
    let mut options = Vec::new();
    if info.seccomp {
        options.push(format!("name=seccomp,profile={profile}"));
    }
    if info.cgroup_version == 2 {
        options.push("name=cgroupns".to_owned());
    }
    if no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    options
}

fn warnings(info: &SysInfo) -> Vec<String> {
    let checks = [
        (info.memory, "No memory limit support"),
        (info.swap, "No swap limit support"),
        (info.cpu_cfs, "No cpu cfs quota support"),
        (info.cpu_shares, "No cpu shares support"),
        (info.cpuset, "No cpuset support"),
    ];
    checks.iter().filter(|(there, _)| !there).map(|(_, text)| format!("WARNING: {text}")).collect()
}

/// What stands for goroutines here: tasks of the runtime that are alive.
fn tasks() -> i64 {
    let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    i64::try_from(alive).unwrap_or(i64::MAX)
}
