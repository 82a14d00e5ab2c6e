//! [`Network`]: opening, looking at, and closing the networks of an engine.
//!
//! Two locks, never nested the other way round: `state` (what is decided and written down), then `kernel` (the
//! sockets). The state's lock is not held while a cable is made, so that many containers start at once.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use sys::netlink::nftables::{self, Batch};
use sys::netlink::{Family, Socket, link};

use crate::bridge::{self, Bridge};
use crate::firewall::Rules;
use crate::foreign::{Foreign, is_docker_bridge};
use crate::publish::PortChooser;
use crate::state::{self, State};
use crate::{
    Endpoint, EndpointId, Error, IpamConfig, NetworkConfig, NetworkInfo, NetworkKind, Result, Sandbox, legacy, sandbox,
};

/// The networks of one engine; a handle that is cheap to clone.
#[derive(Debug, Clone)]
pub struct Network {
    pub(crate) shared: Arc<Shared>,
}

/// Everything behind the handle.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: NetworkConfig,
    pub(crate) bridge: Bridge,
    pub(crate) rules: Rules,
    pub(crate) foreign: Foreign,
    book: Mutex<Book>,
    kernel: Mutex<Kernel>,
}

/// What is decided.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) state: State,
    pub(crate) ports: PortChooser,
    /// Addresses just released, in that order.
    pub(crate) dying: VecDeque<Dying>,
}

/// An address that is not given again while its old cable is there: the namespace behind it dies slowly, and may
/// still send.
#[derive(Debug)]
pub(crate) struct Dying {
    pub(crate) ip: Ipv4Addr,
    /// The host's end.
    pub(crate) cable: String,
    /// When it was released.
    pub(crate) since: Instant,
}

/// The conversations with the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) route: Socket,
    pub(crate) firewall: Socket,
    /// After `shutdown`: a watcher that is late must not bring the rules back.
    closed: bool,
}

impl Network {
    /// Restores the state, and makes bridge, sysctls and firewall table, so that they are there before any container.
    /// Endpoints of a former life are kept until `reconcile` says which of them live.
    pub fn open(mut config: NetworkConfig) -> Result<Self> {
        validate(&config)?;
        let mut state = State::load(&config)?;
        let open = |family| Socket::open(family).map_err(netlink("opening a netlink socket"));
        let mut kernel = Kernel { route: open(Family::Route)?, firewall: open(Family::Netfilter)?, closed: false };
        // Before anything is made: the ids must not be forgotten, and a missing directory shows here.
        state.save_identity()?;
        state.save_endpoints()?;
        config.bridge = bridge::claim(&mut kernel.route, &config, state.bridge_name())?;
        if state.bridge_name() != config.bridge {
            kernel.remove_bridge(&config, state.bridge_name())?;
            state.set_bridge_name(&config.bridge);
        }
        let bridge = bridge::ensure(&mut kernel.route, &config, state.bridge_address())?;
        state.set_bridge_address(bridge.address);
        state.save_identity()?;
        let rules = Rules {
            table: format!("gantry-{}", config.instance),
            bridge: config.bridge.clone(),
            subnet: bridge.address,
            masquerade: config.masquerade,
            inter_container: config.inter_container,
        };
        let foreign = Foreign { chain: format!("GANTRY-{}", config.instance), bridge: config.bridge.clone() };
        let book = Mutex::new(Book { state, ports: PortChooser::default(), dying: VecDeque::new() });
        let shared = Shared { config, bridge, rules, foreign, book, kernel: Mutex::new(kernel) };
        let network = Self { shared: Arc::new(shared) };
        network.install_firewall()?;
        network.ensure_firewall()?;
        Ok(network)
    }

    /// Records a container in `host` or `none`: an endpoint with an id but without address. In `none`, and with
    /// `sandbox`, `lo` is set up there.
    pub fn join(&self, kind: NetworkKind, container_id: &str, sandbox: Option<&Sandbox>) -> Result<Endpoint> {
        if kind == NetworkKind::Bridge {
            return Err(Error::Config { reason: "a container is attached to the network bridge, not joined".into() });
        }
        if let (NetworkKind::None, Some(sandbox)) = (kind, sandbox) {
            let namespace = sandbox.open()?;
            sandbox::inside(std::os::fd::AsFd::as_fd(&namespace), sandbox::configure_loopback)?;
        }
        let mut book = self.book();
        let endpoint = Endpoint {
            id: EndpointId(state::random_id()?),
            network: kind,
            network_id: book.state.id(kind).to_owned(),
            container_id: container_id.to_owned(),
            ip: None,
            prefix_len: 0,
            gateway: None,
            mac: None,
            host_interface: String::new(),
            ports: Vec::new(),
        };
        book.state.endpoints.insert(endpoint.id.clone(), endpoint.clone());
        self.save(&book)?;
        Ok(endpoint)
    }

