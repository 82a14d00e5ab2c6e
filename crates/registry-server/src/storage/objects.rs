//! Objects by key: in a directory, or in object storage that speaks S3's, Google's or Azure's protocol.
//!
//! The crate `object_store` is the abstraction. Where it is too narrow for a directory, the file system is used itself: a
//! part is written as it arrives, without staging and renaming (its key is random and nobody knows it before it is
//! complete); a part is read as an open file, so that the kernel can send it (module `wire`); and documents are written by
//! module `files`, which can be told to be too late, and does not mind that others remove empty directories.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, GetOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::{Result, StorageError};
use super::{files, layout};

/// Documents (states, records, manifests) are not larger than this, in bytes: a record of the most parts there may be.
const MAX_DOCUMENT: u64 = 8 << 20;
/// Retries of one request to object storage end after so long.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the objects are. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    pub(crate) directory: Option<Arc<PathBuf>>,
}

/// An object in a listing.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Path,
    pub(crate) size: u64,
    /// When it was written, by the storage's clock, in milliseconds since 1970.
    pub(crate) modified_ms: i64,
}

impl Entry {
    /// The last part of the key.
    pub(crate) fn name(&self) -> &str {
        self.key.filename().unwrap_or_default()
    }
}

/// Why a place for objects cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("storage {0}: unknown scheme; a directory, s3://, gs:// or az:// is meant")]
    Scheme(String),
    #[error("storage {0}: there are no options for a directory")]
    Options(String),
    #[error("storage option {0:?}: {1}")]
    Option(String, object_store::Error),
    #[error("storage {0}: {1}")]
    Object(String, object_store::Error),
    #[error("storage directory {0}: {1}")]
    Directory(PathBuf, std::io::Error),
}

impl Objects {
    /// Opens a place: the path of a directory (made when missing), or the URL of a bucket with an optional prefix
    /// (`s3://bucket/prefix`, `gs://…`, `az://…`). `options` are pairs in the crate's words (`aws_endpoint`, …), beside
    /// those that the environment has (`AWS_ACCESS_KEY_ID`, …).
    pub(crate) fn open(place: &str, options: &[(String, String)]) -> std::result::Result<Self, PlaceError> {
        let Some((scheme, rest)) = place.split_once("://") else { return Self::directory(place, options) };
        let failed = |error| PlaceError::Object(place.to_owned(), error);
        let retry = RetryConfig { retry_timeout: RETRY_TIMEOUT, max_retries: 5, ..RetryConfig::default() };
        // Names are resolved by our own resolver: a static program cannot load the C library's.
        let resolver = ClientConfigKey::RandomizeAddresses;
        let store: Arc<dyn ObjectStore> = match scheme {
            "s3" => {
                let builder = AmazonS3Builder::from_env()
                    .with_url(place)
                    .with_retry(retry)
                    .with_config(AmazonS3ConfigKey::Client(resolver), "false");
                Arc::new(configure(builder, options, AmazonS3Builder::with_config)?.build().map_err(failed)?)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env()
                    .with_url(place)
                    .with_retry(retry)
                    .with_config(GoogleConfigKey::Client(resolver), "false");
                Arc::new(configure(builder, options, GoogleCloudStorageBuilder::with_config)?.build().map_err(failed)?)
            }
            "az" => {
                let builder = MicrosoftAzureBuilder::from_env()
                    .with_url(place)
                    .with_retry(retry)
                    .with_config(AzureConfigKey::Client(resolver), "false");
                Arc::new(configure(builder, options, MicrosoftAzureBuilder::with_config)?.build().map_err(failed)?)
            }
            _ => return Err(PlaceError::Scheme(place.to_owned())),
        };
        let prefix = rest.split_once('/').map_or("", |(_, prefix)| prefix).trim_matches('/');
        let store: Arc<dyn ObjectStore> =
            if prefix.is_empty() { store } else { Arc::new(PrefixStore::new(store, prefix)) };
        Ok(Self { store, directory: None })
    }

    /// A place without anything in it, for a registry whose content is elsewhere.
    pub(crate) fn nothing() -> Self {
        Self { store: Arc::new(object_store::memory::InMemory::new()), directory: None }
    }

