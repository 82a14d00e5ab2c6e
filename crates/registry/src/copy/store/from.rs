//! Out of the store: what was pulled, bit for bit, and what was made here, in the form that the destination needs.
//!
//! A pulled image has its manifest, and a layer of it is the blob that the manifest names. A layer that was made here is
//! a directory; it may be known as several blobs from earlier pushes, and becomes one (in gzip) when nobody has any of
//! those. Its plain tar is content too, under its diff id: that is what archives in Docker's format hold.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use oci::digest::Digest;
use oci::manifest::{Document, MAX_SIZE};
use oci::{Descriptor, Manifest, Reference, media_type};
use store::{ImageId, Lease, Store};

use super::super::{Choice, Content, Image, Layer, Made, Platforms, Source, Tap, Tree, parse};
use crate::blocking;
use crate::error::{Error, Result};
use crate::remote::Fetched;

/// The store as a source. What it finds is held until it is dropped.
pub(crate) struct Stored {
    store: Store,
    lease: Lease,
    /// Repositories that are known to have all of what is copied, as domain and path.
    origins: Vec<(String, String)>,
}

impl Stored {
    pub(crate) fn new(store: &Store) -> Self {
        Self { store: store.clone(), lease: store.lease(), origins: Vec::new() }
    }

    /// What an image is as it goes to a registry: its manifest as it came, or its layers in gzip without one yet.
    pub(crate) async fn image_for_registry(&self, id: &ImageId) -> Result<Image> {
        let (store, lease, id) = (self.store.clone(), self.lease.clone(), id.clone());
        blocking(move || image_for_registry(&store, &lease, &id)).await
    }

    /// What an image is in an archive of Docker's own format: its layers as plain tars.
    pub(crate) async fn image_for_archive(&self, id: &ImageId) -> Result<Image> {
        let (store, lease, id) = (self.store.clone(), self.lease.clone(), id.clone());
        blocking(move || {
            let mut layers = Vec::new();
            for layer in store.image(&id)?.layers {
                let held = store.layer_source(&lease, &layer.diff_id)?;
                let blob = Descriptor::new(media_type::OCI_LAYER, held.diff_id.clone(), held.tar_size);
                let choices = vec![Choice { blob, repositories: Vec::new() }];
                layers.push(Layer { choices, diff_id: Some(held.diff_id) });
            }
            Ok(Image { manifest: None, config: config_of(&store, &id)?, layers })
        })
        .await
    }

