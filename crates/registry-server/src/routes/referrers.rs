//! `GET /v2/<name>/referrers/<digest>`: the manifests that have this one as their subject.
//!
//! Clients that found no such route elsewhere kept an index under the tag `<alg>-<hex>` ("referrers tag schema"). What it
//! names is answered here as well, so that moving a repository to this registry loses nothing.

use hyper::{Response, StatusCode};
use oci::descriptor::Descriptor;
use oci::digest::Digest;
use oci::manifest::{Document, Index};
use oci::media_type::OCI_INDEX;
use std::collections::HashSet;

use crate::body::Body;
use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::reply;
use crate::request::Request;
use crate::server::Server;

/// Descriptors of a page.
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
    if last.is_none() {
        let known: HashSet<Digest> = found.iter().map(|descriptor| descriptor.digest.clone()).collect();
        let by_tag = tagged(server, name, subject).await?;
        found.extend(by_tag.into_iter().filter(|descriptor| !known.contains(&descriptor.digest)));
    }
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

/// What an index under the subject's fallback tag names, as far as it is here.
async fn tagged(server: &Server, name: &Name, subject: &Digest) -> Result<Vec<Descriptor>> {
    let storage = &server.storage;
    // The tag has at most 128 bytes, so of a longer digest its beginning.
    let tag: String = format!("{}-{}", subject.algorithm().name(), subject.hex()).chars().take(128).collect();
    let Some(digest) = storage.tag(name, &tag).await? else { return Ok(Vec::new()) };
    let Some(manifest) = storage.manifest(name, &digest).await? else { return Ok(Vec::new()) };
    let Ok(Document::Index(index)) = Document::parse("", &manifest.bytes) else { return Ok(Vec::new()) };
    let mut here = Vec::new();
    for descriptor in index.manifests {
        if storage.has_manifest(name, &descriptor.digest).await? {
            here.push(descriptor);
        }
    }
    Ok(here)
}
