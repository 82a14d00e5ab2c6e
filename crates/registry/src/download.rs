//! One layer: from the registry's socket into the store, in one pass.
//!
//! The task that reads the socket and the thread that hashes, inflates and writes are joined by a short queue of pieces.
//! When the socket fails the thread keeps what it has, and the next request asks for the rest.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use oci::Descriptor;
use oci::digest::Digest;
use store::{Lease, Store};
use tokio::sync::{mpsc, oneshot};

use crate::Options;
use crate::error::{Error, Result};
use crate::progress::{LayerProgress, LayerStatus};
use crate::remote::Remote;

/// Pieces between socket and thread. A piece is what one read brought, up to some hundred KiB.
const QUEUE: usize = 16;
/// No delay is longer.
const MAX_DELAY: Duration = Duration::from_secs(20);

/// What goes to the thread. Without an end, the layer is given up.
enum Piece {
    Bytes(Bytes),
    End,
}

/// Wait after this many failed attempts.
pub(crate) fn delay(options: &Options, attempt: u32) -> Duration {
    options.retry_delay.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(MAX_DELAY)
}

/// What is to be brought.
pub(crate) struct Layer<'a> {
    pub(crate) blob: &'a Descriptor,
    /// None: only the blob is wanted.
    pub(crate) diff_id: Option<&'a Digest>,
    pub(crate) progress: &'a LayerProgress,
    /// Dropped when the thread has ended.
    pub(crate) alive: mpsc::Sender<()>,
}

/// Brings one layer into the store.
pub(crate) async fn layer(
    remote: &Remote,
    options: &Options,
    store: &Store,
    lease: &Lease,
    layer: Layer<'_>,
) -> Result<()> {
    let Layer { blob, diff_id, progress, alive } = layer;
    let (pieces, queue) = mpsc::channel(QUEUE);
    let (store, lease, descriptor, diff_id) = (store.clone(), lease.clone(), blob.clone(), diff_id.cloned());
    let (begin, begun) = oneshot::channel();
    let thread = tokio::task::spawn_blocking(move || {
        let taken = take_in(&store, &lease, &descriptor, diff_id.as_ref(), begin, queue);
        drop((lease, alive));
        taken
    });
    let sent = match begun.await {
        // An earlier attempt left so much.
        Ok(offset) => Download { remote, options, blob, progress, pieces: &pieces, offset }.run().await,
        Err(_) => Err(Sent::Refused),
    };
    if sent.is_ok() {
        progress.state(LayerStatus::VerifyingChecksum).await?;
        progress.state(LayerStatus::DownloadComplete).await?;
        // If the thread has ended already, it tells why.
        let _ = pieces.send(Piece::End).await;
    }
    drop(pieces);
    let done = thread.await.map_err(|_| Error::Task)?;
    if let Err(Sent::Failed(error)) = sent {
        return Err(error);
    }
    done?;
    progress.count(LayerStatus::Extracting { current: blob.size, total: blob.size });
    progress.state(LayerStatus::PullComplete).await
}

/// Why not all bytes were handed over.
enum Sent {
    /// The thread does not want more.
    Refused,
    Failed(Error),
}

impl From<Error> for Sent {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Download<'a> {
    remote: &'a Remote,
    options: &'a Options,
    blob: &'a Descriptor,
    progress: &'a LayerProgress,
    pieces: &'a mpsc::Sender<Piece>,
    /// Bytes handed over.
    offset: u64,
}

impl Download<'_> {
    /// Hands over all bytes of the blob, however many connections that takes within the limit.
    async fn run(&mut self) -> Result<(), Sent> {
        let mut attempts = 1;
        while self.offset < self.blob.size {
            let error = match self.transfer().await {
                Ok(()) => break,
                Err(Sent::Failed(error)) if error.is_transient() => error,
                Err(other) => return Err(other),
            };
            if attempts >= self.options.attempts {
                return Err(Sent::Failed(error));
            }
            tracing::info!(%error, blob = %self.blob.digest, self.offset, "download broke off");
            self.pause(delay(self.options, attempts)).await?;
            attempts += 1;
        }
        Ok(())
    }

    /// Waits, and counts the seconds down as Docker does.
    async fn pause(&self, delay: Duration) -> Result<(), Sent> {
        let mut left = delay;
        while !left.is_zero() {
            let step = left.min(Duration::from_secs(1));
            self.progress.state(LayerStatus::Retrying { seconds: left.as_secs().max(1) }).await?;
            tokio::time::sleep(step).await;
            left = left.saturating_sub(step);
        }
        Ok(())
    }

    /// One request, and as many bytes as it brings.
    async fn transfer(&mut self) -> Result<(), Sent> {
        let (mut response, mut at) = self.remote.blob(&self.blob.digest, self.offset).await?;
        if at > self.offset {
            return Err(Sent::Failed(Error::LayerDigest(self.blob.digest.clone())));
        }
        while let Some(mut chunk) = response.chunk().await? {
            // A registry that does not know ranges sends the beginning again.
            let known = usize::try_from(self.offset - at).unwrap_or(usize::MAX).min(chunk.len());
            at += chunk.len() as u64;
            let fresh = chunk.split_off(known);
            if fresh.is_empty() {
                continue;
            }
            self.offset += fresh.len() as u64;
            if self.offset > self.blob.size {
                return Err(Sent::Failed(Error::LayerDigest(self.blob.digest.clone())));
            }
            self.pieces.send(Piece::Bytes(fresh)).await.map_err(|_| Sent::Refused)?;
            self.progress.count(LayerStatus::Downloading { current: self.offset, total: self.blob.size });
        }
        Ok(())
    }
}

/// The thread's part. Says first how much of the blob is here.
fn take_in(
    store: &Store,
    lease: &Lease,
    blob: &Descriptor,
    diff_id: Option<&Digest>,
    begin: oneshot::Sender<u64>,
    mut queue: mpsc::Receiver<Piece>,
) -> Result<()> {
    let mut target = match diff_id {
        Some(diff_id) => Target::Layer(Box::new(store.layer_ingest(lease, blob, diff_id).map_err(failed)?)),
        None => Target::Blob(Box::new(store.blob_ingest(lease, blob).map_err(failed)?)),
    };
    if begin.send(target.offset()).is_err() {
        return Err(Error::Cancelled);
    }
    loop {
        match queue.blocking_recv() {
            Some(Piece::Bytes(bytes)) => {
                if target.write_all(&bytes).is_err() {
                    // It has ended early, and finish() says why.
                    return target.finish();
                }
            }
            Some(Piece::End) => return target.finish(),
            None => return Err(Error::Cancelled),
        }
    }
}

/// What the bytes become.
enum Target {
    Layer(Box<store::LayerIngest>),
    Blob(Box<store::Ingest>),
}

impl Target {
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Layer(layer) => layer.write_all(bytes),
            Self::Blob(blob) => blob.write_all(bytes),
        }
    }

    fn offset(&self) -> u64 {
        match self {
            Self::Layer(layer) => layer.offset(),
            Self::Blob(blob) => blob.offset(),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Layer(layer) => layer.finish().map(drop).map_err(failed),
            Self::Blob(ingest) => ingest.finish().map(drop).map_err(failed),
        }
    }
}

fn failed(error: store::Error) -> Error {
    match error {
        store::Error::WrongDigest { expected, .. } => Error::LayerDigest(expected),
        store::Error::WrongSize { digest, .. } => Error::LayerDigest(digest),
        store::Error::WrongDiffId { .. } => Error::LayerMismatch,
        other => Error::Layer(other),
    }
}
