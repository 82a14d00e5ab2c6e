//! Layers: each is unpacked once, on its own, into a directory in overlay format.
//!
//! Nothing of a layer depends on the layers below it, so those of one image unpack in parallel and in any order. The
//! bytes flow once:
//!
//! ```text
//!  caller: bytes as they come ─► SHA-256 ─► blob file
//!             └─► [queue] ─► inflate ─► SHA-256 (diff id) ─► [queue] ─► tar entries ─► layers/unpacking/<n>/fs
//! ```
//!
//! and only when both digests are right does the layer get its place and its record. The queues are short, so memory
//! does not grow with the layer, and whoever is slow slows the others down.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread::JoinHandle;

use oci::digest::Digest;
use oci::{Descriptor, media_type};

use crate::content::BlobFile;
use crate::db::{self, LayerRecord, Reading, Writing};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::pipe::{self, PipeWriter};
use crate::store::{Inner, Store};
use crate::unpack::{self, Unpacked};

/// A layer that is unpacked and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of its plain tar.
    pub diff_id: Digest,
    /// Size of its files as Docker counts, in bytes.
    pub size: u64,
    /// Length of its plain tar in bytes.
    pub tar_size: u64,
    /// The blob that it came as (media type, digest, length), if it was kept.
    pub blob: Option<Descriptor>,
}

impl Layer {
    fn new(diff_id: Digest, record: LayerRecord) -> Self {
        Self { diff_id, size: record.size, tar_size: record.tar_size, blob: record.blob }
    }
}

impl Store {
    /// Looks for a layer, and holds it (and its blob) under the lease if it is here.
    pub fn layer_hold(&self, lease: &Lease, diff_id: &Digest) -> Result<Option<Layer>> {
        let mut state = self.0.state();
        let record = self.0.read()?.get_json::<LayerRecord>(db::LAYERS, diff_id.as_str())?;
        if record.is_some() {
            lease.hold(&mut state, diff_id);
        }
        Ok(record.map(|record| Layer::new(diff_id.clone(), record)))
    }

    /// Is this layer here?
    pub fn layer_exists(&self, diff_id: &Digest) -> Result<bool> {
        Ok(self.0.read()?.get(db::LAYERS, diff_id.as_str())?.is_some())
    }

    /// Begins to take in a layer as a registry sends it: write the bytes of the blob, then call
    /// [`LayerIngest::finish`]. Blocking, for a thread of its own. Several may run at once, for the same layer too.
    pub fn layer_ingest(&self, lease: &Lease, blob: &Descriptor, diff_id: &Digest) -> Result<LayerIngest> {
        LayerIngest::begin(&self.0, lease, Some(blob.clone()), Some(diff_id.clone()))
    }

    /// Unpacks a layer from a stream in whatever compression, without keeping the stream.
    ///
    /// With `diff_id`, the content is verified. For layers whose tar can be packed again from their files.
    pub fn unpack_layer(&self, lease: &Lease, diff_id: Option<&Digest>, stream: impl Read + Send) -> Result<Layer> {
        let unpacked = unpack::layer(&self.0, stream)?;
        place(&self.0, lease, unpacked, diff_id, None)
    }

    /// Takes in a root file system or layer as a tar in whatever compression (`docker import`, `docker load`), and
    /// keeps the stream as the layer's blob, so that it can be pushed as it was.
    pub fn layer_import(&self, lease: &Lease, diff_id: Option<&Digest>, mut stream: impl Read) -> Result<Layer> {
        let mut ingest = LayerIngest::begin(&self.0, lease, None, diff_id.cloned())?;
        let mut buffer = vec![0; pipe::CHUNK];
        loop {
            let length = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::Read(error)),
            };
            if ingest.write_all(&buffer[..length]).is_err() {
                // The unpacking side has ended, and finish() says why.
                break;
            }
        }
        ingest.finish()
    }
}

/// A layer on its way in. Dropped before [`LayerIngest::finish`], it leaves nothing behind.
pub struct LayerIngest {
    lease: Lease,
    inner: Arc<Inner>,
    blob: BlobFile,
    expected: Option<Descriptor>,
    diff_id: Option<Digest>,
    /// None once the unpacking side has ended early.
    feed: Option<PipeWriter>,
    /// Why the blob could not be written (a full disk).
    failed: Option<io::Error>,
    /// The first bytes, which tell the compression.
    head: Vec<u8>,
    worker: Option<JoinHandle<Result<Unpacked>>>,
}

