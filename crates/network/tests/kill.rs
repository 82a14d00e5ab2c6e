//! The engine is killed at random moments, and the next one is clean.
//!
//! The test runs itself again as the engine that is killed: a process that attaches and detaches as fast as it can.

mod lan;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use lan::{Place, World, tcp, udp};
use network::{AttachRequest, Network, NetworkConfig, Sandbox};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sys::netlink::nftables::{self, TableFamily};
use sys::netlink::{Family, Socket};

const CHILD: &str = "GANTRY_TEST_NETWORK_CHILD";
const ROUNDS: u32 = 150;
/// The longest life of an engine: long enough for some containers.
const LIFE_MAX_US: u64 = 25_000;

#[test]
fn the_next_engine_is_clean() {
    let world = World::new();
    let namespace = format!("/proc/{}/fd/{}", std::process::id(), world.host.0.as_raw_fd());
    let mut leftovers = 0;
    for round in 0..ROUNDS {
        let mut engine = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "engine_that_is_killed", "--nocapture"])
            .env(CHILD, format!("{namespace}|{}", world.dir.path().join("kill.json").display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let random = RandomState::new().build_hasher().finish();
        // Not a wait for anything: the moment of death is what is tested.
        std::thread::sleep(Duration::from_micros(random % LIFE_MAX_US));
        assert!(engine.try_wait().unwrap().is_none(), "round {round}: the engine ended by itself");
        engine.kill().unwrap();
        engine.wait().unwrap();
        // Every third death is followed by another before anybody cleans up.
        if round % 3 != 0 {
            leftovers += check_next(&world, round);
        }
    }
    println!("{leftovers} leftovers");
    assert!(leftovers > 0, "no engine died with a container: lives are too short");
}

/// Opens the next engine; returns how many endpoints it had to clean up.
fn check_next(world: &World, round: u32) -> usize {
    let net = world.open("kill");
    let done = world.host.run(|| net.reconcile(&[]));
    assert!(done.problems.is_empty(), "round {round}: {:?}", done.problems);
    assert!(net.inspect("bridge").unwrap().endpoints.is_empty());
    let cables = world.host.links().into_iter().filter(|link| link.kind.as_deref() == Some("veth")).count();
    assert_eq!(cables, 1, "round {round}: the uplink alone");
    let tables = world.host.run(|| {
        let mut socket = Socket::open(Family::Netfilter).unwrap();
        nftables::tables(&mut socket, TableFamily::Ip).unwrap()
    });
    assert_eq!(tables, ["gantry-kill"]);
    // Address and port of the dead are free.
    let container = world.start(&net, &[tcp(80, "8080"), udp(53, "8053")]);
    let served = container.place.serve_tcp(80);
    world.host.talk_tcp((Ipv4Addr::LOCALHOST, 8080));
    served.join().unwrap();
    world.host.run(|| net.detach(&container.attachment.endpoint.id)).unwrap();
    done.released.len()
}

#[test]
fn engine_that_is_killed() {
    let Ok(child) = std::env::var(CHILD) else { return };
    let (namespace, state) = child.split_once('|').unwrap();
    let namespace = std::fs::File::open(namespace).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    let net = Network::open(NetworkConfig::new("kill", "br-kill", state)).unwrap();
    assert!(net.reconcile(&[]).problems.is_empty());
    loop {
        let place = Place::new();
        let request = AttachRequest {
            container_id: "k".repeat(64),
            sandbox: Sandbox::Fd(place.0.try_clone().unwrap()),
            ip: None,
            mac: None,
            ports: vec![tcp(80, "8080"), udp(53, "8053")],
        };
        let attachment = net.attach(&request).unwrap();
        drop(attachment.reserved);
        net.detach(&attachment.endpoint.id).unwrap();
    }
}
