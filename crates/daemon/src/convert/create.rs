//! `POST /containers/create` and `/update` from any version to the latest.

use api::Version;
use api::container::{CreateRequest, UpdateConfig};
use api::network::EndpointSettings;
use std::collections::BTreeMap;
use std::path::Path;

use crate::failure::{Failure, Outcome};

/// Driver option that carries the sysctls of one endpoint.
const ENDPOINT_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Brings a request to the latest form. Returns the warnings that go into the answer.
pub(crate) fn create(request: &mut CreateRequest, version: Version) -> Outcome<Vec<String>> {
    name_the_network(request);
    before_1_42(request, version);
    before_1_45(request, version)?;
    options_of_other_kinds(request, version)?;
    let mut warnings = Vec::new();
    warnings.extend(mac_address(request, version)?);
    warnings.extend(interface_sysctls(request, version)?);
    let host = &mut request.host_config;
    // 0 and every negative number have always meant "unlimited".
    if host.pids_limit.is_some_and(|limit| limit <= 0) {
        host.pids_limit = None;
    }
    Ok(warnings)
}

/// The same for an update's body.
pub(crate) fn update(request: &mut UpdateConfig, version: Version) {
    if version.before(40) {
        request.pids_limit = None;
    }
    if !version.before(42) {
        request.kernel_memory = 0;
    }
    if request.pids_limit.is_some_and(|limit| limit <= 0) {
        request.pids_limit = Some(0);
    }
}

/// `default` and nothing mean the default bridge.
fn name_the_network(request: &mut CreateRequest) {
    let mode = &mut request.host_config.network_mode;
    if mode.is_empty() || mode == "default" {
        "bridge".clone_into(mode);
        if let Some(endpoints) = &mut request.networking_config.endpoints_config
            && let Some(endpoint) = endpoints.remove("default")
        {
            endpoints.insert(mode.clone(), endpoint);
        }
    }
}

/// Fields that 1.25 to 1.42 brought, and defaults that they changed.
fn before_1_42(request: &mut CreateRequest, version: Version) {
    let host = &mut request.host_config;
    if version.before(25) {
        // The client removes the container itself.
        host.auto_remove = false;
    }
    if version.before(40) {
        host.kernel_memory_tcp = 0;
        if host.ipc_mode.is_empty() {
            host.ipc_mode = "shareable".into();
        }
    }
    if version.before(41) && host.cgroupns_mode.is_empty() && !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        host.cgroupns_mode = "host".into();
    }
    if version.before(42) {
        host.console_size = [0, 0];
    } else {
        host.kernel_memory = 0;
    }
    for mount in &mut host.mounts {
        let kind = mount.kind.clone();
        if let Some(bind) = &mut mount.bind_options {
            bind.non_recursive &= !version.before(40);
            bind.create_mountpoint &= !version.before(42);
        }
        if version.before(42) {
            // Nobody checked these combinations then.
            mount.volume_options = mount.volume_options.take().filter(|_| kind == "volume");
            mount.tmpfs_options = mount.tmpfs_options.take().filter(|_| kind == "tmpfs");
        }
    }
}

/// Fields that 1.43 to 1.48 brought.
fn before_1_45(request: &mut CreateRequest, version: Version) -> Outcome<()> {
    let host = &mut request.host_config;
    if version.before(43) {
        host.annotations.clear();
    }
    if version.before(44) {
        if let Some(check) = &mut request.config.healthcheck {
            check.start_interval = 0;
        }
        for mount in host.mounts.iter_mut().filter(|mount| mount.kind == "bind") {
            if mount.bind_options.as_ref().is_some_and(|bind| bind.read_only_force_recursive) {
                return Err(Failure::bad_request("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"));
            }
            if mount.read_only {
                // Read-only mounts became recursive in 1.44.
                mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
            }
        }
        let networks = request.networking_config.endpoints_config.iter().flat_map(BTreeMap::keys);
        let networks: Vec<&str> = networks.map(String::as_str).collect();
        if networks.len() > 1 {
            let networks = networks.join(", ");
            return Err(Failure::bad_request(format!(
                "Container cannot be created with multiple network endpoints: {networks}"
            )));
        }
    }
    for mount in &host.mounts {
        if version.before(45) && mount.volume_options.as_ref().is_some_and(|volume| !volume.subpath.is_empty()) {
            return Err(Failure::bad_request("VolumeOptions.Subpath needs API v1.45 or newer"));
        }
        if version.before(48) && mount.kind == "image" {
            return Err(Failure::bad_request("Mount type \"Image\" needs API v1.48 or newer"));
        }
    }
    Ok(())
}

