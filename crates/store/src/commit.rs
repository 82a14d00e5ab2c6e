//! Making a layer of what a container changed, and giving layers back as tar streams.
//!
//! A committed layer is packed, hashed and unpacked again in one go, so it takes its place like any other. No tar is
//! kept: it is put together again from the files and what was recorded beside them (see `skeleton`), and its digest
//! is compared whenever that is done.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use oci::digest::{Digest, Digester};
use oci::{Descriptor, media_type};
use rustix::fs::OFlags;

use crate::arrival::BlobFile;
use crate::changes::{ChangeKind, PathChange};
use crate::compression;
use crate::db::{self, LayerRecord, Reading, Writing};
use crate::error::{Error, Result};
use crate::gzip::gzip_watched;
use crate::implied;
use crate::layer::{self, Layer, is_plain};
use crate::lease::Lease;
use crate::merge;
use crate::overlay::Marks;
use crate::pack::{Packer, Plan};
use crate::pipe::{self, PipeReader, PipeWriter};
use crate::skeleton::Rebuilt;
use crate::store::{Inner, Store, UNPACKING};
use crate::tree::{self, CleanPath};
use crate::unpack::{self, Unpacked};

/// Length of an empty tar, in bytes.
const EMPTY_TAR: u64 = 1024;

impl Layer {
    /// Is there nothing in it? An image gets no layer then, only a step in its history.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tar_size <= EMPTY_TAR && self.size == 0
    }
}

impl Store {
    /// Makes a layer of what the container changed.
    pub fn snapshot_commit(&self, lease: &Lease, container: &str) -> Result<Layer> {
        let record = self.0.snapshot_record(container)?;
        let upper = self.0.snapshot_path(container).join("fs");
        let upper = tree::open_root(&upper).map_err(Error::file("opening", &upper))?;
        let stream = if record.is_copy {
            pack_changes(upper, self.changes(container, true)?)
        } else {
            let lower = self.0.lower_dirs(&record);
            let lower = lower.iter().map(|path| tree::open_root(path).map_err(Error::file("opening", path)));
            pack_layer(upper, lower.collect::<Result<Vec<_>>>()?, self.0.marks)
        };
        let unpacked = stream.unpack(&self.0)?;
        // What vanishes while it is read is left out, as with any other file; of a container that is removed meanwhile
        // that may be anything. Its record goes before its files.
        self.0.snapshot_record(container)?;
        layer::place(&self.0, lease, unpacked, None)
    }

    /// Makes one layer of several, given from the lowest up. With `has_below` there are others below them, of which the
    /// new one hides what they hid.
    pub fn layers_squash(&self, lease: &Lease, layers: &[Digest], has_below: bool) -> Result<Layer> {
        for layer in layers {
            self.layer_source(lease, layer)?;
            // What is made of its files would look sound.
            self.layer_hold(lease, layer)?.ok_or_else(|| Error::DamagedLayer(layer.clone()))?;
        }
        let scratch = Scratch::create(&self.0)?;
        let dirs: Vec<PathBuf> = self.0.layer_dirs(layers).into_iter().rev().collect();
        let implied = merge::fill(&scratch.path, &dirs, self.0.marks, has_below)?;
        let root = tree::open_root(&scratch.path).map_err(Error::file("opening", &scratch.path))?;
        let unpacked = pack_merged(root, implied, has_below, self.0.marks).unpack(&self.0)?;
        layer::place(&self.0, lease, unpacked, None)
    }

    /// The plain tar of a layer, to be read to its end: an error there says that it is not what its digest says.
    pub fn layer_tar(&self, diff_id: &Digest) -> Result<Box<dyn Read + Send>> {
        let record: Option<LayerRecord> = self.0.read()?.get_json(db::LAYERS, diff_id.as_str())?;
        let record = record.ok_or_else(|| Error::NoSuchLayer(diff_id.clone()))?;
        // From the files it is faster: nothing has to be inflated.
        let stream: Box<dyn Read + Send> = match record.blobs().next() {
            Some(blob) if !record.rebuilds => compression::plain(self.blob_open(&blob.digest)?)?,
            _ => Box::new(self.0.rebuilt(diff_id)?),
        };
        Ok(Box::new(Verifying::new(stream, diff_id.clone())))
    }

