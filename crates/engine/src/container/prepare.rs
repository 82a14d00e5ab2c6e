//! Everything that has to be looked up and written before a container's shim can make it. Blocking.

use std::path::Path;

use network::NetworkKind;
use network::files::{self, Dns, Hosts};
use shim::protocol::{Config as ShimConfig, LogConfig};

use super::record::{Directories, MountKind, MountRecord, Record};
use super::root::Root;
use super::spec::{self, EtcFiles, Inputs};
use super::transitions::Status;
use super::{log_options, monitor, user};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::networking;

/// What the shim is started with.
pub(super) struct Prepared {
    pub(super) config: ShimConfig,
    /// The network of its own, or `None` when it shares another container's.
    pub(super) network: Option<NetworkKind>,
}

/// Looks everything up and writes the bundle.
pub(super) fn prepare(engine: &Engine, record: &Record, directories: &Directories) -> Result<Prepared> {
    let host = &record.host_config;
    let network = match host.network_mode.strip_prefix("container:") {
        Some(_) => None,
        None => Some(networking::kind(&host.network_mode).ok_or_else(|| networking::no_such(&host.network_mode))?),
    };
    let rootfs = engine.store.snapshot_mounts(&record.id)?;
    let (user, more_groups) = resolve_user(record, &Root::new(&rootfs))?;
    let mounts = sources(engine, record)?;
    let etc = etc_files(engine, record, directories, network)?;
    let shm = shared_memory(engine, record, directories)?;
    let inputs = Inputs {
        root: directories.exec.join("rootfs").display().to_string(),
        mounts: &mounts,
        etc,
        user,
        more_groups,
        network_namespace: joined(engine, &host.network_mode, "net", |_| Ok(()))?,
        ipc_namespace: joined(engine, &host.ipc_mode, "ipc", shareable)?,
        pid_namespace: joined(engine, &host.pid_mode, "pid", |_| Ok(()))?,
        shm,
        devices: devices(record)?,
        seccomp: super::security::profile(&engine.config, record)?,
        cgroup_parent: engine.config.cgroup_parent.as_deref().unwrap_or("/gantry"),
        init: wants_init(engine, record).then(|| engine.config.program.display().to_string()),
        default_ulimits: engine.config.default_ulimits.clone(),
        held_capabilities: sys::capability::current().map_or(u64::MAX, |sets| sets.bounding.0),
    };
    let spec = spec::generate(record, &inputs)?;
    let failed = |e| Error::caused(Kind::System, format!("creating {}", directories.exec.display()), e);
    // The root is mounted in the container alone, so the bundle needs no folder for it.
    std::fs::create_dir_all(&directories.exec).map_err(failed)?;
    let bundle = directories.exec.join("config.json");
    let bytes = serde_json::to_vec(&spec).map_err(|e| Error::caused(Kind::System, "writing the specification", e))?;
    std::fs::write(&bundle, bytes).map_err(failed)?;
    let config = ShimConfig {
        id: record.id.clone(),
        bundle: directories.exec.clone(),
        spec,
        state_root: monitor::state_root(directories),
        rootfs,
        stdin_open: record.config.open_stdin,
        stdin_once: record.config.stdin_once,
        log: log(record, directories)?,
        socket_path: directories.shim_socket(),
        exit_path: directories.exit_record(),
        spool_dir: directories.data.clone(),
    };
    Ok(Prepared { config, network })
}

/// `--init` makes sense only where the container has a PID namespace of its own.
fn wants_init(engine: &Engine, record: &Record) -> bool {
    record.host_config.pid_mode.is_empty() && record.host_config.init.unwrap_or(engine.config.init)
}

/// User and groups, from the container's own files.
pub(super) fn resolve_user(record: &Record, root: &Root) -> Result<(user::User, Vec<u32>)> {
    let read = |path: &str| {
        root.read(path).map_err(|e| Error::caused(Kind::System, format!("reading the container's {path}"), e))
    };
    let group = read("/etc/group")?.unwrap_or_default();
    let passwd = read("/etc/passwd")?.unwrap_or_default();
    // dockerd answers 500 to all of these.
    let found = user::resolve(&record.config.user, &passwd, &group).map_err(|e| e.with_kind(Kind::System))?;
    let names = record.host_config.group_add.as_deref().unwrap_or_default();
    let more = user::additional_groups(names, &group).map_err(|e| e.with_kind(Kind::System))?;
    Ok((found, more))
}

/// The mounts with sources that exist.
fn sources(engine: &Engine, record: &Record) -> Result<Vec<MountRecord>> {
    let mut mounts = record.mounts.clone();
    for mount in &mut mounts {
        match mount.kind {
            MountKind::Tmpfs => {}
            MountKind::Bind => bind_source(mount)?,
            MountKind::Volume => {
                let data = engine.volumes.data(&mount.name);
                let volume = engine.volumes.get(&mount.name);
                volume.ok_or_else(|| Error::not_found(format!("get {}: no such volume", mount.name)))?;
                mount.source = data.join(mount.subpath.trim_start_matches('/')).display().to_string();
                if !mount.subpath.is_empty() {
                    inside(&data, Path::new(&mount.source))?;
                }
            }
        }
    }
    Ok(mounts)
}

