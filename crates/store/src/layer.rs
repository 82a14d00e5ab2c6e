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

use oci::digest::{Algorithm, Digest};
use oci::{Descriptor, media_type};

use crate::arrival::BlobFile;
use crate::compression;
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
    /// Blobs that it is known as, and that were dropped to make room: whoever has them need not be sent them again.
    pub dropped: Vec<Descriptor>,
}

impl Layer {
    fn new(diff_id: Digest, record: LayerRecord) -> Self {
        let LayerRecord { size, tar_size, blob, dropped, .. } = record;
        Self { diff_id, size, tar_size, blob, dropped }
    }
}

impl Store {
    /// Looks for a layer, and holds it (and its blob) under the lease if it is here. One that is known to be damaged is
    /// not: whoever needs it brings it again.
    pub fn layer_hold(&self, lease: &Lease, diff_id: &Digest) -> Result<Option<Layer>> {
        self.hold_if(lease, diff_id, |record| !record.is_damaged)
    }

    /// Holds a layer whose tar is to be read. Of one that is known to be damaged too: whether its tar is still right
    /// is told by the digest when it is read, and where it is, this may be the last copy.
    pub fn layer_source(&self, lease: &Lease, diff_id: &Digest) -> Result<Layer> {
        self.hold_if(lease, diff_id, |_| true)?.ok_or_else(|| Error::NoSuchLayer(diff_id.clone()))
    }

    fn hold_if(&self, lease: &Lease, diff_id: &Digest, is_good: fn(&LayerRecord) -> bool) -> Result<Option<Layer>> {
        let mut state = self.0.state();
        let record = self.0.read()?.get_json::<LayerRecord>(db::LAYERS, diff_id.as_str())?.filter(is_good);
        if let Some(record) = &record {
            lease.hold(&mut state, diff_id);
            record.blobs().for_each(|blob| lease.hold(&mut state, &blob.digest));
        }
        Ok(record.map(|record| Layer::new(diff_id.clone(), record)))
    }

    /// Is this layer here?
    pub fn layer_exists(&self, diff_id: &Digest) -> Result<bool> {
        Ok(self.0.read()?.get(db::LAYERS, diff_id.as_str())?.is_some())
    }

    /// Begins to take in a layer as a registry sends it: write the bytes of the blob from [`LayerIngest::offset`] on, then
    /// call [`LayerIngest::finish`]. Blocking, for a thread of its own. Several may run at once, for the same layer too.
    pub fn layer_ingest(&self, lease: &Lease, blob: &Descriptor, diff_id: &Digest) -> Result<LayerIngest> {
        LayerIngest::begin(&self.0, lease, Some(blob.clone()), Some(diff_id.clone()))
    }

    /// Takes in a root file system or layer as a tar in whatever compression (`docker import`, `docker load`). A
    /// stream in gzip or zstd is kept as the layer's blob, so that it can be pushed as it was; all else is in the files.
    pub fn layer_import(&self, lease: &Lease, diff_id: Option<&Digest>, stream: impl Read) -> Result<Layer> {
        let mut stream = compression::as_layer(stream)?;
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

/// A layer on its way in. Dropped before [`LayerIngest::finish`], it leaves nothing behind but, if the blob was
/// announced, what came of it so far: the next attempt goes on with that.
pub struct LayerIngest {
    lease: Lease,
    inner: Arc<Inner>,
    blob: BlobFile,
    expected: Option<Descriptor>,
    diff_id: Option<Digest>,
    unpacking: Unpacking,
    /// Why the blob could not be written (a full disk).
    failed: Option<io::Error>,
    /// The first bytes, which tell the compression.
    head: Vec<u8>,
}

/// The side that unpacks. Dropped, it is waited for, so that nothing goes on behind the back of who gave up.
struct Unpacking {
    /// None once it has ended early.
    feed: Option<PipeWriter>,
    thread: Option<JoinHandle<Result<Unpacked>>>,
}

impl Unpacking {
    fn begin(inner: &Arc<Inner>, algorithm: Algorithm) -> Result<Self> {
        let (feed, stream) = pipe::new();
        let inner = Arc::clone(inner);
        let thread = std::thread::Builder::new()
            .name("layer-unpack".into())
            .spawn(move || unpack::layer(&inner, stream, algorithm))
            .map_err(|_| Error::Thread)?;
        Ok(Self { feed: Some(feed), thread: Some(thread) })
    }

    /// Hands bytes over. An error says that it has ended.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let feed = self.feed.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        feed.write_all(bytes).inspect_err(|_| self.feed = None)
    }

    /// Waits for its end, which it is told of if `is_whole`; says whether it had all bytes, and what became of them.
    fn end(&mut self, is_whole: bool) -> (bool, Result<Unpacked>) {
        let was_told = self.feed.take().is_some_and(|feed| is_whole && feed.finish().is_ok());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(unpacked)) => (was_told, unpacked),
            _ => (was_told, Err(Error::Thread)),
        }
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        drop(self.end(false));
    }
}

impl LayerIngest {
    fn begin(inner: &Arc<Inner>, lease: &Lease, expected: Option<Descriptor>, diff_id: Option<Digest>) -> Result<Self> {
        let blob = match &expected {
            Some(expected) => BlobFile::expecting(inner, expected)?,
            None => BlobFile::create(inner)?,
        };
        let mut ingest = Self {
            lease: lease.clone(),
            inner: Arc::clone(inner),
            unpacking: Unpacking::begin(inner, algorithm_of(diff_id.as_ref()))?,
            blob,
            expected,
            diff_id,
            failed: None,
            head: Vec::new(),
        };
        ingest.replay()?;
        Ok(ingest)
    }

