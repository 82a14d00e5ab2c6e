//! A pull-through cache: what another registry has, kept here after the first time.
//!
//! ```text
//! tag       known for a minute; then the other registry is asked what it stands for now, and when it does not answer,
//!           the tag is good as it was
//! digest    never asked about again
//! blob      the first who wants it gets it while it comes (the last piece when the digest is known to be right), others
//!           when it is here; a client that goes away does not stop it, and one that is slow gets the rest from here
//! ```
//! What cannot be kept, since the disk is full or a quota does not allow it, is passed on nevertheless.
//! Content that nobody asked for during the expiry is removed with the garbage: manifests are renewed when they are used,
//! and blobs live as long as the manifests that name them. Who pushes is told that this is a cache.

use bytes::Bytes;
use oci::digest::{Digest, Digester};
use oci::manifest::Document;
use registry::{Client, Credentials, Error, Upstream, UpstreamBlob};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::quotas::{Addition, Quotas};
use crate::route::Target;
use crate::storage::{Finished, Manifest, Sink, Storage, UploadState, millis};

/// How long a tag is good without asking.
const TAG_FRESH: Duration = Duration::from_secs(60);
/// Repositories whose tokens are kept.
const REPOSITORIES: usize = 1024;
/// Pieces of a blob (some ten kilobytes each) that wait for the client.
const PIECES: usize = 64;

/// What the settings say.
#[derive(Debug, Clone)]
pub(crate) struct CacheSettings {
    /// The other registry, as it stands in names of images.
    pub(crate) registry: String,
    pub(crate) insecure: bool,
    pub(crate) expiry: Duration,
    pub(crate) credentials: Credentials,
}

/// The other registry, and what is on its way from it.
pub(crate) struct Cache {
    client: Client,
    settings: CacheSettings,
    upstreams: Mutex<HashMap<Name, Arc<Upstream>>>,
    /// Blobs that come; a receiver learns when one is here, or is not coming.
    coming: Mutex<HashMap<(Name, Digest), watch::Receiver<()>>>,
}

/// How a client can have a blob that is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// As it comes, or when it is here.
    Any,
    /// When it is here.
    Kept,
    /// As it comes, for this client alone: it could not be kept.
    Alone,
}

/// A blob that is not here yet.
pub(crate) enum Coming {
    /// There is none.
    Unknown,
    /// These are its bytes, as they come.
    Stream(Arriving),
    /// Somebody else brought it meanwhile, or failed to.
    Over,
}

/// A blob on its way: its first bytes, or all.
pub(crate) struct Arriving {
    /// Bytes of the blob.
    pub(crate) size: u64,
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    over: watch::Receiver<()>,
}

impl Arriving {
    /// The next bytes. When none come any more and that was not all, the client was too slow, and the rest is here.
    pub(crate) async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        self.pieces.recv().await
    }

    /// Waits until the blob is here, or does not come.
    pub(crate) async fn over(&mut self) {
        // The sender goes with the work: an error means that it is over.
        let _ = self.over.changed().await;
    }
}

impl Cache {
    pub(crate) fn new(settings: CacheSettings) -> Self {
        let mut options = registry::Options::default();
        if settings.insecure {
            options.insecure_registries.push(settings.registry.clone());
        }
        Self { client: Client::new(options), settings, upstreams: Mutex::default(), coming: Mutex::default() }
    }

    pub(crate) fn expiry(&self) -> Duration {
        self.settings.expiry
    }

    async fn upstream(&self, name: &Name) -> std::result::Result<Arc<Upstream>, Error> {
        let known = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let reference = format!("{}/{name}", self.settings.registry).parse()?;
        let upstream = Arc::new(self.client.upstream(&reference, &self.settings.credentials).await?);
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        if upstreams.len() >= REPOSITORIES {
            upstreams.clear();
        }
        upstreams.insert(name.clone(), Arc::clone(&upstream));
        Ok(upstream)
    }

