//! The streams of one process: the container's own, or an exec's.

use crate::log::{Log, Stream};
use crate::protocol::{Attach, Exit};
use crate::spool::Spool;
use rustix::event::PollFlags;
use rustix::termios::Winsize;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of standard input that are kept while the program does not read; clients wait beyond.
const INPUT: usize = 64 << 10;

/// Bytes that a pipe for output holds, and that are read from it at once: what the program may be ahead of its log.
pub(crate) const CHUNK: usize = 256 << 10;

/// How long output is read after a process ended, when somebody else still holds the other end.
const GRACE: Duration = Duration::from_secs(2);

/// How long a log that is slower than its container is waited for after the container's end.
const LOG_GRACE: Duration = Duration::from_secs(10);

/// Room for a frame's header before the bytes that were read, so that both go out in one piece.
pub(crate) const HEADER: usize = 8;

/// The shim's ends of a process's streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Standard input, or the terminal.
    pub(crate) input: Option<File>,
    /// Standard output, or the terminal.
    pub(crate) stdout: Option<File>,
    /// Standard error.
    pub(crate) stderr: Option<File>,
}

/// A process, its streams and who is connected to them.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) pid: i32,
    pub(crate) terminal: bool,
    pub(crate) exit: Option<Exit>,
    /// When that was.
    pub(crate) ended: Option<Instant>,
    /// Everyone who listens was told.
    pub(crate) told: bool,
    /// Standard input is closed when a client that sent to it is done.
    pub(crate) stdin_once: bool,
    streams: Streams,
    queue: VecDeque<u8>,
    /// Close standard input when the queue is empty.
    closing: bool,
    clients: Vec<Client>,
    pub(crate) log: Option<Log>,
}

/// Someone who is connected to the streams.
#[derive(Debug)]
struct Client {
    connection: UnixStream,
    wants: Attach,
    spool: Spool,
    /// It shut its writing side down.
    done: bool,
    /// Nothing more can be sent to it.
    lost: bool,
}

/// What a descriptor in the poll set belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    Output(Stream),
    Input,
    Log,
    Client(usize),
}

impl Session {
    pub(crate) fn new(pid: i32, terminal: bool, streams: Streams) -> io::Result<Self> {
        for stream in [&streams.input, &streams.stdout, &streams.stderr].into_iter().flatten() {
            rustix::io::ioctl_fionbio(stream, true)?;
        }
        Ok(Self {
            pid,
            terminal,
            exit: None,
            ended: None,
            told: false,
            stdin_once: false,
            streams,
            queue: VecDeque::new(),
            closing: false,
            clients: Vec::new(),
            log: None,
        })
    }

    /// Connect a client.
    pub(crate) fn attach(&mut self, connection: UnixStream, wants: Attach) -> io::Result<()> {
        connection.set_nonblocking(true)?;
        self.clients.push(Client { connection, wants, spool: Spool::default(), done: false, lost: false });
        Ok(())
    }

    /// All output was read, or there is none.
    pub(crate) fn drained(&self) -> bool {
        self.streams.stdout.is_none() && self.streams.stderr.is_none()
    }

    /// Somebody has still to be told what the process wrote.
    pub(crate) fn owes(&self) -> bool {
        self.clients.iter().any(|c| !c.spool.is_empty())
    }

    /// Somebody is connected.
    pub(crate) fn connected(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Bytes for standard input that arrived with the request to attach.
    pub(crate) fn prefill(&mut self, bytes: &[u8]) {
        if self.streams.input.is_some() {
            self.queue.extend(bytes);
            self.feed();
        }
    }

    /// What to wait for.
    pub(crate) fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut found = Vec::new();
        let outputs = [(Stream::Stdout, &self.streams.stdout), (Stream::Stderr, &self.streams.stderr)];
        for (stream, file) in outputs {
            if let Some(file) = file {
                found.push((Source::Output(stream), file.as_fd(), PollFlags::IN));
            }
        }
        if let (Some(input), false) = (&self.streams.input, self.queue.is_empty()) {
            found.push((Source::Input, input.as_fd(), PollFlags::OUT));
        }
        if let Some(pipe) = self.log.as_ref().and_then(Log::pipe) {
            found.push((Source::Log, pipe, PollFlags::OUT));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            // One that wants no input is read as well, to learn that it left; what it sends is dropped.
            flags.set(PollFlags::IN, !client.done && (self.queue.len() < INPUT || !client.wants.stdin));
            flags.set(PollFlags::OUT, !client.spool.is_empty());
            found.push((Source::Client(index), client.connection.as_fd(), flags));
        }
        found
    }

    /// Move bytes.
    pub(crate) fn ready(&mut self, source: Source, flags: PollFlags, buffer: &mut [u8], spool_dir: &Path) {
        match source {
            Source::Output(stream) => self.read(stream, buffer, spool_dir),
            Source::Input => self.feed(),
            Source::Log => self.log.iter_mut().for_each(Log::ready),
            Source::Client(index) => self.serve(index, flags, buffer),
        }
    }

