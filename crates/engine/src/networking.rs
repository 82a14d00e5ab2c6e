//! Between containers and crate `network`: what a request asks for, what a running container got, and `network list/inspect`.
//!
//! There are three networks: `bridge`, `host`, `none`. User-defined ones are refused by name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::Filters;
use api::container::{Config, HostConfig, PortBinding as ApiBinding, PortMap};
use api::network::{
    ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, EndpointSettings, Ipam, IpamConfig, Network,
    NetworkContainer, PruneResponse,
};
use network::{Attachment, Endpoint, HostPorts, NetworkInfo, NetworkKind, PortBinding, Protocol};

use crate::container::record::Record;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Which of the three networks a mode names; `None` for `container:…` and unknown names.
pub(crate) fn kind(mode: &str) -> Option<NetworkKind> {
    match mode {
        "" | "default" | "bridge" => Some(NetworkKind::Bridge),
        "host" => Some(NetworkKind::Host),
        "none" => Some(NetworkKind::None),
        _ => None,
    }
}

/// Name under which the default network stands in `NetworkSettings.Networks`.
fn name_of(mode: &str) -> &str {
    if matches!(mode, "" | "default") { "bridge" } else { mode }
}

/// Checks the endpoint settings of a create request, and moves the old place of the MAC address into the new one.
pub(crate) fn check_requested(
    config: &mut Config,
    host: &HostConfig,
    endpoints: &mut BTreeMap<String, EndpointSettings>,
) -> Result<()> {
    let mode = name_of(&host.network_mode).to_owned();
    if let Some(settings) = endpoints.remove("default") {
        endpoints.entry("bridge".to_owned()).or_insert(settings);
    }
    if !config.mac_address.is_empty() && !mode.starts_with("container:") {
        let settings = endpoints.entry(mode.clone()).or_default();
        if settings.mac_address.is_empty() {
            settings.mac_address.clone_from(&config.mac_address);
        }
    }
    // The old place goes on showing the address of the main network.
    if let Some(settings) = endpoints.get(&mode) {
        config.mac_address.clone_from(&settings.mac_address);
    }
    for (name, settings) in endpoints.iter() {
        let invalid = |why: String| Error::invalid(format!("invalid config for network {name}: {why}"));
        if !settings.mac_address.is_empty() && settings.mac_address.parse::<network::MacAddr>().is_err() {
            return Err(invalid(format!("invalid MAC address {}", settings.mac_address)));
        }
        if let Some(ipam) = &settings.ipam_config {
            if !ipam.ipv4_address.is_empty() {
                if ipam.ipv4_address.parse::<std::net::Ipv4Addr>().is_err() {
                    return Err(invalid(format!(
                        "invalid endpoint settings:\ninvalid IPv4 address: {}",
                        ipam.ipv4_address
                    )));
                }
                return Err(invalid(
                    "invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"
                        .to_owned(),
                ));
            }
            if !ipam.ipv6_address.is_empty() {
                return Err(invalid(
                    "invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"
                        .to_owned(),
                ));
            }
        }
        if settings.aliases.as_ref().is_some_and(|a| !a.is_empty()) && kind(name).is_some() {
            return Err(invalid("invalid endpoint settings:\nnetwork-scoped alias is supported only for containers in user defined networks".to_owned()));
        }
    }
    if host.links.as_ref().is_some_and(|links| !links.is_empty()) {
        return Err(Error::not_implemented("links between containers are not supported by this engine"));
    }
    Ok(())
}

/// What a container's record says of its network before the first start.
pub(crate) fn requested(
    host: &HostConfig,
    mut endpoints: BTreeMap<String, EndpointSettings>,
) -> BTreeMap<String, EndpointSettings> {
    let mode = name_of(&host.network_mode);
    if mode.starts_with("container:") {
        return BTreeMap::new();
    }
    let settings = endpoints.remove(mode).unwrap_or_default();
    BTreeMap::from([(mode.to_owned(), settings)])
}

/// What `attach` is asked to publish.
pub(crate) fn port_bindings(record: &Record) -> Result<Vec<PortBinding>> {
    let host = &record.host_config;
    let mut all = Vec::new();
    let parse = |port: &str| -> Result<(u16, Protocol)> {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let number = number.parse().map_err(|_| Error::invalid(format!("invalid port specification: {number:?}")))?;
        Ok((number, protocol.parse().map_err(|e: network::Error| Error::not_implemented(e.to_string()))?))
    };
    for (port, bindings) in host.port_bindings.iter().flatten() {
        let (container_port, protocol) = parse(port)?;
        // A binding of a port that is not exposed publishes nothing; clients expose what they bind.
        let exposed = |name: &String| parse(name).is_ok_and(|known| known == (container_port, protocol));
        if !record.config.exposed_ports.keys().any(exposed) {
            continue;
        }
        for binding in bindings.iter().flatten() {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => {
                    Some(text.parse::<IpAddr>().map_err(|_| Error::invalid(format!("invalid IP address: {text}")))?)
                }
            };
            let host_ports: HostPorts =
                binding.host_port.parse().map_err(|e: network::Error| Error::invalid(e.to_string()))?;
            all.push(PortBinding { container_port, protocol, host_ip, host_ports });
        }
    }
    if host.publish_all_ports {
        for port in record.config.exposed_ports.keys() {
            let (container_port, protocol) = parse(port)?;
            if !all.iter().any(|b| b.container_port == container_port && b.protocol == protocol) {
                all.push(PortBinding { container_port, protocol, host_ip: None, host_ports: HostPorts::Ephemeral });
            }
        }
    }
    Ok(all)
}

