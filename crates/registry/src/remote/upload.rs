//! One blob into a repository: is it there, can it be taken from another repository, else send it.
//!
//! ```text
//! HEAD  blobs/<digest>                                   200: there already
//! POST  blobs/uploads/?mount=<digest>&from=<repository>  201: taken from there; 202: an upload, as below
//! POST  blobs/uploads/                                   202: Location
//! PUT   <Location>?digest=<digest>                       201: sent in one piece, while it is read
//!
//! GET   <Location>                                       204: Range, how much came before the connection broke
//! PATCH <Location>  Content-Range                        202: a further piece, for the rest or where one is too large
//! PATCH <Location>                                       202: all of it while it is made, of a length that nobody knows
//! PUT   <Location>?digest=<digest>                       201: and the end
//! ```

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use oci::digest::Digest;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Method, StatusCode, Url};
use tokio::sync::{mpsc, oneshot};

use super::transport::{Request, Response};
use super::{Remote, retry};
use crate::error::{Error, Result};

/// What becomes of a piece that was too large for the registry, or for something before it, in bytes.
const CHUNK: u64 = 8 << 20;
/// Pieces between source and socket.
const QUEUE: usize = 2;

/// What became of an attempt to mount.
pub(crate) enum Mount {
    /// The blob is in the repository now.
    Mounted,
    /// The registry began an upload instead.
    Upload(Session),
    /// It does not want to, and that is all that it means.
    Refused,
}

/// An upload that the registry has begun.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    url: Url,
    /// How much of the blob is there, in bytes.
    pub(crate) offset: u64,
    /// Pieces that may not be smaller, in bytes.
    min_chunk: u64,
}

/// The bytes of one request on their way: what a source sends, the connection takes.
pub(crate) struct Pieces {
    queue: mpsc::Receiver<io::Result<Bytes>>,
    wanted: Option<oneshot::Sender<()>>,
}

/// The other end of [`Pieces`].
pub(crate) struct Feeder {
    queue: mpsc::Sender<io::Result<Bytes>>,
    wanted: Option<oneshot::Receiver<()>>,
}

/// A short queue for the body of a request.
pub(crate) fn pieces() -> (Feeder, Pieces) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (want, wanted) = oneshot::channel();
    (Feeder { queue: sender, wanted: Some(wanted) }, Pieces { queue: receiver, wanted: Some(want) })
}

impl Feeder {
    /// Waits until the connection asks for the first piece, and so the request has its place at the host: whoever opens a
    /// source at the same host before would keep that place from it. False: the request has ended.
    pub(crate) async fn is_wanted(&mut self) -> bool {
        match self.wanted.take() {
            Some(wanted) => wanted.await.is_ok(),
            None => !self.queue.is_closed(),
        }
    }

    /// Hands a piece over. False: the request has ended.
    pub(crate) async fn send(&self, piece: Bytes) -> bool {
        self.queue.send(Ok(piece)).await.is_ok()
    }
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
        let mut url = self.repository_url("blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
        let mut request = empty(Method::POST, url).single();
        // The right to read elsewhere is asked for with this request alone: a token server may refuse it.
        request.scope = Some(format!("repository:{from}:pull"));
        let begun = match self.send(request).await {
            Ok(response) if response.status() == StatusCode::CREATED => return Ok(Mount::Mounted),
            Ok(response) => response.success().await.and_then(|response| Session::begun(&response)),
            Err(error @ (Error::Cancelled | Error::Task)) => return Err(error),
            Err(error) => Err(error),
        };
        // What else is wrong the next request will tell.
        Ok(begun.map_or_else(
            |error| {
                tracing::debug!(%error, %digest, from, "not mounted");
                Mount::Refused
            },
            Mount::Upload,
        ))
    }

    /// Begins an upload.
    pub(crate) async fn begin_upload(&self) -> Result<Session> {
        let response = self.send(empty(Method::POST, self.repository_url("blobs/uploads/")?)).await?;
        Session::begun(&response.success().await?)
    }

