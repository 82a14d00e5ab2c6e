//! Bytes on their way from a source, and what is done when they stop coming.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use oci::Descriptor;
use tokio::sync::mpsc;

use super::Source;
use crate::Options;
use crate::error::{Error, Result};
use crate::progress::{LayerProgress, LayerStatus};
use crate::remote::transport::Response;
use crate::remote::{MAX_CONFIG, retry};

/// Bytes read from the disk at once.
const PIECE: usize = 256 << 10;
/// Pieces between disk and destination.
const QUEUE: usize = 4;

/// A stream of bytes from somewhere.
pub(crate) enum Content {
    /// From a registry. What comes before `skip` bytes more is known already.
    Web { response: Response, skip: u64 },
    /// From a thread that reads the disk.
    Disk(mpsc::Receiver<io::Result<Bytes>>),
}

impl Content {
    /// Reads on a thread that may block, as fast as the pieces are taken.
    pub(crate) fn of(mut reader: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let piece = match reader.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                    Ok(0) => return,
                    Ok(_) => Ok(piece.into()),
                    Err(error) => Err(error),
                };
                let failed = piece.is_err();
                if sender.blocking_send(piece).is_err() || failed {
                    return;
                }
            }
        });
        Self::Disk(receiver)
    }

    /// A stored blob from this byte on.
    pub(super) fn of_blob(mut blob: store::Blob, offset: u64) -> Result<Self> {
        blob.skip(offset).map_err(Error::Read)?;
        Ok(Self::of(blob))
    }

    /// The next bytes; none at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Disk(pieces) => pieces.recv().await.transpose().map_err(Error::Read),
            Self::Web { response, skip } => loop {
                let Some(mut chunk) = response.chunk().await? else { return Ok(None) };
                let known = usize::try_from(*skip).unwrap_or(usize::MAX).min(chunk.len());
                *skip -= known as u64;
                let fresh = chunk.split_off(known);
                if !fresh.is_empty() {
                    return Ok(Some(fresh));
                }
            },
        }
    }
}

impl Content {
    /// The whole, which must not be larger than this.
    pub(crate) async fn bytes(&mut self, what: &'static str, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(Error::TooLarge { what, size: bytes.len() as u64, limit });
            }
        }
        Ok(bytes)
    }
}

/// All bytes of a blob from an offset on, however many times the source has to be opened within the limit.
pub(crate) struct Feed<'a, S> {
    source: &'a S,
    options: &'a Options,
    blob: &'a Descriptor,
    progress: &'a LayerProgress,
    content: Option<Content>,
    /// What came with the last piece and was not wanted yet.
    rest: Bytes,
    /// Of the next byte.
    pub(super) offset: u64,
    attempts: u32,
    /// The registry lied about ranges: it is asked for the beginning again.
    from_the_start: bool,
}

impl<'a, S: Source> Feed<'a, S> {
    pub(super) fn new(
        source: &'a S,
        options: &'a Options,
        blob: &'a Descriptor,
        progress: &'a LayerProgress,
        offset: u64,
    ) -> Self {
        let (rest, attempts, from_the_start) = (Bytes::new(), 1, false);
        Self { source, options, blob, progress, content: None, rest, offset, attempts, from_the_start }
    }

    /// The next bytes, not more than so many; none when the source has no more. More than the descriptor says is an error.
    pub(super) async fn next(&mut self, at_most: u64) -> Result<Option<Bytes>> {
        if self.rest.is_empty() {
            match self.fetch().await? {
                Some(piece) => self.rest = piece,
                None => return Ok(None),
            }
        }
        let length = usize::try_from(at_most).unwrap_or(usize::MAX).min(self.rest.len());
        let piece = self.rest.split_to(length);
        self.offset += length as u64;
        Ok(Some(piece))
    }

    /// Bytes that were handed over, and in all.
    pub(super) fn position(&self) -> (u64, u64) {
        (self.offset, self.blob.size)
    }

    /// What came is not what the descriptor says.
    pub(super) fn mismatch(&self) -> Error {
        Error::LayerDigest(self.blob.digest.clone())
    }

    async fn fetch(&mut self) -> Result<Option<Bytes>> {
        loop {
            let error = match self.try_fetch().await {
                Ok(Some(bytes)) if self.offset + bytes.len() as u64 > self.blob.size => return Err(self.mismatch()),
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => return Ok(None),
                Err(error) if error.is_transient() => error,
                Err(other) => return Err(other),
            };
            self.content = None;
            if self.attempts >= self.options.attempts {
                return Err(error);
            }
            self.from_the_start = matches!(error, Error::Range { .. });
            tracing::info!(%error, blob = %self.blob.digest, self.offset, "download broke off");
            pause(self.progress, retry::delay(self.options, self.attempts)).await?;
            self.attempts += 1;
        }
    }

    async fn try_fetch(&mut self) -> Result<Option<Bytes>> {
        if self.content.is_none() {
            // A blob that is here to its end may still have to be verified; there is nothing to ask for.
            if self.offset == self.blob.size && self.offset > 0 {
                return Ok(None);
            }
            let from = if self.from_the_start { 0 } else { self.offset };
            let mut content = self.source.open(self.blob, from).await?;
            if let Content::Web { skip, .. } = &mut content {
                *skip += self.offset - from;
            }
            self.content = Some(content);
        }
        match &mut self.content {
            Some(content) => content.chunk().await,
            None => Ok(None),
        }
    }
}

/// An image configuration, or what stands in its place in an artifact, however many times it has to be asked for within
/// the limit.
pub(super) async fn config<S: Source>(source: &S, options: &Options, config: &Descriptor) -> Result<Vec<u8>> {
    let mut attempts = 1;
    loop {
        let error = match try_config(source, config).await {
            Err(error) if error.is_transient() => error,
            Err(error @ Error::ConfigDigest(_)) => return Err(error),
            Err(error) => return Err(Error::Download { attempts, source: Box::new(error) }),
            Ok(bytes) => return Ok(bytes),
        };
        if attempts >= options.attempts {
            return Err(Error::Download { attempts, source: Box::new(error) });
        }
        tokio::time::sleep(retry::delay(options, attempts)).await;
        attempts += 1;
    }
}

async fn try_config<S: Source>(source: &S, config: &Descriptor) -> Result<Vec<u8>> {
    let mut content = source.open(config, 0).await?;
    let bytes = content.bytes("image configuration", MAX_CONFIG).await?;
    if config.digest.verifies(&bytes) { Ok(bytes) } else { Err(Error::ConfigDigest(config.digest.clone())) }
}

/// Waits, and counts the seconds down as Docker does.
pub(super) async fn pause(progress: &LayerProgress, delay: Duration) -> Result<()> {
    let mut left = delay;
    while !left.is_zero() {
        let step = left.min(Duration::from_secs(1));
        progress.state(LayerStatus::Retrying { seconds: left.as_secs().max(1) }).await?;
        tokio::time::sleep(step).await;
        left = left.saturating_sub(step);
    }
    Ok(())
}
