//! The bridge in the host's namespace: made, or taken over from a former life, with address and switches.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use sys::netlink::address::{self, Address};
use sys::netlink::link::{self, Link};
use sys::netlink::{MacAddr, Socket, route};

use crate::foreign::is_docker_bridge;
use crate::{Error, Ipv4Cidr, NetworkConfig, Result, ipam, sysctl};

/// How often a subnet is chosen anew because another engine took the same one at the same moment.
const CHOICES: usize = 4;
/// How many bridges with the default name and a number there may be.
const ALTERNATIVES: u32 = 100;

/// The bridge as it stands now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bridge {
    /// Number of the interface.
    pub(crate) index: u32,
    /// Its address.
    pub(crate) address: Ipv4Cidr,
}

fn failed(operation: impl Into<String>) -> impl FnOnce(sys::netlink::Error) -> Error {
    let operation = operation.into();
    move |source| Error::Netlink { operation, source }
}

/// Finds or makes this engine's bridge; returns its name. Another engine's bridge is known by its hardware address,
/// which is made of the engine's name; it is never touched. With the default name taken, the next free one is used
/// (`gantry1`, …), or `former`, the one that the state file knows.
pub(crate) fn claim(socket: &mut Socket, config: &NetworkConfig, former: &str) -> Result<String> {
    let is_default = config.bridge == NetworkConfig::DEFAULT_BRIDGE;
    let mut candidates = vec![config.bridge.clone()];
    if is_default {
        let stem = NetworkConfig::DEFAULT_BRIDGE.trim_end_matches('0');
        candidates.extend((1..ALTERNATIVES).map(|number| format!("{stem}{number}")));
        if let Some(at) = candidates.iter().position(|name| name == former) {
            let former = candidates.remove(at);
            candidates.insert(0, former);
        }
    }
    for name in candidates {
        let mac = own_mac(config);
        let looking = || format!("looking for {name}");
        if link::by_name(socket, &name).map_err(failed(looking()))?.is_none() {
            let created = socket.request(&[link::new_bridge(&name, mac, config.mtu)]);
            match created {
                // Another engine was faster: see whose it is.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::EXIST.raw_os_error()) => {}
                other => other.map_err(failed(format!("creating bridge {name}")))?,
            }
            // Containers have no IPv6, and the bridge needs no announcements.
            sysctl::write(&["ipv6", "conf", &name, "disable_ipv6"], "1")?;
        }
        let link = link::by_name(socket, &name).map_err(failed(looking()))?;
        if link.is_some_and(|link| is_own(config, &link)) {
            return Ok(name);
        }
    }
    let reason = format!("the interface {} exists, but is not the bridge of this engine", config.bridge);
    Err(Error::Config { reason })
}

/// Is this a bridge that this engine has made?
pub(crate) fn is_own(config: &NetworkConfig, link: &Link) -> bool {
    link.kind.as_deref() == Some("bridge") && link.mac == Some(own_mac(config))
}

/// The mark of an engine's bridge: a locally administered address with a hash (FNV-1a) of the engine's name.
fn own_mac(config: &NetworkConfig) -> MacAddr {
    let hash =
        config.instance.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    MacAddr([0x02, 0x47, a, b, c, d])
}

/// Sets up the claimed bridge of `config`. `former` is the address that it had in the state file; it is kept unless
/// `--bip` says otherwise or another route has taken its subnet meanwhile.
pub(crate) fn ensure(socket: &mut Socket, config: &NetworkConfig, former: Option<Ipv4Cidr>) -> Result<Bridge> {
    let name = &config.bridge;
    let found = link::by_name(socket, name).map_err(failed(format!("looking for {name}")))?;
    let link = found.ok_or_else(|| Error::Config { reason: format!("the bridge {name} vanished") })?;
    let mut address = choose(socket, config, former, link.index)?;
    for _ in 0..CHOICES {
        adapt(socket, config, &link, address)?;
        if config.bip.is_some() || !shared(socket, link.index, address)? {
            break;
        }
        address = choose(socket, config, former, link.index)?;
    }
    if config.ip_forward {
        sysctl::ensure(&["ipv4", "ip_forward"], "1")?;
    }
    // Lets the host reach published ports through 127.0.0.1; the table's chain `raw` keeps containers from doing so.
    sysctl::ensure(&["ipv4", "conf", name, "route_localnet"], "1")?;
    Ok(Bridge { index: link.index, address })
}

