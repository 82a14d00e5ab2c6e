//! Writing a part: bytes are hashed and written on blocking threads, while the next ones come in.
//!
//! ```text
//! body ──pieces──► batch ──(one batch in work)──► blocking thread: hash, then write(2)      a directory
//!                                                 blocking thread: hash ─► upload of parts  object storage
//! ```
//! At most two batches of an upload are in memory, and a thread is held only while there is work: a client that stalls
//! holds none.

use bytes::Bytes;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use oci::digest::Digester;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

use super::error::{Result, StorageError};
use super::objects::Objects;
use super::record::Part;
use super::{files, layout};

/// Bytes that go to a thread at once.
const BATCH: usize = 512 << 10;
/// Bytes of one part of a multipart upload; object storage wants at least 5 MiB, and 10,000 of them are the most.
const REMOTE_PART: usize = 8 << 20;

/// A part that is being written. Dropped before [`Sink::finish`], it leaves no file behind.
pub(crate) struct Sink {
    id: String,
    key: Path,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    size: u64,
    work: Work,
}

/// What is with this task, or with a thread.
enum Work {
    Idle(Box<Writer>),
    Busy(JoinHandle<(Box<Writer>, io::Result<()>)>),
    /// An earlier step failed.
    Broken,
}

struct Writer {
    digester: Digester,
    target: Target,
}

enum Target {
    File(UnfinishedFile),
    Remote(Box<BufWriter>),
}

/// A file that is removed unless it is complete.
struct UnfinishedFile {
    file: File,
    path: Option<PathBuf>,
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // What cannot be removed now is garbage like any other part that nothing refers to.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Sink {
    /// Begins a part. `digester` has seen what came before it.
    pub(crate) async fn create(objects: &Objects, digester: Digester) -> Result<Self> {
        let id = layout::random_id().map_err(StorageError::file("naming", &Path::from(layout::DATA)))?;
        let key = layout::data(&id);
        let target = match objects.file(&key) {
            Some(path) => {
                let created = tokio::task::spawn_blocking(move || create_file(path)).await;
                Target::File(created.map_err(io::Error::other).flatten().map_err(StorageError::file("creating", &key))?)
            }
            None => {
                let writer = BufWriter::with_capacity(objects.remote(), key.clone(), REMOTE_PART);
                Target::Remote(Box::new(writer.with_max_concurrency(2)))
            }
        };
        let work = Work::Idle(Box::new(Writer { digester, target }));
        Ok(Self { id, key, pending: Vec::new(), pending_bytes: 0, size: 0, work })
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Adds bytes; waits when a batch is full and the one before it is still in work.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.size += bytes.len() as u64;
        self.pending_bytes += bytes.len();
        self.pending.push(bytes);
        if self.pending_bytes >= BATCH { self.flush().await } else { Ok(()) }
    }

    /// Hands what is pending over.
    async fn flush(&mut self) -> Result<()> {
        let mut writer = self.idle().await?;
        let batch = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if let Target::Remote(remote) = &mut writer.target {
            for bytes in &batch {
                remote.put(bytes.clone()).await.map_err(StorageError::object("writing", &self.key))?;
            }
        }
        self.work = Work::Busy(tokio::task::spawn_blocking(move || {
            let outcome = writer.take(&batch);
            (writer, outcome)
        }));
        Ok(())
    }

    /// The writer, when its work is done.
    async fn idle(&mut self) -> Result<Box<Writer>> {
        let failed = |error| StorageError::file("writing", &self.key)(error);
        match std::mem::replace(&mut self.work, Work::Broken) {
            Work::Idle(writer) => Ok(writer),
            Work::Busy(handle) => {
                let (writer, outcome) = handle.await.map_err(|error| failed(io::Error::other(error)))?;
                outcome.map_err(failed)?;
                Ok(writer)
            }
            Work::Broken => Err(failed(io::Error::other("an earlier write failed"))),
        }
    }

    /// Gives the part up, and tells object storage so.
    pub(crate) async fn abort(mut self) {
        if let Ok(writer) = self.idle().await
            && let Target::Remote(mut remote) = writer.target
            && let Err(error) = remote.abort().await
        {
            // The rule of the bucket that removes unfinished uploads does it later.
            tracing::warn!(%error, key = %self.key, "giving an unfinished part up");
        }
    }

    /// Completes the part: its bytes are with the storage when this returns. The digester has seen them.
    pub(crate) async fn finish(mut self) -> Result<(Part, Digester)> {
        self.flush().await?;
        let writer = *self.idle().await?;
        if self.size == 0 {
            // Nothing needs no object: the file goes with the writer.
            return Ok((Part { id: self.id, size: 0 }, writer.digester));
        }
        match writer.target {
            Target::File(unfinished) => {
                let synced = tokio::task::spawn_blocking(move || complete(unfinished)).await;
                synced.map_err(io::Error::other).flatten().map_err(StorageError::file("writing", &self.key))?;
            }
            Target::Remote(mut remote) => {
                remote.shutdown().await.map_err(StorageError::file("writing", &self.key))?;
            }
        }
        Ok((Part { id: self.id, size: self.size }, writer.digester))
    }
}

impl Writer {
    /// Hashes a batch, and writes it where that is a file.
    fn take(&mut self, batch: &[Bytes]) -> io::Result<()> {
        for bytes in batch {
            self.digester.update(bytes);
            if let Target::File(unfinished) = &mut self.target {
                unfinished.file.write_all(bytes)?;
            }
        }
        Ok(())
    }
}

fn create_file(path: PathBuf) -> io::Result<UnfinishedFile> {
    Ok(UnfinishedFile { file: files::create(&path, true)?, path: Some(path) })
}

fn complete(mut unfinished: UnfinishedFile) -> io::Result<()> {
    unfinished.file.sync_data()?;
    if let Some(path) = &unfinished.path {
        files::sync_parent(path)?;
    }
    unfinished.path = None;
    Ok(())
}
