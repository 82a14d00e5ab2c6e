//! Being connected to the streams of a process.
//!
//! The shim does the framing, so a session only carries bytes between two sockets:
//!
//! ```text
//!   docker attach ──HTTP──▶ daemon ──stdin──▶ AttachSession ──▶ shim ──▶ process
//!                 ◀────────        ◀─output──               ◀──      ◀──
//! ```
//!
//! A client attaches before it starts the container, when there is no shim yet. Such a session waits in [`Waiting`]; the start
//! connects it after the process was made and before it runs, so that not a byte is missed.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt, sink, stream};
use shim::client::Client;
use shim::protocol::Attach;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use crate::container::Container;
use crate::container::transitions::Status;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::logs::LogsOptions;

/// What a process writes, in frames, or raw from a terminal.
pub type Output = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What it reads; dropping it is the end of its input.
pub type Input = Pin<Box<dyn Sink<Bytes, Error = io::Error> + Send>>;

/// The most bytes of output taken from the shim at once.
const PIECE: usize = 64 << 10;

/// The most sessions that wait for one container to start.
const MAX_WAITING: usize = 1024;

/// Ctrl-p, ctrl-q: what leaves a terminal without ending it.
const DEFAULT_KEYS: &[u8] = &[16, 17];

/// How to attach, as the Engine API has it.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// Send standard input.
    pub stdin: bool,
    /// Receive standard output.
    pub stdout: bool,
    /// Receive standard error.
    pub stderr: bool,
    /// First what was logged before.
    pub logs: bool,
    /// Then what comes.
    pub stream: bool,
    /// Keys that leave a terminal, `ctrl-p,ctrl-q` when empty.
    pub detach_keys: String,
}

/// A connection to the streams of a process.
pub struct AttachSession {
    /// On a terminal: output is raw, not framed.
    pub tty: bool,
    /// What it writes; its end is the end of the session.
    pub output: Output,
    /// What it reads, if that was asked for.
    pub stdin: Option<Input>,
}

impl std::fmt::Debug for AttachSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttachSession")
            .field("tty", &self.tty)
            .field("stdin", &self.stdin.is_some())
            .finish_non_exhaustive()
    }
}

/// A connection to a shim that carries streams by now, and bytes that came early.
type Connection = (Vec<u8>, StdStream);

impl AttachSession {
    /// Takes over a connection that carries streams; to be called on the asynchronous runtime.
    pub fn from_connection(connection: StdStream, early: Vec<u8>, tty: bool, stdin: bool) -> io::Result<Self> {
        let (read, write) = split(connection)?;
        let stdin = stdin.then(|| input(async move { Some(write) }));
        Ok(Self { tty, output: output(async move { Ok(Some((early, read))) }), stdin })
    }

    /// A session whose connection comes later, or never.
    fn later(
        connection: impl Future<Output = Result<Option<Connection>>> + Send + 'static,
        tty: bool,
        stdin: bool,
    ) -> Self {
        let (give, take) = oneshot::channel();
        let connected = async move {
            let Some((early, connection)) = connection.await.map_err(io::Error::other)? else { return Ok(None) };
            let (read, write) = split(connection)?;
            // Nobody takes it when no input is wanted.
            let _ = give.send(write);
            Ok(Some((early, read)))
        };
        let stdin = stdin.then(|| input(async move { take.await.ok() }));
        Self { tty, output: output(connected), stdin }
    }

    /// Lets certain keys end the session without ending the process; `on_detach` is told. Only for terminals.
    #[must_use]
    pub fn detachable(self, keys: DetachKeys, on_detach: impl FnOnce() + Send + 'static) -> Self {
        let Self { tty: true, output, stdin: Some(stdin) } = self else { return self };
        let (leave, left) = oneshot::channel::<()>();
        let until = async move {
            if left.await.is_err() {
                // Input ended in another way, which is not the end of the output.
                std::future::pending::<()>().await;
            }
        };
        let state = (stdin, Filter::new(keys), Some((leave, on_detach)));
        let filtered = sink::unfold(state, |(mut stdin, mut filter, mut waiting), bytes: Bytes| async move {
            let (kept, detached) = filter.pass(&bytes);
            if !kept.is_empty() {
                stdin.send(kept).await?;
            }
            if let (true, Some((leave, on_detach))) = (detached, waiting.take_if(|_| detached)) {
                on_detach();
                let _ = leave.send(());
            }
            Ok((stdin, filter, waiting))
        });
        Self { tty: true, output: Box::pin(output.take_until(Box::pin(until))), stdin: Some(Box::pin(filtered)) }
    }
}

