//! Making room on the disk, with what can be had again first.
//!
//! | step | what goes | what that costs |
//! |---|---|---|
//! | 1 | parts of transfers that broke off | the transfer begins anew |
//! | 2 | compressed blobs whose layers are unpacked, the least recently used first | nothing here: the tar is in the files. A push to a registry that lacks the blob compresses it again, and so sends another manifest |
//! | 3 | images that no container uses, the least recently used first | they are pulled again |
//!
//! An image is used when it is pulled, made or tagged and when a container of it is made or removed. What a pull,
//! push or save holds under a lease stays, and so does an image that is pinned or has a tag `keep`.
//!
//! A blob is dropped only after the layer's tar was put together from its files and had the right digest: whatever is
//! wrong with the files, the last copy of anything never goes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::db::{self, ImageRecord, LayerRecord, Reading, Writing};
use crate::error::{Error, Result};
use crate::gc::chain_name;
use crate::image::{ImageId, ImageUsers, Removal, names_of};
use crate::layer::is_plain;
use crate::store::{Change, INITS, REPLACED, Store};
use crate::usage;
use oci::Descriptor;
use oci::digest::Digest;
use oci::manifest::Document;

/// The tag of images that are never removed to make room.
const KEEP: &str = "keep";

/// Something that went to make room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evicted {
    /// Parts of transfers that broke off, of so many bytes together.
    Partials(u64),
    /// The compressed blob of a layer.
    Blob {
        /// Its digest.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// An image, with what its removal did step by step.
    Image(ImageId, Vec<Removal>),
}

/// What takes room on the disk, in bytes as `du` counts (whole blocks, holes not counted).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Layers, blobs, parts of blobs, mount points and the database.
    pub images: u64,
    /// The snapshots of containers, by container id.
    pub snapshots: BTreeMap<String, u64>,
}

impl DiskUsage {
    /// All together, in bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.images + self.snapshots.values().sum::<u64>()
    }
}

