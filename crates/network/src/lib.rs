//! Bridges, addresses, firewall rules and published ports, over netlink alone.
//!
//! One [`Network`] holds the networks of one engine. `bridge` is the interesting one:
//!
//! ```text
//!   container's namespace           host's namespace
//!   eth0 172.30.0.2/16  ──veth──  veth1a2b3c4 ┐
//!   eth0 172.30.0.3/16  ──veth──  vethd5e6f70 ┴ gantry0 172.30.0.1/16 ── forward ── eth0 (masqueraded)
//! ```
//!
//! Nothing is executed: links, addresses and routes go through a route socket, rules through an nftables socket.
//! All calls block (a few milliseconds at most): an asynchronous caller puts them on a blocking thread. `Network` is
//! a handle: clone it freely.
//!
//! # Life of an endpoint
//! `attach` (between the creation of the container's namespaces and the start of its process) → `detach` after its
//! end. The cable vanishes with the namespace, so `detach` only gives back the address and the ports. After a crash
//! the engine calls `reconcile` once with the endpoints of the containers that still run.

mod attach;
mod bridge;
mod error;
pub mod files;
mod firewall;
mod foreign;
mod ipam;
mod legacy;
mod model;
mod network;
mod publish;
mod sandbox;
mod state;
mod sysctl;

pub use error::Error;
pub use model::{
    AttachRequest, Attachment, Endpoint, EndpointId, HostPorts, IpamConfig, Ipv4Cidr, MacAddr, NetworkConfig,
    NetworkInfo, NetworkKind, PortBinding, Protocol, PublishedPort, Reconciled, ReservedPort, ReservedSocket, Sandbox,
};
pub use network::Network;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
