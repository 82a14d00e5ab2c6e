//! `gantry system verify`: is everything in the store still what its digest says?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::beyond::{Finding, Verified};
use api::progress::{Message, ProgressDetail};
use oci::Digest;
use oci::manifest::Document;
use oci::reference::Reference;
use store::{Image, Store};

use super::progress::{self, ProgressStream};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Progress is told no more often than this.
const INTERVAL: Duration = Duration::from_millis(100);

/// Set when nobody waits for the result any more.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Engine {
    /// Reads all that is stored and compares it with its digests. The last message has the result as `aux`.
    pub async fn store_verify(&self) -> Result<ProgressStream> {
        let engine = self.arc();
        progress::run(move |lines| async move {
            lines.status("", "Verifying documents, blobs and layers").await?;
            let ended = Arc::new(AtomicBool::new(false));
            let _ended = Ended(Arc::clone(&ended));
            let (store, told) = (engine.store.clone(), lines.clone());
            let verified = engine.blocking(move || {
                let last = Mutex::new(Instant::now());
                let found = store.verify(|done, all| {
                    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                    if last.elapsed() >= INTERVAL || done == all {
                        *last = Instant::now();
                        told.offer(Message::action("store", "Verifying", count(done, all)));
                    }
                    !ended.load(Ordering::Relaxed)
                })?;
                result(&store, found)
            });
            let aux = serde_json::to_value(verified.await?).map_err(|error| Error::system(error.to_string()))?;
            lines.send(Message::aux(aux)).await
        })
        .await
    }
}

fn count(done: usize, all: usize) -> ProgressDetail {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    ProgressDetail { units: "items".into(), ..ProgressDetail::bytes(number(done), number(all)) }
}

fn result(store: &Store, found: store::Verified) -> Result<Verified> {
    let images = if found.findings.is_empty() { Vec::new() } else { store.images()? };
    let finding = |finding: store::Finding| Finding {
        kind: finding.kind.to_owned(),
        images: images.iter().filter(|image| needs(store, image, &finding.digest)).map(name_of).collect(),
        digest: finding.digest.to_string(),
        problem: finding.problem,
    };
    let store::Verified { documents, blobs, layers, bytes, findings } = found;
    Ok(Verified { documents, blobs, layers, bytes, findings: findings.into_iter().map(finding).collect() })
}

/// Does an image consist of this, in whatever form?
fn needs(store: &Store, image: &Image, digest: &Digest) -> bool {
    let is_layer = image.layers.iter().any(|layer| layer.diff_id == *digest);
    let Some(manifest) = &image.manifest else { return is_layer || image.id.digest() == digest };
    let bytes = store.blob_read(&manifest.digest, oci::manifest::MAX_SIZE as u64).unwrap_or_default();
    let is_named = match Document::parse(&manifest.media_type, &bytes) {
        Ok(Document::Manifest(manifest)) => manifest.layers.iter().any(|layer| layer.digest == *digest),
        _ => false,
    };
    is_layer || is_named || manifest.digest == *digest || image.id.digest() == digest
}

fn name_of(image: &Image) -> String {
    image.tags.first().map_or_else(|| image.id.to_string(), Reference::familiar)
}
