//! The nouns of this crate: what a caller asks for and what it gets back. Plain data, no kernel in sight.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::Error;
pub use sys::netlink::MacAddr;

/// How the networks of one engine are set up; the flags are dockerd's.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Tells this engine from others in the same network namespace: names its nftables table (`gantry-<instance>`).
    /// 1 to 15 characters of `[a-z0-9-]`; stable over restarts (a hash of the data root is a good choice).
    pub instance: String,
    /// Name of the bridge (`--bridge-name`). It belongs to this engine alone: one that another engine or anybody else
    /// has made is an error, but for [`NetworkConfig::DEFAULT_BRIDGE`], instead of which the next free number is taken.
    pub bridge: String,
    /// `<data-root>/network.json`: ids, bridge and subnet; they stay the same over reboots.
    pub state_path: PathBuf,
    /// `<exec-root>/endpoints.json`: who is attached. It changes with each container and is void after a reboot: best
    /// on a tmpfs. `None`: beside `state_path`.
    pub endpoints_path: Option<PathBuf>,
    /// `--bip`: address of the bridge with the length of its prefix. `None`: what the state file says, else a free /16.
    pub bip: Option<Ipv4Cidr>,
    /// `--fixed-cidr`: containers get addresses of this part of the subnet only.
    pub fixed_cidr: Option<Ipv4Cidr>,
    /// `--default-gateway`: instead of the bridge's address.
    pub default_gateway: Option<Ipv4Addr>,
    /// `--mtu`, bytes, of bridge and interfaces.
    pub mtu: u32,
    /// `--icc`: may containers talk to each other on ports that are not published?
    pub inter_container: bool,
    /// `--ip-masq`: hide containers behind the host's address on their way out.
    pub masquerade: bool,
    /// `--ip-forward`: turn on net.ipv4.ip_forward.
    pub ip_forward: bool,
    /// `--ip`: the host address of bindings that name none (`0.0.0.0` also binds `[::]`, as in dockerd).
    pub default_host_ip: IpAddr,
}

impl NetworkConfig {
    /// The name that stands for "`gantry0`, or whatever number is free".
    pub const DEFAULT_BRIDGE: &str = "gantry0";

    /// dockerd's defaults for an engine called `instance`.
    pub fn new(instance: impl Into<String>, bridge: impl Into<String>, state_path: impl Into<PathBuf>) -> Self {
        Self {
            instance: instance.into(),
            bridge: bridge.into(),
            state_path: state_path.into(),
            endpoints_path: None,
            bip: None,
            fixed_cidr: None,
            default_gateway: None,
            mtu: 1500,
            inter_container: true,
            masquerade: true,
            ip_forward: true,
            default_host_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }
}

/// An IPv4 address with the length of its network's prefix: `172.30.0.1/16`. The host bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Cidr {
    /// The address, host bits included.
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub prefix_len: u8,
}

impl Ipv4Cidr {
    /// The pair; a prefix over 32 counts as 32.
    pub fn new(address: Ipv4Addr, prefix_len: u8) -> Self {
        Self { address, prefix_len: prefix_len.min(32) }
    }

    /// The bits of the prefix, e.g. `0xffff0000` for a /16.
    pub fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix_len)).unwrap_or(0)
    }

    /// The same prefix with the host bits cleared: `172.30.0.0/16`.
    pub fn network(self) -> Self {
        Self { address: Ipv4Addr::from(u32::from(self.address) & self.mask()), ..self }
    }

    /// The last address of the network.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) | !self.mask())
    }

    /// Is `address` in this network?
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ u32::from(self.address)) & self.mask() == 0
    }

    /// Do the two networks share an address?
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl FromStr for Ipv4Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (address, prefix_len) = text.split_once('/')?;
            let prefix_len = prefix_len.parse().ok().filter(|len| *len <= 32)?;
            Some(Self { address: address.parse().ok()?, prefix_len })
        };
        parse().ok_or_else(|| Error::InvalidCidr { text: text.to_owned() })
    }
}

impl TryFrom<String> for Ipv4Cidr {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Ipv4Cidr> for String {
    fn from(cidr: Ipv4Cidr) -> Self {
        cidr.to_string()
    }
}

/// The three networks that always exist. `container:…` shares another container's sandbox and needs no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// The default: an own interface on the engine's bridge.
    Bridge,
    /// The host's own network namespace.
    Host,
    /// A namespace with nothing but `lo`.
    None,
}

impl NetworkKind {
    /// The name in `network ls`: `bridge`, `host`, `none`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "none",
        }
    }

    /// Docker's name of the driver: `bridge`, `host`, `null`.
    pub fn driver(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "null",
        }
    }
}

/// Transport protocols whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// tcp
    Tcp,
    /// udp
    Udp,
}

impl Protocol {
    /// `IPPROTO_*`.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    /// `tcp` or `udp`; `sctp` and others are refused by name.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(Error::Protocol { protocol: text.to_owned() }),
        }
    }
}

/// Which host port a container's port shall get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPorts {
    /// Any free one of net.ipv4.ip_local_port_range (`-p 80`, HostPort `""` or `"0"`).
    Ephemeral,
    /// The first free one of these; a single port is a range of one (HostPort `"8080"` or `"8000-8010"`).
    Range(RangeInclusive<u16>),
}

impl FromStr for HostPorts {
    type Err = Error;

