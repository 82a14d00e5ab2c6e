//! Blobs on their way in: written, hashed, and kept for the next attempt if they break off.
//!
//! ```text
//! blobs/ingest/<n>        its digest is not known yet: gone with whoever writes it
//! blobs/partial/<hex>     announced by its digest: what came stays when the transfer, the engine or the machine stops
//! ```
//!
//! Nothing is believed of what an earlier attempt left: it is read and hashed again, and only the whole counts. A blob
//! that turns out to be another than announced is removed, so that the next attempt begins anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use oci::Descriptor;
use oci::digest::{Digest, Digester};

use crate::error::{Error, Result};
use crate::pipe;
use crate::store::{INGEST, Inner, PARTIAL, Store, blob_name};

/// Less than this is sooner fetched again than found again, in bytes.
const WORTH_KEEPING: u64 = 64 << 10;
/// A part that nobody asked for in so long is given up.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A file that is hashed while it is written.
pub(crate) struct BlobFile {
    pub(crate) inner: Arc<Inner>,
    path: PathBuf,
    file: File,
    pub(crate) digester: Digester,
    /// Bytes written and hashed.
    pub(crate) size: u64,
    /// The name in [`PARTIAL`] that is ours as long as this lives.
    claim: Option<Claim>,
    placed: bool,
    /// What is here is not what was meant: a write failed, or the digest is another.
    broken: bool,
}

/// The right to write one file of [`PARTIAL`].
struct Claim {
    inner: Arc<Inner>,
    name: String,
}

impl Claim {
    /// None: somebody else has it.
    fn new(inner: &Arc<Inner>, name: String) -> Option<Self> {
        let mut arriving = inner.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        arriving.insert(name.clone()).then(|| Self { inner: Arc::clone(inner), name })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner.arriving.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl BlobFile {
    /// A new file, in SHA-256.
    pub(crate) fn create(inner: &Arc<Inner>) -> Result<Self> {
        let path = inner.root.join(INGEST).join(inner.unique());
        let file = File::create_new(&path).map_err(Error::file("creating", &path))?;
        Ok(Self::new(inner, path, file, Digester::sha256(), None))
    }

    /// The file of an announced blob, at its beginning: see [`BlobFile::replay`]. While another ingest of the same blob
    /// goes on this one writes its own file, of which nothing stays.
    pub(crate) fn expecting(inner: &Arc<Inner>, blob: &Descriptor) -> Result<Self> {
        let digester = Digester::new(blob.digest.algorithm());
        let Some(claim) = Claim::new(inner, blob_name(&blob.digest)) else {
            let mut file = Self::create(inner)?;
            file.digester = digester;
            return Ok(file);
        };
        let path = inner.root.join(PARTIAL).join(&claim.name);
        let failed = Error::file::<io::Error>("opening", &path);
        let open = || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            if file.metadata()?.len() > blob.size {
                file.set_len(0)?;
            }
            Ok(file)
        };
        let file = open().map_err(failed)?;
        Ok(Self::new(inner, path, file, digester, Some(claim)))
    }

    fn new(inner: &Arc<Inner>, path: PathBuf, file: File, digester: Digester, claim: Option<Claim>) -> Self {
        Self { inner: Arc::clone(inner), path, file, digester, size: 0, claim, placed: false, broken: false }
    }

    /// Hashes what an earlier attempt left, and shows it to `each` piece by piece until that says `false`.
    pub(crate) fn replay(&mut self, mut each: impl FnMut(&[u8]) -> bool) -> Result<()> {
        if self.claim.is_none() {
            return Ok(());
        }
        let failed = |error: io::Error| Error::file("reading", &self.path)(error);
        let mut buffer = vec![0; pipe::CHUNK];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    self.digester.update(&buffer[..length]);
                    self.size += length as u64;
                    if !each(&buffer[..length]) {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Says that this is no beginning of anything: nothing of it is kept.
    pub(crate) fn give_up(&mut self) {
        self.broken = true;
    }

    /// Checks that all of the announced blob is here, and nothing else.
    pub(crate) fn verified(mut self, expected: &Descriptor) -> Result<Self> {
        match self.verify(expected) {
            Ok(()) => Ok(self),
            Err(error) => {
                self.give_up();
                Err(error)
            }
        }
    }

    /// As [`BlobFile::verified`], for a file that is needed further.
    pub(crate) fn verify(&self, expected: &Descriptor) -> Result<()> {
        let found = self.digester.clone().finish();
        if self.size != expected.size {
            let (digest, size) = (expected.digest.clone(), expected.size);
            return Err(Error::WrongSize { digest, expected: size, found: self.size });
        }
        if found != expected.digest {
            return Err(Error::WrongDigest { expected: expected.digest.clone(), found });
        }
        Ok(())
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

    fn is_worth_keeping(&self) -> bool {
        self.claim.is_some() && !self.broken && self.size >= WORTH_KEEPING
    }
}

impl Write for BlobFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.file.write(bytes) {
            Ok(written) => written,
            Err(error) => {
                // On a full disk the room is worth more than what came.
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
        if !self.placed && !self.is_worth_keeping() {
            // It may already be gone with its directory; there is nobody to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Store {
    /// Removes what broken transfers left, but for those that go on now. Returns how many bytes that freed.
    pub fn partials_remove(&self) -> u64 {
        let mut freed = 0;
        for (name, size) in self.0.partials() {
            let path = self.0.root.join(PARTIAL).join(&name);
            // As long as the claim is held nobody begins to write here.
            let Some(_claim) = Claim::new(&self.0, name) else { continue };
            if fs::remove_file(path).is_ok() {
                freed += size;
            }
        }
        freed
    }
}

impl Inner {
    /// What is in [`PARTIAL`]: names and lengths in bytes.
    fn partials(&self) -> Vec<(String, u64)> {
        let Ok(entries) = fs::read_dir(self.root.join(PARTIAL)) else { return Vec::new() };
        let look = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.len()));
        entries.flatten().filter_map(look).collect()
    }
}

/// Is a file of [`PARTIAL`] too old for anybody to come back for it? Old enough is also what has no time.
pub(crate) fn is_given_up(path: &Path) -> bool {
    let age = fs::metadata(path)
        .and_then(|found| found.modified())
        .ok()
        .and_then(|then| SystemTime::now().duration_since(then).ok());
    age.is_none_or(|age| age > MAX_AGE)
}
