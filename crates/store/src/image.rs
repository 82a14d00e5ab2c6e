//! Images: their names, their configuration and what they are made of.
//!
//! ```text
//!  name (tag or digest) ──► image id = digest of the configuration ──► layers by diff id
//! ```
//!
//! Many names may lead to one image. An image without a name is "dangling" and stays until it is removed.

mod model;
mod remove;

use oci::digest::Digest;
use oci::reference::{self, Reference};
use oci::{Descriptor, ImageConfig};

pub use self::model::{HistoryItem, Image, ImageId, ImageLayer, ImageUsers, NewImage, Removal};
use crate::db::{self, ImageRecord, LayerRecord, Reading, Writing};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::store::Store;

impl Store {
    /// Makes an image whose layers are here already, with its names, in one step. Making one that exists adds what is
    /// new about it.
    pub fn image_create(&self, lease: &Lease, image: NewImage) -> Result<ImageId> {
        let config = ImageConfig::parse(&image.config)?;
        let id = ImageId(Digest::of(&image.config));
        let names = image.tags.iter().map(taggable).collect::<Result<Vec<_>>>()?;
        self.0.change(|change| {
            let txn = &change.txn;
            for diff_id in &config.rootfs.diff_ids {
                if txn.get(db::LAYERS, diff_id.as_str())?.is_none() {
                    return Err(Error::NoSuchLayer(diff_id.clone()));
                }
            }
            let mut record = txn.get_json::<ImageRecord>(db::IMAGES, id.as_str())?.unwrap_or_else(|| ImageRecord {
                layers: config.rootfs.diff_ids.clone(),
                parent: None,
                manifests: Vec::new(),
                documents: Vec::new(),
                last_tagged_ns: None,
                used_ns: None,
                is_pinned: false,
            });
            record.used_ns = Some(now_ns());
            record.parent = image.parent.map(|parent| parent.0).or(record.parent);
            add_manifest(&mut record, image.manifest);
            for document in image.documents {
                if !record.documents.contains(&document) {
                    record.documents.push(document);
                }
            }
            txn.put(db::DOCUMENTS, id.as_str(), &image.config)?;
            txn.put_json(db::IMAGES, id.as_str(), &record)?;
            for name in
                names.iter().chain(image.repo_digests.iter().map(Reference::to_string).collect::<Vec<_>>().iter())
            {
                txn.put(db::NAMES, name, id.as_str().as_bytes())?;
            }
            lease.hold(change.state, &id.0);
            Ok(())
        })?;
        Ok(id)
    }

    /// Everything about an image.
    pub fn image(&self, id: &ImageId) -> Result<Image> {
        load(&self.0.read()?, id)
    }

    /// All images, in the order of their ids.
    pub fn images(&self) -> Result<Vec<Image>> {
        let txn = self.0.read()?;
        let mut names = all_names(&txn)?;
        txn.all_json::<ImageRecord>(db::IMAGES)?
            .into_iter()
            .map(|(id, record)| {
                let names = names.remove(&id).unwrap_or_default();
                assemble(&txn, ImageId(id), record, names)
            })
            .collect()
    }

    /// The bytes of an image's configuration, as they came.
    pub fn image_config_bytes(&self, id: &ImageId) -> Result<Vec<u8>> {
        self.0.read()?.get(db::DOCUMENTS, id.as_str())?.ok_or_else(|| Error::NoSuchImage(id.to_string()))
    }

    /// Finds an image as Docker does: by name (with `latest` if there is no tag), by name and digest, by id, or by the
    /// beginning of an id that is not ambiguous.
    pub fn image_resolve(&self, name: &str) -> Result<ImageId> {
        resolve(&self.0.read()?, name)
    }

    /// Finds an image by exactly this name.
    pub fn image_named(&self, name: &Reference) -> Result<Option<ImageId>> {
        named(&self.0.read()?, name)
    }

