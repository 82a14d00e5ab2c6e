//! Garbage collection: everything that no image, snapshot or lease leads to goes, in one transaction.
//!
//! ```text
//! image ──► its configuration, manifests, documents
//!   └─────► layers ──► their compressed blobs
//! snapshot ─► layers            lease ──► anything
//! ```
//!
//! It marks from the roots every time instead of counting references: there are few images, and a count that is
//! wrong once stays wrong.

use std::collections::HashSet;
use std::fs;

use oci::digest::Digest;
use oci::image_config::RootFs;

use crate::db::{self, ImageRecord, LayerRecord, Reading, Writing};
use crate::error::Result;
use crate::store::{Change, INITS, Inner, REPLACED, blob_name, key_of};

/// What a collection removed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Freed {
    /// Number of records.
    pub(crate) records: usize,
    /// Length of removed blobs, in bytes.
    pub(crate) bytes: u64,
}

/// Everything that must stay.
struct Live {
    layers: HashSet<Digest>,
    content: HashSet<Digest>,
    /// Names of directories under `inits`.
    chains: HashSet<String>,
}

/// Removes the records of garbage, and dooms its files for when the transaction is committed.
pub(crate) fn collect(change: &mut Change<'_>, inner: &Inner) -> Result<Freed> {
    let live = mark(change)?;
    let mut freed = Freed::default();
    let mut blobs = live.content.clone();
    for (diff_id, record) in change.txn.all_json::<LayerRecord>(db::LAYERS)? {
        if live.layers.contains(&diff_id) || live.content.contains(&diff_id) {
            blobs.extend(record.blobs().map(|blob| blob.digest.clone()));
        } else {
            change.txn.remove(db::LAYERS, diff_id.as_str())?;
            change.doomed.push(inner.layer_path(&diff_id));
            freed.records += 1;
        }
    }
    let mut dead = Vec::new();
    for (table, is_file) in [(db::BLOBS, true), (db::DOCUMENTS, false)] {
        change.txn.scan(table, "", &mut |key, value| {
            let digest = db::parse_key(key)?;
            if !blobs.contains(&digest) {
                let size = if is_file { db::decode(key, value)? } else { value.len() as u64 };
                dead.push((table, is_file, digest, size));
            }
            Ok(true)
        })?;
    }
    for (table, is_file, digest, size) in dead {
        change.txn.remove(table, digest.as_str())?;
        if is_file {
            change.doomed.push(inner.blob_path(&digest));
        }
        freed.records += 1;
        freed.bytes += size;
    }
    collect_inits(change, inner, &live.chains);
    collect_replaced(change, inner);
    Ok(freed)
}

fn mark(change: &Change<'_>) -> Result<Live> {
    let mut live =
        Live { layers: HashSet::new(), content: change.state.leased.keys().cloned().collect(), chains: HashSet::new() };
    for (id, image) in change.txn.all_json::<ImageRecord>(db::IMAGES)? {
        live.content.insert(id);
        live.content.extend(image.manifests.into_iter().map(|manifest| manifest.digest));
        live.content.extend(image.documents);
        live.chains.insert(chain_name(&image.layers));
        live.layers.extend(image.layers);
    }
    for snapshot in change.state.snapshots.values() {
        live.chains.insert(chain_name(&snapshot.layers));
        live.layers.extend(snapshot.layers.iter().cloned());
    }
    Ok(live)
}

/// The directories that hold the mount points for one stack of layers have no record: their name says it all.
fn collect_inits(change: &mut Change<'_>, inner: &Inner, live: &HashSet<String>) {
    let Ok(entries) = fs::read_dir(inner.root.join(INITS)) else { return };
    for entry in entries.flatten() {
        let is_live = entry.file_name().to_str().is_some_and(|name| live.contains(name));
        if !is_live {
            change.doomed.push(entry.path());
        }
    }
}

/// Damaged layers that were replaced go when no container has the layer: one that runs may be running on these files.
fn collect_replaced(change: &mut Change<'_>, inner: &Inner) {
    let Ok(entries) = fs::read_dir(inner.root.join(REPLACED)) else { return };
    let used: HashSet<&Digest> = change.state.snapshots.values().flat_map(|snapshot| &snapshot.layers).collect();
    let is_used = |name: &str| {
        let layer = name.split_once('.').and_then(|(layer, _)| key_of(layer).parse().ok());
        layer.is_some_and(|layer: Digest| used.contains(&layer))
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(is_used) {
            change.doomed.push(entry.path());
        }
    }
}

/// The name of a stack of layers.
pub(crate) fn chain_name(layers: &[Digest]) -> String {
    let rootfs = RootFs { diff_ids: layers.to_vec(), ..RootFs::default() };
    rootfs.chain_ids().last().map_or_else(|| "none".to_owned(), blob_name)
}
