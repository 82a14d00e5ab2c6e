//! What a pull or push tells while it works.
//!
//! Events go into a bounded queue. Changes of state wait for room in it, so none is lost; byte counts are only offered,
//! at most every 100 ms, and dropped when the queue is full: a slow listener sees fewer of them.
//! When the listener goes away, the operation ends with [`Error::Cancelled`], whatever it waits for ([`while_heard`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use oci::digest::Digest;
use tokio::sync::{mpsc, watch};

use crate::error::{Error, Result};

/// Byte counts of one layer are not sent more often than this (Docker's rate).
pub(crate) const COUNT_INTERVAL: Duration = Duration::from_millis(100);
/// A queue of this length is enough for anybody.
pub const QUEUE: usize = 256;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// About the whole, e.g. `Pulling from library/busybox` with the tag as the id.
    Message {
        /// Empty when there is none.
        id: String,
        /// What to show.
        text: String,
    },
    /// About one layer.
    Layer {
        /// Twelve digits: of the blob's digest in a pull, of the diff id in a push.
        id: String,
        /// What it is doing.
        status: LayerStatus,
    },
    /// The end of a push: what the tag is now.
    Pushed {
        /// The tag.
        tag: String,
        /// The manifest's digest.
        digest: Digest,
        /// The manifest's length in bytes.
        size: u64,
    },
}

/// What one layer is doing. Shown as Docker's words by [`LayerStatus::text`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerStatus {
    /// Will be pulled.
    PullingFsLayer,
    /// Waits for its turn.
    Waiting,
    /// Is here already.
    AlreadyExists,
    /// Bytes of the blob that came.
    Downloading {
        /// So far.
        current: u64,
        /// In all.
        total: u64,
    },
    /// The download broke off and is tried again.
    Retrying {
        /// Seconds until then.
        seconds: u64,
    },
    /// All bytes are here.
    VerifyingChecksum,
    /// And they are right.
    DownloadComplete,
    /// Bytes of the blob that are unpacked.
    Extracting {
        /// So far.
        current: u64,
        /// In all.
        total: u64,
    },
    /// The layer is ready.
    PullComplete,
    /// Will be pushed.
    Preparing,
    /// Bytes that were sent.
    Pushing {
        /// So far.
        current: u64,
        /// In all.
        total: u64,
    },
    /// The registry has it now.
    Pushed,
    /// The registry had it.
    LayerAlreadyExists,
    /// The registry took it from another of its repositories.
    MountedFrom(String),
    /// The registry does not want it: only its publisher distributes it.
    SkippedForeignLayer,
}

impl LayerStatus {
    /// Docker's words.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::PullingFsLayer => "Pulling fs layer".into(),
            Self::Waiting => "Waiting".into(),
            Self::AlreadyExists => "Already exists".into(),
            Self::Downloading { .. } => "Downloading".into(),
            Self::Retrying { seconds: 1 } => "Retrying in 1 second".into(),
            Self::Retrying { seconds } => format!("Retrying in {seconds} seconds"),
            Self::VerifyingChecksum => "Verifying Checksum".into(),
            Self::DownloadComplete => "Download complete".into(),
            Self::Extracting { .. } => "Extracting".into(),
            Self::PullComplete => "Pull complete".into(),
            Self::Preparing => "Preparing".into(),
            Self::Pushing { .. } => "Pushing".into(),
            Self::Pushed => "Pushed".into(),
            Self::LayerAlreadyExists => "Layer already exists".into(),
            Self::MountedFrom(repository) => format!("Mounted from {repository}"),
            Self::SkippedForeignLayer => "Skipped foreign layer".into(),
        }
    }

    /// Bytes so far and in all, for those that count.
    #[must_use]
    pub fn count(&self) -> Option<(u64, u64)> {
        match self {
            Self::Downloading { current, total }
            | Self::Extracting { current, total }
            | Self::Pushing { current, total } => Some((*current, *total)),
            _ => None,
        }
    }
}

/// The end of the queue that an operation writes to.
pub type Sender = mpsc::Sender<Progress>;

/// A message about the whole.
pub(crate) async fn message(sender: &Sender, id: &str, text: impl Into<String>) -> Result<()> {
    let event = Progress::Message { id: id.to_owned(), text: text.into() };
    sender.send(event).await.map_err(|_| Error::Cancelled)
}

/// Works as long as somebody listens.
pub(crate) async fn while_heard<T>(sender: &Sender, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        done = work => done,
        () = sender.closed() => Err(Error::Cancelled),
    }
}

/// The voice of one layer. Counting works from any thread.
#[derive(Debug)]
pub(crate) struct LayerProgress {
    id: String,
    sender: Sender,
    start: Instant,
    /// Milliseconds after `start` before which no count is sent.
    next_ms: AtomicU64,
    /// Others that wait for the same layer.
    news: Option<watch::Sender<Option<LayerStatus>>>,
}

impl LayerProgress {
    pub(crate) fn new(sender: &Sender, digest: &Digest) -> Self {
        Self {
            id: short(digest),
            sender: sender.clone(),
            start: Instant::now(),
            next_ms: AtomicU64::new(0),
            news: None,
        }
    }

    /// The same voice, which others hear as well.
    pub(crate) fn heard_by(&self, news: watch::Sender<Option<LayerStatus>>) -> Self {
        Self {
            id: self.id.clone(),
            sender: self.sender.clone(),
            start: self.start,
            next_ms: AtomicU64::new(0),
            news: Some(news),
        }
    }

    fn spread(&self, status: &LayerStatus) {
        if let Some(news) = &self.news {
            news.send_replace(Some(status.clone()));
        }
    }

    /// Tells a change of state.
    pub(crate) async fn state(&self, status: LayerStatus) -> Result<()> {
        self.spread(&status);
        let event = Progress::Layer { id: self.id.clone(), status };
        self.sender.send(event).await.map_err(|_| Error::Cancelled)
    }

    /// Offers a byte count, if the last one is old enough or this is the end.
    pub(crate) fn count(&self, status: LayerStatus) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let is_end = status.count().is_some_and(|(current, total)| current >= total);
        if now < self.next_ms.load(Ordering::Relaxed) && !is_end {
            return;
        }
        let interval = u64::try_from(COUNT_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        self.next_ms.store(now.saturating_add(interval), Ordering::Relaxed);
        self.spread(&status);
        // A full queue loses a count, nothing else.
        let _ = self.sender.try_send(Progress::Layer { id: self.id.clone(), status });
    }
}

/// The first twelve digits.
pub(crate) fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}
