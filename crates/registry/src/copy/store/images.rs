//! Into the store as images that can run.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use oci::digest::{Algorithm, Digest};
use oci::image_config::ImageConfigError;
use oci::{Descriptor, ImageConfig, Reference};
use store::{ImageId, Lease, NewImage, Store};
use tokio::sync::mpsc;

use super::super::content;
use super::super::flight::Flights;
use super::super::{Destination, Image, Layer, Source, type_of};
use super::{Arrival, Stored};
use crate::error::{Error, Result};
use crate::progress::{LayerProgress, LayerStatus, Sender};
use crate::remote::transport::go_json_error;
use crate::remote::{Fetched, MAX_CONFIG};
use crate::{Options, blocking};

/// Where pulled and loaded images go.
pub(crate) struct Images<'a> {
    store: &'a Store,
    lease: Lease,
    options: &'a Options,
    flights: &'a Flights,
    progress: &'a Sender,
    /// Every thread holds one end; the other sees when the last has ended.
    alive: mpsc::Sender<()>,
    ended: Mutex<Option<mpsc::Receiver<()>>>,
    /// Configurations that were read, until their images are placed.
    configs: Mutex<HashMap<Digest, Vec<u8>>>,
}

/// A layer that is not here, or not in this form.
pub(crate) struct Part {
    blob: Descriptor,
    /// Where the files are here, from another blob, this one alone is brought, so that the image can be pushed as it came.
    diff_id: Digest,
    progress: LayerProgress,
}

/// An image whose layers are all here, and the documents that led to it.
#[derive(Debug)]
pub(crate) struct Placed {
    config: Vec<u8>,
    /// What the manifest calls the configuration. The image is known here by its SHA-256.
    config_digest: Digest,
    manifest: Option<Fetched>,
    /// Blobs that the manifest names.
    blobs: Vec<Digest>,
    indexes: Vec<Fetched>,
}

impl<'a> Images<'a> {
    pub(crate) fn new(store: &'a Store, options: &'a Options, flights: &'a Flights, progress: &'a Sender) -> Self {
        let (alive, ended) = mpsc::channel(1);
        let ended = Mutex::new(Some(ended));
        Self { store, lease: store.lease(), options, flights, progress, alive, ended, configs: Mutex::default() }
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Waits for the threads of parts that were given up. They hold what they have made, so an operation that has
    /// failed leaves nothing only when they are gone.
    pub(crate) async fn settle(self) -> Lease {
        drop(self.alive);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut ended) = ended {
            let _ = ended.recv().await;
        }
        self.lease
    }

    /// The configuration, from the store if it is there.
    async fn read_config<S: Source>(&self, source: &S, config: &Descriptor) -> Result<Vec<u8>> {
        let (store, wanted) = (self.store.clone(), config.digest.clone());
        if let Ok(known) = blocking(move || Ok(store.blob_read(&wanted, MAX_CONFIG)?)).await {
            return Ok(known);
        }
        let fetched = content::config(source, self.options, config).await;
        fetched.map_err(|error| Error::PullConfig(Box::new(error)))
    }

    /// Which layers and blobs are here; what is stays for this operation. Says as well whether the image is.
    async fn look(&self, image: &Image, diff_ids: &[Digest]) -> Result<(bool, Vec<(bool, bool)>)> {
        let id = ImageId::from(image.config.digest.clone());
        let (store, held) = (self.store.clone(), self.lease.clone());
        let blob = |layer: &Layer| layer.choices.first().map(|choice| choice.blob.digest.clone());
        let wanted: Vec<(Digest, Option<Digest>)> =
            diff_ids.iter().cloned().zip(image.layers.iter().map(blob)).collect();
        blocking(move || {
            let hold = |(diff_id, blob): &(Digest, Option<Digest>)| -> Result<(bool, bool)> {
                let layer = store.layer_hold(&held, diff_id)?;
                let has_blob = match blob {
                    // A blob that was dropped to make room is not brought again: the files stand for it.
                    Some(blob) if is_dropped(layer.as_ref(), blob) => true,
                    Some(blob) => store.blob_hold(&held, blob)? && store.blob_is_known_as(blob, diff_id)?,
                    None => true,
                };
                Ok((layer.is_some(), has_blob))
            };
            let here = wanted.iter().map(hold).collect::<Result<Vec<_>>>()?;
            Ok((store.image(&id).is_ok(), here))
        })
        .await
    }