/// A missing source is made for `-v`, and an error otherwise.
fn bind_source(mount: &MountRecord) -> Result<()> {
    let source = Path::new(&mount.source);
    if source.exists() {
        return Ok(());
    }
    if !mount.create_source {
        return Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            mount.source
        )));
    }
    std::fs::create_dir_all(source).map_err(|e| {
        Error::caused(Kind::System, format!("error while creating mount source path '{}'", mount.source), e)
    })
}

/// A subpath that leads out of its volume (through a link in it) is refused.
fn inside(volume: &Path, path: &Path) -> Result<()> {
    let real = |path: &Path| std::fs::canonicalize(path);
    match (real(volume), real(path)) {
        (Ok(volume), Ok(path)) if path.starts_with(&volume) => Ok(()),
        (_, Err(error)) => Err(Error::caused(Kind::System, format!("cannot access path {}", path.display()), error)),
        _ => Err(Error::invalid(format!("path {} escapes its volume", path.display()))),
    }
}

/// The namespace of another container, for modes `container:ID`.
fn joined(
    engine: &Engine,
    mode: &str,
    namespace: &str,
    allowed: impl FnOnce(&Record) -> Result<()>,
) -> Result<Option<String>> {
    let Some(other) = mode.strip_prefix("container:") else { return Ok(None) };
    let other = engine.containers.get(other)?.record();
    let joining = match namespace {
        "net" => "cannot join network of a non running container",
        "ipc" => "cannot join IPC of a non running container",
        _ => "cannot join PID of a non running container",
    };
    match other.state.status {
        Status::Running | Status::Paused => {}
        Status::Restarting => {
            return Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                other.id
            )));
        }
        _ => return Err(Error::conflict(format!("{joining}: {}", other.id))),
    }
    allowed(&other)?;
    Ok(Some(format!("/proc/{}/ns/{namespace}", other.state.pid)))
}

fn shareable(other: &Record) -> Result<()> {
    match other.host_config.ipc_mode.as_str() {
        "private" | "none" => Err(Error::invalid(format!(
            "failed to join IPC namespace: container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
            other.id
        ))),
        _ => Ok(()),
    }
}

/// What to bind as /dev/shm: the host's, the donor's, or one of our own that others can join; `None` for a private one.
fn shared_memory(engine: &Engine, record: &Record, directories: &Directories) -> Result<Option<String>> {
    let mode = record.host_config.ipc_mode.as_str();
    if mode == "host" {
        return Ok(Some("/dev/shm".to_owned()));
    }
    if let Some(donor) = mode.strip_prefix("container:") {
        let donor = engine.containers.get(donor)?;
        let shared = donor.directories().exec.join("shm");
        let own = donor.record().host_config.ipc_mode == "host";
        return Ok(Some(if own { "/dev/shm".to_owned() } else { shared.display().to_string() }));
    }
    if mode != "shareable" {
        return Ok(None);
    }
    let path = directories.exec.join("shm");
    let failed = |e: std::io::Error| Error::caused(Kind::System, format!("mounting {}", path.display()), e);
    std::fs::create_dir_all(&path).map_err(failed)?;
    let flags =
        rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOEXEC;
    let options = format!("mode=1777,size={}", record.host_config.shm_size);
    let options = std::ffi::CString::new(options).map_err(|e| failed(e.into()))?;
    rustix::mount::mount("shm", &path, "tmpfs", flags, Some(options.as_c_str())).map_err(|e| failed(e.into()))?;
    Ok(Some(path.display().to_string()))
}

/// Takes back what [`shared_memory`] mounted. Nothing mounted there is no error.
pub(super) fn release_shared_memory(directories: &Directories) {
    let path = directories.exec.join("shm");
    if path.exists() {
        let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
    }
}

fn devices(record: &Record) -> Result<Vec<spec::HostDevice>> {
    let host = &record.host_config;
    if host.device_requests.as_ref().is_some_and(|requests| !requests.is_empty()) {
        return Err(Error::not_implemented(
            "could not select device driver: device requests (--gpus, CDI) are not supported by this engine",
        ));
    }
    let mut all = if host.privileged { spec::host_devices() } else { Vec::new() };
    for device in host.devices.iter().flatten() {
        if host.privileged && device.path_on_host == device.path_in_container {
            continue;
        }
        let access = if device.cgroup_permissions.is_empty() { "rwm" } else { &device.cgroup_permissions };
        all.extend(spec::device_from_path(&device.path_on_host, &device.path_in_container, access)?);
    }
    Ok(all)
}

