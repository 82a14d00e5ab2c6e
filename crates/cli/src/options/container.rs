//! The flags of `run` and `create` as the body of the request that makes a container.

use super::{device, environment, host, mount, network, port, security, ulimit, volume};
use crate::flags::Values;
use api::container::{Config, CreateRequest, EmptyObject, HealthConfig, HostConfig, LogConfig, NetworkingConfig};
use std::collections::BTreeMap;

/// Flags that mean something on Windows only. Docker has one sentence for them.
const WINDOWS_ONLY: &[&str] = &["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"];

/// A list as the API has it: absent when empty.
fn list(values: &[String]) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.to_vec())
}

/// The flags that are refused by name: the sentence, if one of them was given.
pub(crate) fn refused(values: &Values) -> Option<String> {
    if let Some(flag) = WINDOWS_ONLY.iter().find(|flag| values.is_set(flag)) {
        return Some(format!(
            "\"--{flag}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux"
        ));
    }
    if !values.on_or("disable-content-trust", true) {
        return Some("content trust is not supported: --disable-content-trust cannot be switched off".into());
    }
    values.on("use-api-socket").then(|| "--use-api-socket is not supported".into())
}

/// The body for an image (`words[0]`) and a command. Errors are Docker's, without the program's name.
pub(crate) fn request(values: &Values, words: &[String], detached: bool) -> Result<CreateRequest, String> {
    let ports = port::parse(values.list("publish"), values.list("expose"))?;
    let (binds, anonymous) = volumes(values)?;
    let networks = networks(values)?;
    let mut config = config(values, words, detached)?;
    config.exposed_ports = ports.exposed;
    config.volumes = Some(anonymous);
    let mut host_config = host_config(values)?;
    host_config.binds = list(&binds);
    host_config.port_bindings = Some(ports.bindings);
    host_config.network_mode = networks.first().map_or_else(|| "default".to_owned(), |network| network.name.clone());
    if host_config.auto_remove && !matches!(host_config.restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    // A network namespace of somebody else's has no endpoint of our own; what is asked of it all the same is refused by the engine.
    let own = |network: &network::Attachment| {
        let foreign = matches!(network.name.as_str(), "host" | "none") || network.name.starts_with("container:");
        !foreign || *network != network::Attachment { name: network.name.clone(), ..network::Attachment::default() }
    };
    let endpoints: BTreeMap<_, _> =
        networks.into_iter().filter(own).map(|network| (network.name.clone(), network.endpoint())).collect();
    let networking_config = NetworkingConfig { endpoints_config: Some(endpoints) };
    Ok(CreateRequest { config, host_config, networking_config })
}

fn config(values: &Values, words: &[String], detached: bool) -> Result<Config, String> {
    let attached = |stream: &str| values.list("attach").iter().any(|value| value.eq_ignore_ascii_case(stream));
    let mut config = Config {
        hostname: values.text("hostname").to_owned(),
        domainname: values.text("domainname").to_owned(),
        user: values.text("user").to_owned(),
        tty: values.on("tty"),
        open_stdin: values.on("interactive"),
        attach_stdin: attached("stdin"),
        attach_stdout: attached("stdout"),
        attach_stderr: attached("stderr"),
        env: list(&environment::variables(values.list("env-file"), values.list("env"))?),
        cmd: list(words.get(1..).unwrap_or_default()),
        healthcheck: health(values)?,
        image: words.first().cloned().unwrap_or_default(),
        working_dir: values.text("workdir").to_owned(),
        labels: Some(environment::labels(values.list("label-file"), values.list("label"))?),
        stop_signal: values.text("stop-signal").to_owned(),
        stop_timeout: values.is_set("stop-timeout").then(|| values.int("stop-timeout")),
        // An empty entry point removes that of the image; the engine knows it by the one empty word.
        entrypoint: values.last("entrypoint").map(|word| vec![word.to_owned()]),
        ..Config::default()
    };
    if detached {
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
    } else if values.list("attach").is_empty() {
        config.attach_stdin = config.open_stdin;
        config.attach_stdout = true;
        config.attach_stderr = true;
    }
    // Standard input ends with the one client that feeds it.
    config.stdin_once = config.open_stdin && config.attach_stdin;
    Ok(config)
}

fn health(values: &Values) -> Result<Option<HealthConfig>, String> {
    let durations = ["health-interval", "health-timeout", "health-start-period", "health-start-interval"];
    let given = durations.iter().chain(&["health-cmd", "health-retries"]).any(|flag| values.is_set(flag));
    if values.on("no-healthcheck") {
        if given {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        return Ok(Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }));
    }
    if !given {
        return Ok(None);
    }
    for flag in durations {
        if values.duration(flag) < 0 {
            return Err(format!("--{flag} cannot be negative"));
        }
    }
    if values.int("health-retries") < 0 {
        return Err("--health-retries cannot be negative".into());
    }
    let test = values.last("health-cmd").filter(|line| !line.is_empty());
    Ok(Some(HealthConfig {
        test: test.map(|line| vec!["CMD-SHELL".into(), line.into()]),
        interval: values.duration("health-interval"),
        timeout: values.duration("health-timeout"),
        start_period: values.duration("health-start-period"),
        start_interval: values.duration("health-start-interval"),
        retries: values.int("health-retries"),
    }))
}

