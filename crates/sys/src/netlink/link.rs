//! Network interfaces: bridges and veth cables.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::{Message, NLM_F_CREATE, NLM_F_EXCL, Reply};
use super::socket::Socket;
use super::{Error, MacAddr};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_EXT_MASK: u16 = 29;
/// In `IFLA_EXT_MASK`: leave the counters out of the answer.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
const IFLA_BRPORT_MODE: u16 = 4;
const VETH_INFO_PEER: u16 = 1;

/// The interface is administratively up.
pub const IFF_UP: u32 = 1;
/// The multicast group of all changes to interfaces, as a bit for `Socket::subscribe`.
pub const NOTIFICATIONS: u32 = 1;
const IFINFOMSG_LEN: usize = 16;
/// Longest name, without the final zero.
pub const NAME_MAX: usize = 15;

/// What is known about an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// `eth0`
    pub name: String,
    /// `bridge`, `veth`, …; `None` for hardware and `lo`.
    pub kind: Option<String>,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// Ethernet address.
    pub mac: Option<MacAddr>,
    /// Bytes.
    pub mtu: u32,
    /// `IFF_*`
    pub flags: u32,
}

/// A veth cable between this namespace and another one, made by one request.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// Name of this end.
    pub name: &'a str,
    /// The bridge that this end is plugged into.
    pub master: Option<u32>,
    /// Of both ends, bytes.
    pub mtu: u32,
    /// The namespace of the other end.
    pub peer_namespace: BorrowedFd<'a>,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// Hardware address of the other end.
    pub peer_mac: MacAddr,
}

/// `struct ifinfomsg`: family, type, index, flags, and which flags change.
fn ifinfomsg(index: u32, flags: u32, change: u32) -> [u8; IFINFOMSG_LEN] {
    let mut bytes = [0; IFINFOMSG_LEN];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// Makes a bridge that is up. It keeps `mac` when ports come and go (else it takes the lowest of its ports').
pub fn new_bridge(name: &str, mac: MacAddr, mtu: u32) -> Message {
    let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifinfomsg(0, IFF_UP, IFF_UP));
    message.text(IFLA_IFNAME, name).bytes(IFLA_ADDRESS, &mac.0).u32(IFLA_MTU, mtu).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "bridge");
    });
    message
}

/// Makes a cable: this end up and in the bridge, the other one already in its namespace (moving it there later would
/// cost two waits for all processors).
pub fn new_veth(veth: &Veth<'_>) -> Message {
    let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifinfomsg(0, IFF_UP, IFF_UP));
    let queues = |message: &mut Message| {
        // The default is a queue per processor, each with objects in sysfs.
        message.u32(IFLA_MTU, veth.mtu).u32(IFLA_NUM_TX_QUEUES, 1).u32(IFLA_NUM_RX_QUEUES, 1);
    };
    message.text(IFLA_IFNAME, veth.name);
    if let Some(master) = veth.master {
        message.u32(IFLA_MASTER, master);
    }
    queues(&mut message);
    message.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                peer.raw(&ifinfomsg(0, 0, 0)).text(IFLA_IFNAME, veth.peer_name);
                peer.bytes(IFLA_ADDRESS, &veth.peer_mac.0);
                peer.u32(IFLA_NET_NS_FD, veth.peer_namespace.as_raw_fd().cast_unsigned());
                queues(peer);
            });
        });
    });
    message
}

/// Lets a port of a bridge send a frame back to where it came from. Needed when the firewall sees bridged packets and
/// turns one around: a container that uses its own published port.
pub fn set_hairpin(name: &str) -> Message {
    let mut message = Message::new(RTM_NEWLINK, 0, &ifinfomsg(0, 0, 0));
    message.text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_SLAVE_KIND, "bridge");
        info.nest(IFLA_INFO_SLAVE_DATA, |data| _ = data.bytes(IFLA_BRPORT_MODE, &[1]));
    });
    message
}