    /// The API's `HostPort`: `""`, `"0"`, `"8080"`, `"8000-8010"`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidHostPort { text: text.to_owned() };
        if text.is_empty() || text == "0" {
            return Ok(Self::Ephemeral);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.parse::<u16>().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
        if first == 0 || first > last {
            return Err(invalid());
        }
        Ok(Self::Range(first..=last))
    }
}

/// One `HostConfig.PortBindings` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortBinding {
    /// The port in the container.
    pub container_port: u16,
    /// tcp or udp.
    pub protocol: Protocol,
    /// `HostIp`; `None` when empty: the engine's default (`0.0.0.0` and `[::]`).
    pub host_ip: Option<IpAddr>,
    /// `HostPort`.
    pub host_ports: HostPorts,
}

/// A published port with everything decided: one entry of `NetworkSettings.Ports`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The port in the container.
    pub container_port: u16,
    /// tcp or udp.
    pub protocol: Protocol,
    /// The address it is bound to on the host; a binding without `HostIp` gives two entries, `0.0.0.0` and `::`.
    pub host_ip: IpAddr,
    /// The chosen host port.
    pub host_port: u16,
}

/// Where the container's network namespace is.
#[derive(Debug)]
pub enum Sandbox {
    /// Of this process (`/proc/PID/ns/net`); the caller knows that the pid is not reused (it is our stopped init).
    Pid(u32),
    /// An open namespace file.
    Fd(OwnedFd),
}

/// What `Network::attach` is asked for.
#[derive(Debug)]
pub struct AttachRequest {
    /// The full id of the container.
    pub container_id: String,
    /// The namespace that gets `eth0`.
    pub sandbox: Sandbox,
    /// `--ip` of the container, else the lowest free address.
    pub ip: Option<Ipv4Addr>,
    /// `--mac-address`, else one derived from the address as Docker does.
    pub mac: Option<MacAddr>,
    /// `-p`/`-P`, in the order of the request.
    pub ports: Vec<PortBinding>,
}

/// 64 hexadecimal digits, as Docker's EndpointID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointId(pub String);

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One container's place in one network; persisted in network.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its own id.
    pub id: EndpointId,
    /// bridge, host or none.
    pub network: NetworkKind,
    /// Id of that network.
    pub network_id: String,
    /// The container it was made for.
    pub container_id: String,
    /// `None` in the networks host and none, and so are the next four.
    pub ip: Option<Ipv4Addr>,
    /// Length of the subnet's prefix, 0 without address.
    pub prefix_len: u8,
    /// The default route of the container.
    pub gateway: Option<Ipv4Addr>,
    /// Hardware address of the container's eth0.
    #[serde(with = "mac_text")]
    pub mac: Option<MacAddr>,
    /// The host's end of the cable, e.g. `veth1a2b3c4`; empty without one.
    pub host_interface: String,
    /// In the order of the request; `0.0.0.0` before `::`.
    pub ports: Vec<PublishedPort>,
}

/// A bound host port: it keeps other programs off the port, and carries the connections that the kernel does not
/// translate (to `[::]`, or after somebody flushed the firewall). The engine's proxy owns it; dropping it frees the port.
#[derive(Debug)]
pub struct ReservedPort {
    /// What it was reserved for.
    pub port: PublishedPort,
    /// The container's side: where to forward to.
    pub target: SocketAddr,
    /// The socket, close-on-exec and non-blocking.
    pub socket: ReservedSocket,
}

/// The two kinds of sockets that hold a port.
#[derive(Debug)]
pub enum ReservedSocket {
    /// Listening.
    Tcp(TcpListener),
    /// Bound.
    Udp(UdpSocket),
}

/// The outcome of an attach: the endpoint, and the sockets that the caller must keep until it detaches.
#[derive(Debug)]
pub struct Attachment {
    /// The record.
    pub endpoint: Endpoint,
    /// One for each of `endpoint.ports`, in that order.
    pub reserved: Vec<ReservedPort>,
}

/// What `Network::reconcile` did.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Endpoints that go on, with their host ports reserved anew (an engine that died lost the sockets).
    pub adopted: Vec<Attachment>,
    /// Endpoints whose container is gone; everything of theirs was released.
    pub released: Vec<Endpoint>,
    /// What did not work, for the log; the rest was done all the same.
    pub problems: Vec<Error>,
}

/// `network inspect`, but for names of containers, which only the engine knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInfo {
    /// 64 hexadecimal digits, the same after a restart.
    pub id: String,
    /// Which of the three.
    pub kind: NetworkKind,
    /// `bridge`, `host`, `none`.
    pub name: &'static str,
    /// `bridge`, `host`, `null`.
    pub driver: &'static str,
    /// When the state file was first made.
    pub created: SystemTime,
    /// `IPAM.Config`: subnet and gateway; `None` (JSON null) in host and none.
    pub ipam: Option<IpamConfig>,
    /// `Options`, e.g. `com.docker.network.bridge.name`.
    pub options: BTreeMap<String, String>,
    /// Who is in it, ordered by container id.
    pub endpoints: Vec<Endpoint>,
}

/// The single entry of `IPAM.Config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpamConfig {
    /// `172.30.0.0/16`
    pub subnet: Ipv4Cidr,
    /// `--fixed-cidr`.
    pub ip_range: Option<Ipv4Cidr>,
    /// `172.30.0.1`
    pub gateway: Ipv4Addr,
}

/// A hardware address as text in the state file.
mod mac_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::MacAddr;

    pub(super) fn serialize<S: Serializer>(mac: &Option<MacAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        mac.map(|mac| mac.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MacAddr>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}
