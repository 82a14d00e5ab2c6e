//! Where content comes from: the one place that knows.

use futures_util::stream;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Frame;
use hyper::header::RANGE;
use oci::digest::Digest;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::access::Who;
use crate::body::{self, Body};
use crate::cache::{Arriving, Coming, Want};
use crate::engine::EngineStore;
use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::storage::{Blob, Manifest, Page, Storage};
use crate::wire::{Outbox, Piece};

/// Repositories that are looked at together.
const SCAN: usize = 100;

/// A blob that was found.
pub(crate) struct OpenBlob {
    /// In bytes.
    pub(crate) size: u64,
    source: Source,
}

enum Source {
    Stored {
        storage: Arc<Storage>,
        name: Name,
        digest: Digest,
        blob: Blob,
    },
    /// In the store of an engine.
    Engine {
        engine: Arc<EngineStore>,
        digest: Digest,
    },
    /// From another registry, taken when it is read.
    Coming(Mutex<Option<Passage>>),
}

/// The way of a blob that comes from another registry to one client: first as it comes; the rest, when the client is slower
/// than that, from here.
struct Passage {
    arriving: Arriving,
    storage: Arc<Storage>,
    name: Name,
    digest: Digest,
    outbox: Option<Outbox>,
    /// Bytes so far.
    passed: u64,
    rest: Option<Body>,
}

impl Passage {
    fn body(self) -> Body {
        let frames = stream::try_unfold(self, |mut passage| async move {
            let frame = passage.next().await?;
            Ok(frame.map(|frame| (frame, passage)))
        });
        body::frames(Box::pin(frames))
    }

    async fn next(&mut self) -> io::Result<Option<Frame<Piece>>> {
        if self.rest.is_none() {
            if let Some(bytes) = self.arriving.next().await.transpose()? {
                self.passed += bytes.len() as u64;
                return Ok(Some(Frame::data(Piece::Bytes(bytes))));
            }
            self.arriving.over().await;
        }
        let mut rest = match self.rest.take() {
            Some(rest) => rest,
            None => self.open_rest().await?,
        };
        let frame = rest.frame().await.transpose();
        self.rest = Some(rest);
        frame
    }

    async fn open_rest(&mut self) -> io::Result<Body> {
        if self.passed >= self.arriving.size {
            return Ok(body::empty());
        }
        let failed =
            |failure: Failure| io::Error::other(failure.cause.unwrap_or_else(|| failure.code.name().to_owned()));
        let blob = self.storage.blob(&self.name, &self.digest).await.map_err(io::Error::other)?;
        let blob = blob.ok_or_else(|| io::Error::other("the blob could not be kept for a client that is slow"))?;
        let rest = read_stored(
            &self.storage,
            &self.name,
            &self.digest,
            blob,
            self.passed..self.arriving.size,
            self.outbox.clone(),
        );
        rest.await.map_err(failed)?.ok_or_else(|| io::Error::other("the blob vanished on its way"))
    }
}

