//! Where the engine is, and a connection to it.

use super::Body;
use super::tls::Tls;
use crate::error::Error;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::path::PathBuf;
use tokio::net::{TcpStream, UnixStream};

/// Our own engine's socket.
pub(super) const OWN_SOCKET: &str = "/run/gantry.sock";

/// An address of an engine.
#[derive(Debug)]
pub(crate) struct Endpoint {
    shown: String,
    address: Address,
}

#[derive(Debug)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
    Tls(String, Tls),
}

impl Endpoint {
    /// The socket that our own engine listens on unless told otherwise.
    pub(crate) fn own() -> Self {
        Self { shown: format!("unix://{OWN_SOCKET}"), address: Address::Unix(OWN_SOCKET.into()) }
    }

    /// Reads `unix:///path` and `tcp://host:port`.
    pub(crate) fn parse(host: &str) -> Result<Self, Error> {
        let wrong =
            |why: String| Error::plain(format!("Failed to initialize: unable to resolve docker endpoint: {why}"));
        let (scheme, rest) = host.split_once("://").unwrap_or(("", host));
        match scheme {
            "unix" => {
                let path = if rest.is_empty() { "/var/run/docker.sock" } else { rest };
                Ok(Self { shown: format!("unix://{path}"), address: Address::Unix(path.into()) })
            }
            "tcp" | "http" => {
                let rest = rest.trim_end_matches('/');
                let address = match rest.rsplit_once(':') {
                    Some((name, port)) if port.parse::<u16>().is_ok() => {
                        format!("{}:{port}", if name.is_empty() { "localhost" } else { name })
                    }
                    None if rest.is_empty() => "localhost:2375".into(),
                    None => format!("{rest}:2375"),
                    Some(_) => return Err(wrong(format!("invalid proto, expected tcp: {host}"))),
                };
                Ok(Self { shown: host.to_owned(), address: Address::Tcp(address) })
            }
            "ssh" | "fd" | "npipe" | "https" => {
                Err(wrong(format!("connections over {scheme}:// are not supported: {host}")))
            }
            _ => Err(wrong(format!("invalid bind address format: {host}"))),
        }
    }

    /// Speaks TLS if it is wanted. A socket in the file system needs none, and gets none, as with Docker.
    pub(super) fn with_tls(mut self, tls: Option<Tls>) -> Self {
        if let (Address::Tcp(address), Some(tls)) = (&self.address, tls) {
            self.address = Address::Tls(address.clone(), tls);
        }
        self
    }

    /// Opens a connection and starts speaking HTTP on it.
    pub(super) async fn connect(&self) -> Result<SendRequest<Body>, Error> {
        match &self.address {
            Address::Unix(path) => speak(UnixStream::connect(path).await.map_err(|error| self.failed(error))?).await,
            Address::Tcp(address) => speak(self.tcp(address).await?).await,
            Address::Tls(address, tls) => {
                let connector = tls.connector()?;
                let name = address.rsplit_once(':').map_or(address.as_str(), |(name, _)| name);
                let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(name).map_err(|error| Error::Protocol(error.to_string()))?;
                let stream = connector.connect(name, self.tcp(address).await?).await;
                speak(stream.map_err(|error| Error::Protocol(format!("tls: {error}")))?).await
            }
        }
    }

    async fn tcp(&self, address: &str) -> Result<TcpStream, Error> {
        let stream = TcpStream::connect(address).await.map_err(|error| self.failed(error))?;
        // Small requests follow each other; without this each would wait for an acknowledgement.
        stream.set_nodelay(true).map_err(|error| self.failed(error))?;
        Ok(stream)
    }

    fn failed(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Forbidden { host: self.shown.clone(), source },
            _ => Error::Unreachable(self.shown.clone()),
        }
    }
}

async fn speak<S>(stream: S) -> Result<SendRequest<Body>, Error>
where
    TokioIo<S>: Read + Write + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| Error::Protocol(super::request::cause(&error)))?;
    // The connection is driven beside the command; its failure reaches the request that is on it.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let shown =
            |host: &str| Endpoint::parse(host).map(|endpoint| format!("{} {:?}", endpoint.shown, endpoint.address));
        let good = [
            ("unix:///run/x.sock", "unix:///run/x.sock Unix(\"/run/x.sock\")"),
            ("unix://", "unix:///var/run/docker.sock Unix(\"/var/run/docker.sock\")"),
            ("tcp://:2375", "tcp://:2375 Tcp(\"localhost:2375\")"),
            ("tcp://host", "tcp://host Tcp(\"host:2375\")"),
            ("tcp://[::1]:80", "tcp://[::1]:80 Tcp(\"[::1]:80\")"),
        ];
        for (host, expected) in good {
            assert_eq!(shown(host).unwrap(), expected);
        }
        assert_eq!(
            shown("foo://x").unwrap_err().to_string(),
            "Failed to initialize: unable to resolve docker endpoint: invalid bind address format: foo://x"
        );
        assert!(shown("ssh://host").unwrap_err().to_string().contains("ssh://"));
    }
}
