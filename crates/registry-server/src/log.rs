//! The access log: one line of JSON for each request, written by a thread of its own.
//!
//! ```text
//! {"time":"2026-01-02T03:04:05.678Z","remote":"10.0.0.7:50312","user":"alice","method":"GET","path":"/v2/a/manifests/v1",
//!  "route":"manifest","repository":"a","status":200,"received":0,"sent":1234,"ms":1,"agent":"docker/26.1"}
//! ```
//! A refusal has its `code`, a failure of the registry itself its `error`.

use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Lines that wait for a slow disk; more are lost, and counted.
const QUEUE: usize = 4096;

/// One line.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Line {
    pub(crate) time: String,
    pub(crate) remote: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) route: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repository: Option<String>,
    pub(crate) status: u16,
    /// Bytes of the request's body.
    pub(crate) received: u64,
    /// Bytes of the answer's body.
    pub(crate) sent: u64,
    pub(crate) ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<String>,
    /// The code of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'static str>,
    /// Why the registry itself failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

enum Message {
    Line(Box<Line>),
    Reopen,
}

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog(Option<mpsc::Sender<Message>>);

impl AccessLog {
    /// Opens `stdout`, `stderr`, `none`, or a file that lines are added to.
    pub(crate) fn open(target: &str) -> io::Result<Self> {
        let path = match target {
            "none" => return Ok(Self(None)),
            "stdout" | "stderr" => None,
            path => Some(PathBuf::from(path)),
        };
        let mut out = writer(target, path.as_ref())?;
        let (sender, mut lines) = mpsc::channel(QUEUE);
        let target = target.to_owned();
        std::thread::Builder::new().name("access log".into()).spawn(move || {
            while let Some(message) = lines.blocking_recv() {
                let outcome = match message {
                    Message::Line(line) => write(&mut out, &line, lines.is_empty()),
                    Message::Reopen => writer(&target, path.as_ref()).map(|opened| out = opened),
                };
                if let Err(error) = outcome {
                    tracing::warn!(%error, target, "writing the access log");
                }
            }
        })?;
        Ok(Self(Some(sender)))
    }

    /// Writes a line. Returns false when it was lost.
    pub(crate) fn write(&self, line: Line) -> bool {
        self.0.as_ref().is_none_or(|sender| sender.try_send(Message::Line(Box::new(line))).is_ok())
    }

    /// Opens the file again: somebody moved it away.
    pub(crate) async fn reopen(&self) {
        if let Some(sender) = &self.0 {
            // The thread ends with the last sender only.
            let _ = sender.send(Message::Reopen).await;
        }
    }
}

type Writer = BufWriter<Box<dyn Write + Send>>;

fn writer(target: &str, path: Option<&PathBuf>) -> io::Result<Writer> {
    Ok(BufWriter::new(match path {
        Some(path) => Box::new(append(path)?),
        None if target == "stderr" => Box::new(io::stderr()),
        None => Box::new(io::stdout()),
    }))
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn write(out: &mut Writer, line: &Line, is_last: bool) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")?;
    if is_last { out.flush() } else { Ok(()) }
}
