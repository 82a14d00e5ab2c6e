//! Living beside others: Docker's firewall, a second engine, other programs' ports.

mod lan;

use std::io::pipe;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use lan::{Container, HOST, INTERNET, PATIENCE, Place, World, on, tcp, udp};
use network::{Error, Network, NetworkKind};
use sys::netlink::nftables::{
    self, Base, Batch, ChainName, Compare, Expression, Hook, MetaKey, Place as At, TableFamily, Verdict,
};
use sys::netlink::{Family, Socket};

const FAMILY: TableFamily = TableFamily::Ip;

fn chain(name: &str) -> ChainName<'_> {
    ChainName { family: FAMILY, table: "filter", chain: name }
}

fn firewall() -> Socket {
    Socket::open(Family::Netfilter).unwrap()
}

/// What dockerd does to `ip filter` when it starts, as far as forwarding is concerned.
fn dockerd_starts(host: &Place) {
    host.run(|| {
        let mut batch = Batch::new();
        batch.add_table(FAMILY, "filter");
        let base = Base { kind: "filter", hook: Hook::Forward, priority: 0, policy_drop: true };
        batch.add_chain(chain("FORWARD"), Some(base));
        for name in ["DOCKER-USER", "DOCKER"] {
            batch.add_chain(chain(name), None);
        }
        let jump = |to| [Expression::Counter, Expression::Verdict(Verdict::Jump(to))];
        batch.add_rule(chain("FORWARD"), At::First, &jump("DOCKER"), "");
        batch.add_rule(chain("FORWARD"), At::First, &jump("DOCKER-USER"), "");
        let docker0 = Expression::interface_name("docker0");
        let from = [Expression::Meta(MetaKey::InputName, 0), Expression::Compare(0, Compare::Equal, &docker0)];
        batch.add_rule(
            chain("FORWARD"),
            At::Last,
            &[from, [Expression::Counter, Expression::Verdict(Verdict::Accept)]].concat(),
            "",
        );
        batch.commit(&mut firewall()).unwrap();
    });
}

fn forward_jumps(host: &Place) -> Vec<String> {
    host.run(|| {
        nftables::rules(&mut firewall(), chain("FORWARD")).unwrap().into_iter().filter_map(|r| r.jump).collect()
    })
}

fn tables(host: &Place) -> Vec<String> {
    host.run(|| nftables::tables(&mut firewall(), FAMILY).unwrap())
}

/// Reaches out, and is reached.
fn traffic_passes(world: &World, container: &Container) {
    let served = world.internet.serve_tcp(443);
    container.place.talk_tcp((INTERNET, 443));
    served.join().unwrap();
    let served = container.place.serve_tcp(80);
    world.internet.talk_tcp((HOST, container.host_port()));
    served.join().unwrap();
}

/// Waits until `condition` holds; fails when it takes too long.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_forward_policy_of_drop_before_our_start() {
    let world = World::new();
    dockerd_starts(&world.host);
    let net = world.open("before");
    let container = world.start(&net, &[tcp(80, "8080")]);
    traffic_passes(&world, &container);
    assert_eq!(forward_jumps(&world.host), ["DOCKER-USER", "DOCKER", "GANTRY-before"]);
    // Opening again changes nothing.
    drop(net);
    let net = world.open("before");
    assert_eq!(forward_jumps(&world.host), ["DOCKER-USER", "DOCKER", "GANTRY-before"]);
    world.host.run(|| net.detach(&container.attachment.endpoint.id)).unwrap();
    world.host.run(|| net.shutdown()).unwrap();
    assert_eq!(forward_jumps(&world.host), ["DOCKER-USER", "DOCKER"]);
}

