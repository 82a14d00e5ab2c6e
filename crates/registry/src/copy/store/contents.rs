//! Into the store as blobs and documents, nothing of it unpacked.

use oci::Descriptor;
use oci::digest::Digest;
use store::{Lease, Store};
use tokio::sync::mpsc;

use super::super::content;
use super::super::flight::Flights;
use super::super::{Destination, Image, Source};
use super::Arrival;
use crate::error::{Error, Result};
use crate::progress::{LayerProgress, LayerStatus, Sender};
use crate::remote::Fetched;
use crate::{Options, blocking};

/// Where the images of an index go that are kept to be given back. All of it stays as long as the lease.
pub(crate) struct Contents<'a> {
    pub(crate) store: &'a Store,
    pub(crate) lease: &'a Lease,
    pub(crate) options: &'a Options,
    pub(crate) flights: &'a Flights,
    pub(crate) progress: &'a Sender,
}

/// A blob that is not here.
pub(crate) struct Part {
    blob: Descriptor,
    progress: LayerProgress,
}

impl Destination for Contents<'_> {
    type Part = Part;
    /// The digests of everything that belongs to it.
    type Placed = Vec<Digest>;

    fn lanes(&self) -> usize {
        self.options.max_downloads
    }

    async fn has(&self, _: &Fetched) -> Result<Option<Vec<Digest>>> {
        Ok(None)
    }

    async fn parts<S: Source>(&self, _: &S, image: &Image) -> Result<Vec<Part>> {
        let named = image.layers.iter().filter_map(|layer| layer.choices.first());
        let named: Vec<Descriptor> = named.map(|choice| choice.blob.clone()).collect();
        let (store, lease, wanted) = (self.store.clone(), self.lease.clone(), named.clone());
        let here = blocking(move || {
            let hold = |blob: &Descriptor| Ok(store.blob_hold(&lease, &blob.digest)?);
            wanted.iter().map(hold).collect::<Result<Vec<bool>>>()
        })
        .await?;
        let mut parts: Vec<Part> = Vec::new();
        for (blob, _) in named.into_iter().zip(here).filter(|(_, is_here)| !is_here) {
            let progress = LayerProgress::new(self.progress, &blob.digest);
            if parts.iter().all(|part| part.blob.digest != blob.digest) {
                progress.state(LayerStatus::PullingFsLayer).await?;
                parts.push(Part { blob, progress });
            }
        }
        Ok(parts)
    }

    async fn bring<S: Source>(&self, source: &S, part: &Part) -> Result<Descriptor> {
        let Part { blob, progress } = part;
        let turn = self.flights.board(blob.digest.to_string(), progress).await?;
        let (store, lease, wanted) = (self.store.clone(), self.lease.clone(), blob.digest.clone());
        if blocking(move || Ok(store.blob_hold(&lease, &wanted)?)).await? {
            progress.state(LayerStatus::PullComplete).await?;
            return Ok(blob.clone());
        }
        // The operation before this one waits for its threads; this one ends with the last of its parts.
        let (alive, _ended) = mpsc::channel(1);
        let voice = turn.voice(progress);
        let (store, lease, options) = (self.store, self.lease, self.options);
        let arrival = Arrival { store, lease, options, blob, diff_id: None, turn, alive };
        arrival.land(source, &voice).await?;
        Ok(blob.clone())
    }

    async fn image<S: Source>(&self, source: &S, image: &Image, _: Vec<Descriptor>) -> Result<Vec<Digest>> {
        let (store, lease, wanted) = (self.store.clone(), self.lease.clone(), image.config.digest.clone());
        let mut new: Vec<(Digest, Vec<u8>)> = Vec::new();
        if !blocking(move || Ok(store.blob_hold(&lease, &wanted)?)).await? {
            let bytes = content::config(source, self.options, &image.config).await;
            new.push((image.config.digest.clone(), bytes.map_err(|error| Error::PullConfig(Box::new(error)))?));
        }
        let manifest = image.manifest.as_ref();
        new.extend(manifest.map(|manifest| (manifest.digest.clone(), manifest.bytes.clone())));
        let mut documents: Vec<Digest> = new.iter().map(|(digest, _)| digest.clone()).collect();
        let (store, lease) = (self.store.clone(), self.lease.clone());
        blocking(move || {
            let mut put = new.iter();
            put.try_for_each(|(digest, bytes)| Ok(store.blob_put_as(&lease, digest, bytes)?))
        })
        .await?;
        documents.push(image.config.digest.clone());
        documents.extend(image.layers.iter().filter_map(|layer| Some(layer.choices.first()?.blob.digest.clone())));
        Ok(documents)
    }

    async fn index(&self, index: &Fetched, children: Vec<Vec<Digest>>) -> Result<Vec<Digest>> {
        let (store, lease, own) = (self.store.clone(), self.lease.clone(), index.clone());
        blocking(move || Ok(store.blob_put_as(&lease, &own.digest, &own.bytes)?)).await?;
        let mut documents: Vec<Digest> = children.into_iter().flatten().collect();
        documents.push(index.digest.clone());
        Ok(documents)
    }
}
