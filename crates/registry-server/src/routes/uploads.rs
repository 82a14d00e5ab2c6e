//! Uploads: begun, mounted from elsewhere, added to, finished, given up.

use hyper::header::{CONTENT_RANGE, LOCATION, RANGE};
use hyper::{Response, StatusCode};
use oci::digest::{Digest, Digester};

use crate::access::Right;
use crate::body::Body;
use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::quotas::Addition;
use crate::reply;
use crate::request::{Cut, Request};
use crate::route;
use crate::server::Server;
use crate::storage::{Finished, MAX_PARTS, Sink, StoredPart, Upload, UploadState};

/// `POST /v2/<name>/blobs/uploads/`: mounts a blob, takes a whole one, or begins an upload.
pub(super) async fn begin(server: &Server, request: &mut Request, name: &Name) -> Result<Response<Body>> {
    let storage = &server.storage;
    if let Some(digest) = request.param("mount") {
        let digest = route::digest(digest)?;
        if mounted(server, request, name, &digest).await? {
            return Ok(created(name, &digest));
        }
        // What cannot be mounted is uploaded: an upload begins as if nobody had asked for more.
    } else if let Some(digest) = request.param("digest") {
        let digest = route::digest(digest)?;
        let state = UploadState::new(name.as_str());
        return complete(server, request, name, None, state, &digest).await;
    }
    server.quotas.check(storage, name, Addition::default()).await?;
    let upload = storage.upload_begin(name).await?;
    let response = progress(StatusCode::ACCEPTED, name, &upload);
    Ok(match server.settings.chunk_min_length {
        0 => response,
        length => reply::header(response, reply::CHUNK_MIN_LENGTH, &length.to_string()),
    })
}

/// Makes a blob of another repository visible in this one, when both may be used by who asks.
async fn mounted(server: &Server, request: &Request, name: &Name, digest: &Digest) -> Result<bool> {
    let storage = &server.storage;
    let size = match request.param("from").map(Name::parse) {
        Some(Some(from)) if server.access.may(&request.who, &from, Right::Pull) => storage.hold(&from, digest).await?,
        // From wherever it is: only where nobody has secrets from anybody.
        None if server.access.is_open() => storage.stored_size(digest).await?,
        _ => None,
    };
    let Some(size) = size else { return Ok(false) };
    let adding = Addition { visible: size, stored: 0 };
    let adding = server.quotas.check_blob(storage, name, digest, adding).await?;
    let Some(link) = storage.link_existing(name, digest).await? else { return Ok(false) };
    server.quotas.settle(storage, name, digest, adding.visible, &link).await?;
    Ok(true)
}

/// `GET /v2/<name>/blobs/uploads/<id>`: how far it is.
pub(super) async fn status(server: &Server, name: &Name, id: &str) -> Result<Response<Body>> {
    Ok(progress(StatusCode::NO_CONTENT, name, &find(server, name, id).await?))
}

/// `DELETE /v2/<name>/blobs/uploads/<id>`
pub(super) async fn cancel(server: &Server, name: &Name, id: &str) -> Result<Response<Body>> {
    find(server, name, id).await?;
    server.storage.upload_cancel(id).await?;
    Ok(reply::header(reply::empty(StatusCode::NO_CONTENT), reply::UPLOAD_UUID, id))
}

/// `PATCH /v2/<name>/blobs/uploads/<id>`: the next chunk, or a stream of unknown length.
pub(super) async fn append(server: &Server, request: &mut Request, name: &Name, id: &str) -> Result<Response<Body>> {
    let mut upload = find(server, name, id).await?;
    in_order(request, name, &upload)?;
    let (_, cut) = receive(server, request, name, &mut upload.state, None).await?;
    // What came before a connection broke is kept: the client may ask how far it got, and go on from there.
    server.storage.upload_save(&upload).await?;
    match cut {
        Some(cut) => Err(cut.into()),
        None => Ok(progress(StatusCode::ACCEPTED, name, &upload)),
    }
}

/// `PUT /v2/<name>/blobs/uploads/<id>?digest=<digest>`: the last chunk, possibly empty.
pub(super) async fn finish(server: &Server, request: &mut Request, name: &Name, id: &str) -> Result<Response<Body>> {
    let Some(digest) = request.param("digest") else {
        return Err(Failure::new(Code::DigestInvalid).because("the parameter digest is missing"));
    };
    let digest = route::digest(digest)?;
    let upload = find(server, name, id).await?;
    in_order(request, name, &upload)?;
    complete(server, request, name, Some(&upload), upload.state.clone(), &digest).await
}

