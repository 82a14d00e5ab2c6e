//! Who reaches whom: containers each other, the internet, and published ports from every side.

mod lan;

use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

use lan::{HOST, INTERNET, World, on, tcp, udp};
use network::{Endpoint, ReservedSocket};

#[test]
fn containers_get_sequential_addresses_and_reach_each_other() {
    let world = World::new();
    let net = world.open("talk");
    let (one, two) = (world.start(&net, &[]), world.start(&net, &[]));
    let endpoint: &Endpoint = &one.attachment.endpoint;
    let gateway = endpoint.gateway.unwrap();
    assert_eq!((gateway.octets()[2..].to_vec(), endpoint.prefix_len), (vec![0, 1], 16));
    assert_eq!(one.ip().octets()[2..], [0, 2]);
    assert_eq!(two.ip().octets()[2..], [0, 3]);
    let [a, b, c, d] = one.ip().octets();
    assert_eq!(endpoint.mac.unwrap().to_string(), format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}"));
    let served = two.place.serve_tcp(80);
    one.place.talk_tcp(two.at(80));
    assert_eq!(served.join().unwrap().ip(), one.ip());
    // The host is a neighbour too.
    let served = one.place.serve_udp(53);
    world.host.talk_udp(one.at(53));
    assert_eq!(served.join().unwrap().ip(), gateway);
}

#[test]
fn eth0_is_set_up_like_dockers() {
    let world = World::new();
    let net = world.open("eth0");
    let container = world.start(&net, &[]);
    let read = |path: &str| container.place.run(|| std::fs::read_to_string(path).unwrap().trim().to_owned());
    assert_eq!(read("/proc/sys/net/ipv6/conf/eth0/disable_ipv6"), "1");
    let links = container.place.links();
    assert_eq!(links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["lo", "eth0"]);
    assert!(links.iter().all(|link| link.flags & 1 == 1), "{links:?}");
    assert_eq!(links[1].mac, container.attachment.endpoint.mac);
    let inside = container.place.run(|| sys::netlink::route::list(&mut lan::route_socket()).unwrap());
    assert_eq!(inside[0].gateway, container.attachment.endpoint.gateway);
    assert_eq!(inside.len(), 2, "{inside:?}");
}

#[test]
fn the_way_out_is_masqueraded() {
    let world = World::new();
    let net = world.open("out");
    let container = world.start(&net, &[]);
    let served = world.internet.serve_tcp(8080);
    container.place.talk_tcp((INTERNET, 8080));
    assert_eq!(served.join().unwrap().ip(), HOST);
    let served = world.internet.serve_udp(5353);
    container.place.talk_udp((INTERNET, 5353));
    assert_eq!(served.join().unwrap().ip(), HOST);
}

#[test]
fn a_published_port_is_reached_from_every_side() {
    let world = World::new();
    let net = world.open("pub");
    let server = world.start(&net, &[tcp(80, "8080"), udp(53, "8053")]);
    let neighbour = world.start(&net, &[]);
    let gateway = server.attachment.endpoint.gateway.unwrap();

    let served = server.place.serve_tcp(80);
    world.internet.talk_tcp((HOST, 8080));
    assert_eq!(served.join().unwrap().ip(), INTERNET, "the client's address is kept");
    for address in [Ipv4Addr::LOCALHOST, HOST, gateway] {
        let served = server.place.serve_tcp(80);
        world.host.talk_tcp((address, 8080));
        served.join().unwrap();
    }
    for address in [HOST, gateway] {
        let served = server.place.serve_tcp(80);
        neighbour.place.talk_tcp((address, 8080));
        served.join().unwrap();
        // Hairpin: the container through the host to itself.
        let served = server.place.serve_tcp(80);
        server.place.talk_tcp((address, 8080));
        served.join().unwrap();
    }
    for (place, address) in
        [(&world.internet, HOST), (&world.host, Ipv4Addr::LOCALHOST), (&world.host, HOST), (&neighbour.place, HOST)]
    {
        let served = server.place.serve_udp(53);
        place.talk_udp((address, 8053));
        served.join().unwrap();
    }
}

