//! The streams of a container at our terminal: two threads copy, the command itself waits for whatever happens first.
//!
//! ```text
//! stdin ──► detach keys ──► socket          (thread "input", half-closes at the end)
//! socket ──► frames or raw ──► stdout, stderr   (thread "output")
//! signals ──► kill, window size ──► resize      (the command's own task)
//! ```

mod detach;
mod signals;

pub(super) use detach::keys;
pub(super) use signals::Signals;

use crate::client::{Client, Hijacked, Query};
use crate::error::Error;
use crate::terminal::{self, RawMode};
use api::stream::{Decoder, Kind};
use detach::Filter;
use std::io::{self, Read, Write};
use std::thread;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Bytes copied at once.
const BUFFER: usize = 64 << 10;

/// How the copying ended.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// The other side closed the stream.
    Closed,
    /// The user typed the detach keys.
    Detached,
    /// What came is no stream of frames.
    Broken(String),
}

/// What is copied.
pub(super) struct Streams {
    pub(super) tty: bool,
    pub(super) stdin: bool,
    /// The keys that detach; they are looked for in terminals only.
    pub(super) keys: Vec<u8>,
}

/// Copying that goes on in its threads. Dropping it takes raw mode back.
pub(super) struct Copying {
    ended: mpsc::Receiver<End>,
    raw: Option<RawMode>,
}

impl Copying {
    /// Waits for the end, and takes raw mode back.
    pub(super) async fn end(&mut self) -> End {
        let end = self.ended.recv().await.unwrap_or(End::Closed);
        self.raw = None;
        end
    }
}

/// Checks, before anything is created, that a terminal can be what was asked for.
pub(super) fn check_terminal(stdin: bool, tty: bool) -> Result<(), Error> {
    if stdin && tty && !terminal::input_is_terminal() {
        return Err(Error::plain("the input device is not a TTY"));
    }
    Ok(())
}

/// Starts to copy.
pub(super) fn copy(hijacked: &Hijacked, streams: Streams) -> Result<Copying, Error> {
    let failed = |error: io::Error| Error::Io { what: "cannot copy the container's streams".into(), source: error };
    let raw = if streams.tty && streams.stdin { RawMode::enter() } else { None };
    let (sender, ended) = mpsc::channel(2);
    let reader = hijacked.reader().map_err(failed)?;
    let tty = streams.tty;
    let output_ended = sender.clone();
    thread::Builder::new()
        .name("output".into())
        .spawn(move || {
            let end = if tty { copy_raw(reader) } else { copy_frames(reader) };
            // Nobody listens any more when the user detached.
            let _ = output_ended.blocking_send(end);
        })
        .map_err(failed)?;
    if streams.stdin {
        let writer = hijacked.writer().map_err(failed)?;
        let filter = tty.then(|| Filter::new(streams.keys));
        thread::Builder::new()
            .name("input".into())
            .spawn(move || {
                if copy_input(writer, filter) {
                    let _ = sender.blocking_send(End::Detached);
                }
            })
            .map_err(failed)?;
    }
    Ok(Copying { ended, raw })
}

fn copy_raw(mut reader: impl Read) -> End {
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return End::Closed,
            Ok(count) => terminal::print_bytes(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A connection that is cut ends the stream: the exit status says what happened.
            Err(_) => return End::Closed,
        }
    }
}

fn copy_frames(mut reader: impl Read) -> End {
    let (mut buffer, mut decoder) = (vec![0; BUFFER], Decoder::new());
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return End::Closed,
            Ok(count) => {
                if let Err(why) = show_frames(&mut decoder, &buffer[..count]) {
                    return End::Broken(why);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return End::Closed,
        }
    }
}

/// Sends frames to standard output and standard error. Neighbours of one stream are written together: a log has a frame for
/// each line.
pub(super) fn show_frames(decoder: &mut Decoder, bytes: &[u8]) -> Result<(), String> {
    decoder.push(bytes);
    let (mut of, mut text) = (Kind::Stdout, Vec::new());
    let outcome = loop {
        match decoder.next_frame() {
            Ok(Some((kind, payload))) => {
                if kind != of {
                    show(of, &text);
                    (of, text) = (kind, Vec::new());
                }
                text.extend_from_slice(&payload);
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.to_string()),
        }
    };
    show(of, &text);
    outcome
}

fn show(kind: Kind, text: &[u8]) {
    if text.is_empty() {
        return;
    }
    if kind == Kind::Stderr {
        // There is nowhere left to report that nobody reads our errors.
        let _ = io::stderr().write_all(text);
    } else {
        terminal::print_bytes(text);
    }
}

/// Copies until the input ends, the other side does not take any more, or the detach keys are typed (then `true`).
fn copy_input(mut writer: std::fs::File, mut filter: Option<Filter>) -> bool {
    let mut buffer = vec![0; BUFFER];
    // Not through the standard library's buffer, which would read ahead.
    let mut input = match rustix::io::dup(io::stdin()) {
        Ok(input) => std::fs::File::from(input),
        Err(_) => return false,
    };
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let (bytes, detached) = match &mut filter {
            Some(filter) => filter.pass(&buffer[..count]),
            None => (buffer[..count].to_vec(), false),
        };
        if writer.write_all(&bytes).is_err() {
            return detached;
        }
        if detached {
            return true;
        }
    }
    // The container reads an end of file; what it still writes goes on arriving.
    let _ = rustix::net::shutdown(&writer, rustix::net::Shutdown::Write);
    false
}

/// Keeps a container's or an exec's terminal as large as ours, until dropped.
pub(super) struct Window {
    path: String,
    changes: tokio::signal::unix::Signal,
}

impl Window {
    /// `path` is `/containers/ID` or `/exec/ID`. `None` when we have no terminal to follow.
    pub(super) fn follow(path: String) -> Option<Self> {
        if !terminal::output_is_terminal() {
            return None;
        }
        Some(Self { path, changes: signal(SignalKind::window_change()).ok()? })
    }

    /// Tells the present size. That the process has ended meanwhile is no failure.
    pub(super) async fn tell(&self, client: &Client) {
        if let Some((rows, columns)) = terminal::size() {
            let query = Query::new().with("h", &rows.to_string()).with("w", &columns.to_string());
            let _ = client.post(&format!("{}/resize", self.path), &query).await;
        }
    }

    async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for the end of the streams; meanwhile follows the window and passes signals on to the container.
pub(super) async fn attend(
    client: &Client,
    container: &str,
    copying: &mut Copying,
    mut window: Option<Window>,
    mut signals: Option<Signals>,
) -> End {
    loop {
        tokio::select! {
            biased;
            end = copying.end() => return end,
            name = async { match &mut signals { Some(signals) => signals.next().await, None => std::future::pending().await } } => {
                pass_on(client, container, name).await;
            }
            () = async { match &mut window { Some(window) => window.changed().await, None => std::future::pending().await } } => {
                if let Some(window) = &window {
                    window.tell(client).await;
                }
            }
        }
    }
}

/// Sends a signal to a container. One that has ended meanwhile is no failure.
pub(super) async fn pass_on(client: &Client, container: &str, name: &str) {
    let _ = client.post(&format!("/containers/{container}/kill"), &Query::new().with("signal", name)).await;
}
