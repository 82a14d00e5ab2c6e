//! Tells whoever started the engine that it is ready: systemd by its socket, our own command line by a pipe.

use std::io::Write as _;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Number of a descriptor that gets the line `ready` once every socket accepts connections.
const READY_FD: &str = "GANTRY_READY_FD";

/// Every socket accepts connections.
pub(crate) fn ready() {
    systemd("READY=1\nSTATUS=Serving the Engine API");
    let number = std::env::var(READY_FD).ok().and_then(|text| text.parse().ok());
    if let Some(number) = number {
        let told = sys::inherited::take(number).and_then(|fd| std::fs::File::from(fd).write_all(b"ready\n"));
        if let Err(error) = told {
            tracing::warn!(%error, "could not tell {READY_FD} that the engine is ready");
        }
    }
}

/// The engine is about to end.
pub(crate) fn stopping() {
    systemd("STOPPING=1");
}

/// One datagram to `NOTIFY_SOCKET`, a path or `@name`; nothing without it.
fn systemd(message: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = (|| {
        let address = match address.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&address)?,
        };
        UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)
    })();
    if let Err(error) = sent {
        tracing::warn!(%error, "could not notify the service manager");
    }
}