#[test]
fn only_published_ports_are_reached_from_outside() {
    let world = World::new();
    let net = world.open("iso");
    let local = on(Ipv4Addr::LOCALHOST, tcp(81, "8081"));
    let server = world.start(&net, &[tcp(80, "8080"), local]);
    let subnet = server.ip();
    world.internet.route_via(Ipv4Addr::new(subnet.octets()[0], subnet.octets()[1], 0, 0), 16, HOST);
    let keep = server
        .place
        .run(|| [80, 81, 82].map(|port| std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()));
    world.internet.cannot_reach(server.at(82));
    world.internet.cannot_reach(server.at(80));
    world.internet.cannot_reach((HOST, 8081));
    world.host.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, 8081)).unwrap());
    world.internet.run(|| TcpStream::connect((HOST, 8080)).unwrap());
    drop(keep);
}

#[test]
fn a_container_cannot_reach_the_loopback_of_the_host() {
    let world = World::new();
    let net = world.open("lo");
    let container = world.start(&net, &[]);
    let gateway = container.attachment.endpoint.gateway.unwrap();
    let _secret = world.host.run(|| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 6060)).unwrap());
    // A privileged container may send anything: make it route 127.0.0.1 to the host.
    container.place.run(|| {
        std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/lo/route_localnet", "1").unwrap();
        let mut socket = lan::route_socket();
        let loopback = sys::netlink::address::Address { link: 1, address: Ipv4Addr::LOCALHOST, prefix_len: 8 };
        socket.request(&[sys::netlink::address::delete(&loopback)]).unwrap();
    });
    container.place.route_via(Ipv4Addr::LOCALHOST, 32, gateway);
    container.place.cannot_reach((Ipv4Addr::LOCALHOST, 6060));
}

#[test]
fn reserved_sockets_carry_ipv6() {
    let world = World::new();
    let net = world.open("six");
    let server = world.start(&net, &[tcp(80, "8080"), udp(53, "8053")]);
    let ports: Vec<_> = server.attachment.endpoint.ports.iter().map(|p| (p.host_ip.to_string(), p.host_port)).collect();
    let expected = [("0.0.0.0", 8080), ("::", 8080), ("0.0.0.0", 8053), ("::", 8053)];
    assert_eq!(ports, expected.map(|(ip, port)| (ip.to_owned(), port)));
    let six = server.attachment.reserved.iter().find(|reserved| reserved.port.host_ip.is_ipv6()).unwrap();
    assert_eq!(six.target, server.at(80));
    let ReservedSocket::Tcp(listener) = &six.socket else { panic!("{six:?}") };
    let _client = world.host.run(|| TcpStream::connect((Ipv6Addr::LOCALHOST, 8080)).unwrap());
    listener.set_nonblocking(false).unwrap();
    assert!(listener.accept().is_ok());
}

#[test]
fn many_ports_are_published_at_once() {
    let world = World::new();
    let net = world.open("many");
    let bindings: Vec<_> = (0..1000).map(|n| tcp(1000 + n, &(20_000 + n).to_string())).collect();
    let begun = std::time::Instant::now();
    let server = world.start(&net, &bindings);
    println!("1000 ports: {:?}", begun.elapsed());
    for port in [20_000, 20_500, 20_999] {
        let served = server.place.serve_tcp(port - 19_000);
        world.internet.talk_tcp((HOST, port));
        served.join().unwrap();
    }
    let id = server.attachment.endpoint.id.clone();
    drop(server.attachment.reserved);
    world.host.run(|| net.detach(&id)).unwrap();
    world.internet.cannot_reach((HOST, 20_500));
}

