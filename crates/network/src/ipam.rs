//! Which addresses are free: subnets on this host, and addresses in the subnet. Pure decisions.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::Ipv4Cidr;

/// The subnets to choose from, best first: the same private ranges as Docker's, from the other end, so that the two
/// seldom want the same one.
fn predefined() -> impl Iterator<Item = Ipv4Cidr> {
    let sixteens = [30, 31].into_iter().chain((17..=29).rev()).map(|second| Ipv4Addr::new(172, second, 0, 0));
    let twenties = (0..16).rev().map(|third| Ipv4Addr::new(192, 168, third << 4, 0));
    sixteens.map(|net| Ipv4Cidr::new(net, 16)).chain(twenties.map(|net| Ipv4Cidr::new(net, 20)))
}

/// The first predefined subnet that shares no address with `used` (routes, addresses, name servers of this host),
/// as the address that the bridge gets: the subnet's first.
pub(crate) fn free_subnet(used: &[Ipv4Cidr]) -> Option<Ipv4Cidr> {
    let subnet = predefined().find(|subnet| !used.iter().any(|other| subnet.overlaps(*other)))?;
    Some(Ipv4Cidr::new(Ipv4Addr::from(u32::from(subnet.address) + 1), subnet.prefix_len))
}

/// The lowest address of `range` that may be given to a container, or `None` when all are taken.
pub(crate) fn free_address(
    subnet: Ipv4Cidr,
    range: Ipv4Cidr,
    taken: &BTreeSet<Ipv4Addr>,
    may_use: impl Fn(Ipv4Addr) -> bool,
) -> Option<Ipv4Addr> {
    let (first, last) = (u32::from(range.network().address), u32::from(range.broadcast()));
    (first..=last).map(Ipv4Addr::from).find(|ip| is_host(subnet, *ip) && !taken.contains(ip) && may_use(*ip))
}

/// Neither the network's own address nor its broadcast address (a /31 and a /32 have none).
pub(crate) fn is_host(subnet: Ipv4Cidr, ip: Ipv4Addr) -> bool {
    subnet.contains(ip) && (subnet.prefix_len >= 31 || (ip != subnet.network().address && ip != subnet.broadcast()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Ipv4Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_subnet_keeps_clear_of_routes() {
        assert_eq!(free_subnet(&[]), Some(cidr("172.30.0.1/16")));
        assert_eq!(free_subnet(&[cidr("172.30.4.0/24")]), Some(cidr("172.31.0.1/16")));
        assert_eq!(free_subnet(&[cidr("172.16.0.0/12")]), Some(cidr("192.168.240.1/20")));
        assert_eq!(free_subnet(&[cidr("172.16.0.0/12"), cidr("192.168.0.0/16")]), None);
    }

    #[test]
    fn addresses_are_given_from_the_lowest() {
        let subnet = cidr("10.0.0.1/29");
        let mut taken = BTreeSet::from([subnet.address]);
        let mut given = Vec::new();
        while let Some(ip) = free_address(subnet, subnet, &taken, |_| true) {
            given.push(ip.octets()[3]);
            taken.insert(ip);
        }
        assert_eq!(given, [2, 3, 4, 5, 6]);
        taken.remove(&Ipv4Addr::new(10, 0, 0, 3));
        assert_eq!(free_address(subnet, subnet, &taken, |_| true), Some(Ipv4Addr::new(10, 0, 0, 3)));
        assert_eq!(free_address(subnet, cidr("10.0.0.4/30"), &taken, |_| true), None);
    }

    #[test]
    fn edges_of_the_address_space() {
        assert_eq!(cidr("255.255.255.255/0").network(), cidr("0.0.0.0/0"));
        assert_eq!(cidr("1.2.3.4/32").broadcast(), Ipv4Addr::new(1, 2, 3, 4));
        let all = cidr("255.255.255.252/30");
        assert_eq!(free_address(all, all, &BTreeSet::new(), |_| true), Some(Ipv4Addr::new(255, 255, 255, 253)));
        assert!("1.2.3.4".parse::<Ipv4Cidr>().is_err());
        assert!("1.2.3.4/33".parse::<Ipv4Cidr>().is_err());
    }
}
