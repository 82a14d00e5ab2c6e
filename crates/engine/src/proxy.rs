//! The engine's own forwarding of published ports, for what the kernel does not translate.
//!
//! A published port on IPv4 is translated by the firewall and never comes here. What does: connections to `[::]`
//! (containers have IPv4 only), and any connection while somebody has flushed the firewall. The sockets come from
//! `network::Network::attach`, which binds them so that nobody else gets the port; whoever holds the [`PortProxy`] holds
//! the ports.
//!
//! ```text
//! client ── reserved socket (host) ── task per port ── connection per client ── container's address and port
//! ```

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use network::{ReservedPort, ReservedSocket};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections of one port at the same time; further clients wait in the socket's backlog.
const CONNECTIONS_MAX: usize = 1024;
/// Clients of one UDP port at the same time; datagrams of further ones are dropped, as a full queue does.
const FLOWS_MAX: usize = 512;
/// Bytes in flight in each direction of a connection.
const BUFFER_SIZE: usize = 16 << 10;
const DATAGRAM_MAX: usize = 64 << 10;
/// A container that does not answer at all; the client sees its connection closed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which a UDP client is forgotten, as in Docker's proxy.
const FLOW_TIMEOUT: Duration = Duration::from_secs(90);
/// Pause after a failed accept (no descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Forwards the published ports of one container as long as it exists.
#[derive(Debug, Default)]
pub(crate) struct PortProxy {
    tasks: JoinSet<()>,
}

impl PortProxy {
    /// Begins to forward. To be called in a runtime.
    pub(crate) fn start(reserved: Vec<ReservedPort>) -> io::Result<Self> {
        let mut tasks = JoinSet::new();
        for ReservedPort { target, socket, .. } in reserved {
            match socket {
                ReservedSocket::Tcp(listener) => {
                    let listener = TcpListener::from_std(listener)?;
                    tasks.spawn(forward_connections(listener, target));
                }
                ReservedSocket::Udp(socket) => {
                    let socket = UdpSocket::from_std(socket)?;
                    tasks.spawn(forward_datagrams(Arc::new(socket), target));
                }
            }
        }
        Ok(Self { tasks })
    }

    /// Cuts all connections; after that the ports are free to be bound again. (Dropping does the same a little later.)
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn forward_connections(listener: TcpListener, target: SocketAddr) {
    // Dropped with this task, and with it all connections.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((client, _)) => {
                connections.spawn(forward_connection(client, target));
            }
            Err(error) => {
                tracing::debug!(%error, %target, "accepting a connection to a published port");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn forward_connection(mut client: TcpStream, target: SocketAddr) {
    // Without a server behind it, closing is all the answer that there is: the client sees an early end.
    let Ok(Ok(mut server)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    // An error is one side's reset; dropping both sockets hands it on.
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER_SIZE, BUFFER_SIZE).await;
}

async fn forward_datagrams(front: Arc<UdpSocket>, target: SocketAddr) {
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        tokio::select! {
            received = front.recv_from(&mut buffer) => {
                // An error is a message about an earlier datagram: a client that went away.
                let Ok((len, client)) = received else { continue };
                if let Some(flow) = flow_of(&mut flows, &mut answers, &front, client, target).await {
                    // What cannot be delivered is lost, as on any network; a refusal is about an earlier datagram.
                    let _ = flow.send(&buffer[..len]).await;
                }
            }
            Some(ended) = answers.join_next() => {
                if let Ok(client) = ended {
                    flows.remove(&client);
                }
            }
        }
    }
}

/// The socket that stands for `client` towards the container, made at its first datagram.
async fn flow_of(
    flows: &mut HashMap<SocketAddr, Arc<UdpSocket>>,
    answers: &mut JoinSet<SocketAddr>,
    front: &Arc<UdpSocket>,
    client: SocketAddr,
    target: SocketAddr,
) -> Option<Arc<UdpSocket>> {
    if let Some(flow) = flows.get(&client) {
        return Some(Arc::clone(flow));
    }
    if flows.len() >= FLOWS_MAX {
        return None;
    }
    let flow = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
    flow.connect(target).await.ok()?;
    let flow = Arc::new(flow);
    answers.spawn(forward_answers(Arc::clone(&flow), Arc::clone(front), client));
    flows.insert(client, Arc::clone(&flow));
    Some(flow)
}

/// Hands answers back until there are none for a while; returns the client.
async fn forward_answers(flow: Arc<UdpSocket>, front: Arc<UdpSocket>, client: SocketAddr) -> SocketAddr {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        match timeout(FLOW_TIMEOUT, flow.recv(&mut buffer)).await {
            Ok(Ok(len)) => {
                let _ = front.send_to(&buffer[..len], client).await;
            }
            // Nobody listens in the container (yet): the client may try again.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(_)) | Err(_) => return client,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use network::{Protocol, PublishedPort};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn reserved(socket: ReservedSocket, target: SocketAddr) -> ReservedPort {
        let protocol = match socket {
            ReservedSocket::Tcp(_) => Protocol::Tcp,
            ReservedSocket::Udp(_) => Protocol::Udp,
        };
        let host_ip = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let port = PublishedPort { container_port: target.port(), protocol, host_ip, host_port: 1 };
        ReservedPort { port, target, socket }
    }

    fn front() -> (std::net::TcpListener, SocketAddr) {
        let listener = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_half_closed_connection_still_gets_its_answer() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (listener, address) = front();
        let target = server.local_addr().unwrap();
        let proxy = PortProxy::start(vec![reserved(ReservedSocket::Tcp(listener), target)]).unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut inside, _) = server.accept().await.unwrap();
        let mut question = String::new();
        inside.read_to_string(&mut question).await.unwrap();
        inside.write_all(b"answer").await.unwrap();
        drop(inside);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
        proxy.stop().await;
        std::net::TcpListener::bind(address).expect("the port is free again");
    }

    #[tokio::test]
    async fn a_container_that_does_not_listen_closes_the_connection() {
        let (listener, address) = front();
        let nobody = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let _proxy = PortProxy::start(vec![reserved(ReservedSocket::Tcp(listener), nobody)]).unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        assert!(matches!(client.read(&mut [0; 8]).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn datagrams_of_two_clients_are_told_apart() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let socket = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (address, target) = (socket.local_addr().unwrap(), server.local_addr().unwrap());
        let _proxy = PortProxy::start(vec![reserved(ReservedSocket::Udp(socket), target)]).unwrap();
        let mut clients = Vec::new();
        for word in [b"one", b"two"] {
            let client = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
            client.connect(address).await.unwrap();
            client.send(word).await.unwrap();
            clients.push((client, word));
        }
        let mut buffer = [0; 8];
        for _ in 0..2 {
            let (len, from) = server.recv_from(&mut buffer).await.unwrap();
            server.send_to(&buffer[..len], from).await.unwrap();
        }
        for (client, word) in clients {
            let len = client.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..len], word);
        }
    }
}
