//! The engine's own nftables table, `ip gantry-<instance>`.
//!
//! ```text
//! raw          (prerouting -300)  what a container sends to 127.0.0.0/8 of the host: drop
//! prerouting   (nat -100)  ┐ to an address of this host: look up (address, protocol, port) or (protocol, port)
//! output       (nat -100)  ┘ in the maps of published ports, and translate the destination
//! forward      (filter 0)  to the bridge only what is translated, or belongs to a connection of a container
//! postrouting  (nat 100)   out of the subnet: masquerade; from 127.0.0.0/8, or hairpin over the bridge: likewise
//! ```
//!
//! The chains never change while containers come and go: a published port is an element in a map, so that a lookup
//! costs the same with one port and with ten thousand, and adding one does not rewrite any rule.

use std::net::{IpAddr, Ipv4Addr};

use sys::netlink::nftables::{
    Base, Batch, ChainName, Compare, Expression, FieldType, Hook, MetaKey, Place, TableFamily, Verdict,
};

use crate::{Endpoint, Ipv4Cidr, PublishedPort};

const FAMILY: TableFamily = TableFamily::Ip;
/// (address, protocol, port) → (address, port): bindings to one address of the host.
const ADDRESS_PORTS: &str = "address_ports";
/// (protocol, port) → (address, port): bindings to all of them.
const ANY_PORTS: &str = "any_ports";
const DNAT_CHAIN: &str = "published";
/// Offset of the source and the destination in an IPv4 header.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// Bits of the connection's state: established and related.
const ESTABLISHED: u32 = 1 << 1 | 1 << 2;
/// Bit of the connection's status: its destination is translated.
const TRANSLATED: u32 = 1 << 5;
/// Type of the host's own addresses.
const LOCAL: u32 = 2;

/// What the rules depend on.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Name of the table.
    pub(crate) table: String,
    /// Name of the bridge.
    pub(crate) bridge: String,
    /// Address of the bridge.
    pub(crate) subnet: Ipv4Cidr,
    /// Hide containers behind the host's address?
    pub(crate) masquerade: bool,
    /// May containers talk to each other?
    pub(crate) inter_container: bool,
}

/// One rule being written down: conditions first, then what to do.
#[derive(Default)]
struct Rule {
    steps: Vec<Step>,
}

/// An expression that owns its operands.
enum Step {
    Fixed(Expression<'static>),
    Compare(Compare, Vec<u8>),
    Mask(Vec<u8>),
}

impl Rule {
    fn fixed(mut self, expression: Expression<'static>) -> Self {
        self.steps.push(Step::Fixed(expression));
        self
    }

    fn compare(mut self, how: Compare, with: &[u8]) -> Self {
        self.steps.push(Step::Compare(how, with.to_vec()));
        self
    }

    fn interface(self, key: MetaKey, how: Compare, name: &str) -> Self {
        self.fixed(Expression::Meta(key, 0)).compare(how, &Expression::interface_name(name))
    }

    fn from(self, bridge: &str) -> Self {
        self.interface(MetaKey::InputName, Compare::Equal, bridge)
    }

    fn to(self, bridge: &str) -> Self {
        self.interface(MetaKey::OutputName, Compare::Equal, bridge)
    }

    fn not_to(self, bridge: &str) -> Self {
        self.interface(MetaKey::OutputName, Compare::NotEqual, bridge)
    }

    /// The address at `offset` of the header lies in `net`.
    fn address(mut self, offset: u32, net: Ipv4Cidr) -> Self {
        self = self.fixed(Expression::NetworkHeader { offset, len: 4, register: 0 });
        self.steps.push(Step::Mask(net.mask().to_be_bytes().to_vec()));
        self.compare(Compare::Equal, &net.network().address.octets())
    }

    /// One of `bits` is set in what `load` loads.
    fn any_bit(mut self, load: Expression<'static>, bits: u32) -> Self {
        self = self.fixed(load);
        self.steps.push(Step::Mask(bits.to_ne_bytes().to_vec()));
        self.compare(Compare::NotEqual, &[0; 4])
    }