impl LayerIngest {
    fn begin(inner: &Arc<Inner>, lease: &Lease, expected: Option<Descriptor>, diff_id: Option<Digest>) -> Result<Self> {
        let mut blob = BlobFile::create(inner)?;
        if let Some(expected) = &expected {
            blob.set_algorithm(expected.digest.algorithm());
        }
        let (feed, stream) = pipe::new();
        let for_worker = Arc::clone(inner);
        let worker = std::thread::Builder::new()
            .name("layer-unpack".into())
            .spawn(move || unpack::layer(&for_worker, stream))
            .map_err(|_| Error::Thread)?;
        Ok(Self {
            lease: lease.clone(),
            inner: Arc::clone(inner),
            blob,
            expected,
            diff_id,
            feed: Some(feed),
            failed: None,
            head: Vec::new(),
            worker: Some(worker),
        })
    }

    /// Verifies what came and gives the layer its place.
    ///
    /// The digest of the blob is checked first: a layer that cannot be unpacked because the registry sent something
    /// else fails with [`Error::WrongDigest`] or [`Error::WrongSize`], not with a complaint about its tar.
    pub fn finish(mut self) -> Result<Layer> {
        let is_whole = self.feed.take().is_some_and(|feed| feed.finish().is_ok());
        let unpacked = match self.worker.take().map(JoinHandle::join) {
            Some(Ok(unpacked)) => unpacked,
            _ => Err(Error::Thread),
        };
        if let Some(error) = self.failed.take() {
            return Err(Error::Write(error));
        }
        // If unpacking ended early, the rest was never hashed: its error is all there is to say.
        let found = self.blob.digester.clone().finish();
        if let Some(expected) = self.expected.as_ref().filter(|_| is_whole || unpacked.is_ok()) {
            if self.blob.size != expected.size {
                let (expected, digest) = (expected.size, expected.digest.clone());
                return Err(Error::WrongSize { digest, expected, found: self.blob.size });
            }
            if found != expected.digest {
                return Err(Error::WrongDigest { expected: expected.digest.clone(), found });
            }
        }
        let unpacked = unpacked?;
        let descriptor = self.expected.take().unwrap_or_else(|| {
            Descriptor::new(media_type_of(&self.head, found == unpacked.diff_id), found, self.blob.size)
        });
        place(&self.inner, &self.lease, unpacked, self.diff_id.as_ref(), Some((self.blob, descriptor)))
    }
}

/// The media type for a stream that came without one.
fn media_type_of(head: &[u8], is_plain: bool) -> &'static str {
    if is_plain {
        media_type::OCI_LAYER
    } else if head.starts_with(&[0x1f, 0x8b]) {
        media_type::OCI_LAYER_GZIP
    } else {
        media_type::OCI_LAYER_ZSTD
    }
}

impl Write for LayerIngest {
    /// Fails early when the layer turns out to be bad or the disk is full; [`LayerIngest::finish`] tells why.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(feed) = self.feed.as_mut() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let written = match self.blob.write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                // Dropping the feed without an end ends the unpacking too.
                self.feed = None;
                let kind = error.kind();
                self.failed = Some(error);
                return Err(kind.into());
            }
        };
        if self.head.len() < 4 {
            self.head.extend(bytes.iter().take(4));
        }
        if let Err(error) = feed.write_all(&bytes[..written]) {
            self.feed = None;
            return Err(error);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for LayerIngest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerIngest").field("blob", &self.blob).finish_non_exhaustive()
    }
}

/// Verifies the diff id, and moves an unpacked layer (and its blob) to where it belongs, with its record.
pub(crate) fn place(
    inner: &Arc<Inner>,
    lease: &Lease,
    unpacked: Unpacked,
    diff_id: Option<&Digest>,
    blob: Option<(BlobFile, Descriptor)>,
) -> Result<Layer> {
    if let Some(expected) = diff_id.filter(|expected| **expected != unpacked.diff_id) {
        return Err(Error::WrongDiffId { expected: expected.clone(), found: unpacked.diff_id.clone() });
    }
    let diff_id = unpacked.diff_id.clone();
    inner.change(|change| {
        lease.hold(change.state, &diff_id);
        let existing: Option<LayerRecord> = change.txn.get_json(db::LAYERS, diff_id.as_str())?;
        let is_new = existing.is_none();
        let mut record =
            existing.unwrap_or(LayerRecord { size: unpacked.size, tar_size: unpacked.tar_size, blob: None });
        if let Some((file, descriptor)) = blob
            && record.blob.is_none()
        {
            let size = file.size;
            file.place(&descriptor.digest)?;
            change.txn.put_json(db::BLOBS, descriptor.digest.as_str(), &size)?;
            record.blob = Some(descriptor);
        }
        change.txn.put_json(db::LAYERS, diff_id.as_str(), &record)?;
        // The last step before the commit: should that fail, the next start finds a directory without a record.
        if is_new {
            unpacked.place(&inner.layer_path(&diff_id))?;
        }
        Ok(Layer::new(diff_id, record))
    })
}
