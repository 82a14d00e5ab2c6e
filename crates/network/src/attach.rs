//! The life of an endpoint: attach, detach, and what a crash left behind.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use sys::netlink::MacAddr;
use sys::netlink::conntrack;
use sys::netlink::link::{self, Veth};
use sys::netlink::nftables::Batch;

use crate::bridge;
use crate::network::{Book, Dying, netlink};
use crate::publish;
use crate::sandbox::{self, INTERFACE, Interface};
use crate::state;
use crate::{
    AttachRequest, Attachment, Endpoint, EndpointId, Error, Ipv4Cidr, Network, NetworkKind, Protocol, PublishedPort,
    Reconciled, ReservedPort, Result, ipam,
};

/// Most released addresses that are remembered while their cables die.
const DYING_MAX: usize = 1024;
/// How long they are: a namespace that is still there then is kept by somebody, and silent.
const DYING_TIME: Duration = Duration::from_secs(5);

impl Network {
    /// Gives the container an `eth0` in its sandbox, with address, default route and published ports, and sets `lo` up.
    /// On an error nothing is left behind.
    pub fn attach(&self, request: &AttachRequest) -> Result<Attachment> {
        let namespace = request.sandbox.open()?;
        let (endpoint, reserved) = self.admit(request)?;
        let made = self.connect(&namespace, &endpoint, request.mac.is_some()).and_then(|()| self.publish(&endpoint));
        if let Err(error) = made {
            drop(reserved);
            self.take_back(&endpoint);
            return Err(error);
        }
        Ok(Attachment { endpoint, reserved })
    }

    /// Gives address and ports back. The cable is left to the dying namespace. The caller drops the reserved sockets.
    /// A second detach is no error.
    pub fn detach(&self, id: &EndpointId) -> Result<()> {
        // Under the lock from first to last: an address and a port are free only when no rule leads there any more.
        let mut book = self.book();
        let Some(endpoint) = book.state.endpoints.get(id).cloned() else { return Ok(()) };
        let unpublished = self.unpublish(&endpoint);
        self.forget(&mut book, &endpoint).and(unpublished)
    }

    /// Called once after `open` with the endpoints of running containers: adopts them, and releases all others with
    /// their links, addresses and rules.
    pub fn reconcile(&self, live: &[EndpointId]) -> Reconciled {
        let mut done = Reconciled::default();
        let live: BTreeSet<_> = live.iter().collect();
        let known: Vec<_> = self.book().state.endpoints.values().cloned().collect();
        for endpoint in known {
            if live.contains(&endpoint.id) {
                let reserved = reserve_again(&endpoint, &mut done.problems);
                done.adopted.push(Attachment { endpoint, reserved });
            } else {
                let forgotten = self.forget(&mut self.book(), &endpoint);
                done.problems.extend(forgotten.err());
                done.released.push(endpoint);
            }
        }
        done.problems.extend(self.arrange_cables().err());
        // Without the ports of those that were released.
        done.problems.extend(self.install_firewall().err());
        done
    }

    /// Decides on address and ports, and writes the endpoint down before anything of it is made.
    fn admit(&self, request: &AttachRequest) -> Result<(Endpoint, Vec<ReservedPort>)> {
        let shared = &self.shared;
        let id = state::random_id()?;
        let mut book = self.book();
        let ip = self.choose_address(&mut book, request.ip)?;
        let taken: Vec<PublishedPort> =
            if request.ports.is_empty() { Vec::new() } else { book.state.published().collect() };
        let default = shared.config.default_host_ip;
        let reserved = book.ports.reserve(&request.ports, default, ip.into(), &taken)?;
        let endpoint = Endpoint {
            host_interface: format!("veth{}", &id[..7]),
            id: EndpointId(id),
            network: NetworkKind::Bridge,
            network_id: book.state.id(NetworkKind::Bridge).to_owned(),
            container_id: request.container_id.clone(),
            ip: Some(ip),
            prefix_len: shared.bridge.address.prefix_len,
            gateway: Some(bridge::gateway(&shared.config, shared.bridge)),
            mac: Some(request.mac.unwrap_or_else(|| MacAddr::for_address(ip))),
            ports: reserved.iter().map(|reserved| reserved.port.clone()).collect(),
        };
        book.state.endpoints.insert(endpoint.id.clone(), endpoint.clone());
        if let Err(error) = self.save(&book) {
            book.state.endpoints.remove(&endpoint.id);
            return Err(error);
        }
        Ok((endpoint, reserved))
    }

