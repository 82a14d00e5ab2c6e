//! Manifests: kept byte for byte, and only when everything they name is in the repository.

use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use hyper::{Method, Response, StatusCode};
use oci::descriptor::Descriptor;
use oci::digest::{Algorithm, Digest, Digester};
use oci::manifest::{Document, MAX_SIZE, ManifestError};
use oci::media_type::{self, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST};
use serde_json::json;

use crate::body::{self, Body};
use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::reply;
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::storage::Manifest;

/// `GET` and `HEAD /v2/<name>/manifests/<reference>`
pub(super) async fn get(server: &Server, request: &Request, name: &Name, target: Target) -> Result<Response<Body>> {
    let unknown =
        || Failure::new(Code::ManifestUnknown).detail(json!({"name": name.as_str(), "reference": text(&target)}));
    let by_tag = matches!(target, Target::Tag(_));
    let mut manifest = server.manifest(request, name, &target).await?.ok_or_else(unknown)?;
    let mut kind = kind(&manifest)?;
    if by_tag
        && kind == DOCKER_MANIFEST_LIST
        && !accepts(request, kind)
        && let Some(one) = for_old_clients(server, request, name, &manifest).await?
    {
        (manifest, kind) = (one, DOCKER_MANIFEST);
    }
    let tag = format!("\"{}\"", manifest.digest);
    let known = request.header(&IF_NONE_MATCH).is_some_and(|tags| tags.split(',').any(|one| one.trim() == tag));
    let response = if known {
        reply::empty(StatusCode::NOT_MODIFIED)
    } else if request.is(&Method::HEAD) {
        reply::with_body(StatusCode::OK, manifest.bytes.len() as u64, body::empty())
    } else {
        reply::with_body(StatusCode::OK, manifest.bytes.len() as u64, body::full(manifest.bytes.clone()))
    };
    let response = [(CONTENT_TYPE, kind), (ETAG, &tag), (reply::CONTENT_DIGEST, manifest.digest.as_str())]
        .into_iter()
        .fold(response, |response, (header, value)| reply::header(response, header, value));
    // A tag may stand for something else at any time.
    Ok(if by_tag { response } else { reply::header(response, CACHE_CONTROL, super::blobs::FOR_EVER) })
}

/// Clients from before manifest lists do not accept them, and mean this platform.
async fn for_old_clients(server: &Server, request: &Request, name: &Name, list: &Manifest) -> Result<Option<Manifest>> {
    let Ok(Document::Index(index)) = Document::parse("", &list.bytes) else { return Ok(None) };
    let is_usual = |descriptor: &&Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform.is_some_and(|platform| platform.os == "linux" && platform.architecture == "amd64")
    };
    match index.manifests.iter().find(is_usual) {
        Some(descriptor) if accepts(request, DOCKER_MANIFEST) && descriptor.media_type == DOCKER_MANIFEST => {
            server.manifest(request, name, &Target::Digest(descriptor.digest.clone())).await
        }
        _ => Ok(None),
    }
}

/// Does the client say that it understands this type, or nothing about types?
fn accepts(request: &Request, media_type: &str) -> bool {
    let mut values = request.head.headers.get_all(hyper::header::ACCEPT).iter().peekable();
    values.peek().is_none()
        || values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|one| one.split(';').next().unwrap_or_default().trim())
            .any(|one| one == media_type || one == "*/*" || one == "application/*")
}

fn text(target: &Target) -> &str {
    match target {
        Target::Tag(tag) => tag,
        Target::Digest(digest) => digest.as_str(),
    }
}

/// The media type of a stored manifest: what it says itself, or what its shape says.
fn kind(manifest: &Manifest) -> Result<&'static str> {
    let document = Document::parse("", &manifest.bytes).map_err(Failure::internal)?;
    Ok(kind_of(&document))
}

