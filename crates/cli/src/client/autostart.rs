//! An engine of our own, started in the background when none runs and none was named.
//!
//! ```text
//! command ──spawns──► this program with WORD: setsid, exec ──► this program as `daemon`
//!    ▲                                                              │ listens
//!    └───────────────────── "ready" through a pipe ◄────────────────┘
//! ```
//!
//! The engine has a session of its own, no terminal, and its output in a log file. The number of the pipe stands in `GANTRY_READY_FD`;
//! when it closes without a word, the engine has failed, and the log says why.

use crate::error::{Error, reason};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Where the engine's output goes.
const LOG: &str = "/var/log/gantry.log";
/// Where it goes when the first place does not exist.
const LOG_FALLBACK: &str = "/var/lib/gantry/gantry.log";
/// The variable that tells the engine which descriptor to write to.
const READY: &str = "GANTRY_READY_FD";
/// How much of the log is worth showing: its last lines.
const SHOWN: usize = 5;

/// The one argument of the stage between a command and the engine.
pub(crate) const WORD: &str = "start-engine-in-session";

/// That stage: leaves the user's session and terminal, and becomes the engine. Returns only to say why it could not.
pub(crate) fn become_engine() -> Error {
    if let Err(error) = rustix::process::setsid() {
        return Error::Io { what: "cannot make a session".into(), source: error.into() };
    }
    let error = Command::new("/proc/self/exe").arg0("gantry").arg("daemon").exec();
    Error::Io { what: "cannot execute the engine".into(), source: error }
}

/// Starts the engine and returns when it listens.
pub(super) async fn start(program: &str) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::plain(format!(
            "{program}: no engine runs, and only root can start one: run '{program}' as root, or name an engine with --host or DOCKER_HOST"
        )));
    }
    let started = tokio::task::spawn_blocking(spawn_and_wait).await;
    match started {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Error::plain(format!("{program}: cannot start the engine: {error}"))),
        Err(error) => Err(Error::plain(format!("{program}: cannot start the engine: {error}"))),
    }
}

fn spawn_and_wait() -> Result<(), String> {
    let (log, path) = open_log().map_err(|error| format!("{LOG}: {}", reason(&error)))?;
    let start = log.metadata().map_or(0, |metadata| metadata.len());
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| reason(&error.into()))?;
    let failed = |error: io::Error| reason(&error);
    // The descriptor that the child inherits is a copy without close-on-exec; all others of ours carry the flag.
    let inherited = rustix::io::dup(&writer).map_err(|error| failed(error.into()))?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("gantry")
        .arg(WORD)
        .current_dir("/")
        .env(READY, inherited.as_raw_fd().to_string())
        .env_remove("DOCKER_HOST")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log);
    let mut child = command.spawn().map_err(failed)?;
    drop((writer, inherited));
    let mut word = [0; 16];
    // Ends when the engine writes, or when its last copy of the pipe is closed.
    let count = File::from(reader).read(&mut word).map_err(failed)?;
    if count > 0 {
        return Ok(());
    }
    let status = child.wait().map_err(failed)?;
    let text = std::fs::read(path).unwrap_or_default();
    let text =
        String::from_utf8_lossy(text.get(usize::try_from(start).unwrap_or(0)..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
    Err(format!("it ended with {status}; {path} says:\n{tail}"))
}

fn open_log() -> io::Result<(File, &'static str)> {
    let open = |path| OpenOptions::new().create(true).append(true).mode(0o640).open(path);
    match open(LOG) {
        Ok(file) => Ok((file, LOG)),
        Err(_) => {
            std::fs::create_dir_all("/var/lib/gantry")?;
            open(LOG_FALLBACK).map(|file| (file, LOG_FALLBACK))
        }
    }
}