fn split(connection: StdStream) -> io::Result<(OwnedReadHalf, OwnedWriteHalf)> {
    connection.set_nonblocking(true)?;
    Ok(UnixStream::from_std(connection)?.into_split())
}

/// What a stream of output is at.
enum Reading<F> {
    Connecting(F),
    Early(Vec<u8>, OwnedReadHalf),
    Open(OwnedReadHalf, BytesMut),
    Over,
}

fn output(connected: impl Future<Output = io::Result<Option<(Vec<u8>, OwnedReadHalf)>>> + Send + 'static) -> Output {
    Box::pin(stream::unfold(Reading::Connecting(Box::pin(connected)), |mut state| async move {
        loop {
            state = match state {
                Reading::Connecting(connected) => match connected.await {
                    Ok(Some((early, half))) => Reading::Early(early, half),
                    Ok(None) => return None,
                    Err(error) => return Some((Err(error), Reading::Over)),
                },
                Reading::Early(early, half) if early.is_empty() => Reading::Open(half, BytesMut::new()),
                Reading::Early(early, half) => return Some((Ok(early.into()), Reading::Open(half, BytesMut::new()))),
                Reading::Open(mut half, mut buffer) => {
                    // An idle session owns no buffer: most wait for hours.
                    if let Err(error) = half.readable().await {
                        return Some((Err(error), Reading::Over));
                    }
                    buffer.reserve(PIECE);
                    return match half.read_buf(&mut buffer).await {
                        Ok(0) => None,
                        Ok(_) => Some((Ok(buffer.split().freeze()), Reading::Open(half, BytesMut::new()))),
                        Err(error) => Some((Err(error), Reading::Over)),
                    };
                }
                Reading::Over => return None,
            }
        }
    }))
}

/// What a sink for input is at.
enum Writing<F> {
    Connecting(F),
    Open(OwnedWriteHalf),
}

fn input(connected: impl Future<Output = Option<OwnedWriteHalf>> + Send + 'static) -> Input {
    Box::pin(sink::unfold(Writing::Connecting(Box::pin(connected)), |state, bytes: Bytes| async move {
        let mut half = match state {
            Writing::Connecting(connected) => connected.await.ok_or(io::ErrorKind::BrokenPipe)?,
            Writing::Open(half) => half,
        };
        half.write_all(&bytes).await?;
        Ok(Writing::Open(half))
    }))
}

/// Sessions that were opened before their container was started.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<HashMap<String, Vec<Waiter>>>);

#[derive(Debug)]
struct Waiter {
    streams: Attach,
    connected: oneshot::Sender<Connection>,
}

impl Waiting {
    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, container: &str, streams: Attach) -> Result<oneshot::Receiver<Connection>> {
        let (connected, receiver) = oneshot::channel();
        let mut all = self.all();
        let waiters = all.entry(container.to_owned()).or_default();
        waiters.retain(|w| !w.connected.is_closed());
        if waiters.len() >= MAX_WAITING {
            return Err(Error::unavailable(format!("too many clients wait for container {container} to start")));
        }
        waiters.push(Waiter { streams, connected });
        Ok(receiver)
    }

    /// Connects everybody who waits, to a process that does not run yet. Blocking. A session that cannot be connected ends.
    pub(crate) fn connect(&self, container: &str, socket: &Path) {
        let waiters = self.all().remove(container).unwrap_or_default();
        for Waiter { streams, connected } in waiters.into_iter().filter(|w| !w.connected.is_closed()) {
            match connect(socket, streams) {
                Ok(connection) => drop(connected.send(connection)),
                Err(error) => tracing::warn!(container, %error, "attaching"),
            }
        }
    }

    /// The start failed: ends the sessions that wait for it.
    pub(crate) fn give_up(&self, container: &str) {
        self.all().remove(container);
    }
}

/// Asks a shim for streams. Blocking.
fn connect(socket: &Path, streams: Attach) -> Result<Connection> {
    let failed = |e: shim::client::Error| Error::caused(Kind::System, "attaching", e);
    let mut client = Client::connect(socket).map_err(failed)?;
    client.attach(streams).map_err(failed)?;
    Ok(client.into_stream())
}