/// Binds, and the paths of anonymous volumes.
fn volumes(values: &Values) -> Result<(Vec<String>, BTreeMap<String, EmptyObject>), String> {
    let (mut binds, mut anonymous) = (Vec::new(), BTreeMap::new());
    for value in values.list("volume") {
        match volume::parse(value)? {
            volume::Volume::Bind(bind) => binds.push(bind),
            volume::Volume::Anonymous(path) => {
                anonymous.insert(path, EmptyObject {});
            }
        }
    }
    Ok((binds, anonymous))
}

/// The networks; the flags about one endpoint belong to the first.
fn networks(values: &Values) -> Result<Vec<network::Attachment>, String> {
    let mut networks = Vec::new();
    for value in values.list("network") {
        networks.push(network::parse(value)?);
    }
    if networks.iter().any(|network| network.name.is_empty()) {
        return Err("no name set for network".into());
    }
    for (index, network) in networks.iter().enumerate() {
        if networks[..index].iter().any(|other| other.name == network.name) {
            return Err(format!("network {} is specified multiple times", crate::format::go::quote(&network.name)));
        }
        let alone = |name: &str| matches!(name, "host" | "none" | "") || name.starts_with("container:");
        if networks.len() > 1 && alone(&network.name) {
            return Err(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes".into()
            );
        }
    }
    let user_defined = networks.first().is_some_and(|first| {
        !matches!(first.name.as_str(), "default" | "bridge" | "host" | "none") && !first.name.starts_with("container:")
    });
    if networks.is_empty() {
        networks.push(network::Attachment { name: "default".into(), ..network::Attachment::default() });
    }
    let Some(first) = networks.first_mut() else { return Ok(networks) };
    let conflict = |flag: &str, what: &str, set: bool| {
        if set && values.is_set(flag) {
            Err(format!("conflicting options: cannot specify both --{flag} and {what}"))
        } else {
            Ok(())
        }
    };
    conflict("network-alias", "per-network alias", !first.aliases.is_empty())?;
    conflict("ip", "per-network IPv4 address", !first.ipv4.is_empty())?;
    conflict("ip6", "per-network IPv6 address", !first.ipv6.is_empty())?;
    conflict("link-local-ip", "per-network link-local IP addresses", !first.link_local.is_empty())?;
    conflict("mac-address", "per-network MAC address", !first.mac.is_empty())?;
    first.aliases.extend_from_slice(values.list("network-alias"));
    first.link_local.extend_from_slice(values.list("link-local-ip"));
    if !user_defined && !first.aliases.is_empty() {
        return Err("network-scoped aliases are only supported for user-defined networks".into());
    }
    if user_defined {
        first.links.extend_from_slice(values.list("link"));
    }
    for (flag, field) in [("ip", &mut first.ipv4), ("ip6", &mut first.ipv6), ("mac-address", &mut first.mac)] {
        if let Some(value) = values.last(flag) {
            value.clone_into(field);
        }
    }
    if values.is_set("mac-address") && !is_mac(&first.mac) {
        return Err(format!("{} is not a valid mac address", first.mac));
    }
    Ok(networks)
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The rules that Docker's client itself has for modes of namespaces.
fn check_modes(values: &Values) -> Result<(), String> {
    let container = |mode: &str| mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    let checks: [(&str, &str, bool); 4] = [
        ("pid", "PID", matches!(values.text("pid"), "" | "host") || container(values.text("pid"))),
        ("uts", "UTS", matches!(values.text("uts"), "" | "host")),
        ("userns", "USER", matches!(values.text("userns"), "" | "host")),
        ("cgroupns", "CGROUP", matches!(values.text("cgroupns"), "" | "host" | "private")),
    ];
    match checks.iter().find(|(_, _, valid)| !valid) {
        Some((flag, name, _)) => Err(format!("--{flag}: invalid {name} mode")),
        None => Ok(()),
    }
}

fn host_config(values: &Values) -> Result<HostConfig, String> {
    check_modes(values)?;
    let swappiness = values.int_or("memory-swappiness", -1);
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
    }
    let security = security::parse(values.list("security-opt"))?;
    let (cap_add, cap_drop) = security::capabilities(values.list("cap-add"), values.list("cap-drop"));
    let log_driver = values.text("log-driver");
    let text = |flag: &str| values.text(flag).to_owned();
    let mut config = HostConfig {
        container_id_file: text("cidfile"),
        log_config: LogConfig {
            driver: log_driver.to_owned(),
            config: Some(security::log_options(log_driver, values.list("log-opt"))?),
        },
        restart_policy: host::restart(values.last("restart").unwrap_or("no"))?,
        auto_remove: values.on("rm"),
        volume_driver: text("volume-driver"),
        volumes_from: list(values.list("volumes-from")),
        annotations: values.map("annotation"),
        cap_add: list(&cap_add),
        cap_drop: list(&cap_drop),
        cgroupns_mode: text("cgroupns"),
        dns: Some(values.list("dns").to_vec()),
        dns_options: Some(values.list("dns-option").to_vec()),
        dns_search: Some(values.list("dns-search").to_vec()),
        extra_hosts: list(&values.list("add-host").iter().map(|v| host::extra_host(v)).collect::<Result<Vec<_>, _>>()?),
        group_add: list(values.list("group-add")),
        ipc_mode: text("ipc"),
        links: list(values.list("link")),
        oom_score_adj: values.int("oom-score-adj"),
        pid_mode: text("pid"),
        privileged: values.on("privileged"),
        publish_all_ports: values.on("publish-all"),
        readonly_rootfs: values.on("read-only"),
        security_opt: list(&security.options),
        storage_opt: security::storage_options(values.list("storage-opt"))?,
        tmpfs: values.list("tmpfs").iter().map(|value| mount::tmpfs_flag(value)).collect(),
        uts_mode: text("uts"),
        userns_mode: text("userns"),
        shm_size: values.bytes("shm-size"),
        sysctls: values.map("sysctl"),
        runtime: text("runtime"),
        isolation: text("isolation"),
        mounts: values.list("mount").iter().map(|value| mount::parse(value)).collect::<Result<_, _>>()?,
        init: values.is_set("init").then(|| values.on("init")),
        ..HostConfig::default()
    };
    if security.unconfined_paths {
        config.masked_paths = Some(Vec::new());
        config.readonly_paths = Some(Vec::new());
    }
    limits(values, &mut config)?;
    Ok(config)
}

