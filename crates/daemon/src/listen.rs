//! Sockets that the API is served on: unix sockets, tcp, and those that systemd opened for us.

use rustix::fs::{Gid, Mode, Uid};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::hijack::Connection;
use crate::settings::Settings;
use crate::tls::{self, TlsError};

/// Where the API is served when nobody says otherwise.
const DEFAULT_HOST: &str = "unix:///run/gantry.sock";
/// Groups that may use the socket when none is named; root's when neither exists.
const DEFAULT_GROUPS: [&str; 2] = ["gantry", "docker"];
/// The first descriptor that systemd passes.
const FIRST_PASSED: i32 = 3;

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// `-H` with something that is no address.
    #[error("unable to parse docker host `{0}`")]
    Host(String),
    /// Somebody answers on the socket.
    #[error("failed to load listeners: {path}: another engine is listening on this socket")]
    Taken { path: PathBuf },
    /// The system refused.
    #[error("failed to load listeners: {host}: {source}")]
    Bind { host: String, source: io::Error },
    /// `--group` names no group.
    #[error("failed to load listeners: group {0} not found")]
    Group(String),
    /// tcp that nobody asked for in the open.
    #[error(
        "failed to load listeners: {0}: whoever connects becomes root on this host; use TLS (--tlsverify with certificates), or ask for plain tcp by name with --tls=false"
    )]
    PlainTcp(String),
    /// `fd://` without sockets from systemd.
    #[error(
        "failed to load listeners: no sockets found via socket activation: make sure the service was started by systemd"
    )]
    NothingPassed,
    /// TLS cannot be had.
    #[error("failed to load listeners: {0}")]
    Tls(#[from] TlsError),
}

/// One open socket.
pub(crate) enum Listener {
    /// A unix socket.
    Unix {
        /// What accepts.
        listener: UnixListener,
        /// Its file; none for a socket that systemd made.
        _path: Option<SocketPath>,
    },
    /// tcp, with TLS or (asked for by name) without.
    Tcp(TcpListener, Option<TlsAcceptor>),
}

/// A socket's file, removed when dropped.
pub(crate) struct SocketPath(PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// The next connection. TLS is not spoken yet: that is the connection's own task ([`Incoming::establish`]).
    pub(crate) async fn accept(&self) -> io::Result<Incoming> {
        match self {
            Self::Unix { listener, .. } => Ok(Incoming::Plain(Box::new(listener.accept().await?.0))),
            Self::Tcp(listener, acceptor) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(match acceptor {
                    Some(acceptor) => Incoming::Tls(acceptor.clone(), stream),
                    None => Incoming::Plain(Box::new(stream)),
                })
            }
        }
    }
}

/// A connection that was accepted.
pub(crate) enum Incoming {
    /// Ready to be served.
    Plain(Box<dyn Connection>),
    /// Has its handshake before it.
    Tls(TlsAcceptor, tokio::net::TcpStream),
}

impl Incoming {
    /// Shakes hands where that is due.
    pub(crate) async fn establish(self) -> io::Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Plain(connection) => connection,
            Self::Tls(acceptor, stream) => Box::new(acceptor.accept(stream).await?),
        })
    }
}

/// Opens every socket that the settings ask for.
pub(crate) async fn open(settings: &Settings) -> Result<Vec<Listener>, ListenError> {
    let default = [DEFAULT_HOST.to_owned()];
    let hosts = if settings.hosts.is_empty() { &default } else { settings.hosts.as_slice() };
    let mut listeners = Vec::new();
    for host in hosts {
        match host.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => {
                listeners.push(unix(Path::new(path), settings.group.as_deref())?);
            }
            Some(("tcp", address)) => listeners.push(tcp(host, address, settings).await?),
            Some(("fd", _)) => listeners.extend(passed(settings)?),
            None if host.starts_with('/') => listeners.push(unix(Path::new(host), settings.group.as_deref())?),
            _ => return Err(ListenError::Host(host.clone())),
        }
    }
    Ok(listeners)
}

