//! Content out of a running engine's store: `--from-engine`. Nothing is copied, and nothing can be pushed.
//!
//! ```text
//! tag ──► engine's list of images ──► image id ──► offer: manifests, and which blobs they name
//! blob ──► the file in the engine's store, where it is one; else the engine is asked for its bytes
//! ```
//! The engine's socket is asked, since nobody but the engine opens its database. Images stand under their familiar names
//! (`busybox`, `team/app`); a host with a port is left out, since no repository can be called so.

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use oci::Reference;
use oci::digest::{Algorithm, Digest};
use registry::Offer;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

use crate::body::{self, Body};
use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::route::Target;
use crate::storage::Manifest;
use crate::wire::Outbox;

/// How long an offer is good: an image is pulled again, or loses its name.
const FRESH: Duration = Duration::from_secs(10);
/// Offers that are kept.
const OFFERS: usize = 256;
/// Bytes of a list of images, or of an offer.
const MAX_DOCUMENT: usize = 64 << 20;
/// How long the engine may take to answer; compressing the layers of an image that was made here takes a while.
const PATIENCE: Duration = Duration::from_secs(600);

/// The engine.
pub(crate) struct EngineStore {
    socket: PathBuf,
    /// Its blobs by SHA-256.
    blobs: PathBuf,
    offers: Mutex<HashMap<String, (Instant, Arc<Offer>)>>,
}

