//! Garbage collection, while any number of processes serve the same storage, and may collect as well.
//!
//! What goes, level by level: **links** that no manifest of their repository names, **records** of blobs that no repository
//! has a link to, **parts** that no record and no upload names, **uploads** that nobody goes on with; and of several
//! generations of a link, record or manifest all but the newest. If that is wanted, **manifests** as well that no tag, no
//! index and no subject leads to. There is no lock and nobody stops. Three rules make that safe; *G* is
//! the grace, *S* the time to settle, both much longer than what they stand for.
//!
//! 1. *Nothing younger than G goes, and who relies on something older than G/2 renews it first* (a new generation, with a
//!    key of its own). A client that was told that a blob is here (`HEAD`, a mount) has at least G/2 to push the manifest
//!    that names it: the link it relies on was younger than G/2, or was made anew. The same between a link and its record,
//!    and between a manifest and the links that it was checked against. A request ends within G/2.
//! 2. *Candidates are listed before that which keeps them.* Records are listed, then links; links, then manifests;
//!    manifests, then tags. Whatever
//!    began to point to a candidate before the second listing is seen there. What begins later relies on it by rule 1,
//!    and so on a younger generation, which is no candidate. Keys are never used twice, so removing an old generation
//!    cannot hit a new one.
//! 3. *A part goes when two looks, S apart, found nothing that names it.* Renewing a record means reading it and writing
//!    it under a new key, and a collector may remove the old one in between: at that moment nothing names the parts. Such a
//!    step takes less than S/2 (it is given up otherwise, and a record is not made visible later than that), so one of the
//!    two looks finds the old record or the new one.
//!    In each look uploads are listed before records, because a finished upload's record is written before its state goes.
//!
//! *G* and *S* are the longest that any process that serves the storage was told (module `storage::times`). In a repository
//! with a manifest that cannot be read, nothing goes that it might name. A collector that dies leaves less garbage than it
//! found, and nothing else. Ages are by the storage's own clock.

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use oci::digest::Digest;
use oci::manifest::Document;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use crate::name::Name;
use crate::storage::{self, Entry, Storage, StorageError, Times, UploadState, layout, millis};

/// Objects that are read or removed at once.
const AT_ONCE: usize = 16;
/// Repositories that are listed together.
const REPOSITORIES: usize = 256;

/// What was removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) uploads: u64,
    pub(crate) manifests: u64,
    pub(crate) links: u64,
    pub(crate) records: u64,
    pub(crate) parts: u64,
    /// Files that a killed process left.
    pub(crate) staged: u64,
    /// Bytes of the parts.
    pub(crate) bytes: u64,
}

impl Report {
    /// Objects in all.
    pub(crate) fn removed(&self) -> u64 {
        self.uploads + self.manifests + self.links + self.records + self.parts + self.staged
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uploads, manifests, links, records, parts, staged, bytes } = self;
        write!(
            f,
            "removed {uploads} uploads, {manifests} manifests, {links} links, {records} blobs, {parts} parts \
             ({bytes} bytes), {staged} unfinished files"
        )
    }
}

/// What is garbage beside that which is in any case.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish {
    /// Manifests that nothing leads to.
    pub(crate) untagged: bool,
    /// Manifests that nobody used for so long, in a cache.
    pub(crate) unused: Option<Duration>,
}

/// Collects once.
pub(crate) async fn collect(storage: &Storage, wish: Wish) -> storage::Result<Report> {
    let times = storage.times_of_all().await?;
    let old_ms = storage.read_clock_ms().await? - millis(times.grace);
    let mut collector = Collector { storage, times, old_ms, report: Report::default(), known: HashMap::new() };
    collector.uploads().await?;
    let records = collector.list(&Path::from(layout::BLOBS)).await?;
    let linked = collector.repositories(wish).await?;
    collector.records(records, &linked).await?;
    let parts = collector.unnamed_parts().await?;
    collector.parts(parts).await?;
    collector.left_by_the_killed().await?;
    Ok(collector.report)
}

