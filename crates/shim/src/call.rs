//! Connections that carry lines: calls with their answers, and events.

use crate::protocol::{MAX_LINE, Request};
use crate::spool::Spool;
use rustix::event::PollFlags;
use serde::Serialize;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to an engine.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) connection: UnixStream,
    input: Vec<u8>,
    output: Spool,
    /// It wants events, and says nothing more.
    pub(crate) events: bool,
    /// It is over.
    pub(crate) lost: bool,
}

impl Call {
    pub(crate) fn new(connection: UnixStream) -> io::Result<Self> {
        connection.set_nonblocking(true)?;
        Ok(Self { connection, input: Vec::new(), output: Spool::default(), events: false, lost: false })
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.output.is_empty());
        flags
    }

    /// Take in what came and send what is due.
    pub(crate) fn ready(&mut self, flags: PollFlags, buffer: &mut [u8]) {
        if flags.contains(PollFlags::OUT) && self.flush().is_err() {
            self.lost = true;
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            match self.connection.read(buffer) {
                Ok(0) => self.lost = true,
                Ok(count) if self.input.len() + count <= MAX_LINE => self.input.extend(&buffer[..count]),
                Ok(_) => self.lost = true,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => self.lost = true,
            }
        }
    }

    /// The next whole line, as a request or as why it is none.
    pub(crate) fn next_request(&mut self) -> Option<Result<Request, serde_json::Error>> {
        let end = self.input.iter().position(|b| *b == b'\n')?;
        let line: Vec<u8> = self.input.drain(..=end).collect();
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Some(serde_json::from_slice(&line))
    }

    /// Send a line.
    pub(crate) fn send(&mut self, message: &impl Serialize, spool_dir: &Path) {
        let Ok(mut line) = serde_json::to_vec(message) else {
            self.lost = true;
            return;
        };
        line.push(b'\n');
        if self.output.push(&line, spool_dir).and_then(|()| self.flush()).is_err() {
            self.lost = true;
        }
    }

    /// Bytes that came behind the last request: the first of standard input.
    pub(crate) fn leftover(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// Gives back what it has no use for while nobody speaks.
    pub(crate) fn rest(&mut self) {
        self.input.shrink_to_fit();
        self.output.rest();
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.drain(self.connection.as_fd())
    }
}