async fn find(server: &Server, name: &Name, id: &str) -> Result<Upload> {
    let found = server.storage.upload(name, id).await?;
    found.ok_or_else(|| Failure::new(Code::BlobUploadUnknown).detail(serde_json::json!({"uuid": id})))
}

fn out_of_order() -> Failure {
    Failure::new(Code::BlobUploadInvalid).status(StatusCode::RANGE_NOT_SATISFIABLE)
}

/// Refuses a chunk that does not begin where the last one ended, and one that says two things about its length.
fn in_order(request: &Request, name: &Name, upload: &Upload) -> Result<()> {
    let Some(text) = request.header(&CONTENT_RANGE) else { return Ok(()) };
    let text = text.trim().trim_start_matches("bytes ").trim_start_matches("bytes=");
    let text = text.split('/').next().unwrap_or_default();
    let numbers = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let Some((first, last)) = numbers.filter(|(first, last): &(u64, u64)| first <= last) else {
        return Err(out_of_order().because(format!("invalid content range {text:?}")));
    };
    if first != upload.state.size() {
        let failure =
            out_of_order().because(format!("the next byte of this upload is {}, not {first}", upload.state.size()));
        return Err(located(failure, name, upload));
    }
    if request.content_length().is_some_and(|length| length != last - first + 1) {
        return Err(Failure::new(Code::SizeInvalid).because("content range and content length differ"));
    }
    Ok(())
}

/// Puts the body of the request into a part of the upload. Returns a digester that has seen the whole upload, and how the
/// body was cut off, if it was.
async fn receive(
    server: &Server,
    request: &mut Request,
    name: &Name,
    state: &mut UploadState,
    digest: Option<&Digest>,
) -> Result<(Digester, Option<Cut>)> {
    let storage = &server.storage;
    if state.parts.len() >= MAX_PARTS {
        let failure = Failure::new(Code::BlobUploadInvalid);
        return Err(failure.because(format!("an upload has at most {MAX_PARTS} chunks; use larger ones")));
    }
    let promised = request.content_length().unwrap_or(0);
    let mut growth = Growth { server, name, digest, before: state.size(), counted: 0 };
    growth.reaches(promised).await?;
    let mut sink = storage.upload_part(state).await?;
    let outcome = tokio::time::timeout(storage.times.grace / 2, pour(request, &mut growth, &mut sink));
    let cut = match outcome.await {
        Ok(Ok(())) => None,
        Ok(Err(Stop::Cut(cut))) => Some(cut),
        // No request lasts longer than garbage collection allows for.
        Err(_) => Some(Cut::Stalled),
        Ok(Err(Stop::Failure(failure))) => {
            growth.ends_at(0);
            sink.abort().await;
            return Err(failure);
        }
    };
    growth.ends_at(sink.size());
    let (part, digester) = sink.finish().await?;
    state.add(part, &digester);
    Ok((digester, cut))
}

/// What a body adds to an upload, as far as quotas know.
struct Growth<'a> {
    server: &'a Server,
    name: &'a Name,
    /// Of the blob, where it is known: what is here already may be sent again, however full it is.
    digest: Option<&'a Digest>,
    /// Bytes of the upload before.
    before: u64,
    /// Bytes of the body that are counted as stored.
    counted: u64,
}

impl Growth<'_> {
    /// Counts the body up to so many bytes. Refuses what is too much.
    async fn reaches(&mut self, bytes: u64) -> Result<()> {
        let (quotas, storage) = (&self.server.quotas, &self.server.storage);
        let new = bytes.saturating_sub(self.counted);
        let adding = Addition { visible: self.before + bytes, stored: new };
        match self.digest {
            Some(digest) => _ = quotas.check_blob(storage, self.name, digest, adding).await?,
            None => quotas.check(storage, self.name, adding).await?,
        }
        quotas.count(self.name, Addition { visible: 0, stored: new });
        self.counted += new;
        Ok(())
    }

    /// So many bytes were stored in the end.
    fn ends_at(&mut self, bytes: u64) {
        let quotas = &self.server.quotas;
        quotas.count(self.name, Addition { visible: 0, stored: bytes.saturating_sub(self.counted) });
        quotas.uncount(self.name, Addition { visible: 0, stored: self.counted.saturating_sub(bytes) });
        self.counted = bytes;
    }
}

