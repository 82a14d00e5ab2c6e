//! What a registry keeps, over objects by key. Every process may serve the same objects: there is no state beside them.
//!
//! ```text
//! tag ──► manifest ──names──► link (in the repository) ──► record ──► parts
//!                             what is visible               what is there
//! ```
//!
//! * A thing is written before what points to it: parts, record, link, manifest, tag. A process that dies in between
//!   leaves parts, records or links that nothing points to, and garbage collection (module `gc`) removes them.
//! * Documents are replaced atomically by the storage itself; parts, records and links are never changed.
//! * Who relies on something old renews it first ([`Storage::hold`]), so that garbage collection never takes it away
//!   between looking and using.

mod blobs;
mod catalog;
mod error;
mod files;
pub(crate) mod layout;
mod manifests;
mod objects;
mod record;
mod sink;
mod times;
mod uploads;

use oci::digest::Digest;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

pub(crate) use blobs::Blob;
pub(crate) use error::{Result, StorageError};
pub(crate) use manifests::{Manifest, Page};
pub(crate) use objects::{Entry, Objects, Part, PlaceError};
pub(crate) use record::{Part as StoredPart, Record, UploadState};
pub(crate) use sink::Sink;
pub(crate) use times::{AskedTimes, Times};
pub(crate) use uploads::{Finished, MAX_PARTS, Upload};

/// Records that are kept in memory: they never change.
const CACHED_RECORDS: usize = 4096;

/// A registry's content.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) objects: Objects,
    pub(crate) times: Times,
    /// The storage's clock minus ours, in milliseconds.
    skew_ms: i64,
    records: Mutex<HashMap<Digest, Arc<Record>>>,
}

impl Storage {
    /// Opens the content. With `writable`, compares clocks, which fails where nothing can be changed: now if at all.
    pub(crate) async fn open(objects: Objects, times: AskedTimes, writable: bool) -> Result<Self> {
        let skew_ms = if writable { skew_ms(&objects).await? } else { 0 };
        let times = times.agree(&objects, writable).await?;
        Ok(Self { objects, times, skew_ms, records: Mutex::default() })
    }

    /// The times that garbage collection has to keep now.
    pub(crate) async fn times_of_all(&self) -> Result<Times> {
        self.times.again(&self.objects).await
    }

    /// The time by the storage's clock, read anew.
    pub(crate) async fn read_clock_ms(&self) -> Result<i64> {
        Ok(unix_ms() + skew_ms(&self.objects).await?)
    }

    /// The time by the storage's clock, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        unix_ms() + self.skew_ms
    }

    /// Is this so young that garbage collection leaves it alone for at least half of the grace?
    fn is_fresh(&self, entry: &Entry) -> bool {
        self.now_ms() - entry.modified_ms < millis(self.times.grace / 2)
    }

    /// When a step is given up of which garbage collection assumes that it does not take longer than its wait.
    fn step_end(&self) -> Instant {
        Instant::now() + self.times.settle / 2
    }

    /// Such a step.
    async fn in_time<T>(
        &self,
        doing: &'static str,
        key: &str,
        until: Instant,
        step: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout_at(until.into(), step).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StorageError::Slow { doing, key: key.to_owned() }),
        }
    }

    fn cached_record(&self, digest: &Digest) -> Option<Arc<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    fn cache_record(&self, digest: &Digest, record: Option<Arc<Record>>) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        match record {
            None => _ = records.remove(digest),
            Some(record) => {
                // Rarely full, and cheap to fill again: no need to know which were used last.
                if records.len() >= CACHED_RECORDS {
                    records.clear();
                }
                records.insert(digest.clone(), record);
            }
        }
    }
}

pub(crate) fn unix_ms() -> i64 {
    time_ms(SystemTime::now())
}

fn time_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// How far the storage's clock is before ours.
async fn skew_ms(objects: &Objects) -> Result<i64> {
    Ok(objects.clock_ms().await? - unix_ms())
}
