//! The text of a container's `/etc/hosts` and `/etc/resolv.conf`, byte for byte as dockerd writes it. Pure: the caller
//! reads the host's files and writes the container's.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use crate::{Error, NetworkKind};

/// What `/etc/hosts` is made of.
#[derive(Debug, Clone, Default)]
pub struct Hosts<'a> {
    /// Address of the container's endpoint; `None` in the networks host and none (then no line for its name).
    pub ip: Option<Ipv4Addr>,
    /// `--hostname`: `web` or `web.example.org`.
    pub hostname: &'a str,
    /// `--domainname`, else empty.
    pub domainname: &'a str,
    /// `HostConfig.ExtraHosts`, each `name:address`; the address may be `host-gateway`.
    pub extra_hosts: &'a [String],
    /// What `host-gateway` means: the bridge's address, unless the engine was told otherwise.
    pub host_gateway: Option<IpAddr>,
}

/// The user's say about name resolution; empty lists mean "as the host".
#[derive(Debug, Clone, Copy, Default)]
pub struct Dns<'a> {
    /// `--dns`
    pub servers: &'a [String],
    /// `--dns-search`; a single `.` means none.
    pub search: &'a [String],
    /// `--dns-opt`
    pub options: &'a [String],
}

/// Text of `/etc/hosts`. `host_file` is the host's own, which `--network host` copies.
pub fn hosts(kind: NetworkKind, hosts: &Hosts<'_>, host_file: &str) -> Result<String, Error> {
    let _ = (kind, hosts, host_file);
    unreachable!("body follows")
}

/// Text of `/etc/resolv.conf`, from the host's (`host_file`, read from `host_path`, see [`host_resolv_conf_path`]).
pub fn resolv_conf(kind: NetworkKind, dns: Dns<'_>, host_path: &str, host_file: &str) -> Result<String, Error> {
    let _ = (kind, dns, host_path, host_file);
    let mut text = String::new();
    let _ = write!(text, "");
    unreachable!("body follows")
}