    /// Sends a small blob, with an upload of its own for each attempt.
    pub(crate) async fn put_bytes(&self, digest: &Digest, bytes: Vec<u8>) -> Result<()> {
        let bytes = Bytes::from(bytes);
        let mut attempt = 1;
        loop {
            let error = match self.try_put_bytes(digest, bytes.clone()).await {
                Err(error) if error.is_transient() && attempt < self.options.attempts => error,
                done => return done,
            };
            tracing::info!(%error, %digest, "upload broke off");
            tokio::time::sleep(retry::delay(&self.options, attempt)).await;
            attempt += 1;
        }
    }

    async fn try_put_bytes(&self, digest: &Digest, bytes: Bytes) -> Result<()> {
        let mut request = self.begin_upload().await?.put(digest).single();
        request.body = Some(bytes.into());
        self.send(request).await?.success().await.map(drop)
    }

    /// Asks how far an upload has come, after its connection broke. None: it is no more, begin anew.
    pub(crate) async fn resume_upload(&self, session: &Session) -> Option<Session> {
        let response = self.send(Request::new(Method::GET, session.url.clone())).await.ok()?;
        if response.status() != StatusCode::NO_CONTENT {
            return None;
        }
        session.moved(&response).filter(|resumed| resumed.offset > 0)
    }

    /// Sends the whole blob with one request.
    pub(crate) async fn put_whole(&self, session: Session, digest: &Digest, size: u64, pieces: Pieces) -> Result<()> {
        let request = session.put(digest).header(CONTENT_LENGTH, HeaderValue::from(size));
        self.send_body(request, Some(size), pieces).await?.0.success().await.map(drop)
    }

