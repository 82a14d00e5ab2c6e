//! Attach and exec take the connection over: after the head of the answer it carries raw bytes both ways.
//!
//! ```text
//! with  Upgrade: tcp    HTTP/1.1 101 UPGRADED   Content-Type, Connection: Upgrade, Upgrade: tcp
//! without               HTTP/1.1 200 OK         Content-Type: application/vnd.docker.raw-stream, no length, not chunked
//! ```
//! The second form is no HTTP that a library would write, so both are written here: the handler's answer is a [`Takeover`],
//! the server stops speaking HTTP on the connection and hands it over with what was read ahead.

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use api::Version;

/// Framed streams, since 1.42 named by their own type.
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// A terminal's bytes, or framed streams before 1.42.
pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";

/// The content type of a stream to a client of this version.
pub(crate) fn stream_type(framed: bool, version: Version) -> &'static str {
    if framed && !version.before(42) { MULTIPLEXED } else { RAW }
}

/// A connection of any kind.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// What is done with a connection that was taken over.
pub(crate) struct Takeover(Box<dyn FnOnce(RawConnection) -> BoxFuture<'static, ()> + Send>);

impl Takeover {
    /// Runs `use_it` on the connection; it is closed when that ends.
    pub(crate) fn new<F, R>(use_it: F) -> Self
    where
        F: FnOnce(RawConnection) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self(Box::new(move |connection| Box::pin(use_it(connection))))
    }

    pub(crate) async fn run(self, connection: RawConnection) {
        (self.0)(connection).await;
    }
}

/// A connection after HTTP, with the bytes that were read beyond the request.
pub(crate) struct RawConnection {
    read_ahead: Bytes,
    connection: Box<dyn Connection>,
}

impl RawConnection {
    pub(crate) fn new(connection: Box<dyn Connection>, read_ahead: Bytes) -> Self {
        Self { read_ahead, connection }
    }

    /// Writes the head that makes the client switch: see the module's picture. `headers` are whole lines.
    pub(crate) async fn accept(&mut self, upgrade: bool, content_type: &str, headers: &str) -> io::Result<()> {
        let head = if upgrade {
            format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{headers}\r\n"
            )
        } else {
            format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n{headers}\r\n")
        };
        self.connection.write_all(head.as_bytes()).await
    }

    /// Refuses in the way that dockerd's attach does: plain text on the raw connection.
    pub(crate) async fn refuse(&mut self, status: u16, message: &str) -> io::Result<()> {
        let reason = hyper::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let head = format!("HTTP/1.1 {status} {}\r\nContent-Type: {RAW}\r\n\r\n", reason.unwrap_or_default());
        self.connection.write_all(head.as_bytes()).await?;
        self.connection.write_all(format!("{message}\r\n").as_bytes()).await?;
        self.connection.shutdown().await
    }
}

impl AsyncRead for RawConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.read_ahead.is_empty() {
            let count = buf.remaining().min(self.read_ahead.len());
            let first = self.read_ahead.split_to(count);
            buf.put_slice(&first);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut *self.connection).poll_read(cx, buf)
    }
}

impl AsyncWrite for RawConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.connection).poll_shutdown(cx)
    }
}

/// Reads the next piece of a raw stream; `None` at its end.
pub(crate) async fn read_piece(reader: &mut (impl AsyncRead + Unpin), room: usize) -> io::Result<Option<Bytes>> {
    use tokio::io::AsyncReadExt as _;
    let mut buffer = BytesMut::with_capacity(room);
    let count = reader.read_buf(&mut buffer).await?;
    Ok((count > 0).then(|| buffer.freeze()))
}