fn unix(path: &Path, group: Option<&str>) -> Result<Listener, ListenError> {
    let host = || format!("unix://{}", path.display());
    let failed = |source: io::Error| ListenError::Bind { host: host(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    // A file that nobody answers on is left from an engine that was killed.
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(ListenError::Taken { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Nobody may connect between bind and chmod.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = std::os::unix::net::UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(failed)?;
    let removed_at_end = SocketPath(path.to_owned());
    let gid = socket_group(group)?;
    rustix::fs::chown(path, Some(Uid::ROOT), Some(gid)).map_err(|error| failed(error.into()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Listener::Unix { listener: UnixListener::from_std(listener).map_err(failed)?, _path: Some(removed_at_end) })
}

/// The group that owns the socket: the named one (which must exist), a usual one, or root's.
fn socket_group(named: Option<&str>) -> Result<Gid, ListenError> {
    // /etc/group is read as text: a static program has no other name service.
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let find = |name: &str| {
        let mut lines = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
        lines.find(|fields| fields.first() == Some(&name)).and_then(|fields| fields.get(2)?.parse().ok())
    };
    let gid = match named {
        Some(name) => name.parse().ok().or_else(|| find(name)).ok_or_else(|| ListenError::Group(name.to_owned()))?,
        None => DEFAULT_GROUPS.iter().find_map(|name| find(name)).unwrap_or(0),
    };
    Ok(Gid::from_raw(gid))
}

async fn tcp(host: &str, address: &str, settings: &Settings) -> Result<Listener, ListenError> {
    let acceptor = match (settings.tls, settings.tlsverify) {
        (_, true) | (Some(true), _) => Some(tls::acceptor(settings)?),
        (Some(false), false) => None,
        (None, false) => return Err(ListenError::PlainTcp(host.to_owned())),
    };
    if acceptor.is_none() {
        tracing::warn!(
            "{host}: the API is served without encryption and without a password; whoever connects becomes root"
        );
    }
    let address = with_defaults(address, if acceptor.is_some() { 2376 } else { 2375 });
    let listener =
        TcpListener::bind(&address).await.map_err(|source| ListenError::Bind { host: host.to_owned(), source })?;
    Ok(Listener::Tcp(listener, acceptor))
}

/// `""` is loopback, and a missing port the usual one.
fn with_defaults(address: &str, port: u16) -> String {
    let (host, named) = match address.rsplit_once(':') {
        Some((host, named)) if named.bytes().all(|byte| byte.is_ascii_digit()) && !named.is_empty() => {
            (host, named.to_owned())
        }
        _ => (address.trim_end_matches(':'), port.to_string()),
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    format!("{host}:{named}")
}

/// The sockets that systemd passed: `LISTEN_FDS` of them for the process `LISTEN_PID`, from descriptor 3.
fn passed(settings: &Settings) -> Result<Vec<Listener>, ListenError> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let for_us = number("LISTEN_PID").is_none_or(|pid| pid == rustix::process::getpid().as_raw_nonzero().get());
    let count = number("LISTEN_FDS").filter(|count| for_us && (1..=64).contains(count)).unwrap_or(0);
    if count == 0 {
        return Err(ListenError::NothingPassed);
    }
    (FIRST_PASSED..FIRST_PASSED + count).map(|number| passed_one(number, settings)).collect()
}

fn passed_one(number: i32, settings: &Settings) -> Result<Listener, ListenError> {
    let failed = |source: io::Error| ListenError::Bind { host: format!("fd://{number}"), source };
    let fd: OwnedFd = sys::inherited::take(number).map_err(failed)?;
    let family = rustix::net::sockopt::socket_domain(&fd).map_err(|error| failed(error.into()))?;
    if family == rustix::net::AddressFamily::UNIX {
        let listener = std::os::unix::net::UnixListener::from(fd);
        listener.set_nonblocking(true).map_err(failed)?;
        return Ok(Listener::Unix { listener: UnixListener::from_std(listener).map_err(failed)?, _path: None });
    }
    let acceptor = match (settings.tls, settings.tlsverify) {
        (_, true) | (Some(true), _) => Some(tls::acceptor(settings)?),
        (Some(false), false) => None,
        (None, false) => return Err(ListenError::PlainTcp(format!("fd://{number}"))),
    };
    let listener = std::net::TcpListener::from(fd);
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Listener::Tcp(TcpListener::from_std(listener).map_err(failed)?, acceptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_their_defaults() {
        assert_eq!(with_defaults("", 2375), "127.0.0.1:2375");
        assert_eq!(with_defaults("0.0.0.0", 2376), "0.0.0.0:2376");
        assert_eq!(with_defaults("[::1]:99", 2375), "[::1]:99");
        assert_eq!(with_defaults("[::1]", 2375), "[::1]:2375");
        assert_eq!(with_defaults(":80", 2375), "127.0.0.1:80");
    }
}