    /// A blob that was not unpacked is nevertheless to be the layer that the configuration says it is: images that are made
    /// on that layer would be pushed with it.
    async fn check_pair(&self, blob: &Descriptor, diff_id: &Digest) -> Result<()> {
        let (store, blob, diff_id) = (self.store.clone(), blob.digest.clone(), diff_id.clone());
        let is_layer = blocking(move || Ok(store.blob_is_layer(&blob, &diff_id)?)).await?;
        if is_layer { Ok(()) } else { Err(Error::LayerMismatch) }
    }

    /// Makes the image with its names, in one transaction. Returns its id, and whether the first of its names led
    /// to it before.
    pub(crate) async fn register(
        &self,
        placed: Placed,
        tags: Vec<Reference>,
        repo_digests: Vec<Reference>,
        documents: Vec<Digest>,
    ) -> Result<(ImageId, bool)> {
        let (store, lease) = (self.store.clone(), self.lease.clone());
        blocking(move || register(&store, &lease, placed, tags, repo_digests, documents)).await
    }
}

impl Destination for Images<'_> {
    type Part = Part;
    type Placed = Placed;

    fn lanes(&self) -> usize {
        self.options.max_downloads
    }

    /// Images are made at the end, so one that is here already still has to be gone through.
    async fn has(&self, _: &Fetched) -> Result<Option<Placed>> {
        Ok(None)
    }

    /// The layers that are not here.
    ///
    /// A layer may be here from elsewhere, compressed in another way or not at all. Then its blob alone is brought. Of an
    /// image that is here as a whole nothing is told, as in Docker.
    async fn parts<S: Source>(&self, source: &S, image: &Image) -> Result<Vec<Part>> {
        let bytes = self.read_config(source, &image.config).await?;
        let diff_ids = diff_ids(&bytes, image)?;
        let digest = image.config.digest.clone();
        self.configs.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, bytes);
        let (is_known, here) = self.look(image, &diff_ids).await?;
        if is_known && here.iter().all(|(layer, blob)| *layer && *blob) {
            return Ok(Vec::new());
        }
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for ((layer, diff_id), (has_layer, has_blob)) in image.layers.iter().zip(diff_ids).zip(here) {
            // An image may have the same layer twice, an empty one for example.
            if !seen.insert((diff_id.clone(), layer.choices.first().map(|choice| &choice.blob.digest))) {
                continue;
            }
            let blob = match layer.choices.first() {
                Some(choice) => choice.blob.clone(),
                // It came without being asked for, with the archive.
                None if has_layer => continue,
                None => return Err(Error::UnknownBlob),
            };
            let progress = LayerProgress::new(self.progress, &blob.digest);
            if has_layer && has_blob {
                progress.state(LayerStatus::AlreadyExists).await?;
            } else {
                progress.state(LayerStatus::PullingFsLayer).await?;
                missing.push(Part { blob, diff_id, progress });
            }
        }
        for part in missing.iter().skip(self.options.max_downloads) {
            part.progress.state(LayerStatus::Waiting).await?;
        }
        Ok(missing)
    }

    async fn bring<S: Source>(&self, source: &S, part: &Part) -> Result<Descriptor> {
        let Part { blob, diff_id, progress } = part;
        let turn = self.flights.board(blob.digest.to_string(), progress).await?;
        let (store, lease) = (self.store.clone(), self.lease.clone());
        let (wanted, layer) = (blob.digest.clone(), diff_id.clone());
        let (has_layer, has_blob) =
            blocking(move || Ok((store.layer_hold(&lease, &layer)?.is_some(), store.blob_hold(&lease, &wanted)?)))
                .await?;
        if has_layer && has_blob {
            // Somebody else brought it meanwhile, or it was kept for another image.
            self.check_pair(blob, diff_id).await?;
            progress.state(LayerStatus::DownloadComplete).await?;
            progress.state(LayerStatus::PullComplete).await?;
            return Ok(blob.clone());
        }
        let voice = turn.voice(progress);
        let arrival = Arrival {
            store: self.store,
            lease: &self.lease,
            options: self.options,
            blob,
            diff_id: Some(diff_id).filter(|_| !has_layer),
            turn,
            alive: self.alive.clone(),
        };
        if has_blob {
            // It was kept for another platform, and only has to be unpacked.
            arrival.land(&Stored::new(self.store), &voice).await?;
        } else {
            arrival.land(source, &voice).await?;
        }
        if has_layer {
            self.check_pair(blob, diff_id).await?;
        }
        Ok(blob.clone())
    }

    async fn image<S: Source>(&self, _: &S, image: &Image, _: Vec<Descriptor>) -> Result<Placed> {
        let config = self.configs.lock().unwrap_or_else(PoisonError::into_inner).remove(&image.config.digest);
        let config = config.ok_or(Error::Task)?;
        let named = image.layers.iter().filter_map(|layer| layer.choices.first());
        let blobs = named.map(|choice| choice.blob.digest.clone()).collect();
        let config_digest = image.config.digest.clone();
        Ok(Placed { config, config_digest, manifest: image.manifest.clone(), blobs, indexes: Vec::new() })
    }

    /// The index of the one image that was chosen from it.
    async fn index(&self, index: &Fetched, children: Vec<Placed>) -> Result<Placed> {
        let mut placed = children.into_iter().next().ok_or_else(|| Error::NoPlatform(String::new()))?;
        placed.indexes.push(index.clone());
        Ok(placed)
    }
}