/// Why the pouring ended early.
enum Stop {
    Cut(Cut),
    Failure(Failure),
}

async fn pour(request: &mut Request, growth: &mut Growth<'_>, sink: &mut Sink) -> std::result::Result<(), Stop> {
    // The quota is looked at again whenever as much has come as the step says, not for each piece.
    let mut next_look = QUOTA_STEP;
    while let Some(bytes) = request.body.next().await.map_err(Stop::Cut)? {
        sink.write(bytes).await.map_err(|error| Stop::Failure(error.into()))?;
        if sink.size() >= next_look {
            next_look = sink.size() + QUOTA_STEP;
            growth.reaches(sink.size()).await.map_err(Stop::Failure)?;
        }
    }
    Ok(())
}

/// Bytes of a stream of unknown length between two looks at the quota.
const QUOTA_STEP: u64 = 16 << 20;

/// Takes the rest of a blob, verifies and stores it.
async fn complete(
    server: &Server,
    request: &mut Request,
    name: &Name,
    upload: Option<&Upload>,
    mut state: UploadState,
    digest: &Digest,
) -> Result<Response<Body>> {
    let storage = &server.storage;
    let before = state.parts.len();
    let (digester, cut) = receive(server, request, name, &mut state, Some(digest)).await?;
    // Of these nobody else knows: when they are not needed, they need not wait for garbage collection. Those that came
    // before do, since another request may be finishing the same upload.
    let own = state.parts[before..].to_vec();
    let id = upload.map(|upload| upload.id.as_str());
    if let Some(cut) = cut {
        match id {
            Some(id) => storage.upload_save(&Upload { id: id.to_owned(), state }).await?,
            None => discard(server, name, &own).await,
        }
        return Err(cut.into());
    }
    let adding = Addition { visible: state.size(), stored: 0 };
    let adding = match server.quotas.check_blob(storage, name, digest, adding).await {
        Ok(adding) => adding,
        Err(refused) => {
            discard(server, name, &own).await;
            return Err(refused);
        }
    };
    match storage.upload_finish(name, id, state, digester, digest).await? {
        Finished::Stored(link) => {
            if !link.uses_parts {
                discard(server, name, &own).await;
            }
            server.quotas.settle(storage, name, digest, adding.visible, &link.key).await?;
            Ok(created(name, digest))
        }
        Finished::OtherDigest(found) => {
            discard(server, name, &own).await;
            Err(Failure::new(Code::DigestInvalid)
                .because(format!("the content has the digest {found}, not {digest}"))
                .detail(serde_json::json!({"digest": digest, "found": found})))
        }
    }
}

/// Removes parts that are not needed.
async fn discard(server: &Server, name: &Name, parts: &[StoredPart]) {
    server.storage.remove_parts(parts).await;
    let stored = parts.iter().map(|part| part.size).sum();
    server.quotas.uncount(name, Addition { visible: 0, stored });
}

fn location(name: &Name, upload: &Upload) -> String {
    format!("/v2/{name}/blobs/uploads/{}", upload.id)
}

/// `0-<last byte>`; also `0-0` when nothing came, as the reference registry says.
fn reached(upload: &Upload) -> String {
    format!("0-{}", upload.state.size().saturating_sub(1))
}

fn progress(status: StatusCode, name: &Name, upload: &Upload) -> Response<Body> {
    [(LOCATION, location(name, upload)), (RANGE, reached(upload)), (reply::UPLOAD_UUID, upload.id.clone())]
        .into_iter()
        .fold(reply::empty(status), |response, (header, value)| reply::header(response, header, &value))
}

fn located(failure: Failure, name: &Name, upload: &Upload) -> Failure {
    failure.header(LOCATION, &location(name, upload)).header(RANGE, &reached(upload))
}

fn created(name: &Name, digest: &Digest) -> Response<Body> {
    let response = reply::header(reply::empty(StatusCode::CREATED), LOCATION, &format!("/v2/{name}/blobs/{digest}"));
    reply::header(response, reply::CONTENT_DIGEST, digest.as_str())
}
