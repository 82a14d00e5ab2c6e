//! Names to addresses without the C library: `/etc/hosts`, then DNS.
//!
//! A static binary cannot load glibc's name service modules, so what registries need of them is here: the hosts file,
//! `localhost` (which needs no file), and the name servers of `/etc/resolv.conf`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::OnceCell;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where Go asks when `/etc/resolv.conf` names nobody.
const DEFAULT_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A name has no address; the text is Go's: `lookup x on 10.0.0.1:53: no such host`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("lookup {name}{server}: {problem}")]
pub(crate) struct LookupError {
    name: String,
    /// ` on 10.0.0.1:53`.
    server: String,
    problem: String,
}

/// Resolves names. Cheap to clone; what it needs for DNS is set up when it is first asked for a name that is not local.
#[derive(Clone, Default)]
pub(crate) struct Resolver(Arc<OnceCell<Dns>>);

struct Dns {
    resolver: TokioResolver,
    server: IpAddr,
}

impl Resolver {
    /// All addresses of a host name or address literal (without brackets), at least one.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(vec![address]);
        }
        let hosts = tokio::fs::read_to_string(HOSTS).await.unwrap_or_default();
        let mut found = in_hosts_file(&hosts, host);
        if found.is_empty() && is_localhost(host) {
            found = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let dns = self.0.get_or_try_init(Dns::new).await.map_err(|error| LookupError {
            name: host.to_owned(),
            server: String::new(),
            problem: error.to_string(),
        })?;
        dns.lookup(host).await
    }
}

impl Dns {
    async fn new() -> Result<Self, NetError> {
        let (config, options) = match hickory_resolver::system_conf::read_system_conf() {
            Ok(found) => found,
            Err(error) => {
                // A line that hickory does not know must not cost all names.
                tracing::debug!(%error, "reading {RESOLV_CONF}");
                let text = tokio::fs::read_to_string(RESOLV_CONF).await.unwrap_or_default();
                let servers = servers_of(&text).into_iter().map(NameServerConfig::udp_and_tcp).collect();
                (ResolverConfig::from_name_servers(servers), Default::default())
            }
        };
        let server = config.name_servers().first().map_or(DEFAULT_SERVER, |server| server.ip);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        Ok(Self { resolver: builder.build()?, server })
    }

    async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let problem = match self.resolver.lookup_ip(host).await {
            Ok(found) => {
                let addresses: Vec<IpAddr> = found.iter().collect();
                if !addresses.is_empty() {
                    return Ok(addresses);
                }
                "no such host".to_owned()
            }
            Err(error) if error.is_no_records_found() => "no such host".to_owned(),
            Err(NetError::Timeout) => "i/o timeout".to_owned(),
            Err(NetError::Dns(_)) => "server misbehaving".to_owned(),
            Err(error) => error.to_string(),
        };
        let server = match self.server {
            IpAddr::V4(address) => format!(" on {address}:53"),
            IpAddr::V6(address) => format!(" on [{address}]:53"),
        };
        Err(LookupError { name: host.to_owned(), server, problem })
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.lookup(name.as_str()).await?;
            // Port 0 is replaced by the one of the URL.
            let addresses: Addrs = Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Addresses of a name in the text of a hosts file, those of IPv6 first as Go sorts them.
fn in_hosts_file(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.trim_end_matches('.');
    let mut found: Vec<IpAddr> = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        if words.any(|name| name.trim_end_matches('.').eq_ignore_ascii_case(host)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found.sort_by_key(IpAddr::is_ipv4);
    found
}

/// The name servers in the text of a `resolv.conf`.
fn servers_of(text: &str) -> Vec<IpAddr> {
    let found: Vec<IpAddr> =
        text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok()).collect();
    if found.is_empty() { vec![DEFAULT_SERVER] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_files() {
        let text = "127.0.0.1 localhost\n# 1.2.3.4 x\n10.0.0.1\tA.example b # c\n::1 localhost\nbad b\n10.0.0.1 b\n";
        let shown = |host| in_hosts_file(text, host).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(shown("localhost"), "::1 127.0.0.1");
        assert_eq!(shown("a.EXAMPLE."), "10.0.0.1");
        assert_eq!(shown("b"), "10.0.0.1");
        assert_eq!(shown("c"), "");
    }

    #[test]
    fn name_servers() {
        assert_eq!(
            servers_of("options weird:x\nnameserver 10.0.0.2\n nameserver ::1"),
            ["10.0.0.2".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]
        );
        assert_eq!(servers_of(""), [DEFAULT_SERVER]);
    }

    #[tokio::test]
    async fn literals_and_localhost_need_no_server() {
        let resolver = Resolver::default();
        assert_eq!(resolver.lookup("[::1]").await.unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        assert!(resolver.lookup("x.localhost").await.unwrap().iter().all(IpAddr::is_loopback));
    }
}