fn limits(values: &Values, config: &mut HostConfig) -> Result<(), String> {
    let each = |flag: &str, parse: fn(&str) -> Result<api::container::ThrottleDevice, String>| {
        values.list(flag).iter().map(|value| parse(value)).collect::<Result<Vec<_>, _>>().map(Some)
    };
    config.cpu_shares = values.int("cpu-shares");
    config.memory = values.bytes("memory");
    config.nano_cpus = values.processors("cpus");
    config.cgroup_parent = values.text("cgroup-parent").to_owned();
    config.blkio_weight = u16::try_from(values.int("blkio-weight")).unwrap_or_default();
    config.blkio_weight_device =
        Some(values.list("blkio-weight-device").iter().map(|value| device::weight(value)).collect::<Result<_, _>>()?);
    config.blkio_device_read_bps = each("device-read-bps", device::rate_bytes)?;
    config.blkio_device_write_bps = each("device-write-bps", device::rate_bytes)?;
    config.blkio_device_read_iops = each("device-read-iops", device::rate_count)?;
    config.blkio_device_write_iops = each("device-write-iops", device::rate_count)?;
    config.cpu_period = values.int("cpu-period");
    config.cpu_quota = values.int("cpu-quota");
    config.cpu_realtime_period = values.int("cpu-rt-period");
    config.cpu_realtime_runtime = values.int("cpu-rt-runtime");
    config.cpuset_cpus = values.text("cpuset-cpus").to_owned();
    config.cpuset_mems = values.text("cpuset-mems").to_owned();
    config.device_cgroup_rules = list(values.list("device-cgroup-rule"));
    config.kernel_memory = values.bytes("kernel-memory");
    config.memory_reservation = values.bytes("memory-reservation");
    config.memory_swap = values.bytes("memory-swap");
    config.memory_swappiness = Some(values.int_or("memory-swappiness", -1));
    config.oom_kill_disable = Some(values.on("oom-kill-disable"));
    config.pids_limit = Some(values.int("pids-limit"));
    let ulimits: Vec<_> = values.list("ulimit").iter().map(|value| ulimit::parse(value)).collect::<Result<_, _>>()?;
    config.ulimits = Some(ulimits);
    let (mut mappings, mut named) = (Vec::new(), Vec::new());
    for value in values.list("device") {
        match device::parse(value)? {
            device::Device::Mapping(mapping) => mappings.push(mapping),
            device::Device::Named(name) => named.push(name),
        }
    }
    config.devices = Some(mappings);
    config.device_requests = device::request(named);
    Ok(())
}
