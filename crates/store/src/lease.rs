//! Leases: content that is being put together is not garbage yet.
//!
//! A pull makes blobs and layers long before the image that refers to them. Whatever is made or found under a lease
//! stays until the lease is dropped; what no image refers to then is removed.
//!
//! Leases live in memory only. After a crash there are none, so that opening the store removes unfinished pulls.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use oci::digest::Digest;

use crate::gc;
use crate::store::{Change, Inner, State, Store};

/// Holds content against garbage collection until it and all its clones are dropped.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Held>);

struct Held {
    inner: Arc<Inner>,
    digests: Mutex<HashSet<Digest>>,
}

impl Store {
    /// A new lease that holds nothing yet.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease(Arc::new(Held { inner: Arc::clone(&self.0), digests: Mutex::default() }))
    }

    /// Removes all content that no image, snapshot or lease refers to. Returns how many bytes of blobs that freed.
    pub fn collect_garbage(&self) -> crate::Result<u64> {
        self.0.change_if(|change| gc::collect(change, &self.0).map(|freed| (freed.bytes, freed.records > 0)))
    }
}

impl Lease {
    /// Holds this digest. The caller is behind the gate, so that nothing is removed between looking and holding.
    pub(crate) fn hold(&self, state: &mut State, digest: &Digest) {
        let mut digests = self.0.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if digests.insert(digest.clone()) {
            *state.leased.entry(digest.clone()).or_default() += 1;
        }
    }
}

impl Held {
    fn release(&self, change: &mut Change<'_>) {
        let digests = std::mem::take(&mut *self.digests.lock().unwrap_or_else(PoisonError::into_inner));
        for digest in digests {
            if let Some(count) = change.state.leased.get_mut(&digest) {
                *count -= 1;
                if *count == 0 {
                    change.state.leased.remove(&digest);
                }
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.digests.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return;
        }
        let collected = self.inner.change_if(|change| {
            self.release(change);
            gc::collect(change, &self.inner).map(|freed| ((), freed.records > 0))
        });
        if let Err(error) = collected {
            tracing::warn!(%error, "removing content that a lease held");
        }
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("digests", &self.digests).finish_non_exhaustive()
    }
}