fn kind_of(document: &Document) -> &'static str {
    let (said, otherwise) = match document {
        Document::Manifest(manifest) => (manifest.media_type.as_deref(), OCI_MANIFEST),
        Document::Index(index) => (index.media_type.as_deref(), OCI_INDEX),
    };
    [DOCKER_MANIFEST, DOCKER_MANIFEST_LIST].into_iter().find(|kind| said == Some(kind)).unwrap_or(otherwise)
}

/// `PUT /v2/<name>/manifests/<reference>`
pub(super) async fn put(server: &Server, request: &mut Request, name: &Name, target: Target) -> Result<Response<Body>> {
    let storage = &server.storage;
    let too_large = || {
        let failure = Failure::new(Code::SizeInvalid).status(StatusCode::PAYLOAD_TOO_LARGE);
        failure.because(format!("a manifest has at most {MAX_SIZE} bytes"))
    };
    let bytes = request.body.document(MAX_SIZE).await?.ok_or_else(too_large)?;
    if request.header(&CONTENT_LENGTH).is_some_and(|length| length.parse() != Ok(bytes.len())) {
        return Err(Code::SizeInvalid.into());
    }
    let algorithm = match &target {
        Target::Tag(_) => Algorithm::Sha256,
        Target::Digest(digest) => digest.algorithm(),
    };
    let mut digester = Digester::new(algorithm);
    digester.update(&bytes);
    let digest = digester.finish();
    if let Target::Digest(wanted) = &target
        && *wanted != digest
    {
        return Err(
            Failure::new(Code::DigestInvalid).because(format!("the manifest has the digest {digest}, not {wanted}"))
        );
    }
    let document = parse(request, &bytes)?;
    check(server, name, &document).await?;
    let descriptor = described(&document, &digest, &bytes);
    let subject = subject(&document);
    let tag = match &target {
        Target::Tag(tag) => Some(tag.as_str()),
        Target::Digest(_) => None,
    };
    let manifest = Manifest { digest, bytes };
    let referrer = subject.map(|subject| (subject, &descriptor));
    let adding =
        server.quotas.of_manifest(storage, name, &manifest, referrer.map(|(_, descriptor)| descriptor)).await?;
    storage.put_manifest(name, &manifest, referrer, tag).await?;
    server.quotas.count(name, adding);
    let location = format!("/v2/{name}/manifests/{}", manifest.digest);
    let response = reply::header(reply::empty(StatusCode::CREATED), LOCATION, &location);
    let response = reply::header(response, reply::CONTENT_DIGEST, manifest.digest.as_str());
    Ok(match subject {
        Some(subject) => reply::header(response, reply::SUBJECT, subject.as_str()),
        None => response,
    })
}