    /// A manifest, from here or from there.
    pub(crate) async fn manifest(
        &self,
        storage: &Storage,
        quotas: &Quotas,
        name: &Name,
        target: &Target,
    ) -> Result<Option<Manifest>> {
        let tag = match target {
            Target::Digest(digest) => {
                if let Some(manifest) = self.stored(storage, name, digest).await? {
                    return Ok(Some(manifest));
                }
                return found(self.fetch(storage, quotas, name, digest.as_str(), None).await);
            }
            Target::Tag(tag) => tag,
        };
        let known = storage.tag_with_age(name, tag).await?;
        let kept = match &known {
            Some((digest, _)) => self.stored(storage, name, digest).await?,
            None => None,
        };
        if let (Some((_, age_ms)), Some(kept)) = (&known, &kept)
            && *age_ms < millis(TAG_FRESH)
        {
            return Ok(Some(kept.clone()));
        }
        let now = match self.upstream(name).await {
            Ok(upstream) => upstream.digest_of(tag).await,
            Err(error) => Err(error),
        };
        match (now, kept) {
            (Ok(Some(digest)), Some(kept)) if digest == kept.digest => {
                keep(storage, quotas, name, &kept, Some(tag)).await;
                Ok(Some(kept))
            }
            (Err(error), Some(kept)) => {
                tracing::warn!(%error, "{name}:{tag} is served as it was");
                Ok(Some(kept))
            }
            _ => found(self.fetch(storage, quotas, name, tag, Some(tag)).await),
        }
    }

    /// A manifest that is here. Being used keeps it.
    async fn stored(&self, storage: &Storage, name: &Name, digest: &Digest) -> Result<Option<Manifest>> {
        let manifest = storage.manifest(name, digest).await?;
        if let Some(manifest) = &manifest
            && let Err(error) = storage.renew_manifest(name, manifest, self.settings.expiry / 2).await
        {
            tracing::warn!(%error, "{name}@{digest} is served, but not known to be in use");
        }
        Ok(manifest)
    }

    async fn fetch(
        &self,
        storage: &Storage,
        quotas: &Quotas,
        name: &Name,
        reference: &str,
        tag: Option<&str>,
    ) -> std::result::Result<Manifest, Trouble> {
        let upstream = self.upstream(name).await?;
        let (digest, bytes) = upstream.manifest(reference).await?;
        // What cannot be read is not kept: garbage collection has to.
        Document::parse("", &bytes).map_err(|error| Failure::new(Code::ManifestInvalid).because(error.to_string()))?;
        let manifest = Manifest { digest, bytes: bytes.into() };
        keep(storage, quotas, name, &manifest, tag).await;
        Ok(manifest)
    }

    /// The size of a blob that is not here.
    pub(crate) async fn blob_size(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        let size = async { self.upstream(name).await?.blob_size(digest).await };
        size.await.map_err(|error| Trouble::from(error).into())
    }

    /// Tags there; None when the other registry does not answer.
    pub(crate) async fn tags(&self, name: &Name) -> Result<Option<Vec<String>>> {
        let tags = async { self.upstream(name).await?.tags().await };
        match tags.await {
            Ok(tags) => Ok(Some(tags)),
            Err(error) => match Trouble::from(error) {
                Trouble::NotThere => Err(Code::NameUnknown.into()),
                Trouble::Failure(failure) => {
                    tracing::warn!("tags of {name} are listed as far as they are here: {}", failure.json());
                    Ok(None)
                }
            },
        }
    }

    /// The index of referrers there; None if that registry has none.
    pub(crate) async fn referrers(&self, name: &Name, subject: &Digest) -> Result<Option<Vec<u8>>> {
        let found = async { self.upstream(name).await?.referrers(subject).await };
        found.await.map_err(|error| Trouble::from(error).into())
    }