    fn choose_address(&self, book: &mut Book, asked: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
        let shared = &self.shared;
        let subnet = shared.bridge.address;
        let mut taken = book.state.addresses();
        taken.insert(subnet.address);
        taken.extend(shared.config.default_gateway);
        if let Some(ip) = asked {
            return match ip {
                ip if taken.contains(&ip) => Err(Error::AddressInUse { ip }),
                ip if !ipam::is_host(subnet, ip) => Err(Error::AddressOutOfRange { ip }),
                ip => Ok(ip),
            };
        }
        // They die in order: while the first is there, so are the others.
        while let Some(dying) = book.dying.front() {
            let old = dying.since.elapsed() > DYING_TIME;
            if !old && matches!(link::by_name(&mut self.kernel().route, &dying.cable), Ok(Some(_))) {
                break;
            }
            book.dying.pop_front();
        }
        let range = shared.config.fixed_cidr.unwrap_or(subnet);
        let fresh = |ip| !book.dying.iter().any(|dying| dying.ip == ip);
        // In a full subnet a dying address is better than none.
        ipam::free_address(subnet, range, &taken, fresh)
            .or_else(|| ipam::free_address(subnet, range, &taken, |_| true))
            .ok_or_else(|| Error::AddressesExhausted { network: shared.config.bridge.clone() })
    }

    /// Makes the cable, and sets up its inner end.
    fn connect(&self, namespace: &OwnedFd, endpoint: &Endpoint, announce: bool) -> Result<()> {
        let (Some(ip), Some(peer_mac)) = (endpoint.ip, endpoint.mac) else { return Ok(()) };
        let veth = Veth {
            name: &endpoint.host_interface,
            master: Some(self.shared.bridge.index),
            mtu: self.shared.config.mtu,
            peer_namespace: namespace.as_fd(),
            peer_name: INTERFACE,
            peer_mac,
        };
        let mut requests = vec![link::new_veth(&veth)];
        if !endpoint.ports.is_empty() {
            requests.push(link::set_hairpin(veth.name));
        }
        let made = self.kernel().route.request(&requests);
        made.map_err(netlink(format!("connecting {} with the container", veth.name)))?;
        let address = Ipv4Cidr::new(ip, endpoint.prefix_len);
        let interface = Interface { address, gateway: endpoint.gateway, announce };
        sandbox::inside(namespace.as_fd(), move || sandbox::configure(&interface))?;
        let settle = [link::settle(veth.name), link::settle(&self.shared.config.bridge)];
        self.kernel().route.request(&settle).map_err(netlink(format!("setting up {}", veth.name)))
    }

    fn publish(&self, endpoint: &Endpoint) -> Result<()> {
        let mut batch = Batch::new();
        self.shared.rules.publish(&mut batch, endpoint);
        if batch.is_empty() {
            return Ok(());
        }
        let failed = netlink("publishing ports");
        batch.commit(&mut self.kernel().firewall).map_err(failed)
    }

