//! Blobs: records of parts, and the links that make them visible in repositories.

use bytes::Bytes;
use object_store::path::Path;
use oci::digest::Digest;
use std::sync::Arc;
use std::time::Instant;

use super::error::{Result, StorageError};
use super::objects::Entry;
use super::record::{Part, Record};
use super::{Storage, layout};
use crate::name::Name;

/// A blob that was found, to be read.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) size: u64,
    pub(crate) record: Arc<Record>,
}

/// How a blob was stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The key of the link that was made.
    pub(crate) key: Path,
    /// Is it made of the parts that were given? Otherwise the same blob was here already, and they are not needed.
    pub(crate) uses_parts: bool,
}

impl Storage {
    /// The size of a blob, if it is visible in this repository.
    pub(crate) async fn blob_size(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.newest_link(name, digest).await?.and_then(|link| layout::size_of(link.name())))
    }

    /// The links that make a blob visible in this repository.
    pub(crate) async fn links(&self, name: &Name, digest: &Digest) -> Result<Vec<Entry>> {
        self.objects.entries(&layout::links(name, digest)).await
    }

    /// The size of a blob that is stored, visible or not.
    pub(crate) async fn stored_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let newest = newest(self.objects.entries(&layout::records(digest)).await?);
        Ok(newest.and_then(|entry| layout::size_of(entry.name())))
    }

    async fn newest_link(&self, name: &Name, digest: &Digest) -> Result<Option<Entry>> {
        Ok(newest(self.links(name, digest).await?))
    }

    /// Finds a blob for reading, if it is visible in this repository.
    pub(crate) async fn blob(&self, name: &Name, digest: &Digest) -> Result<Option<Blob>> {
        let Some(size) = self.blob_size(name, digest).await? else { return Ok(None) };
        let record = match self.cached_record(digest) {
            Some(record) => Some(record),
            None => self.read_record(digest).await?,
        };
        Ok(record.map(|record| Blob { size, record }))
    }

    /// Forgets what is known of a blob: one of its parts was not there.
    pub(crate) fn forget_record(&self, digest: &Digest) {
        self.cache_record(digest, None);
    }

    /// Reads a record, the newest that is still there.
    async fn read_record(&self, digest: &Digest) -> Result<Option<Arc<Record>>> {
        let mut entries = self.objects.entries(&layout::records(digest)).await?;
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.modified_ms));
        for entry in entries {
            // Garbage collection may remove one between listing and reading.
            if let Some(record) = self.record_at(&entry).await? {
                let record = Arc::new(record);
                self.cache_record(digest, Some(Arc::clone(&record)));
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// What a record says; None when it was removed meanwhile.
    pub(crate) async fn record_at(&self, entry: &Entry) -> Result<Option<Record>> {
        if let Some(part) = layout::part_of(entry.name()) {
            return Ok(Some(Record { parts: vec![part] }));
        }
        let bytes = self.objects.get(&entry.key).await?;
        bytes.map(|bytes| document(&entry.key, &bytes)).transpose()
    }

    /// The size of a blob that somebody is going to rely on: it stays visible for at least half of the grace, whatever
    /// garbage collection does. None if it is not visible here.
    pub(crate) async fn hold(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        let Some(link) = self.newest_link(name, digest).await? else { return Ok(None) };
        let Some(size) = layout::size_of(link.name()) else { return Ok(None) };
        // A link that has been there without interruption has protected its record.
        if self.is_fresh(&link) || self.link_existing(name, digest).await?.is_some() {
            return Ok(Some(size));
        }
        Ok(None)
    }

    /// Makes a blob that is stored already visible in this repository; the key of the link, or None if it is not stored.
    pub(crate) async fn link_existing(&self, name: &Name, digest: &Digest) -> Result<Option<Path>> {
        let until = self.step_end();
        self.in_time("linking", digest.as_str(), until, async {
            let Some(size) = self.fresh_record(digest, until).await? else { return Ok(None) };
            self.link(name, digest, size).await.map(Some)
        })
        .await
    }

    async fn link(&self, name: &Name, digest: &Digest, size: u64) -> Result<Path> {
        let key = generation(layout::links(name, digest), size)?;
        self.objects.put(&key, Bytes::new()).await?;
        Ok(key)
    }

    /// Sees to it that there is a record which garbage collection leaves alone; its size.
    async fn fresh_record(&self, digest: &Digest, until: Instant) -> Result<Option<u64>> {
        let Some(newest) = newest(self.objects.entries(&layout::records(digest)).await?) else { return Ok(None) };
        if self.is_fresh(&newest) {
            return Ok(layout::size_of(newest.name()));
        }
        let Some(record) = self.read_record(digest).await? else { return Ok(None) };
        self.write_record(digest, &record, until).await?;
        Ok(Some(record.size()))
    }

    /// Writes a record while its step lasts: later, garbage collection may have taken its parts.
    async fn write_record(&self, digest: &Digest, record: &Record, until: Instant) -> Result<()> {
        let directory = layout::records(digest);
        let key = match &record.parts[..] {
            [part] => {
                let name = layout::generation_of_part(part).map_err(StorageError::file("naming", &directory))?;
                directory.join(name)
            }
            _ => generation(directory, record.size())?,
        };
        let bytes =
            serde_json::to_vec(record).map_err(|source| StorageError::Document { key: key.to_string(), source })?;
        self.objects.put_until(&key, bytes.into(), until).await
    }

    /// Stores a blob of parts that are complete and verified, and makes it visible in this repository.
    pub(crate) async fn store_blob(&self, name: &Name, digest: &Digest, record: &Record) -> Result<Link> {
        let (size, until) = (record.size(), self.step_end());
        self.in_time("storing", digest.as_str(), until, async {
            // Somebody pushed the same: the parts that are here already do as well.
            let stored = newest(self.objects.entries(&layout::records(digest)).await?);
            let uses_parts = !stored.is_some_and(|entry| self.is_fresh(&entry));
            if uses_parts {
                self.write_record(digest, record, until).await?;
            }
            Ok(Link { key: self.link(name, digest, size).await?, uses_parts })
        })
        .await
    }

    /// Removes parts that nobody else knows of. What cannot be removed is garbage like any other.
    pub(crate) async fn remove_parts(&self, parts: &[Part]) {
        for part in parts {
            if let Err(error) = self.objects.remove(&layout::data(&part.id)).await {
                tracing::warn!(%error, "a part that is not needed stays for garbage collection");
            }
        }
    }

    /// Makes a blob invisible in this repository; says whether it was visible.
    pub(crate) async fn unlink(&self, name: &Name, digest: &Digest) -> Result<bool> {
        let links = self.links(name, digest).await?;
        for link in &links {
            self.objects.remove(&link.key).await?;
        }
        Ok(!links.is_empty())
    }
}

/// The youngest of a record's or link's generations.
pub(crate) fn newest(entries: Vec<Entry>) -> Option<Entry> {
    entries.into_iter().max_by_key(|entry| entry.modified_ms)
}

fn generation(directory: Path, size: u64) -> Result<Path> {
    let name = layout::generation(size).map_err(StorageError::file("naming", &directory))?;
    Ok(directory.join(name))
}

pub(crate) fn document<T: serde::de::DeserializeOwned>(key: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| StorageError::Document { key: key.to_string(), source })
}
