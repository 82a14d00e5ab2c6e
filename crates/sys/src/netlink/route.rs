//! Routes of the main table.

use std::net::Ipv4Addr;

use super::Error;
use super::message::{Message, NLM_F_CREATE, NLM_F_EXCL};
use super::socket::Socket;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTMSG_LEN: usize = 12;
const AF_INET: u8 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;

/// One IPv4 unicast route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network that it leads to; `0.0.0.0` with a prefix of 0 is the default route.
    pub destination: Ipv4Addr,
    /// Length of that network's prefix.
    pub prefix_len: u8,
    /// The next hop, unless the network is on the link itself.
    pub gateway: Option<Ipv4Addr>,
    /// Number of the interface.
    pub link: Option<u32>,
}

fn rtmsg(prefix_len: u8, scope: u8) -> [u8; RTMSG_LEN] {
    [AF_INET, prefix_len, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0, 0, 0, 0]
}

/// Adds the route.
pub fn add(route: &Route) -> Message {
    let scope = if route.gateway.is_some() { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
    let mut message = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &rtmsg(route.prefix_len, scope));
    if route.prefix_len > 0 {
        message.bytes(RTA_DST, &route.destination.octets());
    }
    if let Some(gateway) = route.gateway {
        message.bytes(RTA_GATEWAY, &gateway.octets());
    }
    if let Some(link) = route.link {
        message.u32(RTA_OIF, link);
    }
    message
}

/// The unicast routes of the main table.
pub fn list(socket: &mut Socket) -> Result<Vec<Route>, Error> {
    let mut routes = Vec::new();
    let mut fixed = [0; RTMSG_LEN];
    fixed[0] = AF_INET;
    socket.dump(&Message::new(RTM_GETROUTE, 0, &fixed), |reply| {
        let fixed = reply.payload.get(..RTMSG_LEN).unwrap_or_default();
        if reply.kind != RTM_NEWROUTE || fixed.len() < RTMSG_LEN || fixed[4] != RT_TABLE_MAIN || fixed[7] != RTN_UNICAST
        {
            return;
        }
        let attributes = reply.attributes(RTMSG_LEN);
        let address = |kind| {
            let octets: [u8; 4] = attributes.find_value(kind)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets))
        };
        routes.push(Route {
            destination: address(RTA_DST).unwrap_or(Ipv4Addr::UNSPECIFIED),
            prefix_len: fixed[1],
            gateway: address(RTA_GATEWAY),
            link: attributes.find_u32(RTA_OIF),
        });
    })?;
    Ok(routes)
}
