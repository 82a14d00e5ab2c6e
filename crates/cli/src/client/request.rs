//! What goes into a request and what comes out of an answer.

use super::{Client, Hijacked, upgraded};
use crate::error::Error;
use api::ApiError;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use hyper::{Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// What a path segment or a query value may not hold as it is.
const RESERVED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b';');

/// Writes a text so that it can stand in a path or a query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The part of a request's target from the question mark on.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query {
    text: String,
}

impl Query {
    /// Nothing.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds `name=value`.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.text.push(if self.text.is_empty() { '?' } else { '&' });
        self.text.push_str(name);
        self.text.push('=');
        self.text.push_str(&encode(value));
        self
    }

    /// Adds `name=value` unless the value is empty.
    pub(crate) fn with_text(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.with(name, value) }
    }

    /// Adds `name=1` if it is so.
    pub(crate) fn with_flag(self, name: &str, on: bool) -> Self {
        if on { self.with(name, "1") } else { self }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The body of a request.
pub(crate) enum Body {
    Whole {
        bytes: Full<Bytes>,
        content_type: Option<&'static str>,
    },
    /// Pieces from a thread that reads a file or packs an archive. The channel is short, so a slow engine slows the thread.
    Stream {
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        content_type: &'static str,
    },
}

impl Body {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Self::Whole { bytes: Full::default(), content_type: None }
    }

    /// JSON.
    pub(crate) fn json(text: Vec<u8>) -> Self {
        Self::Whole { bytes: Full::new(text.into()), content_type: Some("application/json") }
    }

    /// Pieces that a thread sends.
    pub(crate) fn stream(pieces: mpsc::Receiver<io::Result<Bytes>>, content_type: &'static str) -> Self {
        Self::Stream { pieces, content_type }
    }

    pub(super) fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::Whole { content_type, .. } => *content_type,
            Self::Stream { content_type, .. } => Some(content_type),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole { bytes, .. } => Pin::new(bytes).poll_frame(context).map_err(|never| match never {}),
            Self::Stream { pieces, .. } => {
                pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { bytes, .. } => bytes.size_hint(),
            Self::Stream { .. } => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { bytes, .. } => bytes.is_end_stream(),
            Self::Stream { .. } => false,
        }
    }
}

/// The largest answer that is held in memory: lists and inspections, never archives.
const MAX_ANSWER: usize = 256 << 20;

/// An answer whose head has arrived.
pub(crate) struct Answer<'a> {
    client: &'a Client,
    response: Response<Incoming>,
    sender: Option<SendRequest<Body>>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(client: &'a Client, response: Response<Incoming>, sender: SendRequest<Body>) -> Self {
        Self { client, response, sender: Some(sender) }
    }

    /// What the command line was called by: `docker` or `gantry`.
    pub(crate) fn program(&self) -> &'static str {
        self.client.program
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Turns an answer that reports a failure into that failure.
    pub(super) async fn checked(self) -> Result<Self, Error> {
        let status = self.status();
        if status.is_success() || upgraded(status) || status == StatusCode::NOT_MODIFIED {
            return Ok(self);
        }
        let text = self.bytes().await?;
        let message = serde_json::from_slice::<api::error::ErrorResponse>(&text)
            .map_or_else(|_| String::from_utf8_lossy(&text).trim().to_owned(), |error| error.message.trim().to_owned());
        Err(Error::Daemon(ApiError::new(status.as_u16(), message)))
    }

    /// The next piece of a stream, `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.response.body_mut().frame().await {
            let frame = frame.map_err(|error| Error::Protocol(cause(&error)))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole answer.
    pub(crate) async fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        while let Some(piece) = self.chunk().await? {
            if text.len() + piece.len() > MAX_ANSWER {
                return Err(Error::Protocol("the answer is too long".into()));
            }
            text.extend_from_slice(&piece);
        }
        if let Some(sender) = self.sender.take() {
            self.client.keep(sender);
        }
        Ok(text)
    }

    /// Reads the answer for nothing but the connection's sake.
    pub(crate) async fn finish(self) -> Result<(), Error> {
        self.bytes().await.map(drop)
    }

    /// The answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let text = self.bytes().await?;
        api::json::from_slice(&text)
            .map_err(|error| Error::Protocol(format!("cannot read the engine's answer: {error}")))
    }

    /// Takes the connection over.
    pub(super) async fn hijack(self) -> Result<Hijacked, Error> {
        if !upgraded(self.status()) {
            return Err(Error::Protocol(format!("unable to upgrade to tcp, received {}", self.status().as_u16())));
        }
        let upgraded = hyper::upgrade::on(self.response).await.map_err(|error| Error::Protocol(cause(&error)))?;
        Hijacked::new(upgraded)
    }
}

/// The innermost reason of a failed exchange: hyper's own text says only where it failed.
pub(super) fn cause(error: &hyper::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
