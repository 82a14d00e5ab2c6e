//! The connection under hyper, with two additions: pieces of files are sent by the kernel, and nobody may stall for ever.
//!
//! ```text
//! body ──Piece::File──► hyper (head, chunks, order) ──placeholder──► Wire ──sendfile(2)──► socket
//!   └────FileRange────► outbox ─────────────────────────────────────► (which file, from where)
//! ```
//! hyper frames bodies and keeps their order, but can only pass bytes on. So a body yields stretches of one placeholder
//! instead, memory that nobody ever reads, and puts what they stand for into the connection's outbox. [`Wire`]
//! recognises the placeholder by its address and lets the kernel send the file from there: no byte of it enters this
//! process. Where TLS is in between, bodies yield bytes (see module `body`).

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Bytes of a file that one piece of a body stands for at most.
pub(crate) const PIECE: usize = 1 << 20;

/// Stands for bytes of files. Nobody touches it, so the kernel never gives it memory.
static PLACEHOLDER: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; PIECE]);

/// A piece of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    Bytes(Bytes),
    /// So many bytes of the file that is in the outbox.
    File(usize),
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(left) => *left,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::File(left) => &PLACEHOLDER[..(*left).min(PIECE)],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::File(left) => *left = left.saturating_sub(count),
        }
    }
}

fn is_placeholder(bytes: &[u8]) -> bool {
    PLACEHOLDER.as_ptr_range().contains(&bytes.as_ptr())
}

/// What placeholders stand for, in the order in which they were yielded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outbox(Arc<Mutex<VecDeque<FileRange>>>);

#[derive(Debug)]
struct FileRange {
    file: Arc<File>,
    offset: u64,
    left: usize,
}

impl Outbox {
    /// A piece of a body that stands for these bytes. `length` is at most [`PIECE`].
    pub(crate) fn piece(&self, file: &Arc<File>, offset: u64, length: usize) -> Piece {
        let range = FileRange { file: Arc::clone(file), offset, left: length };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(range);
        Piece::File(length)
    }

    /// Sends at most `length` bytes of what is first, and returns how many that were.
    fn send(&self, socket: &TcpStream, length: usize) -> io::Result<usize> {
        let mut ranges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(range) = ranges.front_mut() else {
            return Err(io::Error::other("a placeholder stands for nothing"));
        };
        let mut offset = range.offset;
        let sent = rustix::fs::sendfile(socket, &range.file, Some(&mut offset), length.min(range.left))?;
        if sent == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a stored part is shorter than its record says"));
        }
        range.offset = offset;
        range.left -= sent;
        if range.left == 0 {
            ranges.pop_front();
        }
        Ok(sent)
    }
}

/// A connection without TLS.
pub(crate) struct Wire {
    socket: TcpStream,
    outbox: Outbox,
}

impl Wire {
    pub(crate) fn new(socket: TcpStream, outbox: Outbox) -> Self {
        Self { socket, outbox }
    }

    fn poll_send(&self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_io(Interest::WRITABLE, || self.outbox.send(&self.socket, length)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if is_placeholder(bytes) {
            return self.poll_send(cx, bytes.len());
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let start = slices.iter().position(|slice| !slice.is_empty()).unwrap_or(slices.len());
        let slices = &slices[start..];
        match slices.iter().position(|slice| is_placeholder(slice)) {
            Some(0) => self.poll_send(cx, slices[0].len()),
            Some(before) => Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..before]),
            None => Pin::new(&mut self.socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Ends a connection whose client takes nothing for too long. (What a client does not send is watched where it is read.)
pub(crate) struct Patient<S> {
    inner: S,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<S> Patient<S> {
    pub(crate) fn new(inner: S, patience: Duration) -> Self {
        Self { inner, patience, deadline: Box::pin(tokio::time::sleep(patience)), waiting: false }
    }

    /// Passes on what a write says, and watches the time while it has to wait.
    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = false;
            return outcome;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, outcome)
    }
}
