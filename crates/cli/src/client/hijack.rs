//! A connection that stopped being HTTP: the container's streams, raw or in frames.

use crate::error::{Error, reason};
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// A connection taken over. It blocks: each direction belongs to a thread of its own, so that a terminal that does not read (Ctrl-S) or
/// a container that does not read holds up nothing but its own direction.
pub(crate) struct Hijacked {
    /// Both directions; a socket may be read and written at once.
    pub(crate) socket: File,
    /// What had already arrived behind the head of the answer.
    pub(crate) early: Vec<u8>,
}

impl Hijacked {
    pub(super) fn new(upgraded: Upgraded) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Protocol(reason(&error));
        let (socket, early): (OwnedFd, _) = match upgraded.downcast::<TokioIo<UnixStream>>() {
            Ok(Parts { io, read_buf, .. }) => {
                let stream = io.into_inner().into_std().map_err(failed)?;
                stream.set_nonblocking(false).map_err(failed)?;
                (stream.into(), read_buf)
            }
            Err(upgraded) => match upgraded.downcast::<TokioIo<TcpStream>>() {
                Ok(Parts { io, read_buf, .. }) => {
                    let stream = io.into_inner().into_std().map_err(failed)?;
                    stream.set_nonblocking(false).map_err(failed)?;
                    (stream.into(), read_buf)
                }
                Err(upgraded) => bridge(upgraded)?,
            },
        };
        Ok(Self { socket: socket.into(), early: early.to_vec() })
    }

    /// The direction from the container: what had arrived early, then the rest.
    pub(crate) fn reader(&self) -> io::Result<impl Read + use<>> {
        Ok(io::Cursor::new(self.early.clone()).chain(self.socket.try_clone()?))
    }

    /// The direction to the container.
    pub(crate) fn writer(&self) -> io::Result<File> {
        self.socket.try_clone()
    }
}

/// TLS has one state for both directions, so its stream stays with a task; the threads get the other end of a pair of sockets.
fn bridge(upgraded: Upgraded) -> Result<(OwnedFd, bytes::Bytes), Error> {
    let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>() else {
        return Err(Error::Protocol("the connection cannot be taken over".into()));
    };
    let failed = |error: io::Error| Error::Protocol(reason(&error));
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    theirs.set_nonblocking(true).map_err(failed)?;
    let mut theirs = UnixStream::from_std(theirs).map_err(failed)?;
    let mut stream = io.into_inner();
    tokio::spawn(async move {
        // Either side's failure ends both directions; the threads see the end of the stream.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut theirs).await;
    });
    Ok((ours.into(), read_buf))
}