/// `NetworkSettings.Ports` of a running container: exposed ports are `null`, published ones have their bindings.
fn ports(record: &Record, endpoint: &Endpoint) -> PortMap {
    let mut map: PortMap = record.config.exposed_ports.keys().map(|port| (port.clone(), None)).collect();
    for port in &endpoint.ports {
        let binding = ApiBinding { host_ip: port.host_ip.to_string(), host_port: port.host_port.to_string() };
        map.entry(format!("{}/{}", port.container_port, port.protocol))
            .or_default()
            .get_or_insert_default()
            .push(binding);
    }
    map
}

/// Enters an endpoint into the record.
pub(crate) fn enter(record: &mut Record, endpoint: &Endpoint) {
    let text = |ip: Option<std::net::Ipv4Addr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let settings = record.network.endpoints.entry(endpoint.network.name().to_owned()).or_default();
    settings.network_id.clone_from(&endpoint.network_id);
    settings.endpoint_id.clone_from(&endpoint.id.0);
    settings.gateway = text(endpoint.gateway);
    settings.ip_address = text(endpoint.ip);
    settings.ip_prefix_len = i64::from(endpoint.prefix_len);
    settings.mac_address = endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default();
    record.network.endpoint_id.clone_from(&endpoint.id.0);
    record.network.ports =
        if endpoint.network == NetworkKind::Bridge { ports(record, endpoint) } else { PortMap::new() };
}

/// Takes the endpoint out again; what was asked for stays.
pub(crate) fn leave(record: &mut Record) {
    let asked_mac = record.config.mac_address.clone();
    for settings in record.network.endpoints.values_mut() {
        *settings = EndpointSettings {
            ipam_config: settings.ipam_config.take(),
            links: settings.links.take(),
            aliases: settings.aliases.take(),
            driver_opts: settings.driver_opts.take(),
            mac_address: asked_mac.clone(),
            // dockerd keeps the network's id of a stopped container.
            network_id: std::mem::take(&mut settings.network_id),
            ..EndpointSettings::default()
        };
    }
    record.network.ports = PortMap::new();
    record.network.endpoint_id.clear();
}

/// An error of the network as the start of a container reports it.
pub(crate) fn error(name: &str, error: &network::Error) -> Error {
    use network::Error as E;
    let text = error.to_string();
    match error {
        E::PortAllocated { .. } | E::PortsExhausted | E::PortBind { .. } => {
            Error::system(format!("driver failed programming external connectivity on endpoint {name}: {text}"))
        }
        E::AddressInUse { .. } => Error::forbidden(text),
        E::AddressOutOfRange { .. } | E::InvalidHostPort { .. } | E::Protocol { .. } | E::InvalidFileEntry { .. } => {
            Error::invalid(text)
        }
        _ => Error::caused(Kind::System, "failed to set up container networking", text),
    }
}

/// What a start leaves for the actor to hold.
#[derive(Debug)]
pub(crate) enum Joined {
    /// On the bridge, with the sockets that hold its ports.
    Bridge(Attachment),
    /// In `host` or `none`.
    Plain(Endpoint),
    /// In another container's namespace.
    Shared,
}

impl Joined {
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Bridge(attachment) => Some(&attachment.endpoint),
            Self::Plain(endpoint) => Some(endpoint),
            Self::Shared => None,
        }
    }
}

impl Engine {
    pub(crate) fn network_event(&self, action: &str, mode: &str, network_id: &str, container: &str) {
        let Some(kind) = kind(mode) else { return };
        let attributes = [("container", container), ("name", kind.name()), ("type", kind.driver())];
        let attributes = attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        self.events.emit("network", action, network_id, attributes);
    }

