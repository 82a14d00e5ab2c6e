//! A small world for each test: a host, an internet, and containers, each in a network namespace of its own.
//!
//! ```text
//! container 172.x.0.2 ─┐
//! container 172.x.0.3 ─┴─ bridge ─ host 203.0.113.2 ──── internet 203.0.113.1
//! ```
//!
//! Everything vanishes with the descriptors, also when a test fails.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use network::{AttachRequest, Attachment, HostPorts, MacAddr, Network, NetworkConfig, PortBinding, Protocol, Sandbox};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sys::netlink::address::{self, Address};
use sys::netlink::link::{self, Veth};
use sys::netlink::route::{self, Route};
use sys::netlink::{Family, Socket, new_namespace};

pub const INTERNET: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Long enough for a loaded machine; only failures wait this long.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for what must not come.
pub const SHORT: Duration = Duration::from_millis(300);

/// A network namespace.
pub struct Place(pub OwnedFd);

impl Place {
    pub fn new() -> Self {
        let place = Self(new_namespace().expect("these tests need root"));
        place.run(|| route_socket().request(&[link::set_up(1)]).unwrap());
        place
    }

    /// Runs `work` on a thread inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let enter = || {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            };
            match scope.spawn(enter).join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Echoes what one TCP client says, and hands back the client's address.
    pub fn serve_tcp(&self, port: u16) -> thread::JoinHandle<SocketAddr> {
        let listener = self.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            let mut buffer = [0; 64];
            let len = stream.read(&mut buffer).unwrap();
            stream.write_all(&buffer[..len]).unwrap();
            peer
        })
    }

    /// The same for one datagram.
    pub fn serve_udp(&self, port: u16) -> thread::JoinHandle<SocketAddr> {
        let socket = self.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 64];
            let (len, peer) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..len], peer).unwrap();
            peer
        })
    }

    /// Says something over TCP, and expects to hear it again.
    #[track_caller]
    pub fn talk_tcp(&self, to: impl Into<SocketAddr>) {
        let (to, caller) = (to.into(), std::panic::Location::caller());
        self.run(|| {
            let mut stream =
                TcpStream::connect_timeout(&to, PATIENCE).unwrap_or_else(|e| panic!("{caller}: connect {to}: {e}"));
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap_or_else(|e| panic!("{caller}: answer of {to}: {e}"));
            assert_eq!(&answer, b"hello");
        });
    }

    /// The same over UDP.
    #[track_caller]
    pub fn talk_udp(&self, to: impl Into<SocketAddr>) {
        let (to, caller) = (to.into(), std::panic::Location::caller());
        self.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(to).unwrap();
            socket.send(b"hello").unwrap();
            let mut answer = [0; 5];
            socket.recv(&mut answer).unwrap_or_else(|e| panic!("{caller}: answer of {to}: {e}"));
            assert_eq!(&answer, b"hello");
        });
    }

    /// Nobody answers there.
    pub fn cannot_reach(&self, to: impl Into<SocketAddr>) {
        let to = to.into();
        let reached = self.run(|| TcpStream::connect_timeout(&to, SHORT).is_ok());
        assert!(!reached, "{to} was reached");
    }

    pub fn links(&self) -> Vec<link::Link> {
        self.run(|| link::list(&mut route_socket()).unwrap())
    }

    pub fn has_link(&self, name: &str) -> bool {
        self.links().iter().any(|link| link.name == name)
    }
}

pub fn route_socket() -> Socket {
    Socket::open(Family::Route).unwrap()
}

/// A host with an internet.
pub struct World {
    pub host: Place,
    pub internet: Place,
    pub dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let world = Self { host: Place::new(), internet: Place::new(), dir: tempfile::tempdir().unwrap() };
        world.host.run(|| {
            let cable = Veth {
                name: "uplink",
                master: None,
                mtu: 1500,
                peer_namespace: world.internet.0.as_fd(),
                peer_name: "eth0",
                peer_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            };
            route_socket().request(&[link::new_veth(&cable)]).unwrap();
        });
        world.host.give_address("uplink", HOST);
        world.internet.give_address("eth0", INTERNET);
        world
    }

    pub fn config(&self, instance: &str) -> NetworkConfig {
        let state = self.dir.path().join(format!("{instance}.json"));
        NetworkConfig::new(instance, format!("br-{instance}"), state)
    }

    pub fn open(&self, instance: &str) -> Network {
        let config = self.config(instance);
        self.host.run(|| Network::open(config)).unwrap()
    }

    /// A container with `ports`.
    pub fn start(&self, network: &Network, ports: &[PortBinding]) -> Container {
        self.try_start(network, ports).unwrap()
    }

    pub fn try_start(&self, network: &Network, ports: &[PortBinding]) -> network::Result<Container> {
        let place = Place::new();
        let request = AttachRequest {
            container_id: "c".repeat(64),
            sandbox: Sandbox::Fd(place.0.try_clone().unwrap()),
            ip: None,
            mac: None,
            ports: ports.to_vec(),
        };
        let attachment = self.host.run(|| network.attach(&request))?;
        Ok(Container { place, attachment })
    }
}

impl Place {
    fn give_address(&self, name: &str, address: Ipv4Addr) {
        self.run(|| {
            let mut socket = route_socket();
            let index = link::by_name(&mut socket, name).unwrap().unwrap().index;
            let address = Address { link: index, address, prefix_len: 24 };
            socket.request(&[address::add(&address), link::set_up(index)]).unwrap();
        });
    }

    pub fn route_via(&self, destination: Ipv4Addr, prefix_len: u8, gateway: Ipv4Addr) {
        let route = Route { destination, prefix_len, gateway: Some(gateway), link: None };
        self.run(|| route_socket().request(&[route::add(&route)]).unwrap());
    }
}

/// A container that is attached.
pub struct Container {
    pub place: Place,
    pub attachment: Attachment,
}

impl Container {
    pub fn ip(&self) -> Ipv4Addr {
        self.attachment.endpoint.ip.unwrap()
    }

    pub fn at(&self, port: u16) -> SocketAddr {
        (self.ip(), port).into()
    }

    /// The host port of the first published port.
    pub fn host_port(&self) -> u16 {
        self.attachment.endpoint.ports[0].host_port
    }
}

pub fn tcp(container_port: u16, host_ports: &str) -> PortBinding {
    let host_ports: HostPorts = host_ports.parse().unwrap();
    PortBinding { container_port, protocol: Protocol::Tcp, host_ip: None, host_ports }
}

pub fn udp(container_port: u16, host_ports: &str) -> PortBinding {
    PortBinding { protocol: Protocol::Udp, ..tcp(container_port, host_ports) }
}

pub fn on(ip: impl Into<IpAddr>, binding: PortBinding) -> PortBinding {
    PortBinding { host_ip: Some(ip.into()), ..binding }
}
