//! The database: which images, names, layers and content exist. One transaction per change of state.
//!
//! ```text
//! gantry.redb
//! ├── meta       "version"                            → decimal number
//! │              "boot"                               → the boot in which it was last opened (see `durable`)
//! ├── images     image id = digest of its config      → ImageRecord (JSON)
//! ├── names      docker.io/library/busybox:latest     → image id           a tag
//! │              docker.io/library/busybox@sha256:…   → image id           a digest it was pulled or pushed by
//! ├── layers     diff id = digest of plain tar        → LayerRecord (JSON)   layers/<hex>/fs
//! ├── blobs      digest                               → size in bytes        blobs/sha256/<hex>
//! └── documents  digest                               → bytes                configs, manifests, indexes
//! ```
//!
//! Configurations and manifests are small and needed often, so they live inside the database; large content is a file
//! per digest. A file or directory without a record is a leftover, and is removed when the store is opened. A record is
//! written after its file is complete and in place, and removed before the file is.
//!
//! Snapshots of containers are not here: each is a directory with its own small record, so that making and removing
//! a container costs no synchronous write to the disk, and survives a killed engine all the same.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use oci::Descriptor;
use oci::digest::Digest;
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableHandle,
    WriteTransaction,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The name of the database's file.
pub(crate) const FILE: &str = "gantry.redb";
/// The version of the schema that this code writes.
const VERSION: u32 = 1;
/// Pages kept in memory, in bytes. Small: the engine at rest has 20 MiB for everything, and the kernel caches the file.
const CACHE_SIZE: usize = 512 << 10;

/// A table with text keys and byte values.
pub(crate) type Table = TableDefinition<'static, &'static str, &'static [u8]>;
pub(crate) const META: Table = TableDefinition::new("meta");
pub(crate) const IMAGES: Table = TableDefinition::new("images");
pub(crate) const NAMES: Table = TableDefinition::new("names");
pub(crate) const LAYERS: Table = TableDefinition::new("layers");
pub(crate) const BLOBS: Table = TableDefinition::new("blobs");
pub(crate) const DOCUMENTS: Table = TableDefinition::new("documents");

/// What is known about an image beside its configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// Diff ids from the lowest layer up.
    pub layers: Vec<Digest>,
    /// The image that this one was committed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// Manifests that it came or went with, the latest last; their bytes are documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Descriptor>,
    /// Further documents that live as long as the image, such as the index it was found in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<Digest>,
    /// When a user last tagged it, nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_tagged_ns: Option<i64>,
    /// When it was last made or pulled, nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_ns: Option<i64>,
    /// It is not removed to make room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_pinned: bool,
}

/// What is known about a layer beside its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Sum of the sizes of its files and symbolic links, hard links once, in bytes.
    pub size: u64,
    /// Length of its plain tar in bytes.
    pub tar_size: u64,
    /// What its directory takes on the disk, in bytes; 0: not counted yet.
    #[serde(default)]
    pub disk_size: u64,
    /// The tar as it came, usually compressed. None: it was plain or made here, or it was dropped to make room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Descriptor>,
    /// Its gzip form, made here for a registry, where what it came as is compressed in another way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gzip: Option<Descriptor>,
    /// Digests of further blobs that were found to hold this layer, whether they are here or not. That a manifest names
    /// a blob beside it proves nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Digest>,
    /// Blobs that this layer is known as and that were dropped to make room: see `room`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Descriptor>,
    /// The boot in which its files were written (and, after a space, the moment), as long as they may not be on the disk:
    /// see `durable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsynced: Option<String>,
    /// Its tar can be put together from its files: see `skeleton`.
    #[serde(default)]
    pub rebuilds: bool,
    /// Its files are not what they were. It counts as missing then, until a good copy takes its place: see `durable`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_damaged: bool,
}

impl LayerRecord {
    /// The blobs that it is kept as.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.blob.iter().chain(&self.gzip)
    }

    /// Was this blob found to hold this layer?
    pub(crate) fn is_known_as(&self, diff_id: &Digest, blob: &Digest) -> bool {
        let mut found = self.blobs().chain(&self.dropped).map(|blob| &blob.digest).chain(&self.known).chain([diff_id]);
        found.any(|known| known == blob)
    }

    /// Is not kept as these any more. Returns whether it was.
    pub(crate) fn forget_blobs(&mut self, is_gone: impl Fn(&Digest) -> bool) -> bool {
        let [blob, gzip] = [&mut self.blob, &mut self.gzip].map(|kept| kept.take_if(|kept| is_gone(&kept.digest)));
        blob.or(gzip).is_some()
    }
}

