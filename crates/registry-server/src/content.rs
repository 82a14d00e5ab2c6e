//! Where content comes from: the one place that knows.

use hyper::Method;
use oci::digest::Digest;
use std::ops::Range;
use std::sync::Arc;

use crate::access::Who;
use crate::body::{self, Body};
use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::storage::{Blob, Manifest, Page, Storage};
use crate::wire::Outbox;

/// Repositories that are looked at together.
const SCAN: usize = 100;

/// A blob that was found.
pub(crate) struct OpenBlob {
    /// In bytes.
    pub(crate) size: u64,
    storage: Arc<Storage>,
    name: Name,
    digest: Digest,
    blob: Blob,
}

impl OpenBlob {
    /// Begins to read these bytes; None when the blob vanished meanwhile.
    pub(crate) async fn read(&self, range: Range<u64>, outbox: Option<Outbox>) -> Result<Option<Body>> {
        let mut blob = self.blob.clone();
        for _ in 0..2 {
            let slices = blob.record.slices(&range);
            let Some((key, slice)) = slices.first().cloned() else { return Ok(Some(body::empty())) };
            match self.storage.objects.open_part(&key, slice).await {
                Ok(first) => return Ok(Some(body::blob(self.storage.objects.clone(), slices, first, outbox))),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
            // The record was renewed by another process, and the parts that it named before are gone.
            self.storage.forget_record(&self.digest);
            match self.storage.blob(&self.name, &self.digest).await? {
                Some(found) => blob = found,
                None => return Ok(None),
            }
        }
        Err(Failure::internal(format!("blob {}: its parts are missing", self.digest)))
    }
}

impl Server {
    /// The storage, for what changes it.
    pub(crate) fn storage(&self) -> Result<&Arc<Storage>> {
        Ok(&self.storage)
    }

    /// The size of a blob.
    pub(crate) async fn blob_size(&self, _request: &Request, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.storage.blob_size(name, digest).await?)
    }

    /// The size of a blob that stays, since somebody is about to rely on it.
    pub(crate) async fn blob_to_rely_on(&self, request: &Request, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        if self.settings.read_only {
            return self.blob_size(request, name, digest).await;
        }
        Ok(self.storage.hold(name, digest).await?)
    }

    /// A blob, to be read.
    pub(crate) async fn open_blob(&self, _request: &Request, name: &Name, digest: &Digest) -> Result<Option<OpenBlob>> {
        let Some(blob) = self.storage.blob(name, digest).await? else { return Ok(None) };
        let storage = Arc::clone(&self.storage);
        Ok(Some(OpenBlob { size: blob.size, storage, name: name.clone(), digest: digest.clone(), blob }))
    }

    /// A manifest, by tag or digest.
    pub(crate) async fn manifest(&self, request: &Request, name: &Name, target: &Target) -> Result<Option<Manifest>> {
        let digest = match target {
            Target::Digest(digest) => Some(digest.clone()),
            Target::Tag(tag) => self.storage.tag(name, tag).await?,
        };
        match digest {
            // Who only asks whether a manifest is here may not push it then.
            Some(digest) if request.is(&Method::HEAD) && !self.settings.read_only => {
                Ok(self.storage.hold_manifest(name, &digest).await?)
            }
            Some(digest) => Ok(self.storage.manifest(name, &digest).await?),
            None => Ok(None),
        }
    }

    /// Tags after `last`; None if there is no such repository.
    pub(crate) async fn tags(
        &self,
        _request: &Request,
        name: &Name,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<String>>> {
        Ok(self.storage.tags(name, last, limit).await?)
    }

    /// Repositories after `last`, as far as they may be seen.
    pub(crate) async fn repositories(&self, who: &Who, last: Option<&str>, limit: usize) -> Result<Page<String>> {
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
        if self.settings.read_only {
            return Err(Failure::new(Code::Unsupported).because("this registry is read-only"));
        }
        Ok(())
    }
}
