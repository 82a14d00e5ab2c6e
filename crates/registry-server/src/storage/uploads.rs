//! Uploads: a blob that comes in pieces, over any number of requests to any number of processes.
//!
//! Each request adds one part, and replaces the upload's state by one that names it. The state has the SHA-256 of what
//! came so far, so that nothing is read twice: only a blob that is named by another hash function is read once more when
//! it is complete.

use futures_util::StreamExt;
use oci::digest::{Algorithm, Digest, Digester};

use super::blobs::Link;
use super::error::{Result, StorageError};
use super::objects::Part;
use super::record::{Record, UploadState};
use super::sink::Sink;
use super::{Storage, blobs, layout};
use crate::name::Name;

/// Bytes that are read at once when a blob is hashed again.
const READ: usize = 1 << 20;
/// Parts of one blob: as many as object storage allows, and a record of them is still a small document.
pub(crate) const MAX_PARTS: usize = 10_000;

/// An upload that goes on.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) state: UploadState,
}

/// How an upload ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// The blob is stored and visible.
    Stored(Link),
    /// The bytes have this digest, not the one they should have. The upload is gone.
    OtherDigest(Digest),
}

impl Storage {
    /// Begins an upload.
    pub(crate) async fn upload_begin(&self, name: &Name) -> Result<Upload> {
        let id = layout::random_id().map_err(StorageError::file("naming", &layout::upload("new")))?;
        let upload = Upload { id, state: UploadState::new(name.as_str()) };
        self.upload_save(&upload).await?;
        Ok(upload)
    }

    /// Finds an upload of this repository. One that nobody has added to for half of the grace is over: garbage collection
    /// removes it after the whole, and no request lasts longer than the other half.
    pub(crate) async fn upload(&self, name: &Name, id: &str) -> Result<Option<Upload>> {
        let key = layout::upload(id);
        let Some(entry) = self.objects.stat(&key).await?.filter(|entry| self.is_fresh(entry)) else { return Ok(None) };
        let Some(bytes) = self.objects.get(&entry.key).await? else { return Ok(None) };
        let state: UploadState = blobs::document(&key, &bytes)?;
        Ok((state.repository == name.as_str()).then(|| Upload { id: id.to_owned(), state }))
    }

    /// Keeps the state of an upload.
    pub(crate) async fn upload_save(&self, upload: &Upload) -> Result<()> {
        let key = layout::upload(&upload.id);
        let bytes = serde_json::to_vec(&upload.state)
            .map_err(|source| StorageError::Document { key: key.to_string(), source })?;
        self.objects.put_scratch(&key, bytes.into()).await
    }

    /// Gives an upload up. Its parts stay for garbage collection: another request may be making a blob of them just now.
    pub(crate) async fn upload_cancel(&self, id: &str) -> Result<()> {
        self.objects.remove(&layout::upload(id)).await.map(drop)
    }

    /// Begins the next part of an upload.
    pub(crate) async fn upload_part(&self, state: &UploadState) -> Result<Sink> {
        let digester = match state.digester() {
            Some(digester) => digester,
            None => self.hash(&Record { parts: state.parts.clone() }, Algorithm::Sha256).await?,
        };
        Sink::create(&self.objects, digester).await
    }

    /// Verifies what arrived, and stores it as a blob of this repository. `digester` has seen all of it.
    pub(crate) async fn upload_finish(
        &self,
        name: &Name,
        upload: Option<&str>,
        state: UploadState,
        digester: Digester,
        digest: &Digest,
    ) -> Result<Finished> {
        let record = Record { parts: state.parts };
        let found = match digest.algorithm() {
            Algorithm::Sha256 => digester.finish(),
            other => self.hash(&record, other).await?.finish(),
        };
        let finished = if found == *digest {
            Finished::Stored(self.store_blob(name, digest, &record).await?)
        } else {
            Finished::OtherDigest(found)
        };
        if let Some(id) = upload {
            self.upload_cancel(id).await?;
        }
        Ok(finished)
    }

    /// Reads all parts.
    async fn hash(&self, record: &Record, algorithm: Algorithm) -> Result<Digester> {
        let mut digester = Digester::new(algorithm);
        for (key, range) in record.slices(&(0..record.size())) {
            match self.objects.open_part(&key, range).await? {
                Part::File(mut file) => {
                    let hashed = tokio::task::spawn_blocking(move || {
                        let mut buffer = vec![0; READ];
                        loop {
                            match std::io::Read::read(&mut file, &mut buffer)? {
                                0 => return Ok(digester),
                                n => digester.update(&buffer[..n]),
                            }
                        }
                    });
                    digester = hashed
                        .await
                        .map_err(std::io::Error::other)
                        .flatten()
                        .map_err(StorageError::file("reading", &key))?;
                }
                Part::Stream(mut stream) => {
                    while let Some(bytes) = stream.next().await {
                        let bytes = bytes?;
                        let hashed = tokio::task::spawn_blocking(move || {
                            digester.update(&bytes);
                            digester
                        });
                        digester = hashed
                            .await
                            .map_err(|error| StorageError::file("reading", &key)(std::io::Error::other(error)))?;
                    }
                }
            }
        }
        Ok(digester)
    }
}
