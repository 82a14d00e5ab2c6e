//! Living with other programs' firewalls.
//!
//! A packet is forwarded only when every table lets it. Docker (and `iptables` users) keep a table `ip filter` whose
//! chain `FORWARD` drops by policy what it does not know: our containers. So we put a chain of our own into that
//! table, in terms that `iptables-save` can print, and one jump to it:
//!
//! ```text
//! chain FORWARD { policy drop;  …jumps to Docker's chains…;  jump GANTRY-<instance>;  … }
//! chain GANTRY-<instance> { -o gantry0 ACCEPT;  -i gantry0 -o docker0 RETURN;  -i gantry0 ACCEPT }
//! ```
//!
//! What may reach our bridge is decided by our own table; what we send to a bridge of Docker's is left to Docker.

use std::collections::BTreeSet;

use sys::netlink::nftables::{
    self, Batch, ChainInfo, ChainName, Compare, Expression, MetaKey, Place, TableFamily, Verdict,
};
use sys::netlink::{Error, Socket};

/// `NF_INET_FORWARD`.
const FORWARD_HOOK: u32 = 2;
const FILTER: &str = "filter";
const FORWARD: &str = "FORWARD";
/// Docker's chains are called so; its jumps stay before ours.
const DOCKER_PREFIX: &str = "DOCKER";

/// Our part in the table of others.
#[derive(Debug, Clone)]
pub(crate) struct Foreign {
    /// Name of our chain there, at most 28 characters for `iptables`.
    pub(crate) chain: String,
    /// Name of our bridge.
    pub(crate) bridge: String,
}

/// What was seen of other firewalls.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Our own table is there.
    pub(crate) own_table: bool,
    /// `ip filter FORWARD` was there, and lets our containers pass now.
    pub(crate) accepted: bool,
    /// Base chains that drop by policy and that we do not touch, as `family table chain`.
    pub(crate) dropping: Vec<String>,
}

impl Foreign {
    /// Puts our chain into `ip filter`, if that is there; changes nothing when everything is in place already.
    /// `bridges` are those of Docker.
    pub(crate) fn ensure(
        &self,
        socket: &mut Socket,
        own_table: &str,
        bridges: &BTreeSet<String>,
    ) -> Result<Seen, Error> {
        let chains = nftables::chains(socket, TableFamily::Ip)?;
        let mut seen = Seen {
            own_table: chains.iter().any(|chain| chain.table == own_table && chain.hook.is_some()),
            ..Seen::default()
        };
        let others = nftables::chains(socket, TableFamily::Inet)?;
        for (family, chain) in chains.iter().map(|c| ("ip", c)).chain(others.iter().map(|c| ("inet", c))) {
            let ours = family == "ip" && chain.table == FILTER && chain.name == FORWARD;
            if drops_forwarded(chain) && !ours {
                seen.dropping.push(format!("{family} {} {}", chain.table, chain.name));
            }
        }
        let is_forward = |c: &ChainInfo| c.table == FILTER && c.name == FORWARD && c.hook == Some(FORWARD_HOOK);
        if chains.iter().any(is_forward) {
            let present = chains.iter().any(|chain| chain.table == FILTER && chain.name == self.chain);
            self.ensure_jump(socket, present, bridges)?;
            seen.accepted = true;
        }
        Ok(seen)
    }

