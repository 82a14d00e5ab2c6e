//! Images for a registry that serves them out of the engine's store.

use oci::digest::Digest;
use registry::Offer;
use std::io::Read;
use tokio::sync::mpsc;

use super::progress::failure;
use super::save::ArchiveStream;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Bytes that are read from the disk at once.
const PIECE: usize = 256 << 10;
/// Pieces that wait for the reader.
const QUEUE: usize = 4;

impl Engine {
    /// What a registry has where it has this image.
    pub async fn image_offer(&self, name: &str) -> Result<Offer> {
        let (store, name) = (self.store.clone(), name.to_owned());
        let id = self.blocking(move || Ok(store.image_resolve(&name)?)).await?;
        registry::offer(&self.store, &id).await.map_err(failure)
    }

    /// A configuration or layer: how many bytes it has, and those.
    pub async fn image_blob(&self, digest: &str) -> Result<(u64, ArchiveStream)> {
        let digest: Digest = digest.parse().map_err(|error| Error::invalid(format!("{digest}: {error}")))?;
        let store = self.store.clone();
        let mut blob = self.blocking(move || Ok(store.blob_open(&digest)?)).await?;
        let size = blob.size();
        let (pieces, stream) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let piece = match blob.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                    Ok(0) => return,
                    Ok(_) => Ok(piece.into()),
                    Err(error) => Err(error),
                };
                let failed = piece.is_err();
                // A reader that went away is no failure.
                if pieces.blocking_send(piece).is_err() || failed {
                    return;
                }
            }
        });
        Ok((size, ArchiveStream(stream)))
    }
}