    fn directory(place: &str, options: &[(String, String)]) -> std::result::Result<Self, PlaceError> {
        if !options.is_empty() {
            return Err(PlaceError::Options(place.to_owned()));
        }
        let made = std::fs::create_dir_all(place).and_then(|()| std::fs::canonicalize(place));
        let root = made.map_err(|error| PlaceError::Directory(place.into(), error))?;
        let at = LocalFileSystem::new_with_prefix(&root).map_err(|error| PlaceError::Object(place.into(), error))?;
        Ok(Self { store: Arc::new(at.with_automatic_cleanup(true)), directory: Some(Arc::new(root)) })
    }

    /// The bytes of a small object.
    pub(crate) async fn get(&self, key: &Path) -> Result<Option<Bytes>> {
        let found = match self.store.get(key).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(StorageError::object("reading", key))?,
        };
        if found.meta.size > MAX_DOCUMENT {
            let error = std::io::Error::other(format!("{} bytes are more than a document has", found.meta.size));
            return Err(StorageError::file("reading", key)(error));
        }
        match found.bytes().await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            bytes => bytes.map(Some).map_err(StorageError::object("reading", key)),
        }
    }

    /// When an object was written, and how large it is.
    pub(crate) async fn stat(&self, key: &Path) -> Result<Option<Entry>> {
        match self.store.head(key).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            found => found.map(|meta| Some(entry(meta))).map_err(StorageError::object("looking for", key)),
        }
    }

    /// Writes an object or replaces it: others see the old bytes or the new ones.
    pub(crate) async fn put(&self, key: &Path, bytes: Bytes) -> Result<()> {
        self.write(key, bytes, true, None).await
    }

    /// As [`Objects::put`], and not any more after this time: not even when nobody waits for it any longer.
    pub(crate) async fn put_until(&self, key: &Path, bytes: Bytes, until: Instant) -> Result<()> {
        self.write(key, bytes, true, Some(until)).await
    }

    /// As [`Objects::put`], for what may be lost when the machine (not the process) fails.
    pub(crate) async fn put_scratch(&self, key: &Path, bytes: Bytes) -> Result<()> {
        self.write(key, bytes, false, None).await
    }

    async fn write(&self, key: &Path, bytes: Bytes, sync: bool, until: Option<Instant>) -> Result<()> {
        let Some(path) = self.file(key) else {
            // A request that is given up is closed.
            return self.store.put(key, bytes.into()).await.map(drop).map_err(StorageError::object("writing", key));
        };
        let written = tokio::task::spawn_blocking(move || files::replace(&path, &bytes, sync, until)).await;
        written.map_err(std::io::Error::other).flatten().map_err(StorageError::file("writing", key))
    }

    /// The time by the storage's clock, in milliseconds since 1970.
    pub(crate) async fn clock_ms(&self) -> Result<i64> {
        let Some(root) = self.directory.clone() else { return self.remote_clock_ms().await };
        // A file server's clock is read without a file, for which there may be no room.
        let touched = tokio::task::spawn_blocking(move || {
            let times = Timestamps {
                last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            };
            rustix::fs::utimensat(rustix::fs::CWD, &*root, &times, AtFlags::empty())?;
            root.metadata()?.modified()
        });
        let touched = touched.await.map_err(std::io::Error::other).flatten();
        let key = "the storage's directory".to_owned();
        touched.map(super::time_ms).map_err(|source| StorageError::File { doing: "touching", key, source })
    }

    async fn remote_clock_ms(&self) -> Result<i64> {
        let directory = Path::from(layout::CLOCK);
        let id = layout::random_id().map_err(StorageError::file("naming", &directory))?;
        let key = directory.join(id);
        self.put(&key, Bytes::new()).await?;
        let written = self.stat(&key).await?.map_or_else(super::unix_ms, |entry| entry.modified_ms);
        self.remove(&key).await?;
        Ok(written)
    }

    /// Removes an object; says whether there was one, where the storage tells.
    pub(crate) async fn remove(&self, key: &Path) -> Result<bool> {
        match self.store.delete(key).await {
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            removed => removed.map(|()| true).map_err(StorageError::object("removing", key)),
        }
    }

    /// The objects directly in this directory, by name.
    pub(crate) async fn entries(&self, directory: &Path) -> Result<Vec<Entry>> {
        Ok(self.listing(directory).await?.0)
    }

    /// The directories directly in this one, by name.
    pub(crate) async fn directories(&self, directory: &Path) -> Result<Vec<String>> {
        Ok(self.listing(directory).await?.1)
    }

    async fn listing(&self, directory: &Path) -> Result<(Vec<Entry>, Vec<String>)> {
        let found = match self.store.list_with_delimiter(Some(directory)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok((Vec::new(), Vec::new())),
            found => found.map_err(StorageError::object("listing", directory))?,
        };
        let mut entries: Vec<Entry> = found.objects.into_iter().map(entry).collect();
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let name = |path: &Path| path.filename().unwrap_or_default().to_owned();
        let mut directories: Vec<String> = found.common_prefixes.iter().map(name).collect();
        directories.sort_unstable();
        Ok((entries, directories))
    }

    /// All objects below this directory, in no order. What vanishes meanwhile may be listed or not.
    pub(crate) fn walk(&self, directory: &Path) -> BoxStream<'static, Result<Entry>> {
        let key = directory.clone();
        self.store
            .list(Some(directory))
            .filter(|found| std::future::ready(!matches!(found, Err(object_store::Error::NotFound { .. }))))
            .map_ok(entry)
            .map_err(move |error| StorageError::object("listing", &key)(error))
            .boxed()
    }

    /// Removes what a killed process left in a directory while it was replacing a document: files called `<name>#<number>`,
    /// which no listing shows. Returns how many there were.
    pub(crate) async fn remove_staged(&self, older_than: Duration) -> Result<u64> {
        let Some(root) = self.directory.clone() else { return Ok(0) };
        let removed = tokio::task::spawn_blocking(move || {
            let mut removed = 0;
            let mut ahead = vec![root.to_path_buf()];
            while let Some(directory) = ahead.pop() {
                // What vanishes meanwhile is no concern.
                for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                    let Ok(kind) = entry.file_type() else { continue };
                    if kind.is_dir() {
                        ahead.push(entry.path());
                    } else if is_staged(&entry.file_name()) && is_older(&entry, older_than) {
                        removed += u64::from(std::fs::remove_file(entry.path()).is_ok());
                    }
                }
            }
            removed
        });
        removed.await.map_err(|error| StorageError::file("walking", &Path::default())(std::io::Error::other(error)))
    }

    /// The file of a key; None in object storage.
    pub(crate) fn file(&self, key: &Path) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(key.as_ref()))
    }

    /// Opens a part for reading: as a file, or as a stream of these bytes of it.
    pub(crate) async fn open_part(&self, key: &Path, range: std::ops::Range<u64>) -> Result<Part> {
        if let Some(path) = self.file(key) {
            let opened = tokio::task::spawn_blocking(move || File::open(path)).await;
            let file = opened.map_err(std::io::Error::other).flatten();
            return Ok(Part::File(file.map_err(StorageError::file("opening", key))?));
        }
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let found = self.store.get_opts(key, options).await.map_err(StorageError::object("reading", key))?;
        let key = key.clone();
        Ok(Part::Stream(found.into_stream().map_err(move |error| StorageError::object("reading", &key)(error)).boxed()))
    }

    /// The storage, for writing a part.
    pub(crate) fn remote(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }
}

