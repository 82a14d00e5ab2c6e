//! `logs`: what a container wrote, read back from its log and, on request, followed.
//!
//! ```text
//!  id-json.log.2 ─▶ id-json.log.1 ─▶ id-json.log ──▶ [`line`]: JSON line ──▶ frame ──▶ pieces of some 256 KiB
//!        oldest                         newest                 (inotify: more, or rotated)
//! ```
//! A line is turned into a frame in one pass over its bytes, without a JSON parser and without an allocation, as a log of
//! millions of lines is an ordinary one. `tail` finds its start by reading backwards.

mod files;
mod line;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use sys::inotify::{FileInterest, Inotify};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::attach::Output;
use crate::container::record::Record;
use crate::container::transitions::Status;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use files::Files;
use line::{Format, Frames, Verdict};

/// Which lines, and how, as the Engine API has it.
#[derive(Debug, Clone, Default)]
pub struct LogsOptions {
    /// Lines of standard output.
    pub stdout: bool,
    /// Lines of standard error.
    pub stderr: bool,
    /// Go on with what comes, until the container stops.
    pub follow: bool,
    /// Begin each line with its time.
    pub timestamps: bool,
    /// Begin each line with the labels and variables that were logged with it.
    pub details: bool,
    /// The last lines only; all when this is no number.
    pub tail: String,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// Lines of one stream may share a frame, for a client that only copies them. A frame is a system call there, so that
    /// it takes ten times as long by single lines; but many clients take a frame for a line, as dockerd makes them.
    pub joined: bool,
}

/// Lines of a log.
pub struct Logs {
    /// The container has a terminal: lines are raw, not framed.
    pub tty: bool,
    /// Frames or raw lines, many in each piece.
    pub output: Output,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("tty", &self.tty).finish_non_exhaustive()
    }
}

/// What a piece of output has at least, unless there is no more.
const PIECE: usize = 256 << 10;

impl Engine {
    /// Reads a container's log.
    pub async fn container_logs(&self, name: &str, options: LogsOptions) -> Result<Logs> {
        let container = self.container(name)?;
        let records = container.watch();
        let record = container.record();
        if matches!(record.state.status, Status::Removing | Status::Dead) {
            return Err(Error::conflict("can not get logs from container which is dead or marked for removal"));
        }
        let path = path(&record, &container.directories().data)?;
        let tty = record.config.tty;
        let format = Format {
            framed: !tty,
            joined: options.joined,
            stdout: options.stdout,
            stderr: options.stderr,
            timestamps: options.timestamps,
            details: options.details,
            since: options.since.map(line::Bound::new),
            until: options.until.map(line::Bound::new),
        };
        let follow = options.follow && record.state.status.has_process();
        let watched = container.directories().data.clone();
        let tail = options.tail.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok());
        let opened = self.blocking(move || {
            // Watching begins before reading, so that nothing falls in between.
            let changes = follow.then(|| watch_changes(&watched)).transpose();
            let changes = changes.map_err(|e| Error::caused(Kind::System, "watching the log", e))?;
            let files = Files::open(&path, tail, follow);
            let files = files.map_err(|e| Error::caused(Kind::System, format!("reading {}", path.display()), e))?;
            Ok((files, changes))
        });
        let (files, changes) = opened.await?;
        let follower = match changes {
            Some(changes) => Some(Follower::new(changes, records, &record, options.until)?),
            None => None,
        };
        let reader = Reader { files, format, over: false };
        Ok(Logs { tty, output: Box::pin(stream::unfold(Some((reader, follower)), next_piece)) })
    }
}

/// The log file of a container.
fn path(record: &Record, data: &std::path::Path) -> Result<PathBuf> {
    match record.host_config.log_config.driver.as_str() {
        "none" => Err(Error::not_implemented("configured logging driver does not support reading")),
        "local" => Ok(data.join("local-logs.log")),
        _ => Ok(data.join(format!("{}-json.log", record.id))),
    }
}

fn watch_changes(directory: &std::path::Path) -> io::Result<Inotify> {
    let changes = Inotify::new()?;
    changes.watch(directory, FileInterest::MODIFY | FileInterest::CREATE | FileInterest::MOVED_TO)?;
    Ok(changes)
}

type State = Option<(Reader, Option<Follower>)>;

async fn next_piece(state: State) -> Option<(io::Result<Bytes>, State)> {
    let (mut reader, mut follower) = state?;
    loop {
        let work = tokio::task::spawn_blocking(move || {
            let piece = reader.read();
            (reader, piece)
        });
        let (back, piece) = match work.await {
            Ok(done) => done,
            Err(error) => return Some((Err(io::Error::other(error)), None)),
        };
        reader = back;
        match piece {
            Ok(piece) if !piece.is_empty() => return Some((Ok(piece), Some((reader, follower)))),
            Ok(_) if reader.over => return None,
            Ok(_) => {}
            Err(error) => return Some((Err(error), None)),
        }
        // What there is was read. With a container that has ended, that was the last look.
        match &mut follower {
            Some(waiting) if !waiting.ended => waiting.more().await,
            _ => return None,
        }
    }
}

/// Files to read and what becomes of their lines.
#[derive(Debug)]
struct Reader {
    files: Files,
    format: Format,
    /// A line beyond `until` was seen.
    over: bool,
}

impl Reader {
    /// The next lines; empty when there are none (yet).
    fn read(&mut self) -> io::Result<Bytes> {
        let mut out = Frames::default();
        let Self { files, format, over } = self;
        while !*over && out.bytes.len() < PIECE {
            let more = files.lines(|line| {
                if !*over && format.render(line, &mut out) == Verdict::Beyond {
                    *over = true;
                }
            })?;
            if !more {
                files.rest();
                break;
            }
        }
        Ok(out.bytes.into())
    }
}

/// Waits for a log to grow.
struct Follower {
    /// An inotify descriptor. What it says does not matter, only that it says something.
    changes: pipe::Receiver,
    records: watch::Receiver<Arc<Record>>,
    /// Ends of processes that the record counted when following began.
    exits: u64,
    until: Option<Timestamp>,
    /// One look is left.
    ended: bool,
}

impl Follower {
    fn new(
        changes: Inotify,
        records: watch::Receiver<Arc<Record>>,
        record: &Record,
        until: Option<Timestamp>,
    ) -> Result<Self> {
        // Tokio's pipe waits for any descriptor that can be polled and read.
        let changes = pipe::Receiver::from_owned_fd_unchecked(changes.into())
            .map_err(|e| Error::caused(Kind::System, "watching the log", e))?;
        Ok(Self { changes, records, exits: record.state.exits, until, ended: false })
    }

    /// Returns when the log may have grown, or has come to its end.
    async fn more(&mut self) {
        let Self { changes, records, exits, until, ended } = self;
        let left = until
            .map(|until| std::time::Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default());
        let time_is_up = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        // The log is complete before the end of its process is published.
        let stopped = async {
            let over = |r: &Arc<Record>| r.state.exits != *exits || !r.state.status.has_process();
            // An error says that the container was removed.
            let _ = records.wait_for(over).await;
        };
        tokio::select! {
            ready = changes.readable() => {
                // All notices are taken before the log is read, and the last read says that there are no more.
                let mut notices = [0; 4096];
                while ready.is_ok() && changes.try_read(&mut notices).is_ok_and(|count| count > 0) {}
                *ended |= ready.is_err();
            },
            () = stopped => *ended = true,
            () = time_is_up => *ended = true,
        }
    }
}