/// Gives the bridge its address, removes others, and sets it up.
fn adapt(socket: &mut Socket, config: &NetworkConfig, link: &Link, address: Ipv4Cidr) -> Result<()> {
    let name = &config.bridge;
    let mut requests = Vec::new();
    let wanted = Address { link: link.index, address: address.address, prefix_len: address.prefix_len };
    let all = address::list(socket).map_err(failed("listing addresses"))?;
    let own: Vec<_> = all.into_iter().filter(|other| other.link == link.index).collect();
    requests.extend(own.iter().filter(|other| **other != wanted).map(address::delete));
    if !own.contains(&wanted) {
        requests.push(address::add(&wanted));
    }
    if link.mtu != config.mtu {
        requests.push(link::set_mtu(link.index, config.mtu));
    }
    if !config.inter_container {
        requests.push(link::set_bridge_firewall(link.index));
    }
    if link.flags & link::IFF_UP == 0 {
        requests.push(link::set_up(link.index));
    }
    socket.request(&requests).map_err(failed(format!("giving {name} the address {address}")))
}

fn choose(socket: &mut Socket, config: &NetworkConfig, former: Option<Ipv4Cidr>, own: u32) -> Result<Ipv4Cidr> {
    if let Some(bip) = config.bip {
        if !ipam::is_host(bip, bip.address) || bip.prefix_len > 30 {
            return Err(Error::Config { reason: format!("--bip {bip} is not the address of a host in a subnet") });
        }
        return Ok(bip);
    }
    let used = used_subnets(socket, own)?;
    match former {
        Some(former) if !used.iter().any(|other| former.overlaps(*other)) => Ok(former),
        _ => ipam::free_subnet(&used).ok_or(Error::NoFreeSubnet),
    }
}

/// What the host uses already: its addresses and routes but for those of `own` link, and its name servers.
fn used_subnets(socket: &mut Socket, own: u32) -> Result<Vec<Ipv4Cidr>> {
    let addresses = address::list(socket).map_err(failed("listing addresses"))?;
    let routes = route::list(socket).map_err(failed("listing routes"))?;
    let mut used: Vec<_> = addresses
        .iter()
        .filter(|other| other.link != own)
        .map(|other| Ipv4Cidr::new(other.address, other.prefix_len))
        .collect();
    let foreign = routes.iter().filter(|route| route.prefix_len > 0 && route.link != Some(own));
    used.extend(foreign.map(|route| Ipv4Cidr::new(route.destination, route.prefix_len)));
    let resolv_conf = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = resolv_conf.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok());
    used.extend(servers.filter_map(|server| match server {
        IpAddr::V4(server) => Some(Ipv4Cidr::new(server, 32)),
        IpAddr::V6(_) => None,
    }));
    Ok(used)
}

/// Did another engine choose the same subnet at the same moment? The lower interface number keeps it.
fn shared(socket: &mut Socket, own: u32, address: Ipv4Cidr) -> Result<bool> {
    let addresses = address::list(socket).map_err(failed("listing addresses"))?;
    let same = |other: &&Address| other.link < own && address.overlaps(Ipv4Cidr::new(other.address, other.prefix_len));
    Ok(addresses.iter().find(same).is_some())
}

/// Names of Docker's bridges on this host.
pub(crate) fn docker_bridges(socket: &mut Socket) -> Result<BTreeSet<String>> {
    let links = link::list(socket).map_err(failed("listing interfaces"))?;
    Ok(links.into_iter().map(|link| link.name).filter(|name| is_docker_bridge(name)).collect())
}

/// Is the veth named like ours and in our bridge?
pub(crate) fn is_cable(link: &Link, bridge: u32) -> bool {
    let digits = link.name.strip_prefix("veth").unwrap_or_default();
    link.master == Some(bridge)
        && link.kind.as_deref() == Some("veth")
        && digits.len() == 7
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The gateway that containers get.
pub(crate) fn gateway(config: &NetworkConfig, bridge: Bridge) -> Ipv4Addr {
    config.default_gateway.unwrap_or(bridge.address.address)
}