/// A part that was opened.
pub(crate) enum Part {
    /// The whole file.
    File(File),
    /// The bytes that were asked for.
    Stream(BoxStream<'static, Result<Bytes>>),
}

fn is_staged(name: &std::ffi::OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.rsplit_once('#')).map_or("", |(_, number)| number);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_older(entry: &std::fs::DirEntry, age: Duration) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|elapsed| elapsed > age))
}

fn entry(meta: object_store::ObjectMeta) -> Entry {
    Entry { key: meta.location, size: meta.size, modified_ms: meta.last_modified.timestamp_millis() }
}

/// Sets the options of one kind of object storage.
fn configure<B, K: std::str::FromStr<Err = object_store::Error>>(
    mut builder: B,
    options: &[(String, String)],
    set: impl Fn(B, K, String) -> B,
) -> std::result::Result<B, PlaceError> {
    for (key, value) in options {
        let known = key.to_ascii_lowercase().parse().map_err(|error| PlaceError::Option(key.clone(), error))?;
        builder = set(builder, known, value.clone());
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever removes the last object in a directory removes it, while the others are about to write there.
    #[tokio::test(flavor = "multi_thread")]
    async fn directories_that_are_emptied_meanwhile_are_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path().to_str().unwrap(), &[]).unwrap();
        let writers = (0..4).map(|n| {
            let objects = objects.clone();
            tokio::spawn(async move {
                let key = Path::from(format!("a/b/c/{n}"));
                for _ in 0..1000 {
                    objects.put_scratch(&key, Bytes::from_static(b"x")).await.unwrap();
                    objects.remove(&key).await.unwrap();
                }
            })
        });
        futures_util::future::try_join_all(writers).await.unwrap();
    }
}
