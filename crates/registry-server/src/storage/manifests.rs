//! Manifests, tags and referrers of a repository.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci::descriptor::Descriptor;
use oci::digest::Digest;
use std::time::Duration;

use super::blobs::{self, newest};
use super::error::{Result, StorageError};
use super::{Storage, layout, millis};
use crate::name::Name;

/// Small objects that are read at once.
const READS: usize = 16;
/// Bytes of descriptors on a page of referrers. With what stands around them, a page is no larger than a manifest may be.
const REFERRERS: u64 = (oci::manifest::MAX_SIZE - (256 << 10)) as u64;
/// How often a manifest is put again that somebody deletes at the same moment.
const PUTS: usize = 5;

/// A manifest as it came.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

/// A part of a sorted list, and whether there is more.
#[derive(Debug, Default)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) more: bool,
}

impl<T> Page<T> {
    /// The first `limit` of what comes.
    pub(crate) fn of(all: impl Iterator<Item = T>, limit: usize) -> Self {
        let mut items: Vec<T> = all.take(limit.saturating_add(1)).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        Self { items, more }
    }
}

impl Storage {
    /// The digest that a tag stands for.
    pub(crate) async fn tag(&self, name: &Name, tag: &str) -> Result<Option<Digest>> {
        let bytes = self.objects.get(&layout::tag(name, tag)).await?;
        Ok(bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok()))
    }

    /// A manifest of this repository.
    pub(crate) async fn manifest(&self, name: &Name, digest: &Digest) -> Result<Option<Manifest>> {
        let mut generations = self.objects.entries(&layout::manifest(name, digest)).await?;
        generations.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.modified_ms));
        for entry in generations {
            // Garbage collection may remove one between listing and reading.
            if let Some(bytes) = self.objects.get(&entry.key).await? {
                return Ok(Some(Manifest { digest: digest.clone(), bytes }));
            }
        }
        Ok(None)
    }

    /// The digest that a tag stands for, and how long it has, in milliseconds.
    pub(crate) async fn tag_with_age(&self, name: &Name, tag: &str) -> Result<Option<(Digest, i64)>> {
        let Some(entry) = self.objects.stat(&layout::tag(name, tag)).await? else { return Ok(None) };
        Ok(self.tag(name, tag).await?.map(|digest| (digest, self.now_ms() - entry.modified_ms)))
    }

    /// Is this manifest in this repository?
    pub(crate) async fn has_manifest(&self, name: &Name, digest: &Digest) -> Result<bool> {
        Ok(!self.objects.entries(&layout::manifest(name, digest)).await?.is_empty())
    }

    /// A manifest that somebody is going to rely on: it stays for at least half of the grace.
    pub(crate) async fn hold_manifest(&self, name: &Name, digest: &Digest) -> Result<Option<Manifest>> {
        let Some(manifest) = self.manifest(name, digest).await? else { return Ok(None) };
        self.renew_manifest(name, &manifest, self.times.grace / 2).await?;
        Ok(Some(manifest))
    }

    /// Sees to it that there is a generation of at most this age. Those of half of the grace garbage collection leaves alone.
    pub(crate) async fn renew_manifest(&self, name: &Name, manifest: &Manifest, age: Duration) -> Result<()> {
        let directory = layout::manifest(name, &manifest.digest);
        let newest = newest(self.objects.entries(&directory).await?);
        if newest.is_some_and(|entry| self.now_ms() - entry.modified_ms < millis(age)) {
            return Ok(());
        }
        self.write_manifest(name, manifest).await
    }

    async fn write_manifest(&self, name: &Name, manifest: &Manifest) -> Result<()> {
        let directory = layout::manifest(name, &manifest.digest);
        let generation = layout::generation(manifest.bytes.len() as u64);
        let key = directory.clone().join(generation.map_err(StorageError::file("naming", &directory))?);
        self.objects.put(&key, manifest.bytes.clone()).await
    }

    /// Keeps a manifest that was checked: its bytes, its place among the referrers of its subject, its tag.
    pub(crate) async fn put_manifest(
        &self,
        name: &Name,
        manifest: &Manifest,
        referrer: Option<(&Digest, &Descriptor)>,
        tag: Option<&str>,
    ) -> Result<()> {
        for _ in 0..PUTS {
            self.put_once(name, manifest, referrer, tag).await?;
            // Somebody may have been deleting it meanwhile, and have taken what was here.
            let is_tagged = match tag {
                Some(tag) => self.objects.stat(&layout::tag(name, tag)).await?.is_some(),
                None => true,
            };
            if is_tagged && self.has_manifest(name, &manifest.digest).await? {
                break;
            }
        }
        Ok(())
    }

    async fn put_once(
        &self,
        name: &Name,
        manifest: &Manifest,
        referrer: Option<(&Digest, &Descriptor)>,
        tag: Option<&str>,
    ) -> Result<()> {
        let digest = &manifest.digest;
        self.renew_manifest(name, manifest, self.times.grace / 2).await?;
        if let Some((subject, descriptor)) = referrer {
            let directory = layout::referrers(name, subject);
            let generation = layout::random_id().map_err(StorageError::file("naming", &directory))?;
            let key = layout::referrer(name, subject, digest, &generation);
            let bytes = serde_json::to_vec(descriptor)
                .map_err(|source| StorageError::Document { key: key.to_string(), source })?;
            self.objects.put(&key, bytes.into()).await?;
        }
        if let Some(tag) = tag {
            self.objects.put(&layout::tag(name, tag), digest.as_str().to_owned().into()).await?;
        }
        Ok(())
    }

    /// Removes a tag; says whether there was one.
    pub(crate) async fn remove_tag(&self, name: &Name, tag: &str) -> Result<bool> {
        let key = layout::tag(name, tag);
        if self.objects.stat(&key).await?.is_none() {
            return Ok(false);
        }
        self.objects.remove(&key).await.map(|_| true)
    }

    /// Removes a manifest, the tags that stand for it, and its place among the referrers of its subject.
    pub(crate) async fn remove_manifest(&self, name: &Name, digest: &Digest, subject: Option<&Digest>) -> Result<()> {
        for tag in self.tags_of(name, digest).await? {
            self.objects.remove(&layout::tag(name, &tag)).await?;
        }
        if let Some(subject) = subject {
            let entries = self.objects.entries(&layout::referrers(name, subject)).await?;
            for entry in entries.iter().filter(|entry| layout::referrer_of(entry.name()).as_ref() == Some(digest)) {
                self.objects.remove(&entry.key).await?;
            }
        }
        for entry in self.objects.entries(&layout::manifest(name, digest)).await? {
            self.objects.remove(&entry.key).await?;
        }
        // Somebody who was pushing the same may have tagged it in between, and found it still there.
        for tag in self.tags_of(name, digest).await? {
            if !self.has_manifest(name, digest).await? {
                self.objects.remove(&layout::tag(name, &tag)).await?;
            }
        }
        Ok(())
    }

    /// The tags that stand for this manifest.
    async fn tags_of(&self, name: &Name, digest: &Digest) -> Result<Vec<String>> {
        let entries = self.objects.entries(&layout::tags(name)).await?;
        let tags: Vec<String> = entries.iter().map(|entry| entry.name().to_owned()).collect();
        stream::iter(tags)
            .map(|tag| async move {
                let points = self.tag(name, &tag).await?.as_ref() == Some(digest);
                Ok::<_, StorageError>(points.then_some(tag))
            })
            .buffer_unordered(READS)
            .try_filter_map(|tag| std::future::ready(Ok(tag)))
            .try_collect()
            .await
    }

    /// The tags after `last`, sorted by their bytes; None if there is no such repository.
    pub(crate) async fn tags(&self, name: &Name, last: Option<&str>, limit: usize) -> Result<Option<Page<String>>> {
        let mut tags: Vec<String> =
            self.objects.entries(&layout::tags(name)).await?.iter().map(|entry| entry.name().to_owned()).collect();
        tags.sort_unstable();
        if tags.is_empty() && !self.has_repository(name).await? {
            return Ok(None);
        }
        let after = tags.into_iter().filter(|tag| last.is_none_or(|last| tag.as_str() > last));
        Ok(Some(Page::of(after, limit)))
    }

    /// Is anything in this repository?
    pub(crate) async fn has_repository(&self, name: &Name) -> Result<bool> {
        for directory in [layout::manifests(name), layout::all_links(name)] {
            if self.objects.walk(&directory).next().await.transpose()?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The manifests whose subject is this one and whose key is after `last`, with their keys.
    pub(crate) async fn referrers(
        &self,
        name: &Name,
        subject: &Digest,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Page<(String, Descriptor)>> {
        let mut entries = self.objects.entries(&layout::referrers(name, subject)).await?;
        // Of several generations one is enough.
        entries.dedup_by_key(|entry| layout::referrer_of(entry.name()));
        let after = entries.into_iter().filter(|entry| last.is_none_or(|last| entry.name() > last));
        let mut page = Page::of(after, limit);
        let mut bytes = 0;
        let fitting = page.items.iter().take_while(|entry| {
            bytes += entry.size;
            bytes <= REFERRERS
        });
        let fitting = fitting.count().max(1);
        page.more |= page.items.len() > fitting;
        page.items.truncate(fitting);
        let items = stream::iter(page.items)
            .map(|entry| async move {
                // One that was deleted meanwhile is left out.
                let Some(bytes) = self.objects.get(&entry.key).await? else { return Ok(None) };
                let descriptor: Descriptor = blobs::document(&entry.key, &bytes)?;
                Ok::<_, StorageError>(Some((entry.name().to_owned(), descriptor)))
            })
            .buffered(READS)
            .try_filter_map(|found| std::future::ready(Ok(found)))
            .try_collect()
            .await?;
        Ok(Page { items, more: page.more })
    }
}
