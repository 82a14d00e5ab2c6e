//! What a handler answers: a whole body, a stream of pieces, or the raw connection.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::io;

use crate::failure::{Failure, Outcome};
use crate::hijack::Takeover;

/// The body of every answer. An error in a stream cuts the connection: the client sees that the end is missing.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What becomes of a request.
pub(crate) enum Reply {
    /// An ordinary answer.
    Http(Response<Body>),
    /// The connection itself, for attach and exec.
    Takeover(Takeover),
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self::Http(response)
    }
}

/// An answer of this status without a body.
pub(crate) fn empty(status: u16) -> Response<Body> {
    respond(status, Empty::new().map_err(|never| match never {}).boxed_unsync())
}

/// A status with a body of a type.
pub(crate) fn whole(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = respond(status, Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// JSON as dockerd sends it, with the line end that Go's encoder adds.
pub(crate) fn json(status: u16, value: &impl Serialize) -> Outcome<Reply> {
    let mut text = serde_json::to_vec(value).map_err(|error| Failure::new(500, error.to_string()))?;
    text.push(b'\n');
    Ok(whole(status, "application/json", text).into())
}

/// 204.
pub(crate) fn no_content() -> Reply {
    empty(204).into()
}

/// The JSON of a failure. 304 has no body.
pub(crate) fn failure(failure: &Failure) -> Response<Body> {
    if failure.status == 304 {
        return empty(304);
    }
    let body = api::error::ErrorResponse { message: failure.message.clone() };
    let mut text = serde_json::to_vec(&body).unwrap_or_default();
    text.push(b'\n');
    whole(failure.status, "application/json", text)
}

/// 200 at once, then each piece as a chunk of its own as soon as it is there.
pub(crate) fn stream<S>(content_type: &'static str, pieces: S) -> Response<Body>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let frames = pieces.map(|piece| piece.map(Frame::data));
    let mut response = respond(200, StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A stream of JSON values, one per line.
pub(crate) fn json_stream<S, T>(values: S) -> Response<Body>
where
    S: Stream<Item = T> + Send + 'static,
    T: Serialize,
{
    stream("application/json", values.map(|value| line(&value, b"\n")))
}

/// One value and its line end.
pub(crate) fn line(value: &impl Serialize, end: &[u8]) -> io::Result<Bytes> {
    let mut text = serde_json::to_vec(value).map_err(io::Error::other)?;
    text.extend_from_slice(end);
    Ok(text.into())
}

/// Adds a header; a value that no header can hold is left out.
pub(crate) fn with_header(mut response: Response<Body>, name: &'static str, value: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    response
}

fn respond(status: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