    /// The layer as a blob in gzip, which every registry takes. That is the one it came as, or one that was made before;
    /// otherwise it is compressed now, and kept for the next time. Then `made` sees its bytes while they are made, each
    /// time with the number of bytes of the tar that were read so far.
    pub fn layer_blob(&self, lease: &Lease, diff_id: &Digest, made: impl FnMut(&[u8], u64)) -> Result<Descriptor> {
        self.layer_source(lease, diff_id)?;
        let record: Option<LayerRecord> = self.0.read()?.get_json(db::LAYERS, diff_id.as_str())?;
        let known = record.iter().flat_map(LayerRecord::blobs).find(|blob| blob.media_type.ends_with("gzip"));
        if let Some(known) = known {
            return Ok(known.clone());
        }
        let mut file = BlobFile::create(&self.0)?;
        gzip_watched(self.layer_tar(diff_id)?, &mut file, made)?;
        let digest = file.digester.clone().finish();
        let descriptor = Descriptor::new(media_type::DOCKER_LAYER_GZIP, digest, file.size);
        self.0.change(|change| {
            let record: Option<LayerRecord> = change.txn.get_json(db::LAYERS, diff_id.as_str())?;
            let mut record = record.ok_or_else(|| Error::NoSuchLayer(diff_id.clone()))?;
            // A plain tar, which was kept because it cannot be put together again, is in the new blob.
            let is_other = record.blob.as_ref().is_some_and(|blob| !is_plain(&blob.media_type));
            *(if is_other { &mut record.gzip } else { &mut record.blob }) = Some(descriptor.clone());
            record.dropped.retain(|dropped| dropped.digest != descriptor.digest);
            record.unsynced = Some(self.0.unsynced_now());
            let size = file.size;
            file.place(&descriptor.digest)?;
            lease.hold(change.state, &descriptor.digest);
            change.txn.put_json(db::BLOBS, descriptor.digest.as_str(), &size)?;
            change.txn.put_json(db::LAYERS, diff_id.as_str(), &record)
        })?;
        self.0.sync_soon();
        Ok(descriptor)
    }
}

impl Inner {
    /// The tar of a layer, put together from its files.
    pub(crate) fn rebuilt(&self, diff_id: &Digest) -> Result<Rebuilt> {
        let dir = self.layer_path(diff_id);
        Rebuilt::open(&dir).map_err(Error::file("opening", &dir))
    }
}

/// Packs an overlay's upper directory.
///
/// Overlay marks every new directory as opaque, to save itself looking below. Only those that hide something in the lower
/// directories are written so.
fn pack_layer(dir: OwnedFd, lower: Vec<OwnedFd>, marks: Marks) -> Packing {
    on_a_thread(move |writer| {
        let hides = |path: &[u8]| lower.iter().any(|layer| shows(layer, path));
        let plan = Plan {
            is_layer: true,
            whole_seconds: false,
            is_opaque: &hides,
            marks,
            implied: None,
            one_file_system: false,
        };
        let mut packer = Packer::new(writer, &plan);
        packer.contents(dir.as_fd(), b"")?;
        packer.finish()
    })
}

/// Packs a directory that layers were put into.
fn pack_merged(dir: OwnedFd, implied: BTreeSet<Vec<u8>>, has_below: bool, marks: Marks) -> Packing {
    on_a_thread(move |writer| {
        let is_opaque = |_: &[u8]| has_below;
        let has_root = !implied.contains(implied::ROOT_PATH);
        let implied = Some(&implied).filter(|_| has_below);
        let plan = Plan {
            is_layer: true,
            whole_seconds: false,
            is_opaque: &is_opaque,
            marks,
            implied,
            one_file_system: false,
        };
        let mut packer = Packer::new(writer, &plan);
        if has_root {
            packer.one(dir.as_fd(), b".", b"./")?;
        }
        if has_below && marks.is_opaque(&dir, b".") {
            packer.opaque(b"")?;
        }
        packer.contents(dir.as_fd(), b"")?;
        packer.finish()
    })
}