    /// The index that an image came with and everything below it, as far as `has` says of what is not here that the
    /// destination has it. None: there is no index, or something is missing.
    pub(crate) async fn index_of(&mut self, id: &ImageId, platforms: Platforms<'_>) -> Result<Option<Tree>> {
        let (store, wanted) = (self.store.clone(), id.clone());
        for (name, index) in blocking(move || indexes_of(&store, &wanted)).await? {
            let document = parse(&index)?;
            self.origins = vec![(name.domain().to_owned(), name.path().to_owned())];
            match Tree::read(self, index, document, platforms).await {
                Ok(tree) if self.is_whole(&tree).await? => return Ok(Some(tree)),
                Ok(_) | Err(Error::Store(store::Error::NoSuchBlob(_)) | Error::NoPlatform(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Are all blobs here that a tree names? Holds those that are.
    async fn is_whole(&self, tree: &Tree) -> Result<bool> {
        let mut wanted = Vec::new();
        for image in tree.images() {
            wanted.push(image.config.digest.clone());
            let foreign = |choice: &&Choice| media_type::is_foreign_layer(&choice.blob.media_type);
            let first = image.layers.iter().filter_map(|layer| layer.choices.first());
            wanted.extend(first.filter(|choice| !foreign(choice)).map(|choice| choice.blob.digest.clone()));
        }
        let (store, lease) = (self.store.clone(), self.lease.clone());
        blocking(move || {
            for digest in wanted {
                if !store.blob_hold(&lease, &digest)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }
}

impl Source for Stored {
    async fn document(&self, digest: &Digest) -> Result<Fetched> {
        let (store, lease, wanted) = (self.store.clone(), self.lease.clone(), digest.clone());
        blocking(move || {
            store.blob_hold(&lease, &wanted)?;
            let bytes = store.blob_read(&wanted, MAX_SIZE as u64)?;
            Ok(Fetched { media_type: String::new(), digest: wanted, bytes })
        })
        .await
    }

    async fn image(&self, fetched: Fetched, manifest: Manifest) -> Result<Image> {
        let (store, id) = (self.store.clone(), ImageId::from(manifest.config.digest.clone()));
        // Its layers have diff ids where it is an image here, and not only kept for others.
        let diff_ids = blocking(move || {
            let layers = store.image(&id).map(|image| image.layers).unwrap_or_default();
            Ok(layers.into_iter().map(|layer| layer.diff_id).collect::<Vec<_>>())
        })
        .await?;
        let Manifest { config, layers, .. } = manifest;
        let layers = layers.into_iter().enumerate().map(|(index, blob)| Layer {
            choices: vec![Choice { blob, repositories: self.origins.clone() }],
            diff_id: diff_ids.get(index).cloned(),
        });
        Ok(Image { manifest: Some(fetched), config, layers: layers.collect() })
    }

    async fn open(&self, blob: &Descriptor, offset: u64) -> Result<Content> {
        let (store, blob) = (self.store.clone(), blob.clone());
        blocking(move || match store.blob_open(&blob.digest) {
            Ok(found) => Content::of_blob(found, offset),
            Err(store::Error::NoSuchBlob(_)) if blob.media_type == media_type::OCI_LAYER => {
                let mut tar = store.layer_tar(&blob.digest)?;
                io::copy(&mut io::Read::take(&mut tar, offset), &mut io::sink()).map_err(Error::Read)?;
                Ok(Content::of(tar))
            }
            Err(error) => Err(error.into()),
        })
        .await
    }

    /// A blob that is in the store: one that came, or one that is made now.
    async fn settle(&self, layer: &Layer, tap: Option<Tap>) -> Result<Descriptor> {
        let (store, lease, layer) = (self.store.clone(), self.lease.clone(), layer.clone());
        blocking(move || {
            for Choice { blob, .. } in &layer.choices {
                if store.blob_hold(&lease, &blob.digest)? {
                    return Ok(blob.clone());
                }
            }
            match &layer.diff_id {
                Some(diff_id) => gzip_blob(&store, &lease, diff_id, tap),
                None => Err(Error::UnknownBlob),
            }
        })
        .await
    }
}

fn config_of(store: &Store, id: &ImageId) -> Result<Descriptor> {
    let bytes = store.image_config_bytes(id)?;
    Ok(Descriptor::new(media_type::OCI_CONFIG, id.digest().clone(), bytes.len() as u64))
}

fn image_for_registry(store: &Store, lease: &Lease, id: &ImageId) -> Result<Image> {
    let image = store.image(id)?;
    let manifest = manifest_of(store, &image);
    let known = known_blobs(store, &image)?;
    let mut layers = Vec::new();
    for (index, layer) in image.layers.iter().enumerate() {
        let mut choices = known.get(&layer.diff_id).cloned().unwrap_or_default();
        let held = store.layer_hold(lease, &layer.diff_id)?;
        // What was dropped to make room may still be where it came from.
        for blob in held.into_iter().flat_map(|layer| layer.blob.into_iter().chain(layer.dropped)) {
            if !choices.iter().any(|choice| choice.blob.digest == blob.digest) {
                choices.push(Choice { blob, repositories: Vec::new() });
            }
        }
        match manifest.as_ref().and_then(|(manifest, _)| manifest.layers.get(index)) {
            // It must be this blob.
            Some(named) => {
                choices.retain(|choice| choice.blob.digest == named.digest);
                let repositories = choices.pop().map(|choice| choice.repositories).unwrap_or_default();
                choices = vec![Choice { blob: named.clone(), repositories }];
            }
            // A manifest that is made here is Docker's, with gzip.
            None => {
                choices.retain(|choice| choice.blob.media_type.ends_with("gzip"));
                for choice in &mut choices {
                    media_type::DOCKER_LAYER_GZIP.clone_into(&mut choice.blob.media_type);
                }
            }
        }
        layers.push(Layer { choices, diff_id: Some(layer.diff_id.clone()) });
    }
    let config = match &manifest {
        // It may call the configuration by another digest than the one that the image is known by here.
        Some((manifest, _)) => manifest.config.clone(),
        None => config_of(store, id)?,
    };
    Ok(Image { manifest: manifest.map(|(_, fetched)| fetched), config, layers })
}

/// The manifest of an image, if it has one that fits it.
fn manifest_of(store: &Store, image: &store::Image) -> Option<(Manifest, Fetched)> {
    let descriptor = image.manifest.as_ref()?;
    let bytes = store.blob_read(&descriptor.digest, MAX_SIZE as u64).ok()?;
    match Document::parse(&descriptor.media_type, &bytes).ok()? {
        Document::Manifest(manifest) if manifest.layers.len() == image.layers.len() => {
            let (media_type, digest) = (descriptor.media_type.clone(), descriptor.digest.clone());
            Some((manifest, Fetched { media_type, digest, bytes }))
        }
        _ => None,
    }
}

/// The blobs that the layers of an image are known as, from all images here, and the repositories that have them.
fn known_blobs(store: &Store, image: &store::Image) -> Result<HashMap<Digest, Vec<Choice>>> {
    let mut known: HashMap<Digest, Vec<Choice>> = HashMap::new();
    for other in store.images()? {
        let Some((manifest, _)) = manifest_of(store, &other) else { continue };
        let place = |name: &Reference| (name.domain().to_owned(), name.path().to_owned());
        let repositories: Vec<(String, String)> = other.repo_digests.iter().map(place).collect();
        for (layer, blob) in other.layers.iter().zip(manifest.layers) {
            // That somebody's manifest names a blob beside this layer does not make it one.
            let is_wanted = image.layers.iter().any(|own| own.diff_id == layer.diff_id);
            if !is_wanted || !store.blob_is_known_as(&blob.digest, &layer.diff_id)? {
                continue;
            }
            let list = known.entry(layer.diff_id.clone()).or_default();
            match list.iter_mut().find(|choice| choice.blob.digest == blob.digest) {
                Some(same) => same.repositories.extend(repositories.iter().cloned()),
                None => list.push(Choice { blob, repositories: repositories.clone() }),
            }
        }
    }
    Ok(known)
}

/// The indexes that an image is known by, each with the name that it is known by.
fn indexes_of(store: &Store, id: &ImageId) -> Result<Vec<(Reference, Fetched)>> {
    let mut found = Vec::new();
    for known in store.image(id)?.repo_digests {
        let Some(digest) = known.digest().cloned() else { continue };
        let Ok(bytes) = store.blob_read(&digest, MAX_SIZE as u64) else { continue };
        if let Ok(Document::Index(_)) = Document::parse("", &bytes) {
            found.push((known, Fetched { media_type: String::new(), digest, bytes }));
        }
    }
    Ok(found)
}

/// The layer as a gzip blob: the one that it came as, or one that is made now.
fn gzip_blob(store: &Store, lease: &Lease, diff_id: &Digest, mut tap: Option<Tap>) -> Result<Descriptor> {
    let total = store.layer_hold(lease, diff_id)?.map_or(0, |layer| layer.tar_size);
    let blob = store.layer_blob(lease, diff_id, |bytes, read| {
        if let Some(tap) = &mut tap {
            tap.send(|| Made { bytes: Bytes::copy_from_slice(bytes), position: (read, total) });
        }
    })?;
    Ok(Descriptor::new(media_type::DOCKER_LAYER_GZIP, blob.digest, blob.size))
}
