//! Talking to the kernel's network stack: links, addresses, routes and firewall rules, over netlink sockets.
//!
//! Every request is a list of messages sent in one datagram, which the kernel works off in order; one system call
//! may so set up a whole interface.

pub mod address;
pub mod conntrack;
pub mod link;
mod message;
mod namespace;
pub mod nftables;
pub mod route;
mod socket;

use std::fmt;
use std::io;
use std::str::FromStr;

pub use message::{Attributes, Message, Reply};
pub use namespace::new_namespace;
pub use socket::{Family, Socket};

/// Why the kernel refused, or why its answer could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// The kernel answered with an error code, and perhaps with a sentence.
    #[error("{}", refusal(source, message))]
    Refused {
        /// The code.
        source: io::Error,
        /// The kernel's own explanation, when it gave one.
        message: Option<String>,
    },
    /// An answer that is no netlink.
    #[error("malformed netlink answer: {0}")]
    Malformed(&'static str),
}

impl Error {
    /// The error code of the kernel, if it was the kernel that refused.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Socket(source) | Self::Refused { source, .. } => source.raw_os_error(),
            Self::Malformed(_) => None,
        }
    }
}

fn refusal(source: &io::Error, message: &Option<String>) -> String {
    match message {
        Some(message) => format!("{source}: {message}"),
        None => source.to_string(),
    }
}

/// An Ethernet hardware address, `02:42:ac:1e:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Not six hexadecimal octets.
#[derive(Debug, thiserror::Error)]
#[error("invalid MAC address: {0}")]
pub struct InvalidMac(pub String);

impl FromStr for MacAddr {
    type Err = InvalidMac;

    /// Six octets separated by `:` or `-`.
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(octets)) }
    }
}