/// Since 1.42 a mount has the options of its own kind only.
fn options_of_other_kinds(request: &CreateRequest, version: Version) -> Outcome<()> {
    if version.before(42) {
        return Ok(());
    }
    for mount in &request.host_config.mounts {
        let wrong = [
            ("VolumeOptions", mount.volume_options.is_some(), "volume"),
            ("BindOptions", mount.bind_options.is_some(), "bind"),
            ("TmpfsOptions", mount.tmpfs_options.is_some(), "tmpfs"),
            ("ImageOptions", mount.image_options.is_some(), "image"),
        ];
        if let Some((options, ..)) = wrong.iter().find(|(_, given, kind)| *given && mount.kind != *kind) {
            return Err(Failure::bad_request(format!(
                "{options} must not be specified on mount type {:?}",
                mount.kind
            )));
        }
    }
    Ok(())
}

/// The container's one MAC address became the endpoint's in 1.44.
fn mac_address(request: &mut CreateRequest, version: Version) -> Outcome<Option<String>> {
    let mac = request.config.mac_address.clone();
    if mac.is_empty() {
        if version.before(44) {
            for endpoint in request.networking_config.endpoints_config.iter_mut().flat_map(BTreeMap::values_mut) {
                endpoint.mac_address.clear();
            }
        }
        return Ok(None);
    }
    let mode = request.host_config.network_mode.as_str();
    let own_network = !(mode == "none" || mode == "host" || mode.starts_with("container:"));
    if version.before(44) {
        if !own_network {
            return Err(Failure::bad_request("conflicting options: mac-address and the network mode"));
        }
        endpoint(request, version)?.mac_address = mac;
        return Ok(None);
    }
    if own_network {
        let endpoint = endpoint(request, version).map_err(|failure| {
            failure.prefixed("unable to migrate container-wide MAC address to a specific network")
        })?;
        if endpoint.mac_address.is_empty() {
            endpoint.mac_address = mac;
        } else if endpoint.mac_address != mac {
            return Err(Failure::bad_request(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
            ));
        }
    }
    request.config.mac_address.clear();
    Ok(Some(
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
            .into(),
    ))
}

/// Sysctls of an interface belong to its endpoint since 1.46; those of `eth0` are moved for older clients.
fn interface_sysctls(request: &mut CreateRequest, version: Version) -> Outcome<Option<String>> {
    let mode = &request.host_config.network_mode;
    if mode == "host" || mode.starts_with("container:") {
        return Ok(None);
    }
    let (mut moved, mut settings) = (Vec::new(), Vec::new());
    for (key, value) in &request.host_config.sysctls {
        let parts: Vec<&str> = key.splitn(5, '.').collect();
        let ["net", family, kind, interface, rest] = parts[..] else { continue };
        if !interface.starts_with("eth") {
            continue;
        }
        if !version.before(47) {
            return Err(Failure::bad_request(format!(
                "interface specific sysctl setting {key:?} must be supplied using driver option '{ENDPOINT_SYSCTLS}'"
            )));
        }
        if interface != "eth0" {
            return Err(Failure::bad_request(format!(
                "unable to determine network endpoint for sysctl {key}, use driver option '{ENDPOINT_SYSCTLS}' to set per-interface sysctls"
            )));
        }
        moved.push(key.clone());
        settings.push(format!("net.{family}.{kind}.IFNAME.{rest}={value}"));
    }
    if moved.is_empty() {
        return Ok(None);
    }
    let mut option = settings.join(",");
    let warning = format!("Migrated sysctl {:?} to DriverOpts{{{ENDPOINT_SYSCTLS:?}:{option:?}}}.", moved.join(","));
    let options = endpoint(request, version)?.driver_opts.get_or_insert_default();
    if let Some(old) = options.get(ENDPOINT_SYSCTLS) {
        option = format!("{option},{old}");
    }
    options.insert(ENDPOINT_SYSCTLS.into(), option);
    request.host_config.sysctls.retain(|key, _| !moved.contains(key));
    Ok(Some(warning))
}