    fn established(self) -> Self {
        self.any_bit(Expression::ConnectionState(0), ESTABLISHED)
    }

    fn translated(self) -> Self {
        self.any_bit(Expression::ConnectionStatus(0), TRANSLATED)
    }

    fn then(self, verdict: Verdict<'static>) -> Self {
        self.fixed(Expression::Verdict(verdict))
    }

    fn add_to(self, batch: &mut Batch, table: &str, chain: &str) {
        let steps = self.steps.iter().map(|step| match step {
            Step::Fixed(expression) => *expression,
            Step::Compare(how, with) => Expression::Compare(0, *how, with),
            Step::Mask(mask) => Expression::Mask(0, mask),
        });
        let expressions: Vec<_> = steps.collect();
        batch.add_rule(ChainName { family: FAMILY, table, chain }, Place::Last, &expressions, "");
    }
}

impl Rules {
    /// Replaces the whole table, with the ports of `endpoints`, in one transaction.
    pub(crate) fn install<'a>(&self, batch: &mut Batch, endpoints: impl Iterator<Item = &'a Endpoint>) {
        self.remove(batch);
        batch.add_table(FAMILY, &self.table);
        let target = [FieldType::Ipv4, FieldType::Service];
        let by_address = [FieldType::Ipv4, FieldType::Protocol, FieldType::Service];
        batch.add_map(FAMILY, &self.table, ADDRESS_PORTS, &by_address, &target);
        batch.add_map(FAMILY, &self.table, ANY_PORTS, &by_address[1..], &target);
        self.add_chains(batch);
        self.add_translation(batch);
        self.add_forwarding(batch);
        self.add_masquerading(batch);
        for endpoint in endpoints {
            self.publish(batch, endpoint);
        }
    }

    /// Removes the table, whether it is there or not.
    pub(crate) fn remove(&self, batch: &mut Batch) {
        // Removing what is not there is an error; making what is there is none.
        batch.add_table(FAMILY, &self.table);
        batch.delete_table(FAMILY, &self.table);
    }

    /// Adds the published ports of an endpoint.
    pub(crate) fn publish(&self, batch: &mut Batch, endpoint: &Endpoint) {
        let Some(ip) = endpoint.ip else { return };
        let (any, by_address) = elements(&endpoint.ports);
        let with_target = |ports: Vec<(Vec<u8>, u16)>| -> Vec<_> {
            ports.into_iter().map(|(key, port)| (key, [ip.octets(), padded(&port.to_be_bytes())].concat())).collect()
        };
        batch.add_elements(FAMILY, &self.table, ANY_PORTS, &with_target(any));
        batch.add_elements(FAMILY, &self.table, ADDRESS_PORTS, &with_target(by_address));
    }

    /// Removes them.
    pub(crate) fn unpublish(&self, batch: &mut Batch, endpoint: &Endpoint) {
        let (any, by_address) = elements(&endpoint.ports);
        let keys = |ports: Vec<(Vec<u8>, u16)>| ports.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        batch.delete_elements(FAMILY, &self.table, ANY_PORTS, &keys(any));
        batch.delete_elements(FAMILY, &self.table, ADDRESS_PORTS, &keys(by_address));
    }

    fn add_chains(&self, batch: &mut Batch) {
        let mut add = |chain, base| batch.add_chain(ChainName { family: FAMILY, table: &self.table, chain }, base);
        let base = |kind, hook, priority| Some(Base { kind, hook, priority, policy_drop: false });
        add(DNAT_CHAIN, None);
        add("raw", base("filter", Hook::Prerouting, -300));
        add("prerouting", base("nat", Hook::Prerouting, -100));
        add("output", base("nat", Hook::Output, -100));
        add("forward", base("filter", Hook::Forward, 0));
        add("postrouting", base("nat", Hook::Postrouting, 100));
    }

