//! What rules are made of.

use super::{DATA_VALUE, Message};

const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
pub(super) const IMMEDIATE_DREG: u16 = 1;
pub(super) const IMMEDIATE_DATA: u16 = 2;
pub(super) const DATA_VERDICT: u16 = 2;
pub(super) const VERDICT_CODE: u16 = 1;
pub(super) const VERDICT_CHAIN: u16 = 2;
const REGISTER_VERDICT: u32 = 0;
/// `NFT_REG32_00`.
const REGISTER_BASE: u32 = 8;
const IFNAMSIZ: usize = 16;

/// Properties of a packet that `meta` loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// Name of the interface that it came in by.
    InputName = 6,
    /// Name of the interface that it leaves by.
    OutputName = 7,
    /// Number of the transport protocol, one byte.
    Protocol = 16,
}

/// How a register is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Goes on when equal.
    Equal = 0,
    /// Goes on when not.
    NotEqual = 1,
}

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// This chain lets it pass.
    Accept,
    /// It ends here.
    Drop,
    /// Back to the calling chain.
    Return,
    /// On with another chain, and back.
    Jump(&'a str),
}

/// One step of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expression<'a> {
    /// Counts packets and bytes.
    Counter,
    /// Loads a property into a register.
    Meta(MetaKey, u32),
    /// Loads `len` bytes at `offset` of the network header into a register.
    NetworkHeader {
        /// From its start.
        offset: u32,
        /// Bytes.
        len: u32,
        /// Where to.
        register: u32,
    },
    /// Loads the destination port of TCP or UDP into a register.
    DestinationPort(u32),
    /// Loads the state of the connection (a bit mask, host order) into a register.
    ConnectionState(u32),
    /// Loads the status of the connection (a bit mask, host order) into a register.
    ConnectionStatus(u32),
    /// Loads the type of the destination address (host order, 2: local) into a register.
    DestinationType(u32),
    /// Keeps the bits of a mask, given in the register's own byte order.
    Mask(u32, &'a [u8]),
    /// Compares with as many bytes as given.
    Compare(u32, Compare, &'a [u8]),
    /// Looks the concatenation from register `key` up in a map, and loads what is found from register `data` on.
    /// The rule ends when nothing is found.
    Lookup {
        /// Name of the map.
        map: &'a str,
        /// First register of the key.
        key: u32,
        /// First register of the result.
        data: u32,
    },
    /// Sends the connection elsewhere: to the address and the port in two registers.
    DestinationNat {
        /// Register of the address.
        address: u32,
        /// Register of the port.
        port: u32,
    },
    /// The connection gets the address of the interface that it leaves by.
    Masquerade,
    /// Ends or branches.
    Verdict(Verdict<'a>),
}

impl Expression<'_> {
    pub(super) fn write(&self, message: &mut Message) {
        let register = |number: u32| REGISTER_BASE + number;
        let mut expression = |name: &str, fill: &dyn Fn(&mut Message)| {
            message.text(EXPR_NAME, name).nest(EXPR_DATA, |data| fill(data));
        };
        match *self {
            Self::Counter => expression("counter", &|data| _ = data.bytes(1, &[0; 8]).bytes(2, &[0; 8])),
            Self::Meta(key, to) => expression("meta", &|data| _ = data.be32(1, register(to)).be32(2, key as u32)),
            Self::NetworkHeader { offset, len, register: to } => expression("payload", &|data| {
                data.be32(1, register(to)).be32(2, 1).be32(3, offset).be32(4, len);
            }),
            Self::DestinationPort(to) => expression("payload", &|data| {
                data.be32(1, register(to)).be32(2, 2).be32(3, 2).be32(4, 2);
            }),
            Self::ConnectionState(to) => expression("ct", &|data| _ = data.be32(1, register(to)).be32(2, 0)),
            Self::ConnectionStatus(to) => expression("ct", &|data| _ = data.be32(1, register(to)).be32(2, 2)),
            // Result 3 is the address type, flag 2 means of the destination.
            Self::DestinationType(to) => expression("fib", &|data| {
                data.be32(1, register(to)).be32(2, 3).be32(3, 2);
            }),
            Self::Mask(at, mask) => expression("bitwise", &|data| {
                data.be32(1, register(at)).be32(2, register(at)).be32(3, u32::try_from(mask.len()).unwrap_or(4));
                data.nest(4, |value| _ = value.bytes(DATA_VALUE, mask));
                data.nest(5, |value| _ = value.bytes(DATA_VALUE, &vec![0; mask.len()]));
            }),
            Self::Compare(at, how, with) => expression("cmp", &|data| {
                data.be32(1, register(at)).be32(2, how as u32);
                data.nest(3, |value| _ = value.bytes(DATA_VALUE, with));
            }),
            Self::Lookup { map, key, data: to } => expression("lookup", &|data| {
                data.text(1, map).be32(2, register(key)).be32(3, register(to));
            }),
            Self::DestinationNat { address, port } => expression("nat", &|data| {
                data.be32(1, 1).be32(2, 2).be32(3, register(address)).be32(5, register(port));
            }),
            Self::Masquerade => expression("masq", &|_| {}),
            Self::Verdict(verdict) => expression("immediate", &|data| {
                data.be32(IMMEDIATE_DREG, REGISTER_VERDICT).nest(IMMEDIATE_DATA, |value| {
                    value.nest(DATA_VERDICT, |code| verdict.write(code));
                });
            }),
        }
    }

    /// The bytes to compare an interface's name with, as `iptables` writes them.
    pub fn interface_name(name: &str) -> Vec<u8> {
        let mut bytes = name.as_bytes().to_vec();
        bytes.truncate(IFNAMSIZ - 1);
        bytes.push(0);
        bytes
    }
}

impl Verdict<'_> {
    fn write(self, message: &mut Message) {
        let code: i32 = match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Jump(_) => -3,
            Self::Return => -5,
        };
        message.be32(VERDICT_CODE, code.cast_unsigned());
        if let Self::Jump(chain) = self {
            message.text(VERDICT_CHAIN, chain);
        }
    }
}