/// Writes hostname, hosts and resolv.conf (or points at those of the container whose network is shared).
fn etc_files(
    engine: &Engine,
    record: &Record,
    directories: &Directories,
    network: Option<NetworkKind>,
) -> Result<EtcFiles> {
    let Some(kind) = network else {
        let other = record.host_config.network_mode.strip_prefix("container:").unwrap_or_default();
        let other = engine.containers.get(other)?;
        let file = |name: &str| Some(other.directories().data.join(name).display().to_string());
        return Ok(EtcFiles { resolv_conf: file("resolv.conf"), hostname: file("hostname"), hosts: file("hosts") });
    };
    let file = |name: &str| directories.data.join(name);
    let failed = |e| Error::caused(Kind::System, format!("writing to {}", directories.data.display()), e);
    let mut name = record.config.hostname.clone();
    if !record.config.domainname.is_empty() {
        name = format!("{name}.{}", record.config.domainname);
    }
    std::fs::write(file("hostname"), format!("{name}\n")).map_err(failed)?;
    let host = &record.host_config;
    let or = |own: &Option<Vec<String>>, engine: &[String]| match own {
        Some(list) if !list.is_empty() => list.clone(),
        _ => engine.to_vec(),
    };
    let (servers, search, options) = (
        or(&host.dns, &engine.config.dns),
        or(&host.dns_search, &engine.config.dns_search),
        or(&host.dns_options, &engine.config.dns_options),
    );
    if let Some(bad) = servers.iter().find(|s| s.parse::<std::net::IpAddr>().is_err()) {
        return Err(Error::system(format!("bad nameserver address {bad}: ParseAddr({bad:?}): unable to parse IP")));
    }
    let dns = Dns { servers: &servers, search: &search, options: &options };
    let own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let path = files::host_resolv_conf_path(kind, dns, &own);
    let text = if path == "/etc/resolv.conf" { own } else { std::fs::read_to_string(path).unwrap_or_default() };
    std::fs::write(file("resolv.conf"), files::resolv_conf(kind, dns, path, &text)).map_err(failed)?;
    write_hosts(engine, record, directories, kind, None)?;
    let text = |name: &str| Some(file(name).display().to_string());
    Ok(EtcFiles { resolv_conf: text("resolv.conf"), hostname: text("hostname"), hosts: text("hosts") })
}

/// Writes /etc/hosts in place: the file is already bound into the container when its address is known.
pub(super) fn write_hosts(
    engine: &Engine,
    record: &Record,
    directories: &Directories,
    kind: NetworkKind,
    ip: Option<std::net::Ipv4Addr>,
) -> Result<()> {
    let host_file = match kind {
        NetworkKind::Host => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
        _ => String::new(),
    };
    let hosts = Hosts {
        ip,
        hostname: &record.config.hostname,
        domainname: &record.config.domainname,
        extra_hosts: record.host_config.extra_hosts.as_deref().unwrap_or_default(),
        host_gateway: Some(engine.network.gateway().into()),
    };
    let text = files::hosts(kind, &hosts, &host_file).map_err(|e| Error::invalid(e.to_string()))?;
    let path = directories.data.join("hosts");
    std::fs::write(&path, text).map_err(|e| Error::caused(Kind::System, format!("writing {}", path.display()), e))
}

/// Where the shim writes the container's output.
fn log(record: &Record, directories: &Directories) -> Result<Option<LogConfig>> {
    let config = &record.host_config.log_config;
    let none = std::collections::BTreeMap::new();
    let options = config.config.as_ref().unwrap_or(&none);
    if config.driver == "none" {
        return Ok(None);
    }
    let failed = |error: Error| {
        let prefixed = error.prefixed("failed to create task for container: failed to initialize logging driver");
        prefixed.with_kind(Kind::System)
    };
    let limits = log_options::log_limits(options).map_err(failed)?;
    let buffer = log_options::log_buffer(options).map_err(failed)?;
    let name = match config.driver.as_str() {
        "local" => "local-logs.log".to_owned(),
        _ => format!("{}-json.log", record.id),
    };
    Ok(Some(LogConfig {
        path: directories.data.join(name),
        // The local driver rotates by default: 20 MB, five files.
        max_size: limits.max_size.or((config.driver == "local").then_some(20_000_000)),
        max_file: limits.max_file.unwrap_or(if config.driver == "local" { 5 } else { 1 }),
        attributes: attributes(record, options),
        buffer,
    }))
}

/// Labels and variables that are written with every line.
fn attributes(record: &Record, options: &std::collections::BTreeMap<String, String>) -> Option<String> {
    let mut found = serde_json::Map::new();
    let labels = record.config.labels.clone().unwrap_or_default();
    for key in options.get("labels").into_iter().flat_map(|l| l.split(',')) {
        if let Some(value) = labels.get(key) {
            found.insert(key.to_owned(), value.as_str().into());
        }
    }
    let variables: Vec<&str> = record.config.env.iter().flatten().map(String::as_str).collect();
    for key in options.get("env").into_iter().flat_map(|l| l.split(',')) {
        if let Some((_, value)) = variables.iter().filter_map(|v| v.split_once('=')).find(|(name, _)| *name == key) {
            found.insert(key.to_owned(), value.into());
        }
    }
    (!found.is_empty()).then(|| serde_json::Value::Object(found).to_string())
}
