//! `GET /v2/<name>/referrers/<digest>`: the manifests that have this one as their subject.
//!
//! Each of them got its place in the list when it was pushed. So an index that a client keeps under the tag `<alg>-<hex>`,
//! as where there is no such route ("referrers tag schema"), has nothing to add: what it names has the subject, and is
//! listed.

use hyper::{Response, StatusCode};
use oci::descriptor::Descriptor;
use oci::digest::Digest;
use oci::manifest::Index;
use oci::media_type::OCI_INDEX;

use crate::body::Body;
use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::reply;
use crate::request::Request;
use crate::server::Server;

/// Descriptors of a page, and fewer when they are large.
const PAGE: usize = 1000;

/// Answers with an index, filtered by the type of artifact when the client wants that.
pub(super) async fn list(server: &Server, request: &Request, name: &Name, subject: &Digest) -> Result<Response<Body>> {
    if let Some(cache) = &server.cache {
        let index = cache.referrers(name, subject).await?;
        // Without such a list there, clients look for an index under a tag, and find it through the cache.
        let index = index.ok_or(Failure::new(Code::Unsupported).status(StatusCode::NOT_FOUND))?;
        return Ok(reply::document(OCI_INDEX, index));
    }
    let storage = &server.storage;
    let wanted = request.param("artifactType");
    let last = request.param("last");
    let limit = request.param("n").and_then(|n| n.parse().ok()).unwrap_or(PAGE).clamp(1, PAGE);
    let page = storage.referrers(name, subject, last, limit).await?;
    let next = page.items.last().filter(|_| page.more).map(|(key, _)| key.clone());
    let mut found: Vec<Descriptor> = page.items.into_iter().map(|(_, descriptor)| descriptor).collect();
    if let Some(wanted) = wanted {
        found.retain(|descriptor| descriptor.artifact_type.as_deref() == Some(wanted));
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests: found,
        subject: None,
        annotations: None,
        extra: serde_json::Map::new(),
    };
    let bytes = serde_json::to_vec(&index).map_err(Failure::internal)?;
    let mut response = reply::document(OCI_INDEX, bytes);
    if wanted.is_some() {
        response = reply::header(response, reply::FILTERS_APPLIED, "artifactType");
    }
    let Some(next) = next else { return Ok(response) };
    let limit = limit.to_string();
    let mut query = vec![("last", next.as_str()), ("n", limit.as_str())];
    query.extend(wanted.map(|wanted| ("artifactType", wanted)));
    Ok(reply::next_page(response, &format!("/v2/{name}/referrers/{subject}"), &query))
}