    /// Brings a blob. Whoever asks first may have it as it comes, others wait until it is here.
    pub(crate) async fn blob(
        self: &Arc<Self>,
        storage: &Arc<Storage>,
        quotas: &Arc<Quotas>,
        name: &Name,
        digest: &Digest,
        want: Want,
    ) -> Result<Coming> {
        let key = (name.clone(), digest.clone());
        let (arrived, mut over) = watch::channel(());
        let others = if want == Want::Alone { None } else { self.join(&key, &over) };
        let mut stream = None;
        if let Some(others) = others {
            over = others;
        } else {
            // Whatever happens from here on, those who wait are told.
            let told = (want != Want::Alone).then(|| Told { cache: Arc::clone(self), key, _arrived: arrived });
            let blob = async { self.upstream(name).await?.blob(digest).await };
            let Some(blob) = blob.await.map_err(|error| Failure::from(Trouble::from(error)))? else {
                return Ok(Coming::Unknown);
            };
            let size = blob.size;
            let adding = Addition::of(size);
            let keeps = told.is_some() && quotas.check(storage, name, adding).await.is_ok();
            let fill = Fill {
                storage: Arc::clone(storage),
                quotas: Arc::clone(quotas),
                name: name.clone(),
                digest: digest.clone(),
                adding,
                told: told.filter(|_| keeps),
            };
            let (pieces, receiver) = mpsc::channel(PIECES);
            tokio::spawn(fill.run(blob, pieces));
            stream = Some((size, receiver));
        }
        match stream {
            Some((size, pieces)) if want != Want::Kept => Ok(Coming::Stream(Arriving { size, pieces, over })),
            other => {
                drop(other);
                // The sender goes with the work: an error means that it is over.
                let _ = over.changed().await;
                Ok(Coming::Over)
            }
        }
    }

    /// Joins those who wait for a blob that comes already; None for the first, whom further ones wait for.
    fn join(&self, key: &(Name, Digest), over: &watch::Receiver<()>) -> Option<watch::Receiver<()>> {
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        let others = coming.get(key).cloned();
        if others.is_none() {
            coming.insert(key.clone(), over.clone());
        }
        others
    }
}