    /// The three networks: `bridge`, `host`, `none`.
    pub fn list(&self) -> Vec<NetworkInfo> {
        let book = self.book();
        [NetworkKind::Bridge, NetworkKind::Host, NetworkKind::None]
            .map(|kind| self.describe(&book.state, kind))
            .into_iter()
            .collect()
    }

    /// By name, id, or a unique start of an id.
    pub fn inspect(&self, name_or_id: &str) -> Option<NetworkInfo> {
        let networks = self.list();
        if let Some(exact) = networks.iter().find(|net| net.name == name_or_id || net.id == name_or_id) {
            return Some(exact.clone());
        }
        let mut matching = networks.into_iter().filter(|net| !name_or_id.is_empty() && net.id.starts_with(name_or_id));
        matching.next().filter(|_| matching.next().is_none())
    }

    /// The address that `host-gateway` stands for.
    pub fn gateway(&self) -> Ipv4Addr {
        self.shared.bridge.address.address
    }

    /// Keeps the accept rules in the tables of other engines: blocks, listening to the firewall's notifications,
    /// and puts them back when another program (dockerd at its start) has changed its chains. Run it on an own
    /// thread. Returns when `stop` becomes readable (an eventfd, or a pipe whose other end was closed).
    pub fn watch_firewall(&self, stop: BorrowedFd<'_>) -> Result<()> {
        let subscribe = |family, groups| {
            Socket::subscribe(family, groups).map_err(netlink("subscribing to the kernel's notifications"))
        };
        let mut rules = subscribe(Family::Netfilter, nftables::NOTIFICATIONS)?;
        let mut links = subscribe(Family::Route, link::NOTIFICATIONS)?;
        // What changed before we listened.
        self.log_failure(self.ensure_firewall());
        loop {
            let events = PollFlags::IN;
            let fds = &mut [PollFd::new(&rules, events), PollFd::new(&links, events), PollFd::new(&stop, events)];
            match poll(fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    let operation = "waiting for the kernel's notifications".to_owned();
                    return Err(Error::Io { operation, source: error.into() });
                }
            }
            if !fds[2].revents().is_empty() {
                return Ok(());
            }
            if self.read_notifications(&mut rules, &mut links)? {
                self.log_failure(self.ensure_firewall());
            }
        }
    }

    /// Takes what is queued; was there anything that concerns our rules in other tables?
    fn read_notifications(&self, rules: &mut Socket, links: &mut Socket) -> Result<bool> {
        let mut concerned = false;
        let all_rules = rules.notifications(|reply| {
            let change = nftables::read_change(&reply);
            concerned |= change.is_some_and(|c| self.shared.foreign.concerns(&c, &self.shared.rules.table));
        });
        // A new bridge of Docker's is left out of what we accept, and shows a Docker on iptables-legacy, which does not
        // notify anybody.
        let all_links = links.notifications(|reply| {
            concerned |= link::read_change(&reply).is_some_and(|link| is_docker_bridge(&link.name));
        });
        let all = all_rules.and_then(|rules| Ok(rules & all_links?));
        // Some were lost: look for ourselves.
        Ok(concerned | !all.map_err(netlink("reading the kernel's notifications"))?)
    }

    /// The engine stops: without endpoints, bridge and rules are removed; with them everything stays for the next
    /// engine, so that containers keep their network.
    pub fn shutdown(&self) -> Result<()> {
        let book = self.book();
        if book.state.endpoints.values().any(|endpoint| endpoint.network == NetworkKind::Bridge) {
            return Ok(());
        }
        let mut kernel = self.kernel();
        kernel.closed = true;
        let foreign = self.shared.foreign.remove(&mut kernel.firewall);
        if let Err(error) = legacy::remove(&self.shared.config.bridge) {
            tracing::warn!(%error, "rules are left in the legacy iptables chain FORWARD");
        }
        let mut batch = Batch::new();
        self.shared.rules.remove(&mut batch);
        let own = batch.commit(&mut kernel.firewall);
        let bridge = kernel.remove_bridge(&self.shared.config, &self.shared.config.bridge);
        foreign.and(own).map_err(netlink("removing firewall rules"))?;
        bridge
    }

    /// Writes our table anew with all published ports.
    pub(crate) fn install_firewall(&self) -> Result<()> {
        let book = self.book();
        let mut batch = Batch::new();
        self.shared.rules.install(&mut batch, book.state.endpoints.values());
        let mut kernel = self.kernel();
        if kernel.closed {
            return Ok(());
        }
        batch.commit(&mut kernel.firewall).map_err(netlink("installing firewall rules"))
    }

    /// Puts back what is missing of our rules, in our table and in others'.
    pub(crate) fn ensure_firewall(&self) -> Result<()> {
        let shared = &self.shared;
        let (seen, legacy) = {
            let mut kernel = self.kernel();
            if kernel.closed {
                return Ok(());
            }
            let bridges = bridge::docker_bridges(&mut kernel.route)?;
            let seen = shared.foreign.ensure(&mut kernel.firewall, &shared.rules.table, &bridges);
            let seen = seen.map_err(netlink("accepting forwarded packets in ip filter FORWARD"))?;
            (seen, legacy::ensure(&shared.config.bridge, &bridges))
        };
        if let Err(error) = legacy {
            tracing::warn!(%error, "the legacy iptables chain FORWARD could not be told to accept containers' packets");
        }
        if !seen.own_table {
            tracing::warn!(
                table = shared.rules.table,
                "another program removed the firewall table: installing it again"
            );
            self.install_firewall()?;
        }
        for chain in &seen.dropping {
            tracing::warn!(%chain, "this firewall chain drops forwarded packets by policy; containers may not get out");
        }
        Ok(())
    }

    fn describe(&self, state: &State, kind: NetworkKind) -> NetworkInfo {
        let config = &self.shared.config;
        let bridge = kind == NetworkKind::Bridge;
        let ipam = IpamConfig {
            subnet: self.shared.bridge.address.network(),
            ip_range: config.fixed_cidr,
            gateway: bridge::gateway(config, self.shared.bridge),
        };
        let mut endpoints: Vec<_> = state.endpoints.values().filter(|e| e.network == kind).cloned().collect();
        endpoints.sort_by(|one, other| one.container_id.cmp(&other.container_id));
        NetworkInfo {
            id: state.id(kind).to_owned(),
            kind,
            name: kind.name(),
            driver: kind.driver(),
            created: state.created(),
            ipam: bridge.then_some(ipam),
            options: if bridge { options(config) } else { BTreeMap::new() },
            endpoints,
        }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        // A panic elsewhere leaves nothing half-done in here that the next call would trip over.
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.shared.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn save(&self, book: &Book) -> Result<()> {
        book.state.save_endpoints()
    }

    fn log_failure(&self, result: Result<()>) {
        if let Err(error) = result {
            tracing::warn!(%error, bridge = self.shared.config.bridge, "the firewall could not be brought in order");
        }
    }
}