/// The database, which outlives a full disk.
///
/// After a write that failed redb refuses everything (`PreviousIo`), for it no longer knows what is in the file. What it
/// says then is to be opened again: that reads the file anew, and finds the last commit that was made. So a database
/// that failed is closed and opened before its next use. When that fails too, the use after that one tries again.
pub(crate) struct Handle {
    path: PathBuf,
    opened: RwLock<Option<Opened>>,
}

struct Opened {
    db: Database,
    health: Health,
}

/// Whether a database that was opened is still good. Known to all of its transactions.
#[derive(Clone, Default)]
pub(crate) struct Health(Arc<AtomicBool>);

impl Health {
    /// Notes what became of an operation.
    pub(crate) fn note<T>(&self, outcome: Result<T>) -> Result<T> {
        if matches!(outcome, Err(Error::Database(_))) {
            self.0.store(true, Ordering::Release);
        }
        outcome
    }

    fn has_failed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Handle {
    /// Opens or creates the database. It is made under another name first: one that was cut short could not be opened
    /// again.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            create(path)?;
        }
        let db = open_at(path)?;
        // The lock is ours now, so what others began and left is nobody's.
        for other in beginnings(path) {
            let _ = std::fs::remove_file(other);
        }
        let opened = RwLock::new(Some(Opened { db, health: Health::default() }));
        Ok(Self { path: path.to_owned(), opened })
    }

    /// Looks at one consistent state.
    pub(crate) fn read(&self) -> Result<View> {
        self.with(|db, health| Ok(View { txn: db.begin_read()?, health: health.clone() }))
    }

    /// Begins a change. Whoever makes it notes its end. Behind the gate: there is no other.
    pub(crate) fn write(&self) -> Result<(WriteTransaction, Health)> {
        self.with(|db, health| Ok((db.begin_write()?, health.clone())))
    }

    fn with<T>(&self, work: impl Fn(&Database, &Health) -> Result<T>) -> Result<T> {
        let good = |opened: &Option<Opened>| {
            let Opened { db, health } = opened.as_ref().filter(|opened| !opened.health.has_failed())?;
            Some(health.note(work(db, health)))
        };
        if let Some(outcome) = good(&self.opened.read().unwrap_or_else(PoisonError::into_inner)) {
            return outcome;
        }
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been first.
        if let Some(outcome) = good(&opened) {
            return outcome;
        }
        tracing::warn!(path = %self.path.display(), "the database failed and is opened again");
        // Closed first, and with it its lock. What reads it still gets an error.
        *opened = None;
        let db = check(builder().open(&self.path), &self.path)?;
        let Opened { db, health } = opened.insert(Opened { db, health: Health::default() });
        health.note(work(db, health))
    }
}

/// One consistent state of the database.
pub(crate) struct View {
    txn: ReadTransaction,
    health: Health,
}

/// Files of creations that are going on or were cut short.
fn beginnings(path: &Path) -> Vec<PathBuf> {
    let prefix = beginning(path);
    let folder = path.parent().map(std::fs::read_dir).and_then(std::result::Result::ok);
    let files = folder.into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|file| file.to_string_lossy().starts_with(prefix.as_str())).collect()
}

fn beginning(path: &Path) -> String {
    format!("{}.creating-", path.display())
}

fn create(path: &Path) -> Result<()> {
    let begun = PathBuf::from(format!("{}{}", beginning(path), std::process::id()));
    let failed = |source: std::io::Error| Error::File { action: "creating", path: path.to_owned(), source };
    match std::fs::remove_file(&begun) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    drop(open_at(&begun)?);
    // A link, unlike a rename, does not replace what another engine made meanwhile.
    match std::fs::hard_link(&begun, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    std::fs::remove_file(&begun).map_err(failed)
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_SIZE);
    builder
}

fn open_at(path: &Path) -> Result<Database> {
    check(builder().create(path), path)
}