/// The endpoint in the container's main network, made when there is none at all.
fn endpoint(request: &mut CreateRequest, version: Version) -> Outcome<&mut EndpointSettings> {
    let mode = request.host_config.network_mode.clone();
    let endpoints = request.networking_config.endpoints_config.get_or_insert_default();
    if endpoints.is_empty() {
        return Ok(endpoints.entry(mode).or_default());
    }
    // Before 1.44 there is at most one, whatever it is called.
    let found = if version.before(44) { endpoints.values_mut().next() } else { endpoints.get_mut(&mode) };
    found.ok_or_else(|| {
        Failure::bad_request("HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(minor: u16, json: &str) -> Result<(CreateRequest, Vec<String>), String> {
        let mut request: CreateRequest = api::json::from_str(json).unwrap();
        let warnings = create(&mut request, Version::new(1, minor)).map_err(|failure| failure.message)?;
        Ok((request, warnings))
    }

    #[test]
    fn old_clients_get_old_defaults() {
        let (request, _) = converted(24, r#"{"HostConfig":{"AutoRemove":true,"ConsoleSize":[1,2]}}"#).unwrap();
        assert!(!request.host_config.auto_remove);
        assert_eq!(request.host_config.ipc_mode, "shareable");
        assert_eq!(request.host_config.console_size, [0, 0]);
        let (request, _) =
            converted(50, r#"{"HostConfig":{"AutoRemove":true,"ConsoleSize":[1,2],"PidsLimit":-1}}"#).unwrap();
        assert!(request.host_config.auto_remove);
        assert_eq!(request.host_config.ipc_mode, "");
        assert_eq!(request.host_config.console_size, [1, 2]);
        assert_eq!(request.host_config.pids_limit, None);
    }

    #[test]
    fn the_default_network_is_the_bridge() {
        let (request, _) =
            converted(50, r#"{"NetworkingConfig":{"EndpointsConfig":{"default":{"MacAddress":"x"}}}}"#).unwrap();
        assert_eq!(request.host_config.network_mode, "bridge");
        assert_eq!(request.networking_config.endpoints_config.unwrap()["bridge"].mac_address, "x");
    }

    #[test]
    fn mac_addresses_move_to_the_endpoint() {
        let (request, warnings) = converted(43, r#"{"MacAddress":"02:42:00:00:00:09"}"#).unwrap();
        assert_eq!(request.networking_config.endpoints_config.unwrap()["bridge"].mac_address, "02:42:00:00:00:09");
        assert!(warnings.is_empty());
        let (request, warnings) = converted(44, r#"{"MacAddress":"02:42:00:00:00:09"}"#).unwrap();
        assert!(request.config.mac_address.is_empty() && warnings.len() == 1);
        let error =
            converted(44, r#"{"MacAddress":"a","NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"b"}}}}"#);
        assert!(error.unwrap_err().starts_with("the container-wide MAC address must match"));
    }

    #[test]
    fn new_fields_are_refused_or_ignored_by_old_versions() {
        let bind = r#"{"HostConfig":{"Mounts":[{"Type":"bind","ReadOnly":true,"BindOptions":{"NonRecursive":true}}]}}"#;
        let (request, _) = converted(39, bind).unwrap();
        let options = request.host_config.mounts[0].bind_options.clone().unwrap();
        assert!(!options.non_recursive && options.read_only_non_recursive);
        let volume = r#"{"HostConfig":{"Mounts":[{"Type":"volume","VolumeOptions":{"Subpath":"a"}}]}}"#;
        assert_eq!(converted(44, volume).unwrap_err(), "VolumeOptions.Subpath needs API v1.45 or newer");
        let mixed = r#"{"HostConfig":{"Mounts":[{"Type":"bind","TmpfsOptions":{}}]}}"#;
        assert_eq!(converted(45, mixed).unwrap_err(), "TmpfsOptions must not be specified on mount type \"bind\"");
        assert!(converted(41, mixed).is_ok());
    }

    #[test]
    fn interface_sysctls_move_or_are_refused() {
        let json = r#"{"HostConfig":{"Sysctls":{"net.ipv4.conf.eth0.forwarding":"1","net.core.somaxconn":"5"}}}"#;
        let (request, warnings) = converted(46, json).unwrap();
        assert_eq!(request.host_config.sysctls.len(), 1);
        assert_eq!(
            request.networking_config.endpoints_config.unwrap()["bridge"].driver_opts.clone().unwrap()
                [ENDPOINT_SYSCTLS],
            "net.ipv4.conf.IFNAME.forwarding=1"
        );
        assert!(warnings[0].starts_with("Migrated sysctl \"net.ipv4.conf.eth0.forwarding\""));
        assert!(converted(47, json).unwrap_err().contains("must be supplied using driver option"));
    }
}