    fn show_network(&self, info: &NetworkInfo, with_containers: bool) -> Network {
        let mut containers = BTreeMap::new();
        for endpoint in info.endpoints.iter().filter(|_| with_containers) {
            let Ok(container) = self.containers.get(&endpoint.container_id) else { continue };
            let address = endpoint.ip.map(|ip| format!("{ip}/{}", endpoint.prefix_len)).unwrap_or_default();
            let shown = NetworkContainer {
                name: container.record().name.clone(),
                endpoint_id: endpoint.id.0.clone(),
                mac_address: endpoint.mac.map(|m| m.to_string()).unwrap_or_default(),
                ipv4_address: address,
                ipv6_address: String::new(),
            };
            containers.insert(endpoint.container_id.clone(), shown);
        }
        let config = info.ipam.as_ref().map(|ipam| {
            vec![IpamConfig {
                subnet: ipam.subnet.to_string(),
                ip_range: ipam.ip_range.map(|r| r.to_string()).unwrap_or_default(),
                gateway: ipam.gateway.to_string(),
                ..IpamConfig::default()
            }]
        });
        let created = jiff::Timestamp::try_from(info.created).unwrap_or_default();
        Network {
            name: info.name.to_owned(),
            id: info.id.clone(),
            created: api::time::rfc3339(created),
            scope: "local".to_owned(),
            driver: info.driver.to_owned(),
            enable_ipv4: true,
            ipam: Ipam { driver: "default".to_owned(), options: None, config },
            containers,
            options: Some(info.options.clone()),
            labels: Some(BTreeMap::new()),
            ..Network::default()
        }
    }

    /// The networks that pass the filters.
    pub async fn network_list(&self, filters: &Filters) -> Result<Vec<Network>> {
        let known = ["dangling", "driver", "id", "label", "name", "scope", "type"];
        filters.validate(&known).map_err(|e| Error::invalid(e.message))?;
        let dangling = filters.flag("dangling").map_err(|e| Error::invalid(e.message))?;
        if let Some(bad) = filters.get("type").find(|t| !matches!(*t, "builtin" | "custom")) {
            // A mistake of the caller, but dockerd answers 500.
            return Err(Error::system(format!("invalid filter: 'type'='{bad}'")));
        }
        let network = self.network.clone();
        let all = self.blocking(move || Ok(network.list())).await?;
        let wanted = |info: &&NetworkInfo| {
            filters.exact("driver", info.driver)
                && filters.name("name", info.name)
                && filters.prefix("id", &info.id)
                && filters.exact("scope", "local")
                && filters.exact("type", "builtin")
                && filters.labels("label", &BTreeMap::new())
                // The three are always wanted.
                && dangling != Some(true)
        };
        Ok(all.iter().filter(wanted).map(|info| self.show_network(info, false)).collect())
    }

    /// One network by name, id, or unique beginning of an id.
    pub async fn network_inspect(&self, name: &str) -> Result<Network> {
        let (network, owned) = (self.network.clone(), name.to_owned());
        let info = self.blocking(move || Ok(network.inspect(&owned))).await?;
        info.map(|info| self.show_network(&info, true)).ok_or_else(|| no_such(name))
    }

    /// Refused: there are no user-defined networks yet.
    pub async fn network_create(&self, request: &CreateRequest) -> Result<CreateResponse> {
        if kind(&request.name).is_some() && !request.name.is_empty() {
            return Err(Error::forbidden(format!(
                "operation is not permitted on predefined {} network ",
                request.name
            )));
        }
        if request.name.is_empty() {
            return Err(Error::invalid("invalid name: "));
        }
        Err(Error::not_implemented(format!(
            "network {}: user-defined networks are not supported by this engine; bridge, host and none are",
            request.name
        )))
    }

    /// Refused for the three that always exist.
    pub async fn network_remove(&self, name: &str) -> Result<()> {
        let network = self.network_inspect(name).await?;
        Err(Error::forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)))
    }

    /// Refused: a container stays in the network that it was created in.
    pub async fn network_connect(&self, name: &str, request: &ConnectRequest) -> Result<()> {
        self.containers.get(&request.container)?;
        let network = self.network_inspect(name).await?;
        refuse_move(&network.name)
    }

    /// Refused: a container stays in the network that it was created in.
    pub async fn network_disconnect(&self, name: &str, request: &DisconnectRequest) -> Result<()> {
        self.containers.get(&request.container)?;
        let network = self.network_inspect(name).await?;
        refuse_move(&network.name)
    }

    /// Nothing to remove: the three networks stay.
    pub async fn network_prune(&self, filters: &Filters) -> Result<PruneResponse> {
        filters.validate(&["label", "label!", "until"]).map_err(|e| Error::invalid(e.message))?;
        self.events.emit("network", "prune", "", BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]));
        Ok(PruneResponse::default())
    }
}

fn refuse_move(network: &str) -> Result<()> {
    match network {
        "host" => {
            Err(Error::invalid("container cannot be disconnected from host network or connected to host network"))
        }
        _ => Err(Error::not_implemented(format!(
            "network {network}: connecting and disconnecting containers is not supported by this engine"
        ))),
    }
}

/// Docker's sentence for a network that is not there.
pub(crate) fn no_such(name: &str) -> Error {
    Error::not_found(format!("network {name} not found"))
}