#[test]
fn dockerd_starts_or_rules_are_flushed_while_we_run() {
    let world = World::new();
    let net = world.open("after");
    let container = world.start(&net, &[tcp(80, "8080")]);
    let (stop, end) = pipe().unwrap();
    let watcher = net.clone();
    thread::scope(|scope| {
        let watching = scope.spawn(|| world.host.run(|| watcher.watch_firewall(stop.as_fd())));
        dockerd_starts(&world.host);
        eventually("the jump is there", || forward_jumps(&world.host).contains(&"GANTRY-after".to_owned()));
        traffic_passes(&world, &container);
        // dockerd again, and ours slips before its chains.
        dockerd_starts(&world.host);
        eventually("the jump is last", || forward_jumps(&world.host).last().is_some_and(|jump| jump == "GANTRY-after"));
        assert_eq!(forward_jumps(&world.host).iter().filter(|jump| *jump == "GANTRY-after").count(), 1);
        // `nft flush ruleset`
        world.host.run(|| {
            let mut batch = Batch::new();
            for table in nftables::tables(&mut firewall(), FAMILY).unwrap() {
                batch.delete_table(FAMILY, &table);
            }
            batch.commit(&mut firewall()).unwrap();
        });
        eventually("the table is there again", || tables(&world.host) == ["gantry-after"]);
        traffic_passes(&world, &container);
        // A new network of Docker's: what goes there is left to Docker.
        dockerd_starts(&world.host);
        eventually("the jump is there again", || forward_jumps(&world.host).len() == 3);
        world.host.run(|| {
            let bridge = sys::netlink::link::new_bridge("br-0123456789ab", network::MacAddr([2, 0, 0, 0, 9, 9]), 1500);
            lan::route_socket().request(&[bridge]).unwrap();
        });
        let own_rules = || world.host.run(|| nftables::rules(&mut firewall(), chain("GANTRY-after")).unwrap().len());
        eventually("the new bridge has a rule", || own_rules() == 3);
        drop(end);
        watching.join().unwrap().unwrap();
    });
}

#[test]
fn two_engines_side_by_side() {
    let world = World::new();
    let (one, two) = (world.open("one"), world.open("two"));
    let (first, second) = (world.start(&one, &[tcp(80, "8080")]), world.start(&two, &[tcp(80, "8081")]));
    assert_ne!(first.ip().octets()[1], second.ip().octets()[1], "two subnets");
    for container in [&first, &second] {
        traffic_passes(&world, container);
    }
    // Not by the container's address, but by the published port.
    let keep = second.place.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 81)).unwrap());
    first.place.cannot_reach(second.at(81));
    drop(keep);
    let served = second.place.serve_tcp(80);
    first.place.talk_tcp((HOST, 8081));
    served.join().unwrap();
    let taken = world.try_start(&two, &[tcp(80, "8080")]).err().unwrap();
    assert_eq!(
        taken.to_string(),
        "Error starting userland proxy: listen tcp4 0.0.0.0:8080: bind: address already in use"
    );
    world.host.run(|| one.detach(&first.attachment.endpoint.id)).unwrap();
    world.host.run(|| one.shutdown()).unwrap();
    assert_eq!(tables(&world.host), ["gantry-two"]);
    assert!(!world.host.has_link("br-one"));
    traffic_passes(&world, &second);
}

#[test]
fn ports_that_are_taken_are_refused_in_dockers_words() {
    let world = World::new();
    let net = world.open("taken");
    let first = world.start(&net, &[tcp(80, "8080"), on(Ipv4Addr::LOCALHOST, udp(53, "5300"))]);
    let refused = |ports: &[network::PortBinding]| world.try_start(&net, ports).err().unwrap().to_string();
    assert_eq!(refused(&[tcp(80, "8080")]), "Bind for 0.0.0.0:8080 failed: port is already allocated");
    assert_eq!(
        refused(&[on(Ipv4Addr::LOCALHOST, tcp(80, "8080"))]),
        "Bind for 127.0.0.1:8080 failed: port is already allocated"
    );
    assert_eq!(refused(&[udp(53, "5300")]), "Bind for 0.0.0.0:5300 failed: port is already allocated");
    assert_eq!(
        refused(&[on(Ipv4Addr::new(10, 9, 8, 7), tcp(80, "81"))]),
        "Error starting userland proxy: listen tcp4 10.9.8.7:81: bind: cannot assign requested address"
    );
    let other = world.host.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 9000)).unwrap());
    assert_eq!(
        refused(&[tcp(80, "9000")]),
        "Error starting userland proxy: listen tcp4 0.0.0.0:9000: bind: address already in use"
    );
    // The first free one of a range, beside both kinds of neighbours.
    let ranged = world.start(&net, &[tcp(80, "9000-9002"), tcp(81, "9000-9002")]);
    let ports: Vec<_> = ranged.attachment.endpoint.ports.iter().map(|port| port.host_port).collect();
    assert_eq!(ports, [9001, 9001, 9002, 9002]);
    assert!(matches!(world.try_start(&net, &[tcp(80, "9001-9002")]).err(), Some(Error::PortAllocated { .. })));
    // What failed has left nothing.
    assert_eq!(world.host.links().iter().filter(|link| link.kind.as_deref() == Some("veth")).count(), 3);
    assert_eq!(net.inspect("bridge").unwrap().endpoints.len(), 2);
    drop((first, other));
}