/// Shows what a bridge passes between its ports to the firewall.
pub fn set_bridge_firewall(index: u32) -> Message {
    let mut message = Message::new(RTM_NEWLINK, 0, &ifinfomsg(index, 0, 0));
    message.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "bridge");
        info.nest(IFLA_INFO_DATA, |data| _ = data.bytes(IFLA_BR_NF_CALL_IPTABLES, &[1]));
    });
    message
}

/// Makes the kernel act now on a change of the interface's carrier. It does so when it is asked about the interface
/// (Linux 6.8); otherwise a worker does a little later, and until then a bridge drops what comes in by a new port: the
/// container's first packet would be sent again after a second.
pub fn settle(name: &str) -> Message {
    let mut message = Message::new(RTM_GETLINK, 0, &ifinfomsg(0, 0, 0));
    message.text(IFLA_IFNAME, name).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    message
}

/// Sets an interface up.
pub fn set_up(index: u32) -> Message {
    Message::new(RTM_NEWLINK, 0, &ifinfomsg(index, IFF_UP, IFF_UP))
}

/// Plugs an interface into a bridge.
pub fn set_master(index: u32, master: u32) -> Message {
    let mut message = Message::new(RTM_NEWLINK, 0, &ifinfomsg(index, 0, 0));
    message.u32(IFLA_MASTER, master);
    message
}

/// Sets the largest packet, bytes.
pub fn set_mtu(index: u32, mtu: u32) -> Message {
    let mut message = Message::new(RTM_NEWLINK, 0, &ifinfomsg(index, 0, 0));
    message.u32(IFLA_MTU, mtu);
    message
}

/// Moves an interface into another network namespace, where it is called `name`; one `%d` in it stands for the first free
/// number. It is down there, and without addresses.
pub fn move_to(index: u32, namespace: BorrowedFd<'_>, name: &str) -> Message {
    let mut message = Message::new(RTM_NEWLINK, 0, &ifinfomsg(index, 0, 0));
    message.text(IFLA_IFNAME, name).u32(IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
    message
}

/// Removes an interface; with one end of a cable the other goes too.
pub fn delete(index: u32) -> Message {
    Message::new(RTM_DELLINK, 0, &ifinfomsg(index, 0, 0))
}

/// The interface of this name, if there is one.
pub fn by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let mut request = Message::new(RTM_GETLINK, 0, &ifinfomsg(0, 0, 0));
    request.text(IFLA_IFNAME, name);
    Ok(socket.get(&request, |reply| read(&reply))?.flatten())
}

/// All interfaces of the namespace.
pub fn list(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let mut links = Vec::new();
    socket.dump(&Message::new(RTM_GETLINK, 0, &ifinfomsg(0, 0, 0)), |reply| links.extend(read(&reply)))?;
    Ok(links)
}

/// Reads a notification: the interface that came, changed or went.
pub fn read_change(reply: &Reply<'_>) -> Option<Link> {
    read(reply)
}

fn read(reply: &Reply<'_>) -> Option<Link> {
    if !matches!(reply.kind, RTM_NEWLINK | RTM_DELLINK) {
        return None;
    }
    let word = |at: usize| Some(u32::from_ne_bytes(reply.payload.get(at..at + 4)?.try_into().ok()?));
    let attributes = reply.attributes(IFINFOMSG_LEN);
    let kind = attributes.find_nested(IFLA_LINKINFO).and_then(|info| info.find_text(IFLA_INFO_KIND));
    Some(Link {
        index: word(4)?,
        name: attributes.find_text(IFLA_IFNAME)?.to_owned(),
        kind: kind.map(str::to_owned),
        master: attributes.find_u32(IFLA_MASTER),
        mac: attributes.find_value(IFLA_ADDRESS).and_then(|bytes| Some(MacAddr(bytes.try_into().ok()?))),
        mtu: attributes.find_u32(IFLA_MTU).unwrap_or_default(),
        flags: word(8)?,
    })
}

impl MacAddr {
    /// Docker's scheme: `02:42` and the four octets of the address, so that a reused address never meets a stale
    /// entry in a neighbour's table.
    pub fn for_address(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}
