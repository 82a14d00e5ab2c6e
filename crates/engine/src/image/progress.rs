//! Progress streams: work on a task of its own, its lines through a short queue.
//!
//! Whether a failure is an HTTP status or a line depends on whether a line was written before. So the first line is awaited
//! before the stream is handed out, and everything after it, the failure too, is a line.

use std::pin::Pin;
use std::task::{Context, Poll};

use api::progress::{Message, ProgressDetail};
use futures_util::Stream;
use registry::Progress;
use tokio::sync::mpsc;

use crate::error::{Error, Kind, Result};

/// Lines between the work and the connection.
const QUEUE: usize = 64;

/// Lines of a progress stream, in order. Dropping it ends an operation of the registry client at once, and other work at
/// its next line.
#[derive(Debug)]
pub struct ProgressStream {
    first: Option<Message>,
    rest: mpsc::Receiver<Result<Message>>,
}

impl Stream for ProgressStream {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let line = |result: Result<Message>| result.unwrap_or_else(|error| Message::failure(error.message()));
        self.rest.poll_recv(context).map(|next| next.map(line))
    }
}

/// Where work writes its lines.
#[derive(Debug, Clone)]
pub(super) struct Lines(mpsc::Sender<Result<Message>>);

impl Lines {
    pub(super) async fn send(&self, message: Message) -> Result<()> {
        self.0.send(Ok(message)).await.map_err(|_| Error::cancelled("context canceled"))
    }

    /// A line about the whole.
    pub(super) async fn status(&self, id: &str, text: impl Into<String>) -> Result<()> {
        self.send(Message::status(id, text)).await
    }

    /// A line that may be lost when nobody reads.
    pub(super) fn offer(&self, message: Message) {
        let _ = self.0.try_send(Ok(message));
    }
}

/// Runs work that writes lines, and waits for its first line or its end.
pub(super) async fn run<F>(work: impl FnOnce(Lines) -> F) -> Result<ProgressStream>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, mut rest) = mpsc::channel(QUEUE);
    let work = work(Lines(sender.clone()));
    tokio::spawn(async move {
        if let Err(error) = work.await {
            let _ = sender.send(Err(error)).await;
        }
    });
    let first = rest.recv().await.transpose()?;
    Ok(ProgressStream { first, rest })
}

/// Runs an operation of the registry client, whose events become lines. When nobody reads the lines any more, nobody
/// hears the events either: that is how the operation is told to end, and it is waited for.
pub(super) async fn relay<T, F>(lines: &Lines, operation: impl FnOnce(registry::Sender) -> F) -> Result<T>
where
    F: Future<Output = registry::Result<T>>,
{
    let (sender, mut events) = mpsc::channel(registry::QUEUE);
    let forward = async move {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                // The work may have nothing to tell for long.
                () = lines.0.closed() => return,
            };
            // The operation drops its end when it is done, so this ends with the last event.
            let Some(event) = event else { return };
            if lines.send(line(event)).await.is_err() {
                return;
            }
        }
    };
    let (result, ()) = tokio::join!(operation(sender), forward);
    result.map_err(failure)
}

/// Docker's line for an event.
fn line(event: Progress) -> Message {
    match event {
        Progress::Message { id, text } => Message::status(&id, text),
        Progress::Layer { id, status } => {
            let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            let detail = status
                .count()
                .map_or_else(ProgressDetail::default, |(now, all)| ProgressDetail::bytes(number(now), number(all)));
            Message::action(&id, &status.text(), detail)
        }
        Progress::Pushed { tag, digest, size } => Message {
            progress_detail: Some(ProgressDetail::default()),
            ..Message::aux(serde_json::json!({"Tag": tag, "Digest": digest, "Size": size}))
        },
    }
}

/// What a failure of the registry client is for a caller of the engine.
#[allow(clippy::needless_pass_by_value)] // a function for map_err
pub(super) fn failure(error: registry::Error) -> Error {
    let kind = match error.kind() {
        registry::ErrorKind::NotFound => Kind::NotFound,
        registry::ErrorKind::Unauthorized => Kind::Unauthorized,
        registry::ErrorKind::InvalidParameter => Kind::InvalidParameter,
        registry::ErrorKind::Forbidden => Kind::Forbidden,
        registry::ErrorKind::Cancelled => Kind::Cancelled,
        registry::ErrorKind::System => Kind::System,
    };
    // The text is whole as it is: causes are part of it already.
    Error::new(kind, error.to_string())
}
