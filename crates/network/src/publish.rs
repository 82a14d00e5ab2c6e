//! Host ports: choosing, and keeping others off them.
//!
//! A published port is held by a socket of ours although the kernel translates its connections before they reach it:
//! it makes a second user fail with "address already in use", and what is not translated (IPv6, or connections while
//! the firewall was flushed) reaches the engine's proxy through it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::{Error, HostPorts, PortBinding, Protocol, PublishedPort, ReservedPort, ReservedSocket, Result, sysctl};

const BACKLOG: i32 = 4096;
/// Docker's range when the kernel does not say.
const DEFAULT_EPHEMERAL: (u16, u16) = (32768, 60999);

/// Chooses ports for one engine. `cursor`s walk through the ephemeral range, so that a port is not handed out again
/// right after its release.
#[derive(Debug, Default)]
pub(crate) struct PortChooser {
    cursor: BTreeMap<Protocol, u16>,
}

impl PortChooser {
    /// Reserves everything that `bindings` ask for, or nothing. `taken` are the engine's other published ports.
    pub(crate) fn reserve(
        &mut self,
        bindings: &[PortBinding],
        default_host_ip: IpAddr,
        target: IpAddr,
        taken: &[PublishedPort],
    ) -> Result<Vec<ReservedPort>> {
        let mut reserved: Vec<ReservedPort> = Vec::with_capacity(bindings.len() * 2);
        for binding in bindings {
            let target = SocketAddr::new(target, binding.container_port);
            let ips = host_ips(binding.host_ip, default_host_ip);
            let found = self.reserve_one(binding, &ips, target, |port| {
                taken.iter().chain(reserved.iter().map(|other| &other.port)).any(|other| conflict(other, port))
            })?;
            reserved.extend(found);
        }
        Ok(reserved)
    }

    fn reserve_one(
        &mut self,
        binding: &PortBinding,
        ips: &[IpAddr],
        target: SocketAddr,
        is_taken: impl Fn(&PublishedPort) -> bool,
    ) -> Result<Vec<ReservedPort>> {
        let candidates = match &binding.host_ports {
            HostPorts::Range(range) => range.clone().collect::<Vec<_>>(),
            HostPorts::Ephemeral => self.ephemeral(binding.protocol),
        };
        let mut last_error = Error::PortsExhausted;
        for port in candidates {
            match bind_all(binding, ips, port, target, &is_taken) {
                Ok(reserved) => {
                    if binding.host_ports == HostPorts::Ephemeral {
                        self.cursor.insert(binding.protocol, port);
                    }
                    return Ok(reserved);
                }
                Err(error @ (Error::PortAllocated { .. } | Error::PortBind { .. })) if !is_final(&error) => {
                    last_error = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(match binding.host_ports {
            HostPorts::Ephemeral => Error::PortsExhausted,
            HostPorts::Range(_) => last_error,
        })
    }

    /// The ephemeral range, starting after the last one given.
    fn ephemeral(&self, protocol: Protocol) -> Vec<u16> {
        let range = sysctl::read(&["ipv4", "ip_local_port_range"]).ok().and_then(|text| {
            let (first, last) = text.split_once(char::is_whitespace)?;
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        });
        let (first, last) = range.filter(|(first, last)| first <= last).unwrap_or(DEFAULT_EPHEMERAL);
        let after = self.cursor.get(&protocol).map_or(first, |port| port.saturating_add(1));
        let split = if (first..=last).contains(&after) { after } else { first };
        (split..=last).chain(first..split).collect()
    }
}

/// Would no other port do better? An address that is not ours, or a lack of privilege.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::PortBind { source, .. } if source.kind() != io::ErrorKind::AddrInUse)
}

/// Addresses to bind: a binding without any is for both protocols' wildcards.
fn host_ips(asked: Option<IpAddr>, default: IpAddr) -> Vec<IpAddr> {
    match asked {
        Some(ip) => vec![ip],
        None if default.is_unspecified() && default.is_ipv4() => vec![default, Ipv6Addr::UNSPECIFIED.into()],
        None => vec![default],
    }
}

/// Do two published ports exclude each other?
fn conflict(one: &PublishedPort, other: &PublishedPort) -> bool {
    one.host_port == other.host_port
        && one.protocol == other.protocol
        && one.host_ip.is_ipv4() == other.host_ip.is_ipv4()
        && (one.host_ip == other.host_ip || one.host_ip.is_unspecified() || other.host_ip.is_unspecified())
}

fn bind_all(
    binding: &PortBinding,
    ips: &[IpAddr],
    host_port: u16,
    target: SocketAddr,
    is_taken: &impl Fn(&PublishedPort) -> bool,
) -> Result<Vec<ReservedPort>> {
    let mut reserved = Vec::with_capacity(ips.len());
    for ip in ips {
        let port = PublishedPort {
            container_port: binding.container_port,
            protocol: binding.protocol,
            host_ip: *ip,
            host_port,
        };
        if is_taken(&port) {
            return Err(Error::PortAllocated { ip: *ip, port: host_port });
        }
        match bind(&port) {
            Ok(socket) => reserved.push(ReservedPort { port, target, socket }),
            // The host has no IPv6: then the wildcard means IPv4 alone.
            Err(error) if ip.is_ipv6() && ips.len() > 1 && lacks_ipv6(&error) => {}
            Err(source) => {
                return Err(Error::PortBind {
                    address: SocketAddr::new(*ip, host_port),
                    protocol: port.protocol,
                    source,
                });
            }
        }
    }
    Ok(reserved)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// Binds the socket of a published port.
pub(crate) fn bind(port: &PublishedPort) -> io::Result<ReservedSocket> {
    let family = if port.host_ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match port.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = rustix::net::socket_with(family, kind, flags, None)?;
    if port.host_ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    let address = SocketAddr::new(port.host_ip, port.host_port);
    match port.protocol {
        Protocol::Tcp => {
            // Connections of a former container that linger must not keep the port.
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &address)?;
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(ReservedSocket::Tcp(socket.into()))
        }
        Protocol::Udp => {
            rustix::net::bind(&socket, &address)?;
            Ok(ReservedSocket::Udp(socket.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn port(ip: [u8; 4], host_port: u16) -> PublishedPort {
        PublishedPort { container_port: 80, protocol: Protocol::Tcp, host_ip: Ipv4Addr::from(ip).into(), host_port }
    }

    #[test]
    fn a_wildcard_excludes_every_address() {
        assert!(conflict(&port([0, 0, 0, 0], 80), &port([127, 0, 0, 1], 80)));
        assert!(!conflict(&port([127, 0, 0, 2], 80), &port([127, 0, 0, 1], 80)));
        assert!(!conflict(&port([0, 0, 0, 0], 80), &port([0, 0, 0, 0], 81)));
        let udp = PublishedPort { protocol: Protocol::Udp, ..port([0, 0, 0, 0], 80) };
        assert!(!conflict(&udp, &port([0, 0, 0, 0], 80)));
    }

    #[test]
    fn host_ports_as_in_the_api() {
        assert_eq!("".parse::<HostPorts>().unwrap(), HostPorts::Ephemeral);
        assert_eq!("0".parse::<HostPorts>().unwrap(), HostPorts::Ephemeral);
        assert_eq!("80".parse::<HostPorts>().unwrap(), HostPorts::Range(80..=80));
        assert_eq!("80-82".parse::<HostPorts>().unwrap(), HostPorts::Range(80..=82));
        for bad in ["x", "82-80", "0-5", "70000", "-", "80-"] {
            assert!(bad.parse::<HostPorts>().is_err(), "{bad}");
        }
    }
}