    fn unpublish(&self, endpoint: &Endpoint) -> Result<()> {
        let mut batch = Batch::new();
        self.shared.rules.unpublish(&mut batch, endpoint);
        if batch.is_empty() {
            return Ok(());
        }
        let mut kernel = self.kernel();
        let removed = batch.commit(&mut kernel.firewall);
        if let (Some(ip), true) = (endpoint.ip, endpoint.ports.iter().any(|port| port.protocol == Protocol::Udp)) {
            // A client that goes on sending would be led to the old address for ever. TCP clients notice themselves.
            // Without effect on an old kernel, where the client has to pause for half a minute.
            if let Err(error) = kernel.firewall.request(&[conntrack::forget(ip)]) {
                tracing::debug!(%error, %ip, "forgetting connections");
            }
        }
        match removed {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOENT.raw_os_error()) => Ok(()),
            other => other.map_err(netlink("taking back published ports")),
        }
    }

    /// Strikes the endpoint out of the state.
    fn forget(&self, book: &mut Book, endpoint: &Endpoint) -> Result<()> {
        if book.state.endpoints.remove(&endpoint.id).is_none() {
            return Ok(());
        }
        if let (Some(ip), true) = (endpoint.ip, book.dying.len() < DYING_MAX) {
            book.dying.push_back(Dying { ip, cable: endpoint.host_interface.clone(), since: Instant::now() });
        }
        self.save(book)
    }

    /// After a failed attach: its namespace lives on, so the cable must be removed. Errors are logged, the first one
    /// is on its way to the caller.
    fn take_back(&self, endpoint: &Endpoint) {
        let removed = self.remove_link(&endpoint.host_interface);
        let mut book = self.book();
        for error in
            [removed, self.unpublish(endpoint), self.forget(&mut book, endpoint)].into_iter().filter_map(Result::err)
        {
            tracing::warn!(%error, endpoint = %endpoint.id, "cleaning up after a failed attach");
        }
    }

    fn remove_link(&self, name: &str) -> Result<()> {
        let mut kernel = self.kernel();
        let found = link::by_name(&mut kernel.route, name).map_err(netlink(format!("looking for {name}")))?;
        let Some(link) = found else { return Ok(()) };
        kernel.route.request(&[link::delete(link.index)]).map_err(netlink(format!("removing {name}")))
    }

    /// Removes cables in our bridge that belong to no endpoint, and plugs in those that do but lost their bridge.
    fn arrange_cables(&self) -> Result<()> {
        let bridge = self.shared.bridge.index;
        let owned: BTreeSet<_> = {
            let book = self.book();
            book.state.endpoints.values().map(|endpoint| endpoint.host_interface.clone()).collect()
        };
        let mut kernel = self.kernel();
        let links = link::list(&mut kernel.route).map_err(netlink("listing interfaces"))?;
        let stale = links.iter().filter(|link| bridge::is_cable(link, bridge) && !owned.contains(&link.name));
        let mut requests: Vec<_> = stale.map(|link| link::delete(link.index)).collect();
        let loose = links.iter().filter(|link| link.master.is_none() && owned.contains(&link.name));
        requests.extend(loose.flat_map(|link| [link::set_master(link.index, bridge), link::set_hairpin(&link.name)]));
        match kernel.route.request(&requests) {
            // It went by itself meanwhile.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(()),
            other => other.map_err(netlink("arranging interfaces")),
        }
    }
}

/// Binds the sockets of an adopted endpoint, as far as nobody took the ports while there was no engine.
fn reserve_again(endpoint: &Endpoint, problems: &mut Vec<Error>) -> Vec<ReservedPort> {
    let Some(ip) = endpoint.ip else { return Vec::new() };
    let mut reserved = Vec::with_capacity(endpoint.ports.len());
    for port in &endpoint.ports {
        match publish::bind(port) {
            Ok(socket) => {
                let target = (ip, port.container_port).into();
                reserved.push(ReservedPort { port: port.clone(), target, socket });
            }
            Err(source) => {
                let address = (port.host_ip, port.host_port).into();
                problems.push(Error::PortBind { address, protocol: port.protocol, source });
            }
        }
    }
    reserved
}