impl Store {
    /// What takes how much room on the disk. Files are counted one by one, except for those of layers, which never
    /// change.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let mut usage = DiskUsage { images: self.layers_on_disk()?, snapshots: BTreeMap::new() };
        for dir in ["blobs", INITS, REPLACED] {
            usage.images += usage::on_disk(&self.0.root.join(dir));
        }
        usage.images += fs::metadata(self.0.root.join(db::FILE)).map_or(0, |found| found.blocks() * 512);
        for (container, _) in self.snapshots() {
            let size = usage::on_disk(&self.0.snapshot_path(&container));
            usage.snapshots.insert(container, size);
        }
        Ok(usage)
    }

    /// Counts layers that were not counted before, and notes the sums.
    fn layers_on_disk(&self) -> Result<u64> {
        let layers = self.0.read()?.all_json::<LayerRecord>(db::LAYERS)?;
        let (known, unknown): (Vec<_>, Vec<_>) = layers.into_iter().partition(|(_, layer)| layer.disk_size > 0);
        let mut total = known.iter().map(|(_, layer)| layer.disk_size).sum();
        let counted: Vec<(Digest, u64)> = unknown
            .into_iter()
            .map(|(diff_id, _)| {
                let size = usage::on_disk(&self.0.layer_path(&diff_id));
                total += size;
                (diff_id, size)
            })
            .collect();
        if !counted.is_empty() {
            self.0.change(|change| {
                for (diff_id, size) in counted {
                    // It may be gone meanwhile.
                    if let Some(mut layer) = change.txn.get_json::<LayerRecord>(db::LAYERS, diff_id.as_str())? {
                        layer.disk_size = size;
                        change.txn.put_json(db::LAYERS, diff_id.as_str(), &layer)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(total)
    }

    /// Protects an image from being removed to make room, or no longer.
    pub fn image_pin(&self, id: &ImageId, is_pinned: bool) -> Result<()> {
        self.0.change(|change| {
            let record: Option<ImageRecord> = change.txn.get_json(db::IMAGES, id.as_str())?;
            let mut record = record.ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
            record.is_pinned = is_pinned;
            change.txn.put_json(db::IMAGES, id.as_str(), &record)
        })
    }

    /// Removes what can be had again until so many bytes are free, or nothing more may go. Returns what went.
    pub fn make_room(&self, bytes: u64, users: &dyn Fn(&ImageId) -> ImageUsers) -> Result<Vec<Evicted>> {
        let mut room = Room { store: self, missing: bytes, evicted: Vec::new() };
        room.partials();
        room.blobs()?;
        room.images(users)?;
        Ok(room.evicted)
    }
}

struct Room<'a> {
    store: &'a Store,
    /// Bytes that are still to be freed.
    missing: u64,
    evicted: Vec<Evicted>,
}

impl Room<'_> {
    fn partials(&mut self) {
        let freed = if self.missing > 0 { self.store.partials_remove() } else { 0 };
        if freed > 0 {
            self.missing = self.missing.saturating_sub(freed);
            self.evicted.push(Evicted::Partials(freed));
        }
    }

    fn blobs(&mut self) -> Result<()> {
        let candidates = self.store.droppable()?;
        for (blob, diff_id) in candidates {
            if self.missing == 0 {
                break;
            }
            if self.store.drop_blob(&blob, &diff_id)? {
                self.missing = self.missing.saturating_sub(blob.size);
                self.evicted.push(Evicted::Blob { digest: blob.digest, size: blob.size });
            }
        }
        Ok(())
    }

    fn images(&mut self, users: &dyn Fn(&ImageId) -> ImageUsers) -> Result<()> {
        for id in self.store.by_last_use()? {
            if self.missing == 0 {
                break;
            }
            let before = self.store.image_room(&id)?;
            let ImageUsers { running, stopped } = users(&id);
            if running.or(stopped).is_some() {
                continue;
            }
            let removed = self.store.image_remove_unless(&id, users, |change| is_kept(change, &id))?;
            if let Some(removals) = removed {
                self.missing = self.missing.saturating_sub(before);
                self.evicted.push(Evicted::Image(id, removals));
            }
        }
        Ok(())
    }
}

impl Store {
    /// Compressed blobs that the files of a layer can stand for, with the layer's diff id; the least recently used first.
    fn droppable(&self) -> Result<Vec<(Descriptor, Digest)>> {
        let mut found: Vec<(Descriptor, Digest)> = Vec::new();
        let mut seen = HashSet::new();
        let txn = self.0.read()?;
        let layers: HashMap<Digest, LayerRecord> =
            txn.all_json::<LayerRecord>(db::LAYERS)?.into_iter().filter(|(_, layer)| layer.rebuilds).collect();
        for id in self.by_last_use()? {
            let Some(record) = txn.get_json::<ImageRecord>(db::IMAGES, id.as_str())? else { continue };
            for (blob, diff_id) in blobs_of(&txn, &record, &layers)? {
                let is_here = txn.get(db::BLOBS, blob.digest.as_str())?.is_some();
                if is_here && !is_plain(&blob.media_type) && seen.insert(blob.digest.clone()) {
                    found.push((blob, diff_id));
                }
            }
        }
        Ok(found)
    }

    /// Drops the blob of a layer, if nobody is about to use it and the layer's tar comes back from its files.
    fn drop_blob(&self, blob: &Descriptor, diff_id: &Digest) -> Result<bool> {
        // The layer itself must not go while it is read.
        let lease = self.lease();
        {
            let mut state = self.0.state();
            let is_leased = [&blob.digest, diff_id].iter().any(|part| state.leased.contains_key(part));
            if is_leased || self.0.read()?.get(db::LAYERS, diff_id.as_str())?.is_none() {
                return Ok(false);
            }
            lease.hold(&mut state, diff_id);
        }
        let rebuilt = self.layer_tar(diff_id).map(|mut tar| io::copy(&mut tar, &mut io::sink()));
        if !matches!(rebuilt, Ok(Ok(_))) {
            tracing::warn!(%diff_id, "the files of a layer are not what they were: its blob stays");
            return Ok(false);
        }
        self.0.change_if(|change| {
            let layer: Option<LayerRecord> = change.txn.get_json(db::LAYERS, diff_id.as_str())?;
            // Somebody may have come meanwhile: to the layer, beside the lease here, or to the blob.
            let is_wanted = change.state.leased.get(diff_id).is_some_and(|count| *count > 1)
                || change.state.leased.contains_key(&blob.digest);
            let Some(mut layer) = layer.filter(|_| !is_wanted) else { return Ok((false, false)) };
            layer.forget_blobs(|digest| *digest == blob.digest);
            layer.dropped.retain(|known| known.digest != blob.digest);
            layer.dropped.push(blob.clone());
            change.txn.put_json(db::LAYERS, diff_id.as_str(), &layer)?;
            change.txn.remove(db::BLOBS, blob.digest.as_str())?;
            change.doomed.push(self.0.blob_path(&blob.digest));
            Ok((true, true))
        })
    }

    /// All images, the least recently used first.
    fn by_last_use(&self) -> Result<Vec<ImageId>> {
        let images = self.0.read()?.all_json::<ImageRecord>(db::IMAGES)?;
        let mut used: Vec<(i64, ImageId)> =
            images.into_iter().map(|(id, record)| (self.last_use_ns(&record), ImageId::from(id))).collect();
        used.sort();
        Ok(used.into_iter().map(|(_, id)| id).collect())
    }

    /// When an image was last used, nanoseconds since 1970. Containers leave the time at the mount points of their stack.
    fn last_use_ns(&self, record: &ImageRecord) -> i64 {
        let by_container = fs::metadata(self.0.root.join(INITS).join(chain_name(&record.layers)))
            .map_or(0, |found| found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec()));
        [record.used_ns, record.last_tagged_ns, Some(by_container)].into_iter().flatten().max().unwrap_or_default()
    }

    /// What the removal of an image frees on the disk: the layers and blobs that only it has, in bytes.
    fn image_room(&self, id: &ImageId) -> Result<u64> {
        let txn = self.0.read()?;
        let layers: HashMap<Digest, LayerRecord> = txn.all_json::<LayerRecord>(db::LAYERS)?.into_iter().collect();
        let mut own: HashMap<Digest, u64> = HashMap::new();
        let mut others: HashSet<Digest> = HashSet::new();
        for (other, record) in txn.all_json::<ImageRecord>(db::IMAGES)? {
            let mut parts: Vec<(Digest, u64)> = Vec::new();
            for (blob, _) in blobs_of(&txn, &record, &layers)? {
                let is_here = txn.get(db::BLOBS, blob.digest.as_str())?.is_some();
                parts.push((blob.digest, if is_here { blob.size } else { 0 }));
            }
            let size = |diff_id: &Digest| layers.get(diff_id).map_or(0, |layer| layer.disk_size.max(layer.size));
            parts.extend(record.layers.into_iter().map(|diff_id| (diff_id.clone(), size(&diff_id))));
            if other == *id.digest() {
                own.extend(parts);
            } else {
                others.extend(parts.into_iter().map(|(digest, _)| digest));
            }
        }
        Ok(own.into_iter().filter(|(digest, _)| !others.contains(digest)).map(|(_, size)| size).sum())
    }
}

/// Is this image not to be removed now? It may be pinned, tagged so, somebody's container, or on its way to somewhere: who
/// pushes or saves an image holds its layers. One that is gone already is not removed either.
fn is_kept(change: &Change<'_>, id: &ImageId) -> Result<bool> {
    let record: Option<ImageRecord> = change.txn.get_json(db::IMAGES, id.as_str())?;
    let Some(record) = record.filter(|record| !record.is_pinned) else { return Ok(true) };
    let is_used = change.state.snapshots.values().any(|snapshot| snapshot.image.as_ref() == Some(id));
    let mut parts = record.layers.iter().chain([id.digest()]);
    let is_leased = parts.any(|part| change.state.leased.contains_key(part));
    Ok(is_used || is_leased || names_of(&change.txn, id)?.iter().any(|tag| tag.tag() == Some(KEEP)))
}

/// The blobs that an image's layers are known as: by its manifests, and by the layers themselves.
fn blobs_of(
    txn: &db::View,
    image: &ImageRecord,
    layers: &HashMap<Digest, LayerRecord>,
) -> Result<Vec<(Descriptor, Digest)>> {
    let mut found = Vec::new();
    for diff_id in &image.layers {
        let blobs = layers.get(diff_id).into_iter().flat_map(LayerRecord::blobs);
        found.extend(blobs.map(|blob| (blob.clone(), diff_id.clone())));
    }
    for descriptor in &image.manifests {
        let Some(bytes) = txn.get(db::DOCUMENTS, descriptor.digest.as_str())? else { continue };
        let Ok(Document::Manifest(manifest)) = Document::parse(&descriptor.media_type, &bytes) else { continue };
        if manifest.layers.len() == image.layers.len() {
            let pairs = manifest.layers.into_iter().zip(image.layers.iter().cloned());
            let is_known = |blob: &Descriptor, diff_id: &Digest| {
                layers.get(diff_id).is_some_and(|layer| layer.is_known_as(diff_id, &blob.digest))
            };
            found.extend(pairs.filter(|(blob, diff_id)| is_known(blob, diff_id)));
        }
    }
    Ok(found)
}