    /// Unpacks what an earlier attempt left of the blob.
    fn replay(&mut self) -> Result<()> {
        let Self { blob, unpacking, .. } = self;
        blob.replay(|bytes| unpacking.write(bytes).is_ok())
    }

    /// How many bytes of the blob are here already: the next one that is written has this offset. All of them, if an
    /// earlier attempt ended between the last byte and [`LayerIngest::finish`].
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.blob.size
    }

    /// Verifies what came and gives the layer its place.
    ///
    /// The digest of the blob is checked first: a layer that cannot be unpacked because the registry sent something
    /// else fails with [`Error::WrongDigest`] or [`Error::WrongSize`], not with a complaint about its tar.
    pub fn finish(mut self) -> Result<Layer> {
        let unpacked = match self.unpacked() {
            Ok(unpacked) => unpacked,
            Err(error) => {
                // Nothing to go on with: it is another blob than was announced, or the disk is full.
                self.blob.give_up();
                return Err(error);
            }
        };
        let Self { lease, inner, mut blob, expected, head, .. } = self;
        let descriptor = expected.unwrap_or_else(|| {
            let found = blob.digester.clone().finish();
            Descriptor::new(media_type_of(&head, found == unpacked.diff_id), found, blob.size)
        });
        // What it is called does not say whether it is compressed.
        if descriptor.digest == unpacked.diff_id && unpacked.rebuilds {
            blob.give_up();
            return place(&inner, &lease, unpacked, None);
        }
        place(&inner, &lease, unpacked, Some((blob, descriptor)))
    }

    /// What became of the bytes, if the blob is the right one.
    fn unpacked(&mut self) -> Result<Unpacked> {
        let (is_whole, unpacked) = self.unpacking.end(true);
        if let Some(error) = self.failed.take() {
            return Err(Error::Write(error));
        }
        // If unpacking ended early, the rest was never hashed: its error is all there is to say.
        if let Some(expected) = self.expected.as_ref().filter(|_| is_whole || unpacked.is_ok()) {
            self.blob.verify(expected)?;
        }
        let unpacked = unpacked?;
        check_diff_id(&unpacked, self.diff_id.as_ref())?;
        Ok(unpacked)
    }
}

/// Is a layer with this media type not compressed?
pub(crate) fn is_plain(media_type: &str) -> bool {
    matches!(media_type, media_type::OCI_LAYER | media_type::DOCKER_LAYER)
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
        if self.unpacking.feed.is_none() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = match self.blob.write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                // Dropping the feed without an end ends the unpacking too.
                self.unpacking.feed = None;
                let kind = error.kind();
                self.failed = Some(error);
                return Err(kind.into());
            }
        };
        if self.head.len() < 4 {
            self.head.extend(bytes.iter().take(4));
        }
        self.unpacking.write(&bytes[..written])?;
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

/// What a layer is to be hashed with: its diff id says, and in its absence it is SHA-256.
fn algorithm_of(diff_id: Option<&Digest>) -> Algorithm {
    diff_id.map_or(Algorithm::Sha256, Digest::algorithm)
}

fn check_diff_id(unpacked: &Unpacked, expected: Option<&Digest>) -> Result<()> {
    match expected.filter(|expected| **expected != unpacked.diff_id) {
        Some(expected) => Err(Error::WrongDiffId { expected: expected.clone(), found: unpacked.diff_id.clone() }),
        None => Ok(()),
    }
}

/// Moves an unpacked and verified layer (and its blob) to where it belongs, with its record.
pub(crate) fn place(
    inner: &Arc<Inner>,
    lease: &Lease,
    unpacked: Unpacked,
    blob: Option<(BlobFile, Descriptor)>,
) -> Result<Layer> {
    let diff_id = unpacked.diff_id.clone();
    let placed = inner.change(|change| {
        lease.hold(change.state, &diff_id);
        let existing: Option<LayerRecord> = change.txn.get_json(db::LAYERS, diff_id.as_str())?;
        let is_damaged = existing.as_ref().is_some_and(|record| record.is_damaged);
        let is_new = existing.is_none();
        let mut record = existing.unwrap_or_else(|| LayerRecord {
            size: unpacked.size,
            tar_size: unpacked.tar_size,
            disk_size: 0,
            blob: None,
            gzip: None,
            known: Vec::new(),
            dropped: Vec::new(),
            unsynced: None,
            rebuilds: unpacked.rebuilds,
            is_damaged: false,
        });
        record.is_damaged = false;
        if let Some((file, descriptor)) = blob {
            let size = file.size;
            file.place(&descriptor.digest)?;
            change.txn.put_json(db::BLOBS, descriptor.digest.as_str(), &size)?;
            lease.hold(change.state, &descriptor.digest);
            record.dropped.retain(|dropped| dropped.digest != descriptor.digest);
            if !record.is_known_as(&diff_id, &descriptor.digest) {
                record.known.push(descriptor.digest.clone());
            }
            record.blob.get_or_insert(descriptor);
        }
        if is_new || is_damaged || record.blob.is_some() {
            record.unsynced = Some(inner.unsynced_now());
        }
        change.txn.put_json(db::LAYERS, diff_id.as_str(), &record)?;
        // The last step before the commit: should that fail, the next start finds a directory without a record.
        if is_damaged {
            inner.set_aside(change, &diff_id)?;
        }
        if is_new || is_damaged {
            unpacked.place(&inner.layer_path(&diff_id))?;
        }
        Ok(Layer::new(diff_id, record))
    })?;
    inner.sync_soon();
    Ok(placed)
}