/// A directory that is gone with the value.
struct Scratch {
    inner: Arc<Inner>,
    path: PathBuf,
}

impl Scratch {
    fn create(inner: &Arc<Inner>) -> Result<Self> {
        let path = inner.root.join(UNPACKING).join(inner.unique());
        fs::create_dir(&path).map_err(Error::file("creating", &path))?;
        Ok(Self { inner: Arc::clone(inner), path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.inner.discard(&self.path);
    }
}

/// Packs what is different in a directory that is a copy of the layers.
fn pack_changes(dir: OwnedFd, changes: Vec<PathChange>) -> Packing {
    on_a_thread(move |writer| {
        let marks = Marks::default();
        let nothing = |_: &[u8]| false;
        let plan = Plan {
            is_layer: true,
            whole_seconds: false,
            is_opaque: &nothing,
            marks,
            implied: None,
            one_file_system: false,
        };
        let mut packer = Packer::new(writer, &plan);
        for change in changes {
            let path = change.path.as_os_str().as_bytes();
            let path = path.strip_prefix(b"/").unwrap_or(path);
            if change.kind == ChangeKind::Deleted {
                packer.removed(path)?;
                continue;
            }
            let clean = CleanPath::new(path).unwrap_or_default();
            let (parent, name) = clean.split();
            let parent = tree::open_in_root(&dir, parent, OFlags::PATH | OFlags::DIRECTORY);
            packer.one(parent.map_err(Error::entry("open", &change.path))?.as_fd(), name, path)?;
        }
        packer.finish()
    })
}

/// A layer that is packed on a thread of its own.
struct Packing {
    stream: PipeReader,
    thread: std::io::Result<JoinHandle<Result<()>>>,
}

fn on_a_thread(pack: impl FnOnce(PipeWriter) -> Result<PipeWriter> + Send + 'static) -> Packing {
    let (writer, stream) = pipe::new();
    let work = move || pack(writer)?.finish().map_err(Error::Write);
    Packing { stream, thread: std::thread::Builder::new().name("layer-pack".into()).spawn(work) }
}

impl Packing {
    /// Unpacks it again meanwhile, to where layers are.
    fn unpack(self, inner: &Arc<Inner>) -> Result<Unpacked> {
        let thread = self.thread.map_err(|_| Error::Thread)?;
        let unpacked = unpack::plain_layer(inner, self.stream);
        match thread.join().map_err(|_| Error::Thread)? {
            // Nobody took what it packed: the other side failed, and says why.
            Ok(()) | Err(Error::Write(_)) => unpacked,
            Err(error) => Err(error),
        }
    }
}

/// Is there something at this path in a layer? A whiteout counts: hiding what is hidden does no harm.
fn shows(layer: &OwnedFd, path: &[u8]) -> bool {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(layer, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS).is_ok()
}

/// Checks at the end of a stream that it was what its digest says.
pub(crate) struct Verifying<R> {
    stream: R,
    digester: Option<Digester>,
    expected: Digest,
}

impl<R: Read> Verifying<R> {
    pub(crate) fn new(stream: R, expected: Digest) -> Self {
        let digester = Some(Digester::new(expected.algorithm()));
        Self { stream, digester, expected }
    }
}

impl<R: Read> Read for Verifying<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        if let Some(digester) = &mut self.digester {
            digester.update(&buffer[..length]);
        }
        if length == 0
            && !buffer.is_empty()
            && let Some(found) = self.digester.take().map(Digester::finish)
            && found != self.expected
        {
            let error = Error::WrongDiffId { expected: self.expected.clone(), found };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(length)
    }
}
