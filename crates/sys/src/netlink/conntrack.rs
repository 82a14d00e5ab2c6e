//! The kernel's memory of connections.

use std::net::Ipv4Addr;

use super::message::Message;

const DELETE: u16 = (1 << 8) | 2;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// The filter looks at the source address.
const FILTER_IP_SRC: u32 = 1;
const AF_INET: u8 = 2;
/// In a deletion without a tuple: heed the family.
const VERSION_WITH_FAMILY: u8 = 1;

/// Forgets all connections that this address answers: those translated to it too, so that a client that goes on
/// sending gets a new decision. Walks through the whole table. Kernels before 6.8 refuse with ENOENT.
pub fn forget(address: Ipv4Addr) -> Message {
    let mut message = Message::new(DELETE, 0, &[AF_INET, VERSION_WITH_FAMILY, 0, 0]);
    message.nest(CTA_TUPLE_REPLY, |tuple| {
        tuple.nest(CTA_TUPLE_IP, |ip| _ = ip.bytes(CTA_IP_V4_SRC, &address.octets()));
    });
    message.nest(CTA_FILTER, |filter| _ = filter.u32(CTA_FILTER_REPLY_FLAGS, FILTER_IP_SRC));
    message
}