impl Engine {
    /// Connects to the streams of a container; to one that does not run, from its next start on.
    pub async fn container_attach(&self, name: &str, options: AttachOptions) -> Result<AttachSession> {
        let keys = DetachKeys::parse(&options.detach_keys)?;
        let container = self.container(name)?;
        let record = container.record();
        match record.state.status {
            Status::Paused => {
                return Err(Error::conflict(format!(
                    "container {name} is paused, unpause the container before attach"
                )));
            }
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "container {name} is restarting, wait until the container is running"
                )));
            }
            _ => {}
        }
        let logged = if options.logs { Some(self.logged(name, &options).await?) } else { None };
        let streams = Attach { stdin: options.stdin, stdout: options.stdout, stderr: options.stderr };
        let tty = record.config.tty;
        let mut session = if options.stream {
            self.live(&container, streams, tty).await?
        } else {
            AttachSession { tty, output: Box::pin(stream::empty()), stdin: None }
        };
        if let Some(logged) = logged {
            session.output = Box::pin(logged.chain(session.output));
        }
        self.container_event(&record, "attach", &[]);
        if session.stdin.is_none() || !tty {
            return Ok(session);
        }
        let engine = self.arc();
        Ok(session.detachable(keys, move || engine.container_event(&container.record(), "detach", &[])))
    }

    /// What was logged so far.
    async fn logged(&self, name: &str, options: &AttachOptions) -> Result<Output> {
        let wanted = LogsOptions { stdout: options.stdout, stderr: options.stderr, ..LogsOptions::default() };
        Ok(self.container_logs(name, wanted).await?.output)
    }

    async fn live(&self, container: &Container, streams: Attach, tty: bool) -> Result<AttachSession> {
        if container.record().state.status.has_process() {
            let socket = container.shim_socket();
            let (early, connection) = self.blocking(move || connect(&socket, streams)).await?;
            return AttachSession::from_connection(connection, early, tty, streams.stdin)
                .map_err(|e| Error::caused(Kind::System, "attaching", e));
        }
        // Watching begins before the registration, so that a start in between is seen by one of them.
        let mut records = container.watch();
        records.mark_unchanged();
        let mut connected = self.waiting.add(container.id(), streams)?;
        let socket = container.shim_socket();
        let later = async move {
            loop {
                tokio::select! {
                    biased;
                    connection = &mut connected => return Ok(connection.ok()),
                    changed = records.changed() => {
                        if changed.is_err() {
                            // Removed without having been started.
                            return Ok(None);
                        }
                        if records.borrow_and_update().state.status.has_process() {
                            break;
                        }
                    }
                }
            }
            // The start had passed by when this session was registered, or its connection is in the channel.
            if let Ok(connection) = connected.try_recv() {
                return Ok(Some(connection));
            }
            let work = tokio::task::spawn_blocking(move || connect(&socket, streams));
            work.await.map_err(|e| Error::system(format!("attaching: {e}")))?.map(Some)
        };
        Ok(AttachSession::later(later, tty, streams.stdin))
    }
}

/// Keys that leave a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// `ctrl-p,ctrl-q`, `a,b`, `ctrl-@`; empty is the default.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self(DEFAULT_KEYS.to_vec()));
        }
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        keys.map(Self).ok_or_else(|| Error::invalid(format!("Invalid detach keys ({text}) provided")))
    }

    /// The keys in base64, as inspecting an exec shows them; empty for the default.
    pub fn encoded(&self) -> String {
        if self.0 == DEFAULT_KEYS { String::new() } else { api::exec::encoded_keys(&self.0) }
    }
}

fn key(name: &str) -> Option<u8> {
    if let [byte] = name.as_bytes() {
        return Some(*byte);
    }
    let lower = name.to_ascii_lowercase();
    if lower == "del" {
        return Some(127);
    }
    match lower.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [b'@'] => Some(0),
        [b'['] => Some(27),
        [b'\\'] => Some(28),
        [b']'] => Some(29),
        [b'^'] => Some(30),
        [b'_'] => Some(31),
        _ => None,
    }
}

/// Holds back what may become the detach sequence until it is known.
#[derive(Debug)]
struct Filter {
    keys: Vec<u8>,
    /// How many of the keys have come.
    matched: usize,
}

impl Filter {
    fn new(keys: DetachKeys) -> Self {
        Self { keys: keys.0, matched: 0 }
    }

    /// What may pass, and whether the sequence is complete.
    fn pass(&mut self, bytes: &Bytes) -> (Bytes, bool) {
        if self.matched == 0 && !bytes.contains(&self.keys[0]) {
            return (bytes.clone(), false);
        }
        let mut kept = BytesMut::with_capacity(bytes.len() + self.keys.len());
        for byte in bytes {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (kept.freeze(), true);
                }
            } else {
                // As Docker has it, the byte that breaks a sequence does not begin a new one.
                kept.extend_from_slice(&self.keys[..self.matched]);
                kept.extend_from_slice(&[*byte]);
                self.matched = 0;
            }
        }
        (kept.freeze(), false)
    }
}

#[cfg(test)]
#[path = "attach/tests.rs"]
mod tests;
