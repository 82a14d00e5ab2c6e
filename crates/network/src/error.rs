//! Everything that can go wrong in this crate, in Docker's words where a client may match on them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::Protocol;

/// Why an operation on the networks failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not `a.b.c.d/len`.
    #[error("invalid CIDR address: {text}")]
    InvalidCidr {
        /// What was given.
        text: String,
    },
    /// `HostPort` is no port and no range.
    #[error("invalid port specification: {text:?}")]
    InvalidHostPort {
        /// What was given.
        text: String,
    },
    /// A protocol that is not forwarded, e.g. sctp.
    #[error("publishing ports of protocol {protocol:?} is not supported (tcp and udp are)")]
    Protocol {
        /// What was given.
        protocol: String,
    },
    /// A configuration that cannot work.
    #[error("invalid network configuration: {reason}")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// Neither list of predefined subnets has one that is free on this host.
    #[error(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )]
    NoFreeSubnet,
    /// The subnet is full.
    #[error("no available IPv4 addresses on this network's address pools: {network}")]
    AddressesExhausted {
        /// Name and id.
        network: String,
    },
    /// The requested address is taken.
    #[error("Address already in use")]
    AddressInUse {
        /// Which one.
        ip: Ipv4Addr,
    },
    /// The requested address is in no subnet of the network.
    #[error("Requested address {ip} is not in the network's subnet")]
    AddressOutOfRange {
        /// Which one.
        ip: Ipv4Addr,
    },
    /// Another container of this engine has the port.
    #[error("Bind for {ip}:{port} failed: port is already allocated")]
    PortAllocated {
        /// Host address of the binding.
        ip: IpAddr,
        /// Host port.
        port: u16,
    },
    /// Every port of the range is taken.
    #[error("all ports are allocated")]
    PortsExhausted,
    /// Another program has the port, or it must not be bound. The words are dockerd's: it is the socket of its proxy
    /// that fails there, too.
    #[error("Error starting userland proxy: listen {protocol}{} {address}: bind: {}", family(address), cause(source))]
    PortBind {
        /// Host address and port.
        address: SocketAddr,
        /// tcp or udp.
        protocol: Protocol,
        /// Why.
        source: io::Error,
    },
    /// There is no such endpoint (any more).
    #[error("endpoint {id} not found")]
    NoSuchEndpoint {
        /// Its id.
        id: String,
    },
    /// A conversation with the kernel failed.
    #[error("{operation}: {source}")]
    Netlink {
        /// What was to be done, e.g. `creating bridge gantry0`.
        operation: String,
        /// The kernel's answer.
        source: sys::netlink::Error,
    },
    /// The container's namespace could not be entered.
    #[error("entering the network namespace of {sandbox}: {source}")]
    Sandbox {
        /// Pid or descriptor.
        sandbox: String,
        /// Why.
        source: io::Error,
    },
    /// A sysctl could not be read or written.
    #[error("setting {path}: {source}")]
    Sysctl {
        /// Below /proc/sys.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state file could not be read or replaced.
    #[error("state file {path}: {source}")]
    State {
        /// network.json
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `--add-host` or `--dns` that cannot be written into a file.
    #[error("{reason}")]
    InvalidFileEntry {
        /// Docker's sentence.
        reason: String,
    },
    /// A plain system call failed.
    #[error("{operation}: {source}")]
    Io {
        /// What was to be done.
        operation: String,
        /// Why.
        source: io::Error,
    },
}

fn family(address: &SocketAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// The plain text of the system's error, as Go prints it: `address already in use`.
fn cause(source: &io::Error) -> String {
    let text = source.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
