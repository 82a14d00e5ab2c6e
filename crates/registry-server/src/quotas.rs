//! Quotas: how many bytes a group of repositories, or the registry as a whole, may hold.
//!
//! A group holds what is visible in it: its blobs, in each repository that they are visible in, its manifests and what is
//! listed of them. The registry holds what is stored: parts of blobs, finished or not, each once, and what is in
//! repositories.
//!
//! Usage is what the storage lists: sizes stand in the keys, so nothing is opened. A listing is good for [`FRESH`]; what this
//! process stores meanwhile is added to it, and nobody is refused by one that is not new. A blob is looked at again when it
//! is stored: when others were faster and it is too much for its group after all, the link that was just made goes again,
//! and no other. Several processes on one store may together go over a quota by what they store within that time.

use futures_util::TryStreamExt;
use object_store::path::Path;
use oci::descriptor::Descriptor;
use oci::digest::Digest;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::pattern::Pattern;
use crate::storage::{self, Manifest, Storage, layout};

/// How long a listing is good for.
const FRESH: Duration = Duration::from_secs(30);
/// How old it may be when somebody is refused: whoever is refused again and again does not have all listed each time.
const NEW: Duration = Duration::from_secs(1);

/// A limit on a group of repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Which; None for the whole registry.
    pub(crate) repositories: Option<Pattern>,
    /// In bytes.
    pub(crate) limit: u64,
}

/// What is added to what is used, in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addition {
    /// To what can be seen in its repository.
    pub(crate) visible: u64,
    /// To what is stored at all.
    pub(crate) stored: u64,
}

impl Addition {
    /// What is of so many bytes, and counts for all quotas.
    pub(crate) fn of(bytes: u64) -> Self {
        Self { visible: bytes, stored: bytes }
    }

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

    /// Refuses so much more when a quota of this repository does not allow it.
    pub(crate) async fn check(&self, storage: &Storage, name: &Name, adding: Addition) -> Result<()> {
        for (index, quota) in self.of(name) {
            let allows = |used: u64| used.saturating_add(adding.to(quota)) <= quota.limit;
            if allows(self.used(storage, index, quota, FRESH).await?) {
                continue;
            }
            let used = self.used(storage, index, quota, NEW).await?;
            if !allows(used) {
                return Err(refusal(quota, used));
            }
        }
        Ok(())
    }

    /// As [`Quotas::check`], for a blob: one that is visible already, also since a moment ago, adds nothing there.
    pub(crate) async fn check_blob(
        &self,
        storage: &Storage,
        name: &Name,
        digest: &Digest,
        adding: Addition,
    ) -> Result<Addition> {
        let counted = Addition { visible: 0, ..adding };
        if self.is_counted(storage, name, digest).await? {
            return Ok(counted);
        }
        match self.check(storage, name, adding).await {
            Err(_) if self.is_counted(storage, name, digest).await? => Ok(counted),
            outcome => outcome.map(|()| adding),
        }
    }

    /// Is this blob counted already, or does nobody count?
    async fn is_counted(&self, storage: &Storage, name: &Name, digest: &Digest) -> Result<bool> {
        Ok(self.of(name).next().is_none() || storage.blob_size(name, digest).await?.is_some())
    }

    /// How much a manifest adds, with its descriptor in the list of its subject. Refuses what is too much.
    pub(crate) async fn of_manifest(
        &self,
        storage: &Storage,
        name: &Name,
        manifest: &Manifest,
        listed: Option<&Descriptor>,
    ) -> Result<Addition> {
        if self.of(name).next().is_none() {
            return Ok(Addition::default());
        }
        let mut bytes = 0;
        // What is here already may be tagged again, however full it is.
        if !storage.has_manifest(name, &manifest.digest).await? {
            bytes += manifest.bytes.len() as u64;
        }
        if let Some(listed) = listed {
            bytes += serde_json::to_vec(listed).map_err(Failure::internal)?.len() as u64;
        }
        let adding = Addition::of(bytes);
        self.check(storage, name, adding).await?;
        Ok(adding)
    }

    /// Counts what is being stored.
    pub(crate) fn count(&self, name: &Name, added: Addition) {
        self.change(name, |used, quota| *used = used.saturating_add(added.to(quota)));
    }

    /// Takes back what was counted and is not stored.
    pub(crate) fn uncount(&self, name: &Name, added: Addition) {
        self.change(name, |used, quota| *used = used.saturating_sub(added.to(quota)));
    }

    fn change(&self, name: &Name, change: impl Fn(&mut u64, &Quota)) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, quota) in self.of(name) {
            if let Some((_, used)) = usage.get_mut(&index) {
                change(used, quota);
            }
        }
    }

    /// Counts a blob that was made visible by this link; removes the link when others were faster and it is too much now.
    pub(crate) async fn settle(
        &self,
        storage: &Storage,
        name: &Name,
        digest: &Digest,
        visible: u64,
        link: &Path,
    ) -> Result<()> {
        if visible == 0 {
            return Ok(());
        }
        // Of all who push the same at once, one counts it at least.
        if storage.links(name, digest).await?.iter().any(|other| other.key < *link) {
            return Ok(());
        }
        self.count(name, Addition { visible, stored: 0 });
        for (index, quota) in self.of(name).filter(|(_, quota)| quota.repositories.is_some()) {
            if self.used(storage, index, quota, FRESH).await? <= quota.limit {
                continue;
            }
            let used = self.used(storage, index, quota, Duration::ZERO).await?;
            if used > quota.limit {
                storage.objects.remove(link).await?;
                self.uncount(name, Addition { visible, stored: 0 });
                return Err(refusal(quota, used));
            }
        }
        Ok(())
    }

    /// What is used, by a listing that is no older than this.
    async fn used(&self, storage: &Storage, index: usize, quota: &Quota, age: Duration) -> Result<u64> {
        let known = self.usage.lock().unwrap_or_else(PoisonError::into_inner).get(&index).copied();
        if let Some((at, used)) = known
            && at.elapsed() < age
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

/// Bytes of what is visible in these repositories; in each of them it counts.
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
            layout::Inside::Tag(_) | layout::Inside::Referrer(..) => used += entry.size,
        }
    }
    Ok(used)
}

/// Bytes of all that is stored: parts, also of uploads that go on, and what is in repositories.
async fn used_in_all(storage: &Storage) -> storage::Result<u64> {
    let mut used = 0;
    for directory in [layout::DATA, layout::REPOSITORIES] {
        let mut entries = storage.objects.walk(&Path::from(directory));
        while let Some(entry) = entries.try_next().await? {
            used += entry.size;
        }
    }
    Ok(used)
}