#[test]
fn attaching_takes_little_time() {
    let world = World::new();
    let net = world.open("fast");
    let mut times = Vec::new();
    for _ in 0..20 {
        let place = lan::Place::new();
        let request = network::AttachRequest {
            container_id: "f".repeat(64),
            sandbox: network::Sandbox::Fd(place.0.try_clone().unwrap()),
            ip: None,
            mac: None,
            ports: vec![],
        };
        let (attach, detach) = world.host.run(|| {
            let begun = std::time::Instant::now();
            let attachment = net.attach(&request).unwrap();
            let attach = begun.elapsed();
            drop(request);
            drop(place);
            let begun = std::time::Instant::now();
            net.detach(&attachment.endpoint.id).unwrap();
            (attach, begun.elapsed())
        });
        times.push((attach, detach));
    }
    times.sort();
    println!("attach, detach: median {:?}, worst {:?}", times[10], times[19]);
    // The goal is 3 ms; a loaded machine gets ten times as much before this is called a defect.
    assert!(times[10].0.as_millis() < 30, "{times:?}");
}

#[test]
fn without_inter_container_traffic_only_published_ports_are_left() {
    let world = World::new();
    let mut config = world.config("icc");
    config.inter_container = false;
    let net = world.host.run(|| network::Network::open(config)).unwrap();
    let (server, client) = (world.start(&net, &[tcp(80, "8080")]), world.start(&net, &[]));
    let served = server.place.serve_tcp(80);
    client.place.cannot_reach(server.at(80));
    client.place.talk_tcp((HOST, 8080));
    served.join().unwrap();
    let served = world.internet.serve_tcp(443);
    client.place.talk_tcp((INTERNET, 443));
    served.join().unwrap();
}

#[test]
fn the_first_packet_of_a_container_is_not_lost() {
    let world = World::new();
    let net = world.open("first");
    for _ in 0..40 {
        let container = world.start(&net, &[]);
        let gateway = container.attachment.endpoint.gateway.unwrap();
        // A lost one would be sent again after a second.
        let begun = std::time::Instant::now();
        let refused = container.place.run(|| TcpStream::connect((gateway, 9))).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(begun.elapsed().as_millis() < 900, "{:?}", begun.elapsed());
        world.host.run(|| net.detach(&container.attachment.endpoint.id)).unwrap();
    }
}

#[test]
fn a_udp_client_that_goes_on_sending_reaches_the_next_container() {
    let world = World::new();
    let net = world.open("flow");
    let client = world.internet.run(|| std::net::UdpSocket::bind((INTERNET, 4000)).unwrap());
    client.set_read_timeout(Some(lan::PATIENCE)).unwrap();
    client.connect((HOST, 8053)).unwrap();
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let server = world.start(&net, &[udp(53, "8053")]);
        let served = server.place.serve_udp(53);
        client.send(b"hello").unwrap();
        client.recv(&mut [0; 8]).unwrap();
        served.join().unwrap();
        addresses.push(server.ip());
        let id = server.attachment.endpoint.id.clone();
        drop(server.attachment.reserved);
        world.host.run(|| net.detach(&id)).unwrap();
        // Its namespace lives on in `server.place`, so the next one has another address.
        std::mem::forget(server.place);
    }
    assert_ne!(addresses[0], addresses[1]);
}

#[test]
fn ping_passes_the_translation() {
    let world = World::new();
    let net = world.open("ping");
    let container = world.start(&net, &[]);
    let gateway = container.attachment.endpoint.gateway.unwrap();
    for target in [gateway, INTERNET] {
        container.place.run(|| {
            use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap();
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(lan::PATIENCE)).unwrap();
            // Type 8, code 0, checksum, identifier 1, sequence number 1: the sum of all words is 0xffff.
            let echo = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
            let to = std::net::SocketAddrV4::new(target, 0);
            rustix::net::sendto(&socket, &echo, SendFlags::empty(), &to).unwrap();
            let mut answer = [0; 64];
            let (len, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty()).unwrap();
            // After an IP header of 20 bytes: an echo reply of the same numbers.
            assert_eq!((len, answer[20], &answer[24..28]), (28, 0, &[0, 1, 0, 1][..]), "{target}");
        });
    }
}