/// What the configuration says that the layers are, if it fits the manifest and this kind of machine.
fn diff_ids(config: &[u8], image: &Image) -> Result<Vec<Digest>> {
    let config = ImageConfig::parse(config).map_err(|error| match error {
        ImageConfigError::Json(error) => Error::Json(go_json_error(config, &error)),
        ImageConfigError::NoRootFs => Error::RootFs,
    })?;
    if !config.os.is_empty() && config.os != "linux" {
        return Err(Error::OperatingSystem(config.os));
    }
    if config.rootfs.diff_ids.len() != image.layers.len() {
        return Err(Error::LayerMismatch);
    }
    Ok(config.rootfs.diff_ids)
}

fn is_dropped(layer: Option<&store::Layer>, blob: &Digest) -> bool {
    layer.is_some_and(|layer| layer.dropped.iter().any(|dropped| dropped.digest == *blob))
}

fn register(
    store: &Store,
    lease: &Lease,
    placed: Placed,
    tags: Vec<Reference>,
    repo_digests: Vec<Reference>,
    mut documents: Vec<Digest>,
) -> Result<(ImageId, bool)> {
    let before = match tags.first().or(repo_digests.first()) {
        Some(name) => store.image_named(name)?,
        None => None,
    };
    let manifest = match &placed.manifest {
        Some(fetched) => {
            store.blob_put_as(lease, &fetched.digest, &fetched.bytes)?;
            Some(Descriptor::new(&type_of(fetched), fetched.digest.clone(), fetched.bytes.len() as u64))
        }
        None => None,
    };
    for index in &placed.indexes {
        store.blob_put_as(lease, &index.digest, &index.bytes)?;
        documents.push(index.digest.clone());
    }
    if placed.config_digest.algorithm() != Algorithm::Sha256 {
        store.blob_put_as(lease, &placed.config_digest, &placed.config)?;
        documents.push(placed.config_digest);
    }
    // The blobs that this manifest names stay as long as the image, whatever other images make of their layers.
    documents.extend(placed.blobs);
    let image = NewImage { config: placed.config, manifest, parent: None, tags, repo_digests, documents };
    let id = store.image_create(lease, image)?;
    let up_to_date = before.as_ref() == Some(&id);
    Ok((id, up_to_date))
}