    fn add_translation(&self, batch: &mut Batch) {
        let loopback = Ipv4Cidr::new(Ipv4Addr::new(127, 0, 0, 0), 8);
        let drop = Rule::default().from(&self.bridge).address(DESTINATION, loopback).then(Verdict::Drop);
        drop.add_to(batch, &self.table, "raw");
        for chain in ["prerouting", "output"] {
            let local = Rule::default().fixed(Expression::DestinationType(0));
            let local = local.compare(Compare::Equal, &LOCAL.to_ne_bytes()).then(Verdict::Jump(DNAT_CHAIN));
            local.add_to(batch, &self.table, chain);
        }
        // The key stands in registers 0 to 2, what is found in 4 and 5.
        let destination = Expression::DestinationNat { address: 4, port: 5 };
        Rule::default()
            .fixed(Expression::NetworkHeader { offset: DESTINATION, len: 4, register: 0 })
            .fixed(Expression::Meta(MetaKey::Protocol, 1))
            .fixed(Expression::DestinationPort(2))
            .fixed(Expression::Lookup { map: ADDRESS_PORTS, key: 0, data: 4 })
            .fixed(destination)
            .add_to(batch, &self.table, DNAT_CHAIN);
        Rule::default()
            .fixed(Expression::Meta(MetaKey::Protocol, 0))
            .fixed(Expression::DestinationPort(1))
            .fixed(Expression::Lookup { map: ANY_PORTS, key: 0, data: 4 })
            .fixed(destination)
            .add_to(batch, &self.table, DNAT_CHAIN);
    }

    fn add_forwarding(&self, batch: &mut Batch) {
        let (table, bridge) = (&self.table, &self.bridge);
        let mut add = |rule: Rule| rule.add_to(batch, table, "forward");
        add(Rule::default().not_to(bridge).then(Verdict::Accept));
        add(Rule::default().established().then(Verdict::Accept));
        add(Rule::default().translated().then(Verdict::Accept));
        if self.inter_container {
            add(Rule::default().from(bridge).then(Verdict::Accept));
        }
        add(Rule::default().then(Verdict::Drop));
    }

    fn add_masquerading(&self, batch: &mut Batch) {
        let (table, bridge) = (&self.table, &self.bridge);
        let mut add = |rule: Rule| rule.fixed(Expression::Masquerade).add_to(batch, table, "postrouting");
        if self.masquerade {
            add(Rule::default().address(SOURCE, self.subnet).not_to(bridge));
        }
        // A published port used by a neighbour: the answer must come back through here to be translated.
        add(Rule::default().address(SOURCE, self.subnet).to(bridge).translated());
        // Or used by the host through 127.0.0.1, which a container would answer to itself.
        add(Rule::default().address(SOURCE, Ipv4Cidr::new(Ipv4Addr::new(127, 0, 0, 0), 8)).to(bridge));
    }
}

/// The keys of published ports in the two maps, each with the container's port. Those on IPv6 are the proxy's.
#[expect(clippy::type_complexity, reason = "two lists of the same pair, used in two places of this file")]
fn elements(ports: &[PublishedPort]) -> (Vec<(Vec<u8>, u16)>, Vec<(Vec<u8>, u16)>) {
    let (mut any, mut by_address) = (Vec::new(), Vec::new());
    for port in ports {
        let IpAddr::V4(host_ip) = port.host_ip else { continue };
        let key = [padded(&[port.protocol.number()]), padded(&port.host_port.to_be_bytes())].concat();
        if host_ip.is_unspecified() {
            any.push((key, port.container_port));
        } else {
            by_address.push(([host_ip.octets().as_slice(), &key].concat(), port.container_port));
        }
    }
    (any, by_address)
}

/// A field of a concatenation fills whole registers.
fn padded(bytes: &[u8]) -> [u8; 4] {
    let mut field = [0; 4];
    field[..bytes.len()].copy_from_slice(bytes);
    field
}