    /// Gives an image a further name, taking it from another one if need be: its id is returned then.
    pub fn image_tag(&self, name: &Reference, id: &ImageId) -> Result<Option<ImageId>> {
        let key = taggable(name)?;
        self.0.change(|change| {
            let txn = &change.txn;
            let mut record: ImageRecord =
                txn.get_json(db::IMAGES, id.as_str())?.ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
            let previous = named(txn, name)?.filter(|previous| previous != id);
            record.last_tagged_ns = Some(now_ns());
            txn.put_json(db::IMAGES, id.as_str(), &record)?;
            txn.put(db::NAMES, &key, id.as_str().as_bytes())?;
            Ok(previous)
        })
    }

    /// Takes one name away from whatever image it leads to. The image stays, even without a name.
    pub fn image_untag(&self, name: &Reference) -> Result<Option<ImageId>> {
        self.0.change(|change| {
            let id = named(&change.txn, name)?;
            if id.is_some() {
                change.txn.remove(db::NAMES, &key_of(name))?;
            }
            Ok(id)
        })
    }

    /// Notes a digest (`name@sha256:…`) that the image is known by in a registry, and the manifest that it was
    /// pulled or pushed with; the manifest's bytes must be held under the lease.
    pub fn image_add_repo_digest(&self, id: &ImageId, name: &Reference, manifest: Option<Descriptor>) -> Result<()> {
        self.0.change(|change| {
            let txn = &change.txn;
            let mut record: ImageRecord =
                txn.get_json(db::IMAGES, id.as_str())?.ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
            add_manifest(&mut record, manifest);
            txn.put_json(db::IMAGES, id.as_str(), &record)?;
            txn.put(db::NAMES, &key_of(name), id.as_str().as_bytes())
        })
    }

    /// The images that were committed from this one.
    pub fn image_children(&self, id: &ImageId) -> Result<Vec<ImageId>> {
        children(&self.0.read()?, id)
    }

    /// How the image was made, the latest step first, as `docker history` shows it.
    pub fn image_history(&self, id: &ImageId) -> Result<Vec<HistoryItem>> {
        let txn = self.0.read()?;
        let image = load(&txn, id)?;
        let mut sizes = image.layers.iter().map(|layer| layer.size);
        let mut items: Vec<HistoryItem> = image
            .config
            .history
            .iter()
            .map(|step| HistoryItem {
                id: None,
                created: step.created.clone(),
                created_by: step.created_by.clone(),
                comment: step.comment.clone(),
                size: if step.empty_layer { 0 } else { sizes.next().unwrap_or_default() },
                tags: Vec::new(),
            })
            .collect();
        items.reverse();
        // Steps that are images here themselves (what it was committed from) are shown with their ids and names.
        let mut step_image = Some(image);
        for item in &mut items {
            let Some(image) = step_image.take() else { break };
            item.tags.clone_from(&image.tags);
            step_image = image.parent.as_ref().and_then(|parent| load(&txn, parent).ok());
            item.id = Some(image.id);
        }
        Ok(items)
    }
}

fn add_manifest(record: &mut ImageRecord, manifest: Option<Descriptor>) {
    if let Some(manifest) = manifest {
        record.manifests.retain(|known| known.digest != manifest.digest);
        record.manifests.push(manifest);
    }
}

fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// The key of a name that becomes a tag, if it can (texts as Docker's).
fn taggable(name: &Reference) -> Result<String> {
    if name.digest().is_some() {
        return Err(Error::BadTag("refusing to create a tag with a digest reference"));
    }
    if name.familiar_name() == "sha256" {
        return Err(Error::BadTag("refusing to create an ambiguous tag using digest algorithm as name"));
    }
    Ok(key_of(name))
}

/// The key of a name: by its digest if it has one, otherwise by its tag.
fn key_of(name: &Reference) -> String {
    match name.digest() {
        Some(digest) => name.with_digest(digest.clone()).to_string(),
        None => name.clone().with_default_tag().to_string(),
    }
}

fn named(txn: &impl Reading, name: &Reference) -> Result<Option<ImageId>> {
    let key = key_of(name);
    txn.get(db::NAMES, &key)?.map(|value| parse_id(&key, &value)).transpose()
}

fn parse_id(key: &str, value: &[u8]) -> Result<ImageId> {
    let text = String::from_utf8_lossy(value);
    db::parse_key(&text).map(ImageId).map_err(|_| Error::Record {
        key: key.to_owned(),
        source: serde::de::Error::custom(format!("{text} is no image id")),
    })
}

