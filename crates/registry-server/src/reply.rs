//! Answers.

use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LINK};
use hyper::{Response, StatusCode};

use crate::body::{self, Body};
use crate::failure::Failure;

/// `Docker-Content-Digest`
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// `Docker-Upload-UUID`
pub(crate) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// `OCI-Chunk-Min-Length`
pub(crate) const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// `OCI-Subject`
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// `OCI-Filters-Applied`
pub(crate) const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

const JSON: &str = "application/json";

/// An answer with a body of this length.
pub(crate) fn with_body(status: StatusCode, length: u64, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        let mut response = Response::new(body::empty());
        *response.status_mut() = status;
        return response;
    }
    with_body(status, 0, body::empty())
}

/// A document.
pub(crate) fn document(media_type: &str, bytes: impl Into<bytes::Bytes>) -> Response<Body> {
    let bytes = bytes.into();
    let response = with_body(StatusCode::OK, bytes.len() as u64, body::full(bytes));
    header(response, CONTENT_TYPE, media_type)
}

pub(crate) fn json(value: &serde_json::Value) -> Response<Body> {
    document(JSON, value.to_string())
}

/// Adds a header; a value that cannot be one (it came from a client) is left out.
pub(crate) fn header(mut response: Response<Body>, name: HeaderName, value: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Says where the next page is (RFC 8288).
pub(crate) fn next_page(response: Response<Body>, path: &str, query: &[(&str, &str)]) -> Response<Body> {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    header(response, LINK, &format!("<{path}?{query}>; rel=\"next\""))
}

pub(crate) fn failure(failure: &Failure) -> Response<Body> {
    let mut response = document(JSON, failure.json());
    *response.status_mut() = failure.status;
    response.headers_mut().extend(failure.headers.clone());
    response
}