    /// Read what there is, once, for the log and all clients.
    fn read(&mut self, stream: Stream, buffer: &mut [u8], spool_dir: &Path) {
        let slot = match stream {
            Stream::Stdout => &mut self.streams.stdout,
            Stream::Stderr => &mut self.streams.stderr,
        };
        let Some(file) = slot else { return };
        let count = match file.read(&mut buffer[HEADER..]) {
            Ok(count) => count,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            // A terminal whose last user is gone reads as EIO: its way to say end of file.
            Err(_) => 0,
        };
        if count == 0 {
            *slot = None;
            return;
        }
        if let Some(log) = &mut self.log {
            log.write(stream, &buffer[HEADER..HEADER + count]);
        }
        let kind = if stream == Stream::Stdout { 1 } else { 2 };
        buffer[..HEADER].copy_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        // A chunk is far below 4 GiB.
        buffer[4..HEADER].copy_from_slice(&(count as u32).to_be_bytes());
        let bytes = &buffer[if self.terminal { HEADER } else { 0 }..HEADER + count];
        for client in &mut self.clients {
            let wanted = if stream == Stream::Stdout { client.wants.stdout } else { client.wants.stderr };
            if wanted && !client.lost {
                client.send(bytes, spool_dir);
            }
        }
    }

    /// Give the program what it has room for.
    fn feed(&mut self) {
        let Some(input) = &mut self.streams.input else { return };
        while !self.queue.is_empty() {
            let (front, _) = self.queue.as_slices();
            match input.write(front) {
                Ok(count) => drop(self.queue.drain(..count)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // The program closed its input, which is its right.
                    self.queue = VecDeque::new();
                    self.streams.input = None;
                    return;
                }
            }
        }
        self.queue = VecDeque::new();
        if self.closing {
            self.streams.input = None;
        }
    }

    fn serve(&mut self, index: usize, flags: PollFlags, buffer: &mut [u8]) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if flags.contains(PollFlags::OUT) && client.flush().is_err() {
            client.lost = true;
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !client.done {
            match client.connection.read(buffer) {
                Ok(0) => client.done = true,
                Ok(count) if client.wants.stdin && self.streams.input.is_some() => self.queue.extend(&buffer[..count]),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => (client.done, client.lost) = (true, true),
            }
            if client.done && client.wants.stdin && self.stdin_once {
                self.close_input();
            } else {
                self.feed();
            }
        } else if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            client.lost = true;
        }
    }

    /// Close standard input once what was sent before is written. A terminal has no end to close.
    pub(crate) fn close_input(&mut self) {
        if self.terminal {
            return;
        }
        self.closing = true;
        self.feed();
    }

    /// Let go of clients that left, and of those that have everything there will ever be.
    pub(crate) fn tidy(&mut self) {
        let over = self.drained() && self.exit.is_some();
        self.clients.retain(|c| !(c.lost || over && c.spool.is_empty()));
    }

    /// Change the size of the terminal.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        match &self.streams.stdout {
            Some(terminal) if self.terminal => Ok(rustix::termios::tcsetwinsize(terminal, size)?),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "the process has no terminal")),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended")),
        }
    }

    /// Give memory back that is needed only while bytes move.
    pub(crate) fn rest(&mut self) {
        self.log.iter_mut().for_each(Log::rest);
        self.clients.iter_mut().for_each(|client| client.spool.rest());
    }

    /// When waiting for output, or for the log, is over; none while the process runs, and when there is nothing to wait for.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let patience = match (self.drained(), self.logged()) {
            (false, _) => GRACE,
            (true, false) => LOG_GRACE,
            (true, true) => return None,
        };
        Some(self.ended? + patience)
    }

    /// Draw the consequences of the process's end: what it wrote last is logged, and what takes too long is given up.
    pub(crate) fn settle(&mut self) {
        let late = self.deadline().is_some_and(|at| at <= Instant::now());
        if late && !self.drained() {
            // Whoever may still hold the other ends.
            self.streams = Streams::default();
        } else if late {
            eprintln!("gantry shim: the log is not complete: its file takes nothing");
            self.log = None;
        }
        if self.ended.is_some() && self.drained() {
            self.log.iter_mut().for_each(Log::finish);
        }
    }

    /// All that is for the log is in its file.
    pub(crate) fn logged(&self) -> bool {
        self.log.as_ref().is_none_or(Log::is_done)
    }
}

impl Client {
    /// Send, and keep what does not fit.
    fn send(&mut self, bytes: &[u8], spool_dir: &Path) {
        let mut sent = 0;
        if self.spool.is_empty() {
            match self.connection.write(bytes) {
                Ok(count) => sent = count,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => self.lost = true,
            }
        }
        if sent < bytes.len() && self.spool.push(&bytes[sent..], spool_dir).is_err() {
            self.lost = true;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spool.drain(self.connection.as_fd())
    }
}

/// The ends of three pipes: ours, and those for the process. Without `stdin` it gets an empty one.
pub(crate) fn pipes(stdin: bool, stdout: bool, stderr: bool) -> io::Result<(Streams, [OwnedFd; 3])> {
    let null = || File::options().read(true).write(true).open("/dev/null");
    let mut ours = Streams::default();
    let theirs_in = if stdin {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        ours.input = Some(writer.into());
        reader
    } else {
        null()?.into()
    };
    let output = |wanted: bool, slot: &mut Option<File>| -> io::Result<OwnedFd> {
        if !wanted {
            return Ok(null()?.into());
        }
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // The kernel may refuse to a user who has many; then it stays at its usual size.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, CHUNK);
        *slot = Some(reader.into());
        Ok(writer)
    };
    let theirs_out = output(stdout, &mut ours.stdout)?;
    let theirs_err = output(stderr, &mut ours.stderr)?;
    Ok((ours, [theirs_in, theirs_out, theirs_err]))
}

/// Both directions of a terminal.
pub(crate) fn terminal(master: OwnedFd) -> io::Result<Streams> {
    let master = File::from(master);
    Ok(Streams { input: Some(master.try_clone()?), stdout: Some(master), stderr: None })
}