/// See [`Store::image_resolve`].
fn resolve(txn: &impl Reading, name: &str) -> Result<ImageId> {
    let whole_id = if reference::is_identifier(name) { format!("sha256:{name}") } else { name.to_owned() };
    if let Ok(digest) = whole_id.parse::<Digest>() {
        return match txn.get(db::IMAGES, digest.as_str())? {
            Some(_) => Ok(ImageId(digest)),
            None => Err(Error::NoSuchImage(whole_id)),
        };
    }
    let reference = Reference::parse_normalized(name)?;
    if let Some(id) = named(txn, &reference)? {
        return Ok(id);
    }
    by_prefix(txn, name)?.ok_or_else(|| Error::NoSuchImage(reference.with_default_tag().familiar()))
}

/// The one image whose id begins so; None if there is none, or more than one.
fn by_prefix(txn: &impl Reading, prefix: &str) -> Result<Option<ImageId>> {
    let hex = prefix.strip_prefix("sha256:").unwrap_or(prefix);
    if hex.is_empty() || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    let start = format!("sha256:{hex}");
    let mut found = Vec::new();
    txn.scan(db::IMAGES, &start, &mut |key, _| {
        let matches = key.starts_with(&start);
        if matches {
            found.push(ImageId(db::parse_key(key)?));
        }
        Ok(matches && found.len() < 2)
    })?;
    Ok(if found.len() == 1 { found.pop() } else { None })
}

/// All names by the image that they lead to, in their order.
fn all_names(txn: &impl Reading) -> Result<std::collections::HashMap<Digest, Vec<Reference>>> {
    let mut names = std::collections::HashMap::<Digest, Vec<Reference>>::new();
    txn.scan(db::NAMES, "", &mut |key, value| {
        let id = parse_id(key, value)?;
        names.entry(id.0).or_default().push(Reference::parse_normalized(key)?);
        Ok(true)
    })?;
    Ok(names)
}

/// The names of one image.
pub(crate) fn names_of(txn: &impl Reading, id: &ImageId) -> Result<Vec<Reference>> {
    let mut names = Vec::new();
    txn.scan(db::NAMES, "", &mut |key, value| {
        if value == id.as_str().as_bytes() {
            names.push(Reference::parse_normalized(key)?);
        }
        Ok(true)
    })?;
    Ok(names)
}

fn children(txn: &impl Reading, id: &ImageId) -> Result<Vec<ImageId>> {
    Ok(txn
        .all_json::<ImageRecord>(db::IMAGES)?
        .into_iter()
        .filter(|(_, record)| record.parent.as_ref() == Some(&id.0))
        .map(|(id, _)| ImageId(id))
        .collect())
}

fn load(txn: &impl Reading, id: &ImageId) -> Result<Image> {
    let record = txn.get_json(db::IMAGES, id.as_str())?.ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
    assemble(txn, id.clone(), record, names_of(txn, id)?)
}

fn assemble(txn: &impl Reading, id: ImageId, record: ImageRecord, names: Vec<Reference>) -> Result<Image> {
    let config = txn.get(db::DOCUMENTS, id.as_str())?.ok_or_else(|| Error::NoSuchBlob(id.0.clone()))?;
    let config = ImageConfig::parse(&config)?;
    let layers = record
        .layers
        .into_iter()
        .map(|diff_id| {
            let size = txn.get_json::<LayerRecord>(db::LAYERS, diff_id.as_str())?.map_or(0, |layer| layer.size);
            Ok(ImageLayer { diff_id, size })
        })
        .collect::<Result<Vec<_>>>()?;
    let (repo_digests, tags) = names.into_iter().partition(|name| name.digest().is_some());
    Ok(Image {
        id,
        config,
        parent: record.parent.map(ImageId),
        tags,
        repo_digests,
        manifest: record.manifests.into_iter().next_back(),
        size: layers.iter().map(|layer| layer.size).sum(),
        layers,
        last_tagged_ns: record.last_tagged_ns,
        is_pinned: record.is_pinned,
    })
}
