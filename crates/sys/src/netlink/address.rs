//! Addresses of interfaces.

use std::net::Ipv4Addr;

use super::Error;
use super::message::{Message, NLM_F_CREATE, NLM_F_EXCL};
use super::socket::Socket;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// Not from a router or with an end.
const IFA_F_PERMANENT: u32 = 0x80;
/// Valid everywhere.
const SCOPE_UNIVERSE: u8 = 0;
const IFADDRMSG_LEN: usize = 8;
const AF_INET: u8 = 2;

/// One IPv4 address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Number of the interface.
    pub link: u32,
    /// The address itself.
    pub address: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix_len: u8,
}

fn message(kind: u16, flags: u16, address: &Address) -> Message {
    let mut fixed = [0; IFADDRMSG_LEN];
    fixed[0] = AF_INET;
    fixed[1] = address.prefix_len;
    fixed[4..8].copy_from_slice(&address.link.to_ne_bytes());
    let mut message = Message::new(kind, flags, &fixed);
    message.bytes(IFA_LOCAL, &address.address.octets()).bytes(IFA_ADDRESS, &address.address.octets());
    message
}

/// Adds the address with its network's broadcast address; the kernel adds the route to the network.
pub fn add(address: &Address) -> Message {
    let mut message = message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address);
    let hosts = u32::MAX.checked_shr(u32::from(address.prefix_len)).unwrap_or(0);
    if hosts > 1 {
        message.bytes(IFA_BROADCAST, &(u32::from(address.address) | hosts).to_be_bytes());
    }
    message
}

/// Removes the address.
pub fn delete(address: &Address) -> Message {
    message(RTM_DELADDR, 0, address)
}

/// All IPv4 addresses of the namespace.
pub fn list(socket: &mut Socket) -> Result<Vec<Address>, Error> {
    let mut fixed = [0; IFADDRMSG_LEN];
    fixed[0] = AF_INET;
    let mut addresses = Vec::new();
    socket.dump(&Message::new(RTM_GETADDR, 0, &fixed), |reply| {
        let attributes = reply.attributes(IFADDRMSG_LEN);
        let found = || {
            let octets: [u8; 4] = attributes.find_value(IFA_LOCAL)?.try_into().ok()?;
            Some(Address {
                link: u32::from_ne_bytes(reply.payload.get(4..8)?.try_into().ok()?),
                address: octets.into(),
                prefix_len: *reply.payload.get(1)?,
            })
        };
        addresses.extend((reply.kind == RTM_NEWADDR).then(found).flatten());
    })?;
    Ok(addresses)
}

/// An address of any family that an interface keeps until it is removed, valid everywhere: what moves along when the
/// interface gets into another namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permanent {
    family: u8,
    prefix_len: u8,
    /// `IFA_*` with its bytes.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Those of an interface.
pub fn permanent(socket: &mut Socket, link: u32) -> Result<Vec<Permanent>, Error> {
    let mut found = Vec::new();
    socket.dump(&Message::new(RTM_GETADDR, 0, &[0; IFADDRMSG_LEN]), |reply| {
        let attributes = reply.attributes(IFADDRMSG_LEN);
        let Some(&[family, prefix_len, flags, scope, ref index @ ..]) = reply.payload.first_chunk::<IFADDRMSG_LEN>()
        else {
            return;
        };
        let flags = attributes.find_u32(IFA_FLAGS).unwrap_or_else(|| u32::from(flags));
        if u32::from_ne_bytes(*index) == link && scope == SCOPE_UNIVERSE && flags & IFA_F_PERMANENT != 0 {
            let kept = [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST];
            let attributes = kept.iter().filter_map(|kind| Some((*kind, attributes.find_value(*kind)?.to_vec())));
            found.push(Permanent { family, prefix_len, attributes: attributes.collect() });
        }
    })?;
    Ok(found)
}

/// Adds such an address to an interface.
pub fn restore(link: u32, address: &Permanent) -> Message {
    let mut fixed = [0; IFADDRMSG_LEN];
    fixed[0] = address.family;
    fixed[1] = address.prefix_len;
    fixed[4..8].copy_from_slice(&link.to_ne_bytes());
    let mut message = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &fixed);
    for (kind, bytes) in &address.attributes {
        message.bytes(*kind, bytes);
    }
    message
}