    fn ensure_jump(&self, socket: &mut Socket, present: bool, bridges: &BTreeSet<String>) -> Result<(), Error> {
        let forward = ChainName { family: TableFamily::Ip, table: FILTER, chain: FORWARD };
        let own = ChainName { chain: &self.chain, ..forward };
        let rules = nftables::rules(socket, forward)?;
        let is_docker =
            |rule: &nftables::RuleInfo| rule.jump.as_deref().is_some_and(|chain| chain.starts_with(DOCKER_PREFIX));
        let last_docker = rules.iter().rposition(is_docker);
        let jumps: Vec<_> = (0..rules.len()).filter(|i| rules[*i].jump.as_deref() == Some(&self.chain)).collect();
        let in_place = jumps.len() == 1 && last_docker.is_none_or(|docker| docker < jumps[0]);
        // The comment of the last rule tells for which bridges the chain was written.
        let comment = self.comment(bridges);
        let current = || -> Result<bool, Error> {
            Ok(nftables::rules(socket, own)?.last().is_some_and(|rule| rule.comment.as_deref() == Some(&comment)))
        };
        if present && in_place && { current }()? {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.add_chain(own, None);
        batch.flush_chain(own);
        self.fill(&mut batch, own, bridges, &comment);
        for jump in jumps {
            batch.delete_rule(forward, rules[jump].handle);
        }
        let place = last_docker.map_or(Place::First, |docker| Place::After(rules[docker].handle));
        let jump = [Expression::Counter, Expression::Verdict(Verdict::Jump(&self.chain))];
        batch.add_rule(forward, place, &jump, "");
        batch.commit(socket)
    }

    fn fill(&self, batch: &mut Batch, own: ChainName<'_>, bridges: &BTreeSet<String>, comment: &str) {
        let name = Expression::interface_name(&self.bridge);
        let from = [Expression::Meta(MetaKey::InputName, 0), Expression::Compare(0, Compare::Equal, &name)];
        let to = [Expression::Meta(MetaKey::OutputName, 0), Expression::Compare(0, Compare::Equal, &name)];
        let end = |verdict| [Expression::Counter, Expression::Verdict(verdict)];
        batch.add_rule(own, Place::Last, &[to, end(Verdict::Accept)].concat(), "");
        for bridge in bridges {
            let name = Expression::interface_name(bridge);
            let out = [Expression::Meta(MetaKey::OutputName, 0), Expression::Compare(0, Compare::Equal, &name)];
            batch.add_rule(own, Place::Last, &[from, out, end(Verdict::Return)].concat(), "");
        }
        batch.add_rule(own, Place::Last, &[from, end(Verdict::Accept)].concat(), comment);
    }

    /// At most 127 bytes: names beyond are counted only.
    fn comment(&self, bridges: &BTreeSet<String>) -> String {
        let names: Vec<_> = bridges.iter().take(4).map(String::as_str).collect();
        format!("{} beside {} [{}]", self.bridge, names.join(" "), bridges.len())
    }

    /// Removes our chain and the jumps to it.
    pub(crate) fn remove(&self, socket: &mut Socket) -> Result<(), Error> {
        let chains = nftables::chains(socket, TableFamily::Ip)?;
        if !chains.iter().any(|chain| chain.table == FILTER && chain.name == self.chain) {
            return Ok(());
        }
        let forward = ChainName { family: TableFamily::Ip, table: FILTER, chain: FORWARD };
        let mut batch = Batch::new();
        for rule in nftables::rules(socket, forward)? {
            if rule.jump.as_deref() == Some(&self.chain) {
                batch.delete_rule(forward, rule.handle);
            }
        }
        batch.delete_chain(ChainName { chain: &self.chain, ..forward });
        batch.commit(socket)
    }

    /// Does a change to this chain concern us?
    pub(crate) fn concerns(&self, change: &nftables::Change, own_table: &str) -> bool {
        if change.family != TableFamily::Ip as u8 && change.family != TableFamily::Inet as u8 {
            return false;
        }
        change.table == own_table || change.chain.as_deref().is_none_or(|chain| chain == FORWARD || chain == self.chain)
    }
}

fn drops_forwarded(chain: &ChainInfo) -> bool {
    chain.policy_drop && chain.hook == Some(FORWARD_HOOK) && chain.kind.as_deref() == Some("filter")
}

/// Is this the name of one of Docker's bridges: `docker0`, or `br-` and twelve hexadecimal digits?
pub(crate) fn is_docker_bridge(name: &str) -> bool {
    name == "docker0"
        || name.strip_prefix("br-").is_some_and(|id| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