/// Removes a blob from those that come, and tells who waits for it.
struct Told {
    cache: Arc<Cache>,
    key: (Name, Digest),
    _arrived: watch::Sender<()>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.cache.coming.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// The work of bringing one blob.
struct Fill {
    storage: Arc<Storage>,
    quotas: Arc<Quotas>,
    name: Name,
    digest: Digest,
    /// What it adds to what is used, when it is kept.
    adding: Addition,
    /// Whom it is kept for; None when it is passed on only.
    told: Option<Told>,
}

/// The client that a blob is passed on to while it comes.
struct Listener(Option<mpsc::Sender<std::io::Result<Bytes>>>);

impl Listener {
    /// Passes bytes on. Where they are kept, a client that is gone or slow is waited for no longer: it finds the rest here.
    async fn pass(&mut self, bytes: Bytes, kept: bool) {
        let Some(client) = &self.0 else { return };
        let passed = if kept { client.try_send(Ok(bytes)).is_ok() } else { client.send(Ok(bytes)).await.is_ok() };
        if !passed {
            self.0 = None;
        }
    }
}

impl Fill {
    /// Reads the blob, keeps it, and passes it on.
    async fn run(self, mut blob: UpstreamBlob, pieces: mpsc::Sender<std::io::Result<Bytes>>) {
        let Self { storage, quotas, name, digest, adding, mut told } = self;
        let counted = if told.is_some() { adding } else { Addition::default() };
        quotas.count(&name, counted);
        let state = UploadState::new(name.as_str());
        let mut sink = if told.is_some() { storage.upload_part(&state).await.ok() } else { None };
        let mut listener = Listener(Some(pieces));
        let mut digester = Digester::new(digest.algorithm());
        // The last piece is held back until the digest is known to be right.
        let mut held: Option<Bytes> = None;
        let came = loop {
            match blob.chunk().await {
                Ok(None) => break Ok(()),
                Err(error) => break Err(std::io::Error::other(error.to_string())),
                Ok(Some(bytes)) => {
                    digester.update(&bytes);
                    if let Some(open) = &mut sink
                        && let Err(error) = open.write(bytes.clone()).await
                    {
                        tracing::warn!(%error, "{name}@{digest} is not kept");
                        sink = None;
                    }
                    if sink.is_none() {
                        // Nobody waits for what does not stay.
                        told = None;
                    }
                    if let Some(before) = held.replace(bytes) {
                        listener.pass(before, sink.is_some()).await;
                    }
                    if sink.is_none() && listener.0.is_none() {
                        break Err(std::io::Error::other(format!(
                            "{digest} is not kept, and its client is gone or slow"
                        )));
                    }
                }
            }
        };
        let found = digester.finish();
        let right = came.and_then(|()| match found == digest {
            true => Ok(()),
            false => Err(std::io::Error::other(format!("{digest} was asked for, {found} came"))),
        });
        let kept = match (&right, sink) {
            (_, None) => false,
            (Err(_), Some(sink)) => {
                sink.abort().await;
                false
            }
            (Ok(()), Some(sink)) => kept(&storage, &name, &digest, state, sink).await,
        };
        if !kept {
            quotas.uncount(&name, counted);
        }
        // Before the last piece goes out, the blob is here: whoever has it all finds it again.
        drop(told);
        let last = match right {
            Ok(()) => held.map(Ok),
            Err(error) => {
                tracing::error!("{name}: {error}");
                Some(Err(error))
            }
        };
        if let (Some(client), Some(last)) = (listener.0, last) {
            let _ = client.send(last).await;
        }
    }
}

/// Keeps a blob whose bytes are right, if that can be.
async fn kept(storage: &Storage, name: &Name, digest: &Digest, mut state: UploadState, sink: Sink) -> bool {
    let finished = async {
        let (part, digester) = sink.finish().await?;
        state.add(part, &digester);
        storage.upload_finish(name, None, state, digester, digest).await
    };
    match finished.await {
        Ok(Finished::Stored(_)) => true,
        Ok(Finished::OtherDigest(_)) => false,
        Err(error) => {
            tracing::warn!(%error, "{name}@{digest} is not kept");
            false
        }
    }
}

/// Keeps a manifest, and what a tag stands for, if that can be.
async fn keep(storage: &Storage, quotas: &Quotas, name: &Name, manifest: &Manifest, tag: Option<&str>) {
    let kept = async {
        let adding = quotas.of_manifest(storage, name, manifest, None).await?;
        storage.put_manifest(name, manifest, None, tag).await?;
        quotas.count(name, adding);
        Ok::<_, Failure>(())
    };
    if let Err(failure) = kept.await {
        let reason = failure.cause.clone().unwrap_or_else(|| failure.json());
        tracing::warn!("{name}@{} is served, but not kept: {reason}", manifest.digest);
    }
}

/// Why something did not come.
enum Trouble {
    NotThere,
    Failure(Failure),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Registry(errors) => errors.first().map(|first| first.code.clone()),
            _ => None,
        };
        match code.as_deref() {
            Some("MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "BLOB_UNKNOWN" | "NOT_FOUND" | "NAME_INVALID") => Self::NotThere,
            Some("UNAUTHORIZED" | "DENIED") => {
                Self::Failure(Failure::new(Code::Denied).because(format!("the other registry says: {error}")))
            }
            _ => {
                let failure = Failure::new(Code::Unavailable).status(hyper::StatusCode::BAD_GATEWAY);
                Self::Failure(failure.because(format!("the other registry: {error}")))
            }
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<crate::storage::StorageError> for Trouble {
    fn from(error: crate::storage::StorageError) -> Self {
        Self::Failure(error.into())
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NotThere => Self::new(Code::ManifestUnknown),
            Trouble::Failure(failure) => failure,
        }
    }
}

fn found(fetched: std::result::Result<Manifest, Trouble>) -> Result<Option<Manifest>> {
    match fetched {
        Ok(manifest) => Ok(Some(manifest)),
        Err(Trouble::NotThere) => Ok(None),
        Err(Trouble::Failure(failure)) => Err(failure),
    }
}