#[test]
fn ephemeral_ports_come_from_the_kernels_range() {
    let world = World::new();
    world.host.run(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").unwrap());
    let net = world.open("eph");
    let taken = world.host.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 40001)).unwrap());
    let one = world.start(&net, &[tcp(80, ""), tcp(81, "0"), udp(53, "")]);
    let v4: Vec<_> = one.attachment.endpoint.ports.iter().filter(|p| p.host_ip.is_ipv4()).collect();
    assert_eq!(v4.iter().map(|p| p.host_port).collect::<Vec<_>>(), [40000, 40002, 40000]);
    world.start(&net, &[tcp(80, "")]);
    let error = world.try_start(&net, &[tcp(80, ""), tcp(81, "")]).err().unwrap();
    assert_eq!(error.to_string(), "all ports are allocated");
    drop(taken);
}

#[test]
fn leftovers_of_a_crash_are_removed_or_adopted() {
    let world = World::new();
    let net = world.open("crash");
    let (lives, gone) = (world.start(&net, &[tcp(80, "8080")]), world.start(&net, &[tcp(80, "8081")]));
    let host_only = net.join(NetworkKind::Host, &"h".repeat(64), None).unwrap();
    let ids = (net.inspect("bridge").unwrap().id, net.inspect("none").unwrap().id);
    let (bridge_mac, cable) = (world.host.links(), gone.attachment.endpoint.host_interface.clone());
    // The engine dies: its sockets are closed, everything else stays.
    let (endpoint, address) = (lives.attachment.endpoint.clone(), gone.ip());
    drop((net, lives.attachment.reserved, gone.attachment.reserved));
    let lives = Container { place: lives.place, attachment: network::Attachment { endpoint, reserved: vec![] } };
    traffic_passes(&world, &lives);

    let net = world.open("crash");
    let done = world.host.run(|| net.reconcile(std::slice::from_ref(&lives.attachment.endpoint.id)));
    assert!(done.problems.is_empty(), "{:?}", done.problems);
    assert_eq!(done.adopted.len(), 1);
    assert_eq!(done.adopted[0].endpoint, lives.attachment.endpoint);
    assert_eq!(done.adopted[0].reserved.len(), 2);
    let mut released: Vec<_> = done.released.iter().map(|endpoint| &endpoint.id).collect();
    released.sort();
    let mut expected = [&gone.attachment.endpoint.id, &host_only.id];
    expected.sort();
    assert_eq!(released, expected);
    assert_eq!((net.inspect("bridge").unwrap().id, net.inspect("none").unwrap().id), ids);
    assert!(!world.host.has_link(&cable));
    assert_eq!(
        bridge_mac.iter().find(|l| l.name == "br-crash").unwrap().mac,
        world.host.links().iter().find(|l| l.name == "br-crash").unwrap().mac
    );
    traffic_passes(&world, &lives);
    world.internet.cannot_reach((HOST, 8081));
    // Address and port are free again.
    let next = world.start(&net, &[tcp(80, "8081")]);
    assert_eq!(next.ip(), address);
    traffic_passes(&world, &next);
}

#[test]
fn a_damaged_state_file_is_an_error() {
    let world = World::new();
    let config = world.config("bad");
    std::fs::write(&config.state_path, "{").unwrap();
    let error = world.host.run(|| Network::open(config)).unwrap_err();
    assert!(matches!(error, Error::State { .. }), "{error}");
}

#[test]
fn shutdown_leaves_nothing_without_containers_and_everything_with_them() {
    let world = World::new();
    let net = world.open("end");
    let container = world.start(&net, &[tcp(80, "8080")]);
    world.host.run(|| net.shutdown()).unwrap();
    traffic_passes(&world, &container);
    let cable = container.attachment.endpoint.host_interface.clone();
    world.host.run(|| net.detach(&container.attachment.endpoint.id)).unwrap();
    world.host.run(|| net.detach(&container.attachment.endpoint.id)).unwrap();
    drop(container);
    eventually("the cable goes with the namespace", || !world.host.has_link(&cable));
    world.host.run(|| net.shutdown()).unwrap();
    assert!(tables(&world.host).is_empty());
    assert_eq!(world.host.links().len(), 2);
    // And the next start has the same subnet.
    let again = world.open("end");
    assert_eq!(again.inspect("bridge").unwrap().ipam, net.inspect("bridge").unwrap().ipam);
}