struct Collector<'a> {
    storage: &'a Storage,
    times: Times,
    /// What was written before this may go.
    old_ms: i64,
    report: Report,
    /// The parts that records name, by the records' keys: a record never changes.
    known: HashMap<Path, Vec<String>>,
}

impl Collector<'_> {
    fn is_old(&self, entry: &Entry) -> bool {
        entry.modified_ms < self.old_ms
    }

    async fn list(&self, directory: &Path) -> storage::Result<Vec<Entry>> {
        self.storage.objects.walk(directory).try_collect().await
    }

    async fn remove(&self, keys: Vec<Path>) -> storage::Result<u64> {
        let removed = stream::iter(keys).map(|key| async move { self.storage.objects.remove(&key).await });
        let removed: Vec<bool> = removed.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(removed.len() as u64)
    }

    /// Old parts that nothing names now: the first look, and the second.
    async fn unnamed_parts(&mut self) -> storage::Result<Vec<Entry>> {
        let all = self.list(&Path::from(layout::DATA)).await?;
        let candidates: Vec<Entry> = all.into_iter().filter(|entry| self.is_old(entry)).collect();
        if candidates.is_empty() {
            return Ok(candidates);
        }
        let named = self.named_parts().await?;
        Ok(candidates.into_iter().filter(|entry| !named.contains(entry.name())).collect())
    }

    async fn named_parts(&mut self) -> storage::Result<HashSet<String>> {
        // Uploads before records: see rule 3.
        let uploads = self.list(&Path::from(layout::UPLOADS)).await?;
        let storage = self.storage;
        let mut states = stream::iter(uploads)
            .map(|entry| async move { storage.objects.get(&entry.key).await.map(|bytes| (entry.key, bytes)) })
            .buffer_unordered(AT_ONCE);
        let mut named = HashSet::new();
        while let Some((key, bytes)) = states.try_next().await? {
            let Some(bytes) = bytes else { continue };
            let state: UploadState = serde_json::from_slice(&bytes)
                .map_err(|source| StorageError::Document { key: key.to_string(), source })?;
            named.extend(state.parts.into_iter().map(|part| part.id));
        }
        drop(states);
        let records = self.list(&Path::from(layout::BLOBS)).await?;
        let unknown: Vec<Entry> =
            records.iter().filter(|entry| !self.known.contains_key(&entry.key)).cloned().collect();
        let mut read = stream::iter(unknown)
            .map(|entry| async move { storage.record_at(&entry).await.map(|record| (entry.key, record)) })
            .buffer_unordered(AT_ONCE);
        while let Some((key, record)) = read.try_next().await? {
            let parts = record.map_or(Vec::new(), |record| record.parts.into_iter().map(|part| part.id).collect());
            self.known.insert(key, parts);
        }
        drop(read);
        named.extend(records.iter().filter_map(|entry| self.known.get(&entry.key)).flatten().cloned());
        Ok(named)
    }

    /// What processes leave that are killed while they replace a document or read the storage's clock.
    async fn left_by_the_killed(&mut self) -> storage::Result<()> {
        let clocks = self.list(&Path::from(layout::CLOCK)).await?;
        let old = clocks.into_iter().filter(|entry| self.is_old(entry)).map(|entry| entry.key).collect();
        let staged = self.storage.objects.remove_staged(self.times.grace).await?;
        self.report.staged = staged + self.remove(old).await?;
        Ok(())
    }

    async fn uploads(&mut self) -> storage::Result<()> {
        let all = self.list(&Path::from(layout::UPLOADS)).await?;
        let old = all.into_iter().filter(|entry| self.is_old(entry)).map(|entry| entry.key).collect();
        self.report.uploads = self.remove(old).await?;
        Ok(())
    }

    /// Cleans every repository up. Returns the digests that any of them has a link to.
    async fn repositories(&mut self, wish: Wish) -> storage::Result<HashSet<Digest>> {
        let mut linked = HashSet::new();
        let mut last: Option<String> = None;
        loop {
            let page = self.storage.all_repositories(last.as_deref(), REPOSITORIES).await?;
            for name in page.items.iter().filter_map(|name| Name::parse(name)) {
                self.manifests(&name, wish).await?;
                self.referrers(&name).await?;
                self.links(&name, &mut linked).await?;
            }
            last = page.items.last().cloned();
            if !page.more {
                return Ok(linked);
            }
        }
    }

    async fn links(&mut self, name: &Name, linked: &mut HashSet<Digest>) -> storage::Result<()> {
        let mut by_digest: HashMap<Digest, Vec<Entry>> = HashMap::new();
        for entry in self.list(&layout::all_links(name)).await? {
            if let Some((_, layout::Inside::Link(digest, _))) = layout::parse(&entry.key) {
                by_digest.entry(digest).or_default().push(entry);
            }
        }
        // Manifests are listed after links, and only when there is something to remove.
        let any_old = by_digest.values().flatten().any(|entry| self.is_old(entry));
        let named = if any_old { self.named_blobs(name).await? } else { Some(HashSet::new()) };
        let Some(named) = named else {
            linked.extend(by_digest.into_keys());
            return Ok(());
        };
        let mut doomed = Vec::new();
        for (digest, entries) in by_digest {
            let count = entries.len();
            let old = self.superseded(entries, named.contains(&digest));
            if old.len() < count {
                linked.insert(digest);
            }
            doomed.extend(old);
        }
        self.report.links += self.remove(doomed).await?;
        Ok(())
    }

    /// Of the generations of one thing, those that go: the old ones, but for the newest of what is still wanted.
    fn superseded(&self, mut generations: Vec<Entry>, wanted: bool) -> Vec<Path> {
        generations.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.modified_ms));
        generations
            .into_iter()
            .skip(usize::from(wanted))
            .filter(|entry| self.is_old(entry))
            .map(|entry| entry.key)
            .collect()
    }

    /// The blobs that manifests of a repository name; None when one of them cannot be read.
    async fn named_blobs(&self, name: &Name) -> storage::Result<Option<HashSet<Digest>>> {
        let mut named = HashSet::new();
        let all = self.each_document(name, |_, document| {
            if let Document::Manifest(manifest) = document {
                named.extend(manifest.layers.into_iter().chain([manifest.config]).map(|blob| blob.digest));
            }
        });
        Ok(all.await?.then_some(named))
    }

    /// Shows all manifests of a repository, a few of them in memory at once. False when one cannot be read: then nothing
    /// is known of what it names.
    async fn each_document(&self, name: &Name, mut see: impl FnMut(Digest, Document)) -> storage::Result<bool> {
        let entries = self.list(&layout::manifests(name)).await?;
        let storage = self.storage;
        let mut read = stream::iter(entries)
            .map(|entry| async move { storage.objects.get(&entry.key).await.map(|bytes| (entry.key, bytes)) })
            .buffer_unordered(AT_ONCE);
        while let Some((key, bytes)) = read.try_next().await? {
            let (Some((_, layout::Inside::Manifest(digest, _))), Some(bytes)) = (layout::parse(&key), bytes) else {
                continue;
            };
            match Document::parse("", &bytes) {
                Ok(document) => see(digest, document),
                Err(error) => {
                    tracing::warn!(%error, "{name}@{digest} cannot be read: what it may name stays");
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Removes old generations of manifests, and manifests that are garbage by the wish. What an index names or what belongs to a subject goes in a later run, when that has gone.
    async fn manifests(&mut self, name: &Name, wish: Wish) -> storage::Result<()> {
        let mut generations: HashMap<Digest, Vec<Entry>> = HashMap::new();
        for entry in self.list(&layout::manifests(name)).await? {
            if let Some((_, layout::Inside::Manifest(digest, _))) = layout::parse(&entry.key) {
                generations.entry(digest).or_default().push(entry);
            }
        }
        if !generations.values().flatten().any(|entry| self.is_old(entry)) {
            return Ok(());
        }
        // Manifests were listed before what leads to them.
        let mut unwanted = if wish.untagged { self.unwanted_manifests(name).await? } else { HashSet::new() };
        if let Some(unused) = wish.unused {
            let since_ms = self.old_ms.min(self.old_ms + millis(self.times.grace) - millis(unused));
            let is_used = |entries: &[Entry]| entries.iter().any(|entry| entry.modified_ms > since_ms);
            unwanted
                .extend(generations.iter().filter(|(_, entries)| !is_used(entries)).map(|(digest, _)| digest.clone()));
        }
        let doomed = generations
            .into_iter()
            .flat_map(|(digest, entries)| self.superseded(entries, !unwanted.contains(&digest)))
            .collect();
        self.report.manifests += self.remove(doomed).await?;
        Ok(())
    }

    /// The manifests that no tag, no index and no subject leads to.
    async fn unwanted_manifests(&self, name: &Name) -> storage::Result<HashSet<Digest>> {
        let (mut all, mut wanted, mut subjects) = (HashSet::new(), HashSet::new(), Vec::new());
        let read = self.each_document(name, |digest, document| {
            let subject = match document {
                Document::Manifest(manifest) => manifest.subject,
                Document::Index(index) => {
                    wanted.extend(index.manifests.into_iter().map(|child| child.digest));
                    index.subject
                }
            };
            subjects.extend(subject.map(|subject| (subject.digest, digest.clone())));
            all.insert(digest);
        });
        if !read.await? {
            return Ok(HashSet::new());
        }
        for entry in self.list(&layout::tags(name)).await? {
            wanted.extend(self.storage.tag(name, entry.name()).await?);
        }
        wanted.extend(subjects.into_iter().filter(|(subject, _)| all.contains(subject)).map(|(_, digest)| digest));
        Ok(all.into_iter().filter(|digest| !wanted.contains(digest)).collect())
    }

    /// Removes places among the referrers of manifests that are gone, and old generations of the others.
    async fn referrers(&mut self, name: &Name) -> storage::Result<()> {
        let mut generations: HashMap<(Digest, Digest), Vec<Entry>> = HashMap::new();
        for entry in self.list(&layout::all_referrers(name)).await? {
            if let Some((_, layout::Inside::Referrer(subject, manifest))) = layout::parse(&entry.key) {
                generations.entry((subject, manifest)).or_default().push(entry);
            }
        }
        generations.retain(|_, entries| entries.iter().any(|entry| self.is_old(entry)));
        let mut doomed = Vec::new();
        for ((_, manifest), entries) in generations {
            let wanted = self.storage.has_manifest(name, &manifest).await?;
            doomed.extend(self.superseded(entries, wanted));
        }
        self.report.manifests += self.remove(doomed).await?;
        Ok(())
    }

    /// Removes records, of those that were listed before the links were.
    async fn records(&mut self, entries: Vec<Entry>, linked: &HashSet<Digest>) -> storage::Result<()> {
        let mut by_digest: HashMap<Digest, Vec<Entry>> = HashMap::new();
        for entry in entries {
            if let Some((digest, _)) = layout::parse_record(&entry.key) {
                by_digest.entry(digest).or_default().push(entry);
            }
        }
        let doomed = by_digest
            .into_iter()
            .flat_map(|(digest, entries)| self.superseded(entries, linked.contains(&digest)))
            .collect();
        self.report.records = self.remove(doomed).await?;
        Ok(())
    }

    /// Looks again, and removes the parts that nothing names in both looks.
    async fn parts(&mut self, first: Vec<Entry>) -> storage::Result<()> {
        if first.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(self.times.settle).await;
        let named = self.named_parts().await?;
        let doomed: Vec<Entry> = first.into_iter().filter(|entry| !named.contains(entry.name())).collect();
        self.report.bytes = doomed.iter().map(|entry| entry.size).sum();
        self.report.parts = self.remove(doomed.into_iter().map(|entry| entry.key).collect()).await?;
        Ok(())
    }
}