    /// Sends a further part of the blob: so many bytes, or as many as come.
    pub(crate) async fn patch(&self, session: Session, length: Option<u64>, pieces: Pieces) -> Result<Session> {
        let mut request = Request::new(Method::PATCH, session.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let start = session.offset;
        if let Some(length) = length {
            let range = format!("{start}-{}", start + length.saturating_sub(1));
            let range = HeaderValue::try_from(range).map_err(|_| Error::Task)?;
            request = request.header(CONTENT_RANGE, range).header(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let (response, length) = self.send_body(request, length, pieces).await?;
        let response = response.success().await?;
        let moved = session.moved(&response).ok_or_else(no_location)?;
        // A registry that kept less than it was sent says so; one that says nothing kept all.
        Ok(Session { offset: if response.header("range").is_empty() { start + length } else { moved.offset }, ..moved })
    }

    /// Ends an upload whose parts are all there.
    pub(crate) async fn finish_upload(&self, session: &Session, digest: &Digest) -> Result<()> {
        // It may have arrived before the connection broke. Then the upload is no more, which its owner finds out.
        let mut request = session.put(digest).header(CONTENT_LENGTH, HeaderValue::from(0)).single();
        request.body = Some(Vec::new().into());
        request.wait = Some(self.options.upload_timeout);
        self.send(request).await?.success().await.map(drop)
    }

    /// Sends a manifest or index under a tag or its digest.
    pub(crate) async fn put_manifest(&self, name: &str, kind: &str, bytes: Vec<u8>) -> Result<()> {
        let url = self.repository_url(&format!("manifests/{name}"))?;
        let kind = HeaderValue::try_from(kind).map_err(|_| Error::Setup(format!("\"{kind}\" is no media type")))?;
        let mut request = Request::new(Method::PUT, url).header(CONTENT_TYPE, kind);
        request.body = Some(bytes.into());
        self.send(request).await?.success().await.map(drop)
    }

    /// Sends a request whose body comes piece by piece, and counts its bytes. What has no limit in all has one between two
    /// pieces.
    async fn send_body(&self, mut request: Request, length: Option<u64>, pieces: Pieces) -> Result<(Response, u64)> {
        let clock = Arc::new(Clock::default());
        let moved = Arc::clone(&clock);
        request.body = Some(Body::wrap_stream(stream::unfold(pieces, move |mut pieces| {
            let moved = Arc::clone(&moved);
            async move {
                // From here on it is the source that is waited for.
                moved.stop();
                if let Some(wanted) = pieces.wanted.take() {
                    let _ = wanted.send(());
                }
                let piece = pieces.queue.recv().await;
                match &piece {
                    Some(Ok(bytes)) => moved.go_on(bytes.len() as u64),
                    Some(Err(_)) => {}
                    None => moved.end(),
                }
                Some((piece?, pieces))
            }
        })));
        // The clock below is the limit.
        request.wait = Some(Duration::MAX);
        let send = self.send(request);
        tokio::pin!(send);
        loop {
            let is_sent = clock.ended() || length.is_some_and(|length| clock.sent() >= length);
            let limit = if is_sent { self.options.upload_timeout } else { self.options.stall_timeout };
            let Some(left) = limit.checked_sub(clock.idle()).filter(|left| !left.is_zero()) else {
                return Err(Error::Body("i/o timeout".into()));
            };
            tokio::select! {
                response = &mut send => {
                    let response = response?;
                    // Told apart from other refusals, since smaller requests may help.
                    if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
                        return Err(Error::too_large_a_request());
                    }
                    // A stream cannot be sent again from here.
                    if let Some(after) = retry::asked(&self.options, &response, 1) {
                        return Err(Error::Busy { after, source: Box::new(response.into_error().await) });
                    }
                    return Ok((response, clock.sent()));
                }
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

impl Session {
    fn begun(response: &Response) -> Result<Self> {
        let min_chunk = response.header("oci-chunk-min-length").parse().unwrap_or(0);
        Ok(Self { url: location(response).ok_or_else(no_location)?, offset: 0, min_chunk })
    }

    /// Where the next request of this upload goes, and how much is there: `Range: 0-99`. An empty upload is `0-0` to
    /// the reference registry, as if one byte were there, so less than two bytes are nothing.
    fn moved(&self, response: &Response) -> Option<Self> {
        let url = if response.header("location").is_empty() { self.url.clone() } else { location(response)? };
        let range = response.header("range");
        let range = range.strip_prefix("bytes=").unwrap_or(range);
        let last: u64 = range.strip_prefix("0-").and_then(|last| last.parse().ok()).unwrap_or(0);
        let offset = if last == 0 { 0 } else { last.checked_add(1)? };
        Some(Self { url, offset, min_chunk: self.min_chunk })
    }

    /// The length of the pieces when the whole is too large for one request.
    pub(crate) fn chunk(&self) -> u64 {
        CHUNK.max(self.min_chunk)
    }

    fn put(&self, digest: &Digest) -> Request {
        let mut url = self.url.clone();
        // The location has a query of its own, which must stay as it is.
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        Request::new(Method::PUT, url).header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
    }
}

fn empty(method: Method, url: Url) -> Request {
    let mut request = Request::new(method, url).header(CONTENT_LENGTH, HeaderValue::from(0));
    request.body = Some(Vec::new().into());
    request
}

fn no_location() -> Error {
    Error::Setup("the registry names no location for the upload".into())
}

fn location(response: &Response) -> Option<Url> {
    let text = response.header("location");
    if text.is_empty() { None } else { response.url().join(text).ok() }
}

/// How long the registry has been waited for, and how many bytes it took. The clock stands while the request waits for
/// its place at the host, and while it waits for its source: neither is a stall of the registry.
#[derive(Default)]
struct Clock {
    running_since: Mutex<Option<Instant>>,
    sent: AtomicU64,
    ended: AtomicBool,
}

impl Clock {
    fn stop(&self) {
        self.set(None);
    }

    fn go_on(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.set(Some(Instant::now()));
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.set(Some(Instant::now()));
    }

    fn set(&self, since: Option<Instant>) {
        *self.running_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn idle(&self) -> Duration {
        let since = *self.running_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
