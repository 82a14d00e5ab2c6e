//! Content by digest: documents inside the database, blobs as files, every byte verified on its way in.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use oci::Descriptor;
use oci::digest::{Algorithm, Digest, Digester};

use crate::arrival::BlobFile;
use crate::compression;
use crate::db::{self, LayerRecord, Reading, Writing};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::pipe;
use crate::store::Store;

/// Stored content, to be read.
pub struct Blob {
    size: u64,
    source: Source,
}

enum Source {
    File(File),
    Memory(io::Cursor<Vec<u8>>),
    /// A plain tar, put together from a layer's files.
    Layer(Box<dyn Read + Send>),
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
            Source::Layer(stream) => stream.read(buffer),
        }
    }
}

impl Blob {
    /// Leaves out this many bytes. Of a blob that is put together from files they are read all the same.
    pub fn skip(&mut self, length: u64) -> io::Result<()> {
        match &mut self.source {
            Source::File(file) => file.seek_relative(i64::try_from(length).unwrap_or(i64::MAX)),
            Source::Memory(bytes) => {
                bytes.set_position(bytes.position().saturating_add(length));
                Ok(())
            }
            Source::Layer(stream) => io::copy(&mut stream.take(length), &mut io::sink()).map(drop),
        }
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Store {
    /// Length of a blob or document in bytes; None if it is not here.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let txn = self.0.read()?;
        if let Some(document) = txn.get(db::DOCUMENTS, digest.as_str())? {
            return Ok(Some(document.len() as u64));
        }
        if let Some(size) = txn.get(db::BLOBS, digest.as_str())? {
            return db::decode(digest.as_str(), &size).map(Some);
        }
        let layer = txn.get_json::<LayerRecord>(db::LAYERS, digest.as_str())?;
        Ok(layer.filter(|layer| layer.rebuilds).map(|layer| layer.tar_size))
    }

    /// Opens a blob or document for reading. The plain tar of a layer, whose digest is the diff id, is put together from
    /// its files: reading it fails at the end if those are not what they were.
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let layer: Option<LayerRecord> = self.0.read()?.get_json(db::LAYERS, digest.as_str())?;
                let layer = layer.filter(|layer| layer.rebuilds).ok_or_else(|| Error::NoSuchBlob(digest.clone()))?;
                Ok(Blob { size: layer.tar_size, source: Source::Layer(self.layer_tar(digest)?) })
            }
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

    /// Keeps a small document under the digest that it is to have, of whatever algorithm.
    pub fn blob_put_as(&self, lease: &Lease, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if !digest.verifies(bytes) {
            return Err(Error::WrongDigest { expected: digest.clone(), found: Digest::of(bytes) });
        }
        self.0.change(|change| {
            change.txn.put(db::DOCUMENTS, digest.as_str(), bytes)?;
            lease.hold(change.state, digest);
            Ok(())
        })
    }

    /// Was this blob found to hold this layer?
    pub fn blob_is_known_as(&self, blob: &Digest, diff_id: &Digest) -> Result<bool> {
        let record: Option<LayerRecord> = self.0.read()?.get_json(db::LAYERS, diff_id.as_str())?;
        Ok(record.is_some_and(|record| record.is_known_as(diff_id, blob)))
    }

    /// Does this blob, in whatever compression, hold this layer, which is here? Reads all of it where that is not known
    /// yet.
    pub fn blob_is_layer(&self, blob: &Digest, diff_id: &Digest) -> Result<bool> {
        if self.blob_is_known_as(blob, diff_id)? {
            return Ok(true);
        }
        let is_layer = self.plain_digest(blob, diff_id.algorithm())?.as_ref() == Some(diff_id);
        if is_layer {
            self.0.change(|change| match change.txn.get_json::<LayerRecord>(db::LAYERS, diff_id.as_str())? {
                Some(mut record) => {
                    record.known.push(blob.clone());
                    change.txn.put_json(db::LAYERS, diff_id.as_str(), &record)
                }
                None => Ok(()),
            })?;
        }
        Ok(is_layer)
    }

    /// The digest of what is in a blob; None if it is no compressed stream.
    fn plain_digest(&self, blob: &Digest, algorithm: Algorithm) -> Result<Option<Digest>> {
        let mut digester = Digester::new(algorithm);
        let mut plain = compression::plain(self.blob_open(blob)?)?;
        let mut buffer = vec![0; pipe::CHUNK];
        loop {
            match plain.read(&mut buffer) {
                Ok(0) => return Ok(Some(digester.finish())),
                Ok(length) => digester.update(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(Error::Decompress(error)),
            }
        }
    }

    /// Begins to write a blob whose bytes come piece by piece, and whose digest nobody knows yet.
    pub fn ingest(&self, lease: &Lease) -> Result<Ingest> {
        Ok(Ingest { lease: lease.clone(), file: BlobFile::create(&self.0)?, expected: None })
    }

    /// Begins to write a blob that is announced, or goes on where an earlier attempt broke off: see [`Ingest::offset`].
    pub fn blob_ingest(&self, lease: &Lease, blob: &Descriptor) -> Result<Ingest> {
        let mut file = BlobFile::expecting(&self.0, blob)?;
        file.replay(|_| true)?;
        Ok(Ingest { lease: lease.clone(), file, expected: Some(blob.clone()) })
    }
}

/// A blob that is being written under a lease. Dropped before [`Ingest::finish`], it leaves nothing behind but, if it
/// was announced, what came so far: the next attempt goes on with that.
#[derive(Debug)]
pub struct Ingest {
    lease: Lease,
    file: BlobFile,
    expected: Option<Descriptor>,
}

impl Ingest {
    /// How many bytes are here already: the next one that is written has this offset.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.file.size
    }

    /// Verifies the content and puts it in place. Returns its digest and length.
    pub fn finish(self) -> Result<(Digest, u64)> {
        let Self { lease, file, expected } = self;
        let inner = Arc::clone(&file.inner);
        let (digest, size) = (file.digester.clone().finish(), file.size);
        let file = match expected {
            Some(expected) => file.verified(&expected)?,
            None => file,
        };
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
