//! Where a repository's registry is: mirrors, the scheme, and who may be spoken to without verified TLS.
//!
//! | domain | endpoints, in the order in which they are tried |
//! |---|---|
//! | with a `hosts.toml` | the hosts that it names, then its `server`, see module `hosts` |
//! | `docker.io` | the mirrors (pull only), then `https://registry-1.docker.io` |
//! | loopback, or configured as insecure | `https` without verification, then `http` |
//! | any other | `https` |

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;

use super::hosts;
use super::resolve::Resolver;
use crate::error::{Error, Result};
use crate::{Client, remote::Actions};

/// Where docker.io's registry really is.
const DOCKER_HUB: &str = "https://registry-1.docker.io";

/// How much a connection is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// `https`, certificates verified.
    Verified,
    /// `https` with any certificate, or `http`.
    Unverified,
}

/// A place where a registry may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Where the protocol's paths begin: `https://host[:port][/path]/v2`, no slash at the end.
    pub(crate) root: String,
    pub(crate) trust: Trust,
    /// Is it a copy of the real one? Then it is given no credentials, and any failure leads to the next.
    pub(crate) is_mirror: bool,
    /// The registry that a mirror is asked about, for those that stand for several (`?ns=docker.io`).
    pub(crate) namespace: Option<String>,
    /// Certificates to trust and to show, beside those of the directories.
    pub(crate) certificates: Certificates,
    /// Sent with every request.
    pub(crate) headers: HeaderMap,
    /// In place of the usual time for a connection.
    pub(crate) dial_timeout: Option<Duration>,
}

/// Files in PEM form that belong to one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// Authorities to trust beside the system's.
    pub(crate) authorities: Vec<PathBuf>,
    /// A certificate to show, and its key if that is in another file.
    pub(crate) identity: Option<(PathBuf, Option<PathBuf>)>,
}

impl Endpoint {
    /// An endpoint at this base (`https://host`), below which the protocol has its usual place.
    pub(crate) fn new(base: &str, trust: Trust) -> Self {
        Self {
            root: format!("{}/v2", base.trim_end_matches('/')),
            trust,
            is_mirror: false,
            namespace: None,
            certificates: Certificates::default(),
            headers: HeaderMap::new(),
            dial_timeout: None,
        }
    }

    /// `host[:port]`, for the directories of certificates.
    pub(crate) fn host(&self) -> &str {
        let rest = self.root.split_once("://").map_or(self.root.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }

    pub(crate) fn is_https(&self) -> bool {
        self.root.starts_with("https:")
    }

    /// Is this URL at the endpoint's own host? Its credentials are for nobody else, and nobody else says how to prove them.
    pub(crate) fn is_home(&self, url: &Url) -> bool {
        Url::parse(&self.root).is_ok_and(|root| root.origin() == url.origin())
    }

    /// Is this URL below the endpoint's root, and so one of its own?
    pub(crate) fn covers(&self, url: &Url) -> bool {
        let Ok(root) = Url::parse(&self.root) else { return false };
        let below = url.path().strip_prefix(root.path().trim_end_matches('/'));
        root.origin() == url.origin() && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// A URL of the protocol: `/`, `/library/busybox/manifests/latest`.
    pub(crate) fn url(&self, path: &str) -> Result<Url> {
        let text = format!("{}{path}", self.root);
        let mut url = Url::parse(&text).map_err(|error| Error::Setup(format!("parse \"{text}\": {error}")))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }
}

/// Registries that may be spoken to without verified TLS: networks in CIDR form, and `host` or `host:port`.
#[derive(Debug, Clone)]
pub(crate) struct Insecure {
    networks: Vec<(IpAddr, u8)>,
    hosts: Vec<String>,
}

impl Insecure {
    /// Reads the configured list. Loopback is always part of it.
    pub(crate) fn new(configured: &[String]) -> Self {
        let mut networks = vec![(IpAddr::from([127, 0, 0, 0]), 8), (IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128)];
        let mut hosts = Vec::new();
        for entry in configured {
            // dockerd tolerates a scheme here.
            let entry = entry.strip_prefix("http://").or_else(|| entry.strip_prefix("https://")).unwrap_or(entry);
            match parse_network(entry) {
                Some(network) => networks.push(network),
                None => hosts.push(entry.trim_end_matches('/').to_ascii_lowercase()),
            }
        }
        Self { networks, hosts }
    }

    fn has_host(&self, host_and_port: &str) -> bool {
        self.hosts.contains(&host_and_port.to_ascii_lowercase())
    }

    fn has_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| contains(*network, address))
    }

    /// Is this registry (`host` or `host:port`) allowed to be insecure?
    async fn allows(&self, domain: &str, resolver: &Resolver) -> bool {
        if self.has_host(domain) {
            return true;
        }
        // A name that cannot be resolved is secure; that it has no address will be said by the attempt to connect.
        let found = resolver.lookup(without_port(domain)).await.unwrap_or_default();
        found.into_iter().any(|address| self.has_address(address))
    }
}