/// Begins to read these bytes of a blob; None when it vanished meanwhile.
async fn read_stored(
    storage: &Storage,
    name: &Name,
    digest: &Digest,
    mut blob: Blob,
    range: Range<u64>,
    outbox: Option<Outbox>,
) -> Result<Option<Body>> {
    for _ in 0..2 {
        let slices = blob.record.slices(&range);
        let Some((key, slice)) = slices.first().cloned() else { return Ok(Some(body::empty())) };
        match storage.objects.open_part(&key, slice).await {
            Ok(first) => return Ok(Some(body::blob(storage.objects.clone(), slices, first, outbox))),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        // The record was renewed by another process, and the parts that it named before are gone.
        storage.forget_record(digest);
        match storage.blob(name, digest).await? {
            Some(found) => blob = found,
            None => return Ok(None),
        }
    }
    Err(Failure::internal(format!("blob {digest}: its parts are missing")))
}

impl OpenBlob {
    /// Begins to read these bytes; None when the blob vanished meanwhile.
    pub(crate) async fn read(&self, range: Range<u64>, outbox: Option<Outbox>) -> Result<Option<Body>> {
        match &self.source {
            Source::Stored { storage, name, digest, blob } => {
                read_stored(storage, name, digest, blob.clone(), range, outbox).await
            }
            Source::Engine { engine, digest } => {
                Ok(engine.open_blob(digest).await?.map(|blob| blob.read(range, outbox)))
            }
            // It comes as a whole, for one reader.
            Source::Coming(passage) => {
                let passage = passage.lock().unwrap_or_else(PoisonError::into_inner).take();
                Ok(passage.map(|passage| Passage { outbox, ..passage }.body()))
            }
        }
    }
}

impl Server {
    /// The size of a blob.
    pub(crate) async fn blob_size(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        if let Some(engine) = &self.engine {
            return engine.blob_size(name, digest).await;
        }
        match (self.storage.blob_size(name, digest).await?, &self.cache) {
            (None, Some(cache)) => cache.blob_size(name, digest).await,
            (size, _) => Ok(size),
        }
    }

    /// The size of a blob that stays, since somebody is about to rely on it.
    pub(crate) async fn blob_to_rely_on(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        if self.settings.read_only || self.cache.is_some() || self.engine.is_some() {
            return self.blob_size(name, digest).await;
        }
        match self.storage.hold(name, digest).await {
            // Where nothing can be renewed, nothing can be pushed that relies on it either: the answer is still true.
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "{name}@{digest} is here, but not renewed");
                Ok(self.storage.blob_size(name, digest).await?)
            }
            held => Ok(held?),
        }
    }

    /// A blob, to be read.
    pub(crate) async fn open_blob(&self, request: &Request, name: &Name, digest: &Digest) -> Result<Option<OpenBlob>> {
        if let Some(engine) = &self.engine {
            let size = engine.blob_size(name, digest).await?;
            let source = Source::Engine { engine: Arc::clone(engine), digest: digest.clone() };
            return Ok(size.map(|size| OpenBlob { size, source }));
        }
        if let Some(stored) = self.stored_blob(name, digest).await? {
            return Ok(Some(stored));
        }
        let Some(cache) = &self.cache else { return Ok(None) };
        // A part of a blob is cut out of it when it is here.
        let whole = request.header(&RANGE).is_none();
        for want in if whole { [Want::Any, Want::Alone].as_slice() } else { &[Want::Kept] } {
            match cache.blob(&self.storage, &self.quotas, name, digest, *want).await? {
                Coming::Unknown => return Ok(None),
                Coming::Stream(arriving) => {
                    let (storage, name, digest) = (Arc::clone(&self.storage), name.clone(), digest.clone());
                    let size = arriving.size;
                    let passage = Passage { arriving, storage, name, digest, outbox: None, passed: 0, rest: None };
                    return Ok(Some(OpenBlob { size, source: Source::Coming(Mutex::new(Some(passage))) }));
                }
                Coming::Over => {
                    if let Some(stored) = self.stored_blob(name, digest).await? {
                        return Ok(Some(stored));
                    }
                }
            }
        }
        let failure = Failure::new(Code::Unavailable).status(hyper::StatusCode::BAD_GATEWAY);
        Err(failure.because("the blob did not come from the other registry, or could not be kept"))
    }

    async fn stored_blob(&self, name: &Name, digest: &Digest) -> Result<Option<OpenBlob>> {
        let Some(blob) = self.storage.blob(name, digest).await? else { return Ok(None) };
        let (storage, name, digest) = (Arc::clone(&self.storage), name.clone(), digest.clone());
        Ok(Some(OpenBlob { size: blob.size, source: Source::Stored { storage, name, digest, blob } }))
    }

    /// A manifest, by tag or digest.
    pub(crate) async fn manifest(&self, request: &Request, name: &Name, target: &Target) -> Result<Option<Manifest>> {
        if let Some(engine) = &self.engine {
            return engine.manifest(name, target).await;
        }
        if let Some(cache) = &self.cache {
            return cache.manifest(&self.storage, &self.quotas, name, target).await;
        }
        let digest = match target {
            Target::Digest(digest) => Some(digest.clone()),
            Target::Tag(tag) => self.storage.tag(name, tag).await?,
        };
        match digest {
            // Who only asks whether a manifest is here may not push it then.
            Some(digest) if request.is(&Method::HEAD) && !self.settings.read_only => {
                match self.storage.hold_manifest(name, &digest).await {
                    Err(error) if error.is_full() => {
                        tracing::warn!(%error, "{name}@{digest} is here, but not renewed");
                        Ok(self.storage.manifest(name, &digest).await?)
                    }
                    held => Ok(held?),
                }
            }
            Some(digest) => Ok(self.storage.manifest(name, &digest).await?),
            None => Ok(None),
        }
    }

    /// Tags after `last`; None if there is no such repository.
    pub(crate) async fn tags(&self, name: &Name, last: Option<&str>, limit: usize) -> Result<Option<Page<String>>> {
        if let Some(engine) = &self.engine {
            let Some(tags) = engine.tags(name).await? else { return Ok(None) };
            let after = tags.into_keys().filter(|tag| last.is_none_or(|last| tag.as_str() > last));
            return Ok(Some(Page::of(after, limit)));
        }
        if let Some(cache) = &self.cache
            && let Some(mut tags) = cache.tags(name).await?
        {
            tags.sort_unstable();
            let after = tags.into_iter().filter(|tag| last.is_none_or(|last| tag.as_str() > last));
            return Ok(Some(Page::of(after, limit)));
        }
        Ok(self.storage.tags(name, last, limit).await?)
    }

    /// Repositories after `last`, as far as they may be seen.
    pub(crate) async fn repositories(&self, who: &Who, last: Option<&str>, limit: usize) -> Result<Page<String>> {
        if let Some(engine) = &self.engine {
            let all = engine.repositories().await?.into_iter();
            let after = all.filter(|name| last.is_none_or(|last| name.as_str() > last));
            return Ok(Page::of(after.filter(|name| self.access.may_see(who, name)), limit));
        }
        let mut seen = Vec::new();
        let mut last = last.map(str::to_owned);
        loop {
            let page = self.storage.repositories(last.as_deref(), limit.max(SCAN)).await?;
            last = page.items.last().cloned();
            seen.extend(page.items.into_iter().filter(|name| self.access.may_see(who, name)));
            if seen.len() > limit || !page.more {
                return Ok(Page::of(seen.into_iter(), limit));
            }
        }
    }

    /// Refuses what changes content where that cannot be.
    pub(crate) fn writable(&self) -> Result<()> {
        if self.engine.is_some() {
            return Err(
                Failure::new(Code::Unsupported).because("these are the images of an engine; it takes no pushes")
            );
        }
        let reason = match (self.settings.read_only, &self.cache) {
            (true, _) => "this registry is read-only",
            (false, Some(_)) => "this registry is a cache of another one; push there",
            (false, None) => return Ok(()),
        };
        Err(Failure::new(Code::Unsupported).because(reason))
    }
}
