//! Blobs: read whole or in ranges, looked for, deleted.

use hyper::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE};
use hyper::{Method, Response, StatusCode};
use oci::digest::Digest;
use std::ops::Range;

use crate::body::{self, Body};
use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::reply;
use crate::request::Request;
use crate::server::Server;

/// Content that is named by its digest never changes.
pub(super) const FOR_EVER: &str = "max-age=31536000";

/// `GET` and `HEAD /v2/<name>/blobs/<digest>`
pub(super) async fn get(server: &Server, request: &Request, name: &Name, digest: &Digest) -> Result<Response<Body>> {
    if request.is(&Method::HEAD) {
        // Who asks whether a blob is here relies on it from then on, and does not push it.
        let size = server.blob_to_rely_on(name, digest).await?.ok_or_else(|| unknown(digest))?;
        return Ok(dressed(reply::with_body(StatusCode::OK, size, body::empty()), digest));
    }
    let tag = format!("\"{digest}\"");
    if request.header(&IF_NONE_MATCH).is_some_and(|tags| tags.split(',').any(|one| one.trim() == tag)) {
        server.blob_size(name, digest).await?.ok_or_else(|| unknown(digest))?;
        return Ok(dressed(reply::empty(StatusCode::NOT_MODIFIED), digest));
    }
    let found = server.open_blob(request, name, digest).await?.ok_or_else(|| unknown(digest))?;
    let size = found.size;
    let of_this = request.header(&IF_RANGE).is_none_or(|one| one.trim() == tag);
    let range = match request.header(&RANGE).filter(|_| of_this).map(|text| range(text, size)) {
        None | Some(Wanted::All) => None,
        Some(Wanted::Range(range)) => Some(range),
        Some(Wanted::Outside) => {
            let failure = Failure::new(Code::Unsupported).status(StatusCode::RANGE_NOT_SATISFIABLE);
            let failure = failure.because(format!("the blob has {size} bytes"));
            return Err(failure.header(CONTENT_RANGE, &format!("bytes */{size}")));
        }
    };
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let (start, end) = range.as_ref().map_or((0, size), |range| (range.start, range.end));
    let body = found.read(start..end, request.outbox.clone()).await?.ok_or_else(|| unknown(digest))?;
    let response = dressed(reply::with_body(status, end - start, body), digest);
    Ok(match range {
        Some(range) => {
            reply::header(response, CONTENT_RANGE, &format!("bytes {}-{}/{size}", range.start, range.end - 1))
        }
        None => response,
    })
}

fn dressed(response: Response<Body>, digest: &Digest) -> Response<Body> {
    [
        (CONTENT_TYPE, "application/octet-stream"),
        (ACCEPT_RANGES, "bytes"),
        (CACHE_CONTROL, FOR_EVER),
        (ETAG, &format!("\"{digest}\"")),
        (reply::CONTENT_DIGEST, digest.as_str()),
    ]
    .into_iter()
    .fold(response, |response, (name, value)| reply::header(response, name, value))
}

/// `DELETE /v2/<name>/blobs/<digest>`: no longer visible in this repository.
pub(super) async fn delete(server: &Server, name: &Name, digest: &Digest) -> Result<Response<Body>> {
    if !server.storage.unlink(name, digest).await? {
        return Err(unknown(digest));
    }
    Ok(reply::header(reply::empty(StatusCode::ACCEPTED), reply::CONTENT_DIGEST, digest.as_str()))
}

pub(super) fn unknown(digest: &Digest) -> Failure {
    Failure::new(Code::BlobUnknown).detail(serde_json::json!({"digest": digest}))
}

/// Which bytes a `Range` header asks for (RFC 9110, section 14).
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// All: the header is of no form that is served, and may be ignored then.
    All,
    Range(Range<u64>),
    /// None that exist.
    Outside,
}

fn range(text: &str, size: u64) -> Wanted {
    let Some(text) = text.trim().strip_prefix("bytes=") else { return Wanted::All };
    // Several ranges would need a body of several parts, which no client of registries asks for.
    let Some((first, last)) = text.split_once('-').filter(|_| !text.contains(',')) else { return Wanted::All };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.trim().is_empty() => first..size,
        (None, Some(count)) if first.trim().is_empty() => size.saturating_sub(count)..size,
        _ => return Wanted::All,
    };
    if range.is_empty() { Wanted::Outside } else { Wanted::Range(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, wanted) in [
            ("bytes=0-0", Wanted::Range(0..1)),
            ("bytes=2-5", Wanted::Range(2..6)),
            ("bytes=2-", Wanted::Range(2..10)),
            ("bytes=-3", Wanted::Range(7..10)),
            ("bytes=-30", Wanted::Range(0..10)),
            ("bytes=8-300", Wanted::Range(8..10)),
            ("bytes=10-", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
            ("bytes=10-12", Wanted::Outside),
            ("bytes=5-2", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("lines=1-2", Wanted::All),
            ("bytes=x", Wanted::All),
        ] {
            assert_eq!(range(text, 10), wanted, "{text}");
        }
    }
}