/// Is what was opened a database of this version? One without anything gets its tables.
fn check(opened: std::result::Result<Database, DatabaseError>, path: &Path) -> Result<Database> {
    let db = opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Error::Locked(path.to_owned()),
        other => other.into(),
    })?;
    let existing = {
        let txn = db.begin_read()?;
        let has_meta = txn.list_tables()?.any(|table| table.name() == META.name());
        if has_meta { txn.open_table(META)?.get("version")?.map(|value| value.value().to_vec()) } else { None }
    };
    match existing {
        Some(value) => {
            let found = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok()).unwrap_or(u32::MAX);
            if found != VERSION {
                return Err(Error::Version { found, known: VERSION });
            }
        }
        None => create_tables(&db)?,
    }
    Ok(db)
}

fn create_tables(db: &Database) -> Result<()> {
    let txn = db.begin_write()?;
    for table in [IMAGES, NAMES, LAYERS, BLOBS, DOCUMENTS] {
        txn.open_table(table)?;
    }
    txn.open_table(META)?.insert("version", VERSION.to_string().as_bytes())?;
    txn.commit()?;
    Ok(())
}

/// Reading, in either kind of transaction.
pub(crate) trait Reading {
    /// The value under a key.
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>>;
    /// Calls back for each record from `start` on, in order of the keys, until the callback says stop (`false`).
    fn scan(&self, table: Table, start: &str, each: &mut dyn FnMut(&str, &[u8]) -> Result<bool>) -> Result<()>;

    /// A JSON value under a key.
    fn get_json<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>> {
        self.get(table, key)?.map(|bytes| decode(key, &bytes)).transpose()
    }

    /// All records of a table of JSON values, by digest.
    fn all_json<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<(Digest, T)>> {
        let mut found = Vec::new();
        self.scan(table, "", &mut |key, value| {
            found.push((parse_key(key)?, decode(key, value)?));
            Ok(true)
        })?;
        Ok(found)
    }
}

pub(crate) fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Record { key: key.to_owned(), source })
}

/// A key or value that is a digest.
pub(crate) fn parse_key(key: &str) -> Result<Digest> {
    key.parse().map_err(|error| Error::Record { key: key.to_owned(), source: serde::de::Error::custom(error) })
}

impl Reading for View {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>> {
        let get = || Ok(self.txn.open_table(table)?.get(key)?.map(|value| value.value().to_vec()));
        self.health.note(get())
    }

    fn scan(&self, table: Table, start: &str, each: &mut dyn FnMut(&str, &[u8]) -> Result<bool>) -> Result<()> {
        let mut scan = || scan_table(&self.txn.open_table(table)?, start, each);
        self.health.note(scan())
    }
}

impl Reading for WriteTransaction {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.open_table(table)?.get(key)?.map(|value| value.value().to_vec()))
    }

    fn scan(&self, table: Table, start: &str, each: &mut dyn FnMut(&str, &[u8]) -> Result<bool>) -> Result<()> {
        scan_table(&self.open_table(table)?, start, each)
    }
}

fn scan_table(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    start: &str,
    each: &mut dyn FnMut(&str, &[u8]) -> Result<bool>,
) -> Result<()> {
    for record in table.range(start..)? {
        let (key, value) = record?;
        if !each(key.value(), value.value())? {
            break;
        }
    }
    Ok(())
}

/// Writing.
pub(crate) trait Writing {
    fn put(&self, table: Table, key: &str, value: &[u8]) -> Result<()>;
    fn put_json<T: Serialize>(&self, table: Table, key: &str, value: &T) -> Result<()>;
    /// Removes a record; says whether there was one.
    fn remove(&self, table: Table, key: &str) -> Result<bool>;
}

impl Writing for WriteTransaction {
    fn put(&self, table: Table, key: &str, value: &[u8]) -> Result<()> {
        self.open_table(table)?.insert(key, value)?;
        Ok(())
    }

    fn put_json<T: Serialize>(&self, table: Table, key: &str, value: &T) -> Result<()> {
        let bytes = serde_json::to_vec(value).map_err(|source| Error::Record { key: key.to_owned(), source })?;
        self.put(table, key, &bytes)
    }

    fn remove(&self, table: Table, key: &str) -> Result<bool> {
        Ok(self.open_table(table)?.remove(key)?.is_some())
    }
}
