//! One blob into a repository: is it there, can it be taken from another repository, else send it.
//!
//! ```text
//! HEAD  blobs/<digest>                                   200: there already
//! POST  blobs/uploads/?mount=<digest>&from=<repository>  201: taken from there; 202: an upload, as below
//! POST  blobs/uploads/                                   202: Location
//! PUT   <Location>?digest=<digest>                       201: sent in one piece, streamed from the disk
//! ```

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use oci::digest::Digest;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Method, StatusCode, Url};
use store::Store;
use tokio::sync::mpsc;

use crate::Options;
use crate::error::{Error, Result};
use crate::progress::{LayerProgress, LayerStatus};
use crate::remote::Remote;
use crate::transport::{Request, Response};

/// Bytes read from the disk at once.
const PIECE: usize = 256 << 10;
/// Pieces between disk and socket.
const QUEUE: usize = 4;

/// What became of an attempt to mount.
pub(crate) enum Mount {
    /// The blob is in the repository now.
    Mounted,
    /// The registry began an upload instead.
    Upload(Url),
}

impl Remote {
    /// Is this blob in the repository?
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let response = self.send(Request::new(Method::HEAD, self.repository_url(&format!("blobs/{digest}"))?)).await?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(response.into_error().await),
        }
    }

    /// Asks the registry to take a blob from another of its repositories.
    pub(crate) async fn mount(&self, digest: &Digest, from: &str) -> Result<Mount> {
        self.also_pull(from);
        let mut url = self.repository_url("blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
        let response = self.send(empty_post(url)).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Mount::Mounted),
            _ => Ok(Mount::Upload(location(&response.success().await?)?)),
        }
    }

    /// Begins an upload: where to send the blob.
    pub(crate) async fn begin_upload(&self) -> Result<Url> {
        let response = self.send(empty_post(self.repository_url("blobs/uploads/")?)).await?;
        location(&response.success().await?)
    }

    /// Sends a small blob.
    pub(crate) async fn put_bytes(&self, digest: &Digest, bytes: Vec<u8>) -> Result<()> {
        let mut request = put(self.begin_upload().await?, digest);
        request.body = Some(bytes.into());
        self.send(request).await?.success().await.map(drop)
    }

    /// Sends a blob from the store. `target` is where an earlier answer said, if one did.
    pub(crate) async fn put_blob(
        &self,
        options: &Options,
        store: &Store,
        digest: &Digest,
        target: Option<Url>,
        progress: &Arc<LayerProgress>,
    ) -> Result<()> {
        let url = match target {
            Some(url) => url,
            None => self.begin_upload().await?,
        };
        let (opened, wanted) = (store.clone(), digest.clone());
        let blob = crate::pull::blocking(move || Ok(opened.blob_open(&wanted)?)).await?;
        let size = blob.size();
        let clock = Arc::new(Clock::default());
        let mut request = put(url, digest).header(CONTENT_LENGTH, HeaderValue::from(size));
        request.body = Some(body(blob, size, Arc::clone(&clock), Arc::clone(progress)));
        // The clock below is the limit.
        request.wait = Some(Duration::MAX);
        let send = self.send(request);
        tokio::pin!(send);
        loop {
            let limit = if clock.sent() >= size { options.upload_timeout } else { options.stall_timeout };
            let Some(left) = limit.checked_sub(clock.idle()).filter(|left| !left.is_zero()) else {
                return Err(Error::Body("i/o timeout".into()));
            };
            tokio::select! {
                response = &mut send => return response?.success().await.map(drop),
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

fn empty_post(url: Url) -> Request {
    let mut request = Request::new(Method::POST, url).header(CONTENT_LENGTH, HeaderValue::from(0));
    request.body = Some(Vec::new().into());
    request
}

fn put(mut url: Url, digest: &Digest) -> Request {
    // The location has a query of its own, which must stay as it is.
    url.query_pairs_mut().append_pair("digest", digest.as_str());
    Request::new(Method::PUT, url).header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
}

fn location(response: &Response) -> Result<Url> {
    let missing = || Error::Setup("the registry names no location for the upload".into());
    response
        .url()
        .join(response.header("location"))
        .map_err(|_| missing())
        .and_then(|url| if response.header("location").is_empty() { Err(missing()) } else { Ok(url) })
}

/// When bytes moved last, and how many did.
struct Clock {
    start: Instant,
    moved_ms: AtomicU64,
    sent: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now(), moved_ms: AtomicU64::new(0), sent: AtomicU64::new(0) }
    }
}

impl Clock {
    fn add(&self, bytes: u64) -> u64 {
        self.moved_ms.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn idle(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.moved_ms.load(Ordering::Relaxed)))
    }
}

/// A body that a blocking thread reads from the disk, as fast as the socket takes it.
fn body(mut blob: store::Blob, size: u64, clock: Arc<Clock>, progress: Arc<LayerProgress>) -> Body {
    let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(QUEUE);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let piece = match blob.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                Ok(0) => return,
                Ok(_) => Ok(piece.into()),
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    Body::wrap_stream(stream::unfold(receiver, move |mut receiver| {
        let (clock, progress) = (Arc::clone(&clock), Arc::clone(&progress));
        async move {
            let piece = receiver.recv().await?;
            if let Ok(bytes) = &piece {
                let current = clock.add(bytes.len() as u64);
                progress.count(LayerStatus::Pushing { current, total: size });
            }
            Some((piece, receiver))
        }
    }))
}
