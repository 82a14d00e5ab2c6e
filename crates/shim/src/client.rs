//! The engine's side: starting a shim, and talking to one.
//!
//! Everything here blocks and belongs on a blocking thread; [`Client::into_stream`] hands a connection over to an
//! asynchronous runtime once the handshake is done.

use crate::protocol::{Attach, Config, Event, Exec, Failure, FailureKind, MAX_LINE, Request, Response, State};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Why a shim could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program cannot be started.
    #[error("cannot start the shim {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing listens there: the shim is gone.
    #[error("cannot connect to the shim at {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the shim broke: {0}")]
    Broken(#[from] io::Error),
    /// An answer that is no answer to what was asked.
    #[error("the shim answered with something unexpected: {0}")]
    Unexpected(String),
    /// The shim says no.
    #[error("{}", .0.message)]
    Refused(Failure),
}

impl Error {
    /// The kind of a refusal.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Refused(failure) => failure.kind,
            _ => FailureKind::System,
        }
    }
}

/// A connection to a shim.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// A shim that was just started; its end is reaped by its parent.
#[derive(Debug)]
pub struct Spawned {
    /// The connection that it was born with.
    pub client: Client,
    /// The process; the caller must reap it.
    pub process: Child,
}

/// Write `shim.json` into `run_dir` and start `program shim RUN_DIR` with a connection as its standard input.
///
/// The shim listens on its socket before it answers the first request. It makes a session of its own, so signals to the
/// engine's process group pass it by.
pub fn spawn(program: &Path, run_dir: &Path, config: &Config) -> Result<Spawned, Error> {
    let path = run_dir.join(crate::CONFIG);
    let text = serde_json::to_vec(config).map_err(|e| Error::Unexpected(e.to_string()))?;
    std::fs::write(&path, text).map_err(|source| Error::Config { path, source })?;
    let (ours, theirs) = UnixStream::pair()?;
    let failed = |source| Error::Spawn { program: program.to_owned(), source };
    let log = std::fs::File::create(run_dir.join(crate::LOG)).map_err(failed)?;
    // The shim would else execute itself once more, to be out of its container's reach; an engine without the right to
    // mount leaves that to it.
    let mount = runtime::read_only_mount(program).ok();
    let file = mount.as_ref().map_or_else(|| program.to_owned(), |mount| sys::path::of_descriptor(mount.as_fd()));
    let mut command = Command::new(file);
    command.arg0("gantry-shim").arg("shim").arg(run_dir).current_dir("/").env_clear();
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(log);
    let process = command.spawn().map_err(failed)?;
    Ok(Spawned { client: Client { stream: BufReader::new(ours) }, process })
}

impl Client {
    /// Connect to a running shim.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        let stream =
            UnixStream::connect(socket).map_err(|source| Error::Connect { path: socket.to_owned(), source })?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Ask, and wait for the answer.
    pub fn call(&mut self, request: &Request) -> Result<Response, Error> {
        let mut line = serde_json::to_vec(request).map_err(|e| Error::Unexpected(e.to_string()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        match self.read_line()? {
            Some(Response::Failed(failure)) => Err(Error::Refused(failure)),
            Some(response) => Ok(response),
            None => Err(Error::Broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Ask for something that has no result.
    pub fn run(&mut self, request: &Request) -> Result<(), Error> {
        match self.call(request)? {
            Response::Done => Ok(()),
            other => Err(Error::Unexpected(format!("{other:?}"))),
        }
    }

    /// Make the container; its pid, and what could not be applied.
    pub fn create(&mut self) -> Result<(i32, Vec<String>), Error> {
        match self.call(&Request::Create)? {
            Response::Created { pid, warnings } => Ok((pid, warnings)),
            other => Err(Error::Unexpected(format!("{other:?}"))),
        }
    }

    /// How things are.
    pub fn state(&mut self) -> Result<State, Error> {
        match self.call(&Request::State)? {
            Response::State(state) => Ok(state),
            other => Err(Error::Unexpected(format!("{other:?}"))),
        }
    }

    /// Pids of all processes.
    pub fn processes(&mut self) -> Result<Vec<i32>, Error> {
        match self.call(&Request::Processes)? {
            Response::Processes(pids) => Ok(pids),
            other => Err(Error::Unexpected(format!("{other:?}"))),
        }
    }

    /// Turn the connection into streams of the container; take it with [`Client::into_stream`].
    pub fn attach(&mut self, streams: Attach) -> Result<(), Error> {
        self.run(&Request::Attach(streams))
    }

    /// Start one more program on this connection; its pid. Its streams, if any were asked for, are taken with
    /// [`Client::into_stream`].
    pub fn exec(&mut self, exec: Exec) -> Result<(i32, Vec<String>), Error> {
        match self.call(&Request::Exec(Box::new(exec)))? {
            Response::Created { pid, warnings } => Ok((pid, warnings)),
            other => Err(Error::Unexpected(format!("{other:?}"))),
        }
    }

    /// Turn the connection into a stream of events; then call [`Client::next_event`].
    pub fn subscribe(&mut self) -> Result<(), Error> {
        self.run(&Request::Events)
    }

    /// Wait for the next event that this version knows; none when the shim has ended.
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            match self.read_line::<serde_json::Value>()? {
                None => return Ok(None),
                Some(event) => {
                    if let Ok(event) = serde_json::from_value(event) {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// The connection itself, and bytes that arrived behind the last answer.
    pub fn into_stream(self) -> (Vec<u8>, UnixStream) {
        (self.stream.buffer().to_vec(), self.stream.into_inner())
    }

    /// The descriptor, to be waited for.
    pub fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }

    fn read_line<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(|e| Error::Unexpected(e.to_string()))
    }
}