/// Reads a manifest under the type that the client sends it as. What stands in the body must say the same, since that is
/// where the type is read from later.
fn parse(request: &Request, bytes: &[u8]) -> Result<Document> {
    let invalid = |error: &dyn std::fmt::Display| Failure::new(Code::ManifestInvalid).because(error.to_string());
    let sent_as = request.header(&CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let known = media_type::is_manifest(sent_as) || media_type::is_index(sent_as);
    if !known && !matches!(sent_as, "" | "application/json" | "text/plain" | "application/octet-stream") {
        return Err(invalid(&ManifestError::MediaType(sent_as.to_owned())));
    }
    let document = Document::parse(sent_as, bytes).map_err(|error| invalid(&error))?;
    let kind = kind_of(&document);
    let alone = Document::parse("", bytes).map_err(|error| invalid(&error))?;
    if kind_of(&alone) != kind {
        return Err(invalid(&ManifestError::Mismatch { expected: kind.to_owned(), found: kind_of(&alone).to_owned() }));
    }
    if known && kind != sent_as {
        return Err(invalid(&ManifestError::Mismatch { expected: sent_as.to_owned(), found: kind.to_owned() }));
    }
    let (version, said) = match &document {
        Document::Manifest(manifest) => (manifest.schema_version, &manifest.media_type),
        Document::Index(index) => (index.schema_version, &index.media_type),
    };
    if version != 2 {
        return Err(invalid(&format!("schemaVersion is {version}, not 2")));
    }
    if said.as_deref().is_some_and(|said| said != kind) {
        return Err(invalid(&ManifestError::MediaType(said.clone().unwrap_or_default())));
    }
    Ok(document)
}

/// Is everything that it names here? What is, stays while this request goes on.
async fn check(server: &Server, name: &Name, document: &Document) -> Result<()> {
    let storage = &server.storage;
    let missing = |digest: &Digest| Failure::new(Code::ManifestBlobUnknown).detail(json!({"digest": digest}));
    match document {
        Document::Manifest(manifest) => {
            let layers = manifest.layers.iter().filter(|layer| {
                // Layers that only their publisher may distribute stay with the publisher.
                !media_type::is_foreign_layer(&layer.media_type) || layer.urls.is_empty()
            });
            for blob in layers.chain([&manifest.config]) {
                let found = storage.hold(name, &blob.digest).await?;
                sized(blob, found.ok_or_else(|| missing(&blob.digest))?)?;
            }
        }
        Document::Index(index) => {
            for child in &index.manifests {
                let found = storage.hold_manifest(name, &child.digest).await?;
                let found = found.ok_or_else(|| missing(&child.digest))?;
                sized(child, found.bytes.len() as u64)?;
            }
        }
    }
    Ok(())
}

/// Refuses what says another size than its content has.
fn sized(descriptor: &Descriptor, size: u64) -> Result<()> {
    let (digest, said) = (&descriptor.digest, descriptor.size);
    if said == size {
        return Ok(());
    }
    let failure = Failure::new(Code::ManifestInvalid);
    Err(failure.because(format!("{digest} has {size} bytes, the manifest says {said}")))
}

fn subject(document: &Document) -> Option<&Digest> {
    let subject = match document {
        Document::Manifest(manifest) => manifest.subject.as_ref(),
        Document::Index(index) => index.subject.as_ref(),
    };
    subject.map(|subject| &subject.digest)
}

/// How the manifest stands in the list of its subject's referrers.
fn described(document: &Document, digest: &Digest, bytes: &[u8]) -> Descriptor {
    let mut descriptor = Descriptor::new(kind_of(document), digest.clone(), bytes.len() as u64);
    match document {
        Document::Manifest(manifest) => {
            // The type of an artifact is that of its configuration when it does not say it itself.
            let of_config = Some(manifest.config.media_type.clone()).filter(|text| !text.is_empty());
            descriptor.artifact_type = manifest.artifact_type.clone().filter(|text| !text.is_empty()).or(of_config);
            descriptor.annotations.clone_from(&manifest.annotations);
        }
        Document::Index(index) => {
            descriptor.artifact_type = index.artifact_type.clone().filter(|text| !text.is_empty());
            descriptor.annotations.clone_from(&index.annotations);
        }
    }
    descriptor
}

/// `DELETE /v2/<name>/manifests/<reference>`: a tag alone, or a manifest with all of its tags.
pub(super) async fn delete(server: &Server, name: &Name, target: Target) -> Result<Response<Body>> {
    let storage = &server.storage;
    let unknown =
        || Failure::new(Code::ManifestUnknown).detail(json!({"name": name.as_str(), "reference": text(&target)}));
    match &target {
        Target::Tag(tag) => {
            if !storage.remove_tag(name, tag).await? {
                return Err(unknown());
            }
        }
        Target::Digest(digest) => {
            let manifest = storage.manifest(name, digest).await?.ok_or_else(unknown)?;
            // One that cannot be read goes as well; should it stand in a list of referrers, it goes there with the garbage.
            let document = Document::parse("", &manifest.bytes).ok();
            storage.remove_manifest(name, digest, document.as_ref().and_then(subject)).await?;
        }
    }
    Ok(reply::empty(StatusCode::ACCEPTED))
}
