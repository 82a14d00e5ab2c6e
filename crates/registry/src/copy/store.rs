//! The store as a source of what was pulled or made here, and as a destination.
//!
//! There are two ways into it. [`Images`] makes images that can run: each layer is unpacked under the diff id that the
//! configuration names. [`Contents`] keeps everything of an index as it came, for platforms that never run here and go
//! back to a registry whole.

mod contents;
mod from;
mod images;
mod nearby;

pub(crate) use contents::Contents;
pub(crate) use from::Stored;
pub(crate) use images::Images;
pub(crate) use nearby::Nearby;

use oci::Descriptor;
use oci::digest::Digest;
use store::{Lease, Store};
use tokio::sync::{mpsc, oneshot};

use super::Source;
use super::content::Feed;
use super::flight::Turn;
use crate::Options;
use crate::error::{Error, Result};
use crate::progress::{LayerProgress, LayerStatus};

/// Pieces between the connection and the thread that hashes, inflates and writes. A piece is what one read brought, up to
/// some hundred KiB.
const QUEUE: usize = 16;

/// What goes to the thread. Without an end, the blob is given up.
enum Piece {
    Bytes(bytes::Bytes),
    End,
}

/// What the bytes of a blob become.
enum Ingest {
    /// A layer, unpacked.
    Layer(Box<store::LayerIngest>),
    /// Only the blob.
    Blob(Box<store::Ingest>),
}

/// A blob that is to come into the store.
struct Arrival<'a> {
    store: &'a Store,
    lease: &'a Lease,
    options: &'a Options,
    blob: &'a Descriptor,
    /// None: only the blob is wanted.
    diff_id: Option<&'a Digest>,
    /// Both are dropped when the thread has ended.
    turn: Turn,
    alive: mpsc::Sender<()>,
}

impl Arrival<'_> {
    /// Brings the blob.
    async fn land<S: Source>(&self, source: &S, progress: &LayerProgress) -> Result<()> {
        let mut begun_at = 0;
        let landed = self.attempt(source, progress, &mut begun_at).await;
        match landed {
            // What an earlier attempt left here may have suffered when the machine stopped. It is gone now.
            Err(error) if begun_at > 0 && is_of_content(&error) => {
                tracing::info!(%error, blob = %self.blob.digest, begun_at, "what was left of a download was bad");
                self.attempt(source, progress, &mut begun_at).await
            }
            other => other,
        }
    }

    /// What the socket brings goes through a short queue to a thread. When the socket fails the thread keeps what it
    /// has, and the next request asks for the rest. `begun_at` becomes the length of what was here before.
    async fn attempt<S: Source>(&self, source: &S, progress: &LayerProgress, begun_at: &mut u64) -> Result<()> {
        let (pieces, queue) = mpsc::channel(QUEUE);
        let (begun, offset) = oneshot::channel();
        let (store, lease) = (self.store.clone(), self.lease.clone());
        let (turn, alive) = (self.turn.clone(), self.alive.clone());
        let (blob, diff_id) = (self.blob.clone(), self.diff_id.cloned());
        let thread = tokio::task::spawn_blocking(move || {
            let taken = take_in(&store, &lease, &blob, diff_id.as_ref(), begun, queue);
            drop((lease, turn, alive));
            taken
        });
        let sent = match offset.await {
            Ok(offset) => {
                *begun_at = offset;
                feed(source, self.options, self.blob, progress, offset, &pieces).await
            }
            // It could not even begin, and says why.
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
        let size = self.blob.size;
        progress.count(LayerStatus::Extracting { current: size, total: size });
        progress.state(LayerStatus::PullComplete).await
    }
}

/// Why not all bytes were handed over.
enum Sent {
    /// The thread does not want more.
    Refused,
    Failed(Error),
}

async fn feed<S: Source>(
    source: &S,
    options: &Options,
    blob: &Descriptor,
    progress: &LayerProgress,
    offset: u64,
    pieces: &mpsc::Sender<Piece>,
) -> Result<(), Sent> {
    let mut feed = Feed::new(source, options, blob, progress, offset);
    while let Some(piece) = feed.next(u64::MAX).await.map_err(Sent::Failed)? {
        pieces.send(Piece::Bytes(piece)).await.map_err(|_| Sent::Refused)?;
        let (current, total) = feed.position();
        progress.count(LayerStatus::Downloading { current, total });
    }
    Ok(())
}

/// The thread's part. Says first how much of the blob an earlier attempt left here.
fn take_in(
    store: &Store,
    lease: &Lease,
    blob: &Descriptor,
    diff_id: Option<&Digest>,
    begun: oneshot::Sender<u64>,
    mut queue: mpsc::Receiver<Piece>,
) -> Result<()> {
    let mut ingest = match diff_id {
        Some(diff_id) => Ingest::Layer(Box::new(store.layer_ingest(lease, blob, diff_id).map_err(failed)?)),
        None => Ingest::Blob(Box::new(store.blob_ingest(lease, blob).map_err(failed)?)),
    };
    if begun.send(ingest.offset()).is_err() {
        return Err(Error::Cancelled);
    }
    loop {
        match queue.blocking_recv() {
            Some(Piece::Bytes(bytes)) => {
                if ingest.write_all(&bytes).is_err() {
                    // It has ended early, and finish() says why.
                    return ingest.finish();
                }
            }
            Some(Piece::End) => return ingest.finish(),
            None => return Err(Error::Cancelled),
        }
    }
}

impl Ingest {
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        use std::io::Write;
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

/// Is this the fault of the bytes? Damage may look like anything, but not like a disk that is full or broken.
fn is_of_content(error: &Error) -> bool {
    use std::io::ErrorKind as Kind;
    match error {
        Error::LayerDigest(_) | Error::LayerMismatch => true,
        Error::Layer(store::Error::Entry { source, .. }) => {
            !matches!(source.kind(), Kind::StorageFull | Kind::QuotaExceeded | Kind::ReadOnlyFilesystem)
        }
        Error::Layer(error) => !matches!(
            error,
            store::Error::File { .. }
                | store::Error::Write(_)
                | store::Error::Database(_)
                | store::Error::Record { .. }
                | store::Error::Thread
        ),
        _ => false,
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