/// A blob of the engine.
pub(crate) enum EngineBlob {
    File(File),
    Stream(Incoming),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

/// Images by repository and tag.
type Names = BTreeMap<String, BTreeMap<String, String>>;

impl EngineStore {
    /// Finds the engine that listens here, and where its store is. Fails with the reason.
    pub(crate) async fn open(socket: PathBuf) -> std::result::Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Info {
            docker_root_dir: PathBuf,
        }
        let mut engine = Self { socket, blobs: PathBuf::new(), offers: Mutex::default() };
        let info: Option<Info> = engine.get("/info").await.map_err(|failure| failure.cause.unwrap_or_default())?;
        engine.blobs = info.map(|info| info.docker_root_dir).unwrap_or_default().join("blobs/sha256");
        Ok(engine)
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    async fn send(&self, path: &str) -> Result<Response<Incoming>> {
        let failed = |reason: &dyn std::fmt::Display| {
            let cause = format!("asking the engine at {} for {path}: {reason}", self.socket.display());
            Failure::new(Code::Unavailable).caused_by(cause)
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| failed(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        tokio::spawn(connection);
        let request = Request::get(path).header(HOST, "engine").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| failed(&error))?;
        match tokio::time::timeout(PATIENCE, sender.send_request(request)).await {
            Ok(response) => response.map_err(|error| failed(&error)),
            Err(_) => Err(failed(&"no answer in time")),
        }
    }

    /// A JSON document; None when the engine does not have it.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let response = self.send(path).await?;
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
        let body =
            body.map_err(|error| Failure::internal(format!("the engine's answer to {path}: {error}")))?.to_bytes();
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|error| Failure::internal(format!("the engine's answer to {path}: {error}"))),
            _ => Err(Failure::internal(format!(
                "the engine answers {status} to {path}: {}",
                String::from_utf8_lossy(&body)
            ))),
        }
    }

    /// All names that can be names of repositories.
    async fn names(&self) -> Result<Names> {
        let images: Vec<Image> = self.get("/images/json").await?.unwrap_or_default();
        let mut names = Names::new();
        for image in images {
            for tag in image.repo_tags.into_iter().flatten() {
                let Ok(reference) = tag.parse::<Reference>() else { continue };
                let familiar = reference.familiar_name();
                let name = if reference.domain().contains(':') { reference.path() } else { &familiar };
                if let (Some(name), Some(tag)) = (Name::parse(name), reference.tag()) {
                    names.entry(name.to_string()).or_default().insert(tag.to_owned(), image.id.clone());
                }
            }
        }
        Ok(names)
    }

    /// All repositories, sorted.
    pub(crate) async fn repositories(&self) -> Result<Vec<String>> {
        Ok(self.names().await?.into_keys().collect())
    }

    /// The tags of a repository with their images, sorted; None if there is no such repository.
    pub(crate) async fn tags(&self, name: &Name) -> Result<Option<BTreeMap<String, String>>> {
        let mut names = self.names().await?;
        // What Docker Hub keeps under its own name is known without it.
        let short = name.as_str().strip_prefix("library/").unwrap_or(name.as_str());
        Ok(names.remove(name.as_str()).or_else(|| names.remove(short)))
    }

    async fn offer(&self, id: &str) -> Result<Option<Arc<Offer>>> {
        let known = self.offers.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some((since, offer)) = known
            && since.elapsed() < FRESH
        {
            return Ok(Some(offer));
        }
        let Some(offer) = self.get::<Offer>(&format!("/images/{id}/offer")).await? else { return Ok(None) };
        let offer = Arc::new(offer);
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        if offers.len() >= OFFERS {
            offers.clear();
        }
        offers.insert(id.to_owned(), (Instant::now(), Arc::clone(&offer)));
        Ok(Some(offer))
    }

    /// What stands for the images of a repository.
    async fn offers(&self, name: &Name) -> Result<Vec<Arc<Offer>>> {
        let mut ids: Vec<String> = self.tags(name).await?.unwrap_or_default().into_values().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut offers = Vec::new();
        for id in ids {
            offers.extend(self.offer(&id).await?);
        }
        Ok(offers)
    }

    /// A manifest, by tag or digest.
    pub(crate) async fn manifest(&self, name: &Name, target: &Target) -> Result<Option<Manifest>> {
        let document = match target {
            Target::Tag(tag) => {
                let Some(id) = self.tags(name).await?.and_then(|tags| tags.get(tag).cloned()) else { return Ok(None) };
                self.offer(&id).await?.and_then(|offer| offer.documents.first().cloned())
            }
            Target::Digest(digest) => {
                let offers = self.offers(name).await?;
                offers.iter().flat_map(|offer| &offer.documents).find(|document| document.digest == *digest).cloned()
            }
        };
        Ok(document.map(|document| Manifest { digest: document.digest, bytes: document.text.into() }))
    }

    /// The size of a blob of this repository.
    pub(crate) async fn blob_size(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        let offers = self.offers(name).await?;
        let blob = offers.iter().flat_map(|offer| &offer.blobs).find(|blob| blob.digest == *digest);
        Ok(blob.map(|blob| blob.size))
    }

    /// Opens a blob that is known to be one of a repository; None when it vanished.
    pub(crate) async fn open_blob(&self, digest: &Digest) -> Result<Option<EngineBlob>> {
        if digest.algorithm() == Algorithm::Sha256 {
            let path = self.blobs.join(digest.hex());
            // Small documents are no files, and another user's files cannot be read: the engine is asked then.
            if let Ok(Ok(file)) = tokio::task::spawn_blocking(move || File::open(path)).await {
                return Ok(Some(EngineBlob::File(file)));
            }
        }
        let response = self.send(&format!("/images/blobs/{digest}")).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(EngineBlob::Stream(response.into_body()))),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(Failure::internal(format!("the engine answers {status} to the request for {digest}"))),
        }
    }
}

impl EngineBlob {
    /// These bytes of it.
    pub(crate) fn read(self, range: std::ops::Range<u64>, outbox: Option<Outbox>) -> Body {
        match self {
            Self::File(file) => body::file(file, range, outbox),
            Self::Stream(incoming) => {
                let (mut skip, mut left) = (range.start, range.end - range.start);
                let pieces = incoming.into_data_stream().map(move |piece| {
                    let mut piece = piece.map_err(std::io::Error::other)?;
                    let before = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
                    skip -= before as u64;
                    let mut piece = piece.split_off(before);
                    piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    left -= piece.len() as u64;
                    Ok(piece)
                });
                body::bytes(pieces.boxed())
            }
        }
    }
}
