//! A way to a registry that breaks: connections are cut after so many bytes of what the client sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Proxy {
    pub port: u16,
    left: Arc<AtomicUsize>,
}

impl Proxy {
    /// Leads to this port of the local host. The first `cuts` connections that carry more than `after` bytes end there.
    pub async fn start(target: u16, cuts: usize, after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicUsize::new(cuts));
        let counter = Arc::clone(&left);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, Arc::clone(&counter), after));
            }
        });
        Self { port, left }
    }

    /// Connections that would still be cut.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }
}

async fn carry(client: TcpStream, target: u16, left: Arc<AtomicUsize>, after: usize) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let (mut carried, mut buffer) = (0, vec![0; 16 << 10]);
    while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
        carried += length;
        let is_cut = carried > after
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_cut {
            answers.abort();
            return;
        }
        if to_server.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