impl Kernel {
    /// Removes the bridge of this name, if it is there and this engine's.
    fn remove_bridge(&mut self, config: &NetworkConfig, name: &str) -> Result<()> {
        let found = link::by_name(&mut self.route, name).map_err(netlink(format!("looking for {name}")))?;
        match found.filter(|link| bridge::is_own(config, link)) {
            Some(link) => {
                let removed = self.route.request(&[link::delete(link.index)]);
                removed.map_err(netlink(format!("removing bridge {name}")))
            }
            None => Ok(()),
        }
    }
}

/// Wraps a netlink error with what was to be done.
pub(crate) fn netlink(operation: impl Into<String>) -> impl FnOnce(sys::netlink::Error) -> Error {
    let operation = operation.into();
    move |source| Error::Netlink { operation, source }
}

/// Docker's `Options` of the default bridge.
fn options(config: &NetworkConfig) -> BTreeMap<String, String> {
    let own = [
        ("default_bridge", "true".to_owned()),
        ("enable_icc", config.inter_container.to_string()),
        ("enable_ip_masquerade", config.masquerade.to_string()),
        ("host_binding_ipv4", config.default_host_ip.to_string()),
        ("name", config.bridge.clone()),
    ];
    let own = own.map(|(key, value)| (format!("com.docker.network.bridge.{key}"), value));
    own.into_iter().chain([("com.docker.network.driver.mtu".to_owned(), config.mtu.to_string())]).collect()
}

fn validate(config: &NetworkConfig) -> Result<()> {
    let instance = &config.instance;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=15).contains(&instance.len()) || !instance.bytes().all(plain) {
        return Err(Error::Config { reason: format!("instance {instance:?} is not 1 to 15 of [a-z0-9-]") });
    }
    let bridge = &config.bridge;
    let bad = |byte: u8| byte == b'/' || byte.is_ascii_whitespace();
    if !(1..=link::NAME_MAX).contains(&bridge.len()) || bridge.bytes().any(bad) || bridge == "." || bridge == ".." {
        return Err(Error::Config { reason: format!("{bridge:?} is no name for an interface") });
    }
    if let (Some(fixed), Some(bip)) = (config.fixed_cidr, config.bip)
        && (!bip.contains(fixed.network().address) || fixed.prefix_len < bip.prefix_len)
    {
        return Err(Error::Config { reason: format!("--fixed-cidr {fixed} is not within --bip {bip}") });
    }
    Ok(())
}
