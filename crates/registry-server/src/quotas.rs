//! Quotas: how many bytes a group of repositories, or the registry as a whole, may hold.
//!
//! Usage is what the storage lists: sizes stand in the keys, so nothing is opened. A listing is good for
//! [`FRESH`]; what this process stores meanwhile is added to it. Each blob is looked at again when it is stored, and made
//! invisible when it was too much after all; several processes on one store may together go over a quota by what they
//! store within that time.

use futures_util::TryStreamExt;
use oci::digest::Digest;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::pattern::Pattern;
use crate::storage::{self, Storage, layout};

/// How long a listing is good for.
const FRESH: Duration = Duration::from_secs(30);

/// A limit on a group of repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Which; None for the whole registry, where each blob counts once.
    pub(crate) repositories: Option<Pattern>,
    /// In bytes.
    pub(crate) limit: u64,
}

/// What a blob adds to what is used, in bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Addition {
    /// To what can be seen in its repository.
    visible: u64,
    /// To what is stored at all: nothing when another repository has it.
    stored: u64,
}

impl Addition {
    fn to(self, quota: &Quota) -> u64 {
        if quota.repositories.is_some() { self.visible } else { self.stored }
    }
}

/// All limits, and what is known of usage.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    quotas: Vec<Quota>,
    usage: Mutex<HashMap<usize, (Instant, u64)>>,
}

impl Quotas {
    pub(crate) fn new(quotas: Vec<Quota>) -> Self {
        Self { quotas, usage: Mutex::default() }
    }

    /// The limits that hold for a repository.
    fn of<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = (usize, &'a Quota)> {
        let holds = |quota: &Quota| quota.repositories.as_ref().is_none_or(|pattern| pattern.matches(name.as_str()));
        self.quotas.iter().enumerate().filter(move |(_, quota)| holds(quota))
    }

    /// Refuses so many new bytes when they are more than a quota of this repository.
    pub(crate) async fn check(&self, storage: &Storage, name: &Name, adding: u64) -> Result<()> {
        self.check_addition(storage, name, Addition { visible: adding, stored: adding }).await
    }

    async fn check_addition(&self, storage: &Storage, name: &Name, adding: Addition) -> Result<()> {
        for (index, quota) in self.of(name) {
            let used = self.used(storage, index, quota).await?;
            if used.saturating_add(adding.to(quota)) > quota.limit {
                return Err(refusal(quota, used));
            }
        }
        Ok(())
    }

    /// Is this blob counted already, or does nobody count?
    pub(crate) async fn is_counted(&self, storage: &Storage, name: &Name, digest: &Digest) -> Result<bool> {
        Ok(self.of(name).next().is_none() || storage.blob_size(name, digest).await?.is_some())
    }

    /// How much a blob adds. Refuses what is too much.
    pub(crate) async fn addition(
        &self,
        storage: &Storage,
        name: &Name,
        digest: &Digest,
        size: u64,
    ) -> Result<Addition> {
        if self.is_counted(storage, name, digest).await? {
            return Ok(Addition::default());
        }
        let stored = if storage.stored_size(digest).await?.is_some() { 0 } else { size };
        let addition = Addition { visible: size, stored };
        self.check_addition(storage, name, addition).await?;
        Ok(addition)
    }

    /// Counts a blob that was stored; makes it invisible again when others were faster and it is too much now.
    pub(crate) async fn settle(&self, storage: &Storage, name: &Name, digest: &Digest, added: Addition) -> Result<()> {
        if added.visible == 0 {
            return Ok(());
        }
        for (index, quota) in self.of(name) {
            let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, used)) = usage.get_mut(&index) {
                *used += added.to(quota);
            }
        }
        let outcome = self.check(storage, name, 0).await;
        if outcome.is_err() {
            storage.unlink(name, digest).await?;
            self.usage.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        outcome
    }

    async fn used(&self, storage: &Storage, index: usize, quota: &Quota) -> Result<u64> {
        let known = self.usage.lock().unwrap_or_else(PoisonError::into_inner).get(&index).copied();
        if let Some((at, used)) = known
            && at.elapsed() < FRESH
        {
            return Ok(used);
        }
        let used = match &quota.repositories {
            Some(pattern) => used_by(storage, pattern).await?,
            None => used_in_all(storage).await?,
        };
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).insert(index, (Instant::now(), used));
        Ok(used)
    }
}

fn refusal(quota: &Quota, used: u64) -> Failure {
    let whose = quota.repositories.as_ref().map_or("the registry", Pattern::as_str);
    Failure::new(Code::Denied)
        .because(format!("the quota of {whose} is {} bytes, {used} are used", quota.limit))
        .detail(json!({"quota": whose, "limit": quota.limit, "used": used}))
}

/// Bytes of blobs and manifests that are visible in these repositories; in each of them they count.
async fn used_by(storage: &Storage, pattern: &Pattern) -> storage::Result<u64> {
    // Whole parts of the name before the first star narrow the listing down.
    let fixed = pattern.fixed_part();
    let whole = if fixed == pattern.as_str() { fixed } else { fixed.rsplit_once('/').map_or("", |(whole, _)| whole) };
    let directory = [layout::REPOSITORIES].into_iter().chain(whole.split('/').filter(|part| !part.is_empty()));
    let mut entries = storage.objects.walk(&directory.collect());
    let (mut used, mut seen) = (0, HashSet::new());
    while let Some(entry) = entries.try_next().await? {
        let Some((name, inside)) = layout::parse(&entry.key) else { continue };
        if !pattern.matches(name.as_str()) {
            continue;
        }
        match inside {
            layout::Inside::Link(digest, generation) => {
                // A link that was renewed is there twice for a while.
                if seen.insert((name, digest)) {
                    used += layout::size_of(&generation).unwrap_or(0);
                }
            }
            layout::Inside::Manifest(digest, _) => {
                if seen.insert((name, digest)) {
                    used += entry.size;
                }
            }
            layout::Inside::Tag(_) | layout::Inside::Referrer(..) => {}
        }
    }
    Ok(used)
}

/// Bytes of all blobs that are stored, each once.
async fn used_in_all(storage: &Storage) -> storage::Result<u64> {
    let mut entries = storage.objects.walk(&object_store::path::Path::from(layout::BLOBS));
    let (mut used, mut seen) = (0, HashSet::new());
    while let Some(entry) = entries.try_next().await? {
        if let Some((digest, generation)) = layout::parse_record(&entry.key)
            && seen.insert(digest)
        {
            used += layout::size_of(&generation).unwrap_or(0);
        }
    }
    Ok(used)
}