impl Client {
    /// Where to look for the registry of this domain, in this order. Reads `hosts.toml`.
    pub(crate) async fn endpoints(&self, domain: &str, resolver: &Resolver, actions: Actions) -> Result<Vec<Endpoint>> {
        let (dirs, owned) = (self.options.certs_dirs.clone(), domain.to_owned());
        let hosts = crate::blocking(move || hosts::read(&dirs, &owned)).await?;
        // Nothing is pushed to a mirror.
        let mirrors: &[String] = if actions == Actions::Pull { &self.options.mirrors } else { &[] };
        let mut found = if domain == oci::reference::DEFAULT_DOMAIN {
            mirrors_of(mirrors, &self.insecure, resolver).await
        } else {
            Vec::new()
        };
        let Some(hosts) = hosts else {
            found.extend(usual(domain, &self.insecure, resolver).await);
            return Ok(found);
        };
        found.extend(hosts.mirrors.into_iter().filter(|host| host.can(actions)).map(|host| host.endpoint));
        match hosts.server {
            Some(server) if server.can(actions) => found.push(server.endpoint),
            Some(_) => {}
            None => found.extend(usual(domain, &self.insecure, resolver).await),
        }
        if found.is_empty() {
            return Err(Error::Setup(format!("no host for {domain} may be used to {}", actions.verb())));
        }
        Ok(found)
    }
}

/// The mirrors that the engine was started with, which are docker.io's.
async fn mirrors_of(mirrors: &[String], insecure: &Insecure, resolver: &Resolver) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for mirror in mirrors {
        let base = if mirror.contains("://") { mirror.clone() } else { format!("https://{mirror}") };
        let mut endpoint = Endpoint { is_mirror: true, ..Endpoint::new(&base, Trust::Verified) };
        if !endpoint.is_https() || insecure.allows(endpoint.host(), resolver).await {
            endpoint.trust = Trust::Unverified;
        }
        found.push(endpoint);
    }
    found
}

/// The registry itself. Never empty.
async fn usual(domain: &str, insecure: &Insecure, resolver: &Resolver) -> Vec<Endpoint> {
    if domain == oci::reference::DEFAULT_DOMAIN {
        return vec![Endpoint::new(DOCKER_HUB, Trust::Verified)];
    }
    if !insecure.allows(domain, resolver).await {
        return vec![Endpoint::new(&format!("https://{domain}"), Trust::Verified)];
    }
    let unverified = |scheme: &str| Endpoint::new(&format!("{scheme}://{domain}"), Trust::Unverified);
    vec![unverified("https"), unverified("http")]
}

/// `host`, `host:port`, `[::1]` or `[::1]:port` without the port and the brackets.
fn without_port(domain: &str) -> &str {
    if let Some(rest) = domain.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    domain.split(':').next().unwrap_or_default()
}

fn parse_network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

fn contains((network, bits): (IpAddr, u8), address: IpAddr) -> bool {
    let number = |address: IpAddr| match address {
        // In the upper bits, so that prefixes of both families are compared the same way.
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    };
    let mask = if bits == 0 { 0 } else { u128::MAX << (128 - u32::from(bits)) };
    network.is_ipv4() == address.is_ipv4() && number(network) & mask == number(address) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown(domain: &str, mirrors: &[&str], insecure: &[&str]) -> String {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let client = Client::new(crate::Options {
            mirrors: strings(mirrors),
            insecure_registries: strings(insecure),
            certs_dirs: Vec::new(),
            ..crate::Options::default()
        });
        let found = client.endpoints(domain, &Resolver::default(), Actions::Pull).await.unwrap();
        let base = |e: &Endpoint| e.root.trim_end_matches("/v2").to_owned();
        let mark = |e: &Endpoint| format!("{}{}", base(e), if e.trust == Trust::Verified { "+" } else { "" });
        found.iter().map(mark).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_belongs_to_an_endpoint() {
        let covers = |base: &str, url: &str| Endpoint::new(base, Trust::Verified).covers(&Url::parse(url).unwrap());
        for (base, url) in [
            ("https://Mirror.example:443", "https://mirror.example/v2/"),
            ("https://mirror.example", "https://MIRROR.example:443/v2/a/tags/list?n=1"),
            ("http://[::1]:80", "http://[0:0::1]/v2"),
        ] {
            assert!(covers(base, url), "{base} {url}");
        }
        for (base, url) in [
            ("https://mirror.example", "https://mirror.example.evil.net/v2/"),
            ("https://mirror.example/v2", "https://mirror.example/v2x/v2/"),
            ("https://mirror.example", "https://mirror.example/v22/"),
            ("https://mirror.example", "http://mirror.example/v2/"),
            ("https://mirror.example", "https://mirror.example:444/v2/"),
        ] {
            assert!(!covers(base, url), "{base} {url}");
        }
    }

    #[tokio::test]
    async fn loopback_is_insecure() {
        for domain in ["localhost:5000", "127.9.0.1:80", "[::1]:5000", "r.localhost"] {
            assert_eq!(shown(domain, &["m"], &[]).await, format!("https://{domain} http://{domain}"));
        }
        assert_eq!(shown("10.0.0.1:5000", &[], &[]).await, "https://10.0.0.1:5000+");
    }

    #[tokio::test]
    async fn configured_ones_are_insecure() {
        assert_eq!(shown("10.0.0.1:5000", &[], &["10.0.0.0/8"]).await, "https://10.0.0.1:5000 http://10.0.0.1:5000");
        assert_eq!(shown("11.0.0.1", &[], &["10.0.0.0/8", "x/99"]).await, "https://11.0.0.1+");
        assert_eq!(shown("[fd00::1]:1", &[], &["fd00::/16"]).await, "https://[fd00::1]:1 http://[fd00::1]:1");
        assert_eq!(shown("10.0.0.1:80", &[], &["http://10.0.0.1:80"]).await, "https://10.0.0.1:80 http://10.0.0.1:80");
    }

    #[tokio::test]
    async fn mirrors_are_for_docker_hub() {
        assert_eq!(
            shown("docker.io", &["http://127.0.0.1:5000/", "https://10.0.0.9"], &[]).await,
            "http://127.0.0.1:5000 https://10.0.0.9+ https://registry-1.docker.io+"
        );
    }
}