#[test]
fn the_subnet_is_chosen_or_given() {
    let world = World::new();
    world.host.route_via(Ipv4Addr::new(172, 30, 0, 0), 16, INTERNET);
    let chosen = world.open("choose").inspect("bridge").unwrap().ipam.unwrap();
    assert_eq!(chosen.subnet.to_string(), "172.31.0.0/16");
    let mut config = world.config("bip");
    config.bip = Some("10.77.0.129/24".parse().unwrap());
    config.fixed_cidr = Some("10.77.0.128/30".parse().unwrap());
    config.default_gateway = Some(Ipv4Addr::new(10, 77, 0, 131));
    config.mtu = 1400;
    let net = world.host.run(|| Network::open(config)).unwrap();
    let container = world.start(&net, &[]);
    let endpoint = &container.attachment.endpoint;
    assert_eq!((container.ip(), endpoint.prefix_len), (Ipv4Addr::new(10, 77, 0, 128), 24));
    assert_eq!(endpoint.gateway, Some(Ipv4Addr::new(10, 77, 0, 131)));
    assert!(container.place.links().iter().any(|link| link.name == "eth0" && link.mtu == 1400));
    // .129 is the bridge, .131 the gateway: one is left.
    assert_eq!(world.start(&net, &[]).ip(), Ipv4Addr::new(10, 77, 0, 130));
    assert!(matches!(world.try_start(&net, &[]).err(), Some(Error::AddressesExhausted { .. })));
}

#[test]
fn many_containers_at_once() {
    let world = World::new();
    let net = world.open("twenty");
    let begun = Instant::now();
    let containers: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(|| world.start(&net, &[tcp(80, "")]))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("20 at once: {:?}", begun.elapsed());
    let mut last: Vec<_> = containers.iter().map(|container| container.ip().octets()[3]).collect();
    last.sort_unstable();
    assert_eq!(last, (2..22).collect::<Vec<u8>>());
    for container in &containers {
        traffic_passes(&world, container);
    }
}

#[test]
fn two_engines_with_the_default_bridge() {
    let world = World::new();
    let open = |instance: &str| {
        let mut config = world.config(instance);
        config.bridge = network::NetworkConfig::DEFAULT_BRIDGE.to_owned();
        world.host.run(|| Network::open(config)).unwrap()
    };
    let bridge = |net: &Network| net.inspect("bridge").unwrap().options["com.docker.network.bridge.name"].clone();
    let (one, two) = (open("one"), open("two"));
    assert_eq!((bridge(&one).as_str(), bridge(&two).as_str()), ("gantry0", "gantry1"));
    let (first, second) = (world.start(&one, &[tcp(80, "8080")]), world.start(&two, &[tcp(80, "8081")]));
    // The second one opens first after a restart, and keeps its bridge.
    drop((one, two));
    let two = open("two");
    assert_eq!(bridge(&two), "gantry1");
    assert!(world.host.run(|| two.reconcile(std::slice::from_ref(&second.attachment.endpoint.id))).released.is_empty());
    traffic_passes(&world, &first);
    traffic_passes(&world, &second);
    // A bridge that somebody else made is not taken over.
    let mut config = world.config("three");
    config.bridge = "gantry1".to_owned();
    let error = world.host.run(|| Network::open(config)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid network configuration: the interface gantry1 exists, but is not the bridge of this engine"
    );
}

#[test]
fn a_lost_bridge_is_made_again() {
    let world = World::new();
    let net = world.open("lost");
    let container = world.start(&net, &[tcp(80, "8080")]);
    world.host.run(|| {
        let mut socket = lan::route_socket();
        let bridge = sys::netlink::link::by_name(&mut socket, "br-lost").unwrap().unwrap();
        socket.request(&[sys::netlink::link::delete(bridge.index)]).unwrap();
    });
    drop((net, container.attachment.reserved));
    let net = world.open("lost");
    let done = world.host.run(|| net.reconcile(std::slice::from_ref(&container.attachment.endpoint.id)));
    assert!(done.problems.is_empty(), "{:?}", done.problems);
    let endpoint = container.attachment.endpoint;
    let attachment = network::Attachment { endpoint, reserved: vec![] };
    traffic_passes(&world, &Container { place: container.place, attachment });
}
