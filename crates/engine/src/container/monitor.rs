//! The engine's line to a container's shim.
//!
//! A [`Monitor`] is only an address: each call is a connection of its own on a blocking thread, so calls never wait for each other
//! and a slow one (pausing a busy container) never holds up a signal. Events come over one connection that is read without a thread.

use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use shim::client::Client;
use shim::protocol::{self, FailureKind, Request, Response};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;

use super::record::Directories;
use crate::error::{Error, Kind, Result};

/// How a container's process ended.
pub(crate) use shim::protocol::Exit;

/// Exit code of a process whose end nobody saw.
const UNKNOWN: i32 = 255;

/// What happens by itself.
pub(crate) use shim::protocol::Event;

/// Where to reach a shim.
#[derive(Debug, Clone)]
pub(crate) struct Monitor {
    socket: PathBuf,
}

impl Monitor {
    pub(crate) fn new(directories: &Directories) -> Self {
        Self { socket: directories.shim_socket() }
    }

    /// A fresh connection; to be called on a blocking thread.
    pub(crate) fn connect(&self) -> Result<Client> {
        Client::connect(&self.socket).map_err(|e| error(&e))
    }

    async fn call(&self, request: Request) -> Result<Response> {
        let this = self.clone();
        let called = tokio::task::spawn_blocking(move || this.connect()?.call(&request).map_err(|e| error(&e)));
        called.await.map_err(|e| Error::system(format!("asking the shim: {e}")))?
    }

    pub(crate) async fn signal(&self, number: i32) -> Result<()> {
        self.call(Request::Signal { exec: None, signal: number, all: false }).await.map(drop)
    }

    pub(crate) async fn signal_exec(&self, exec: &str, number: i32) -> Result<()> {
        self.call(Request::Signal { exec: Some(exec.to_owned()), signal: number, all: false }).await.map(drop)
    }

    pub(crate) async fn resize(&self, exec: Option<String>, rows: u16, columns: u16) -> Result<()> {
        self.call(Request::Resize { exec, rows, columns }).await.map(drop)
    }

    pub(crate) async fn pause(&self) -> Result<()> {
        self.call(Request::Pause).await.map(drop)
    }

    pub(crate) async fn resume(&self) -> Result<()> {
        self.call(Request::Resume).await.map(drop)
    }

    pub(crate) async fn update(&self, resources: oci::spec::Resources) -> Result<()> {
        self.call(Request::Update { resources: Box::new(resources) }).await.map(drop)
    }

    /// Pids of all processes of the container, as the host sees them.
    pub(crate) async fn processes(&self) -> Result<Vec<i32>> {
        match self.call(Request::Processes).await? {
            Response::Processes(pids) => Ok(pids),
            other => Err(Error::system(format!("the shim answered with {other:?}"))),
        }
    }
}

/// A refusal of the shim as an error of the engine.
pub(crate) fn error(error: &shim::client::Error) -> Error {
    let kind = match error.kind() {
        FailureKind::Conflict => Kind::Conflict,
        FailureKind::NotFound => Kind::NotFound,
        FailureKind::Invalid | FailureKind::ProgramNotFound | FailureKind::ProgramNotExecutable => {
            Kind::InvalidParameter
        }
        FailureKind::System => Kind::System,
    };
    Error::new(kind, error.to_string())
}

/// Events as they come.
#[derive(Debug)]
pub(crate) struct Events {
    lines: Lines<BufReader<UnixStream>>,
}

impl Events {
    /// Takes over a connection that was subscribed; `early` are bytes that came with the answer.
    pub(crate) fn new(connection: StdStream) -> std::io::Result<Self> {
        connection.set_nonblocking(true)?;
        // An event is a short line; the default buffer would be most of what a container costs the engine.
        Ok(Self { lines: BufReader::with_capacity(512, UnixStream::from_std(connection)?).lines() })
    }

    /// The next event, or `None` when the shim is gone. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            let line = self.lines.next_line().await.ok()??;
            match serde_json::from_str(&line) {
                Ok(event) => return Some(event),
                // A later shim may know more kinds of events.
                Err(error) => tracing::debug!(%error, line, "an event that is not understood"),
            }
        }
    }
}

/// An end that nobody saw.
pub(crate) fn unknown_end() -> Exit {
    Exit { exec: None, code: UNKNOWN, signal: None, oom: false, at: Timestamp::now() }
}

/// The record that the shim left, if it got that far.
pub(crate) fn exit_record(directories: &Directories) -> Option<Exit> {
    serde_json::from_slice(&std::fs::read(directories.exit_record()).ok()?).ok()
}

/// The shim is gone without a record: ends what is left of the container and says so.
pub(crate) fn end_orphan(directories: &Directories) -> Exit {
    match runtime::Container::load(&state_root(directories), &id(directories)) {
        Ok(container) => {
            if let Err(error) = container.delete(true) {
                tracing::warn!(%error, container = id(directories), "removing what a lost shim left");
            }
        }
        Err(error) => tracing::debug!(%error, container = id(directories), "nothing left of a lost shim"),
    }
    unknown_end()
}

fn id(directories: &Directories) -> String {
    directories.exec.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Where the runtime keeps what it knows of a container: with the bundle, so that both go together.
pub(crate) fn state_root(directories: &Directories) -> PathBuf {
    directories.exec.clone()
}

/// Connects to the shim of a container that an earlier engine started: its state, if it lives.
pub(crate) fn adopt(directories: &Directories) -> Option<(Client, protocol::State)> {
    let mut client = Client::connect(&directories.shim_socket()).ok()?;
    let state = client.state().ok()?;
    if state.version > protocol::VERSION {
        // Not ended for it: a container is worth more than what we may get wrong about it.
        tracing::warn!(container = id(directories), version = state.version, "the shim is of a later version");
    }
    Some((client, state))
}

/// A subscribed connection, to be made into [`Events`] on the runtime.
pub(crate) fn subscribe(socket: &Path) -> Result<StdStream> {
    let mut client = Client::connect(socket).map_err(|e| error(&e))?;
    client.subscribe().map_err(|e| error(&e))?;
    // Nothing comes before the first event, and the container is not started yet (or the event is sent again).
    Ok(client.into_stream().1)
}
