//! A request with its route, and its body read under limits.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderName};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use std::time::Duration;

use crate::access::Who;
use crate::failure::{Code, Failure, Result};
use crate::route::Route;
use crate::wire::Outbox;

/// What is read and thrown away of a body that is refused, so that the client gets to read why.
const DRAIN_BYTES: u64 = 256 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// A request.
pub(crate) struct Request {
    pub(crate) head: Parts,
    pub(crate) route: Route,
    pub(crate) who: Who,
    pub(crate) outbox: Option<Outbox>,
    pub(crate) body: RequestBody,
    query: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn new(head: Parts, route: Route, who: Who, outbox: Option<Outbox>, body: RequestBody) -> Self {
        let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        Self { head, route, who, outbox, body, query }
    }

    pub(crate) fn is(&self, method: &Method) -> bool {
        self.head.method == method
    }

    /// A parameter of the query.
    pub(crate) fn param(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All parameters of the query.
    pub(crate) fn query(&self) -> &[(String, String)] {
        &self.query
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// How long the body is, where the client says so.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(&CONTENT_LENGTH)?.trim().parse().ok()
    }
}

/// The body of a request.
pub(crate) struct RequestBody {
    incoming: Incoming,
    /// How long the client may send nothing.
    patience: Duration,
    /// Bytes so far.
    pub(crate) read: u64,
}

/// Why a body ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The client sent nothing for too long.
    Stalled,
    /// The connection ended, or its framing was broken.
    Closed,
}

impl From<Cut> for Failure {
    fn from(cut: Cut) -> Self {
        let failure = Self::new(Code::SizeInvalid);
        match cut {
            Cut::Stalled => failure.status(StatusCode::REQUEST_TIMEOUT).because("the body stopped coming"),
            Cut::Closed => failure.because("the body ended before its end"),
        }
    }
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, patience: Duration) -> Self {
        Self { incoming, patience, read: 0 }
    }

    /// The next piece; None at the end.
    pub(crate) async fn next(&mut self) -> std::result::Result<Option<Bytes>, Cut> {
        loop {
            let frame = match tokio::time::timeout(self.patience, self.incoming.frame()).await {
                Err(_) => return Err(Cut::Stalled),
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => frame.map_err(|_| Cut::Closed)?,
            };
            // Trailers say nothing to us.
            if let Ok(bytes) = frame.into_data() {
                self.read += bytes.len() as u64;
                return Ok(Some(bytes));
            }
        }
    }

    /// The whole body, when it has at most `limit` bytes; None when it has more.
    pub(crate) async fn document(&mut self, limit: usize) -> Result<Option<Bytes>> {
        if self.incoming.size_hint().lower() > limit as u64 {
            return Ok(None);
        }
        let mut document = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            if document.len() + bytes.len() > limit {
                return Ok(None);
            }
            document.extend_from_slice(&bytes);
        }
        Ok(Some(document.freeze()))
    }

    /// Reads what is left and throws it away, within limits.
    pub(crate) async fn drain(&mut self) {
        let limit = self.read + DRAIN_BYTES;
        let drained = async { while self.read < limit && matches!(self.next().await, Ok(Some(_))) {} };
        // What comes after the limit meets a closed connection.
        let _ = tokio::time::timeout(DRAIN_TIME, drained).await;
    }
}
