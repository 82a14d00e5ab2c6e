//! Content by digest: documents inside the database, blobs as files, every byte verified on its way in.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use oci::digest::{Digest, Digester};

use crate::db::{self, Reading, Writing};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::store::{INGEST, Inner, Store};

/// Stored content, to be read.
#[derive(Debug)]
pub struct Blob {
    size: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(File),
    Memory(io::Cursor<Vec<u8>>),
}

impl Blob {
    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::File(file) => file.read(buffer),
            Source::Memory(bytes) => bytes.read(buffer),
        }
    }
}

impl Seek for Blob {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        match &mut self.source {
            Source::File(file) => file.seek(position),
            Source::Memory(bytes) => bytes.seek(position),
        }
    }
}

impl Store {
    /// Length of a blob or document in bytes; None if it is not here.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let txn = self.0.read()?;
        if let Some(document) = txn.get(db::DOCUMENTS, digest.as_str())? {
            return Ok(Some(document.len() as u64));
        }
        txn.get(db::BLOBS, digest.as_str())?.map(|bytes| db::decode(digest.as_str(), &bytes)).transpose()
    }

    /// Opens a blob or document for reading.
    pub fn blob_open(&self, digest: &Digest) -> Result<Blob> {
        if let Some(document) = self.0.read()?.get(db::DOCUMENTS, digest.as_str())? {
            return Ok(Blob { size: document.len() as u64, source: Source::Memory(io::Cursor::new(document)) });
        }
        let path = self.0.blob_path(digest);
        match File::open(&path) {
            Ok(file) => {
                let size = file.metadata().map_err(Error::file("reading", &path))?.len();
                Ok(Blob { size, source: Source::File(file) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoSuchBlob(digest.clone())),
            Err(error) => Err(Error::file("opening", &path)(error)),
        }
    }

    /// All bytes of a blob or document of at most `limit` bytes.
    pub fn blob_read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut blob = self.blob_open(digest)?;
        if blob.size > limit {
            return Err(Error::TooLarge { digest: digest.clone(), size: blob.size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
        blob.read_to_end(&mut bytes).map_err(Error::file("reading", self.0.blob_path(digest)))?;
        Ok(bytes)
    }

    /// Holds existing content under a lease; says whether it is here.
    pub fn blob_hold(&self, lease: &Lease, digest: &Digest) -> Result<bool> {
        let mut state = self.0.state();
        let found = self.blob_size(digest)?.is_some();
        if found {
            lease.hold(&mut state, digest);
        }
        Ok(found)
    }

    /// Keeps a small document (a configuration, manifest or index) under its SHA-256.
    pub fn blob_put(&self, lease: &Lease, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.0.change(|change| {
            change.txn.put(db::DOCUMENTS, digest.as_str(), bytes)?;
            lease.hold(change.state, &digest);
            Ok(())
        })?;
        Ok(digest)
    }

    /// Begins to write a blob whose bytes come piece by piece.
    pub fn ingest(&self, lease: &Lease) -> Result<Ingest> {
        Ok(Ingest { lease: lease.clone(), file: BlobFile::create(&self.0)? })
    }
}

/// A blob that is being written under a lease. Dropped before [`Ingest::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Ingest {
    lease: Lease,
    file: BlobFile,
}

impl Ingest {
    /// Verifies the content and puts it in place under its SHA-256. Returns its digest and length.
    pub fn finish(self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        let Self { lease, file } = self;
        let inner = Arc::clone(&file.inner);
        let (digest, size) = (file.digester.clone().finish(), file.size);
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(Error::WrongDigest { expected: expected.clone(), found: digest });
        }
        inner.change(|change| {
            file.place(&digest)?;
            change.txn.put_json(db::BLOBS, digest.as_str(), &size)?;
            lease.hold(change.state, &digest);
            Ok(())
        })?;
        Ok((digest, size))
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file in `blobs/ingest` that is hashed while it is written.
pub(crate) struct BlobFile {
    pub(crate) inner: Arc<Inner>,
    path: PathBuf,
    file: File,
    pub(crate) digester: Digester,
    pub(crate) size: u64,
    placed: bool,
    /// A write failed: what is here is not what was meant.
    broken: bool,
}

impl BlobFile {
    pub(crate) fn create(inner: &Arc<Inner>) -> Result<Self> {
        let path = inner.root.join(INGEST).join(inner.unique());
        let file = File::create_new(&path).map_err(Error::file("creating", &path))?;
        Ok(Self {
            inner: Arc::clone(inner),
            path,
            file,
            digester: Digester::sha256(),
            size: 0,
            placed: false,
            broken: false,
        })
    }

    /// Uses another hash function than SHA-256; before the first byte.
    pub(crate) fn set_algorithm(&mut self, algorithm: oci::digest::Algorithm) {
        self.digester = Digester::new(algorithm);
    }

    /// Moves the file to where its digest says. Behind the gate.
    pub(crate) fn place(mut self, digest: &Digest) -> Result<()> {
        if self.broken {
            return Err(Error::file("writing", &self.path)(io::Error::from(io::ErrorKind::WriteZero)));
        }
        let target = self.inner.blob_path(digest);
        fs::rename(&self.path, &target).map_err(Error::file("creating", &target))?;
        self.placed = true;
        Ok(())
    }
}

impl Write for BlobFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.file.write(bytes) {
            Ok(written) => written,
            Err(error) => {
                self.broken |= error.kind() != io::ErrorKind::Interrupted;
                return Err(error);
            }
        };
        self.digester.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for BlobFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobFile").field("path", &self.path).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Drop for BlobFile {
    fn drop(&mut self) {
        if !self.placed {
            // It may already be gone with its directory; there is nobody to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}
