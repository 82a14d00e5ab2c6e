//! Pushing: an image of the store into a registry, bit for bit if it came from one.
//!
//! A pulled image has its manifest: that is sent as it is, and with it the blobs that it names. An image that was made
//! here gets a Docker manifest (schema 2) with its layers in gzip; what was found out about it is kept, so that the next
//! push of it, or of another image with the same layers, knows the digests before it has compressed anything.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{FuturesOrdered, TryStreamExt};
use oci::digest::Digest;
use oci::manifest::Document;
use oci::{Descriptor, Manifest, Reference, media_type};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use store::{Image, ImageId, Lease, Store};
use tokio::sync::Semaphore;

use crate::auth::Credentials;
use crate::error::{Error, Result};
use crate::progress::{LayerProgress, LayerStatus, Progress, Sender, message};
use crate::pull::blocking;
use crate::remote::{Actions, Remote};
use crate::resolve::Resolver;
use crate::transport::Request;
use crate::upload::Mount;
use crate::{Client, Options, download};

/// Repositories that one blob is tried to be mounted from.
const MAX_MOUNTS: usize = 3;

/// What a push left in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The tag.
    pub reference: Reference,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's length in bytes.
    pub size: u64,
}

impl Client {
    /// Pushes tags of one repository. Each is the name of an image in the store.
    pub async fn push(
        &self,
        references: &[Reference],
        credentials: &Credentials,
        store: &Store,
        progress: &Sender,
    ) -> Result<Vec<Pushed>> {
        let Some(repository) = references.first().map(Reference::without_suffixes) else { return Ok(Vec::new()) };
        if repository.familiar_name() == "scratch" {
            return Err(Error::Reserved);
        }
        message(progress, "", format!("The push refers to repository [{}]", repository.name())).await?;
        let resolver = Resolver::default();
        let mut failure = Error::Task;
        for endpoint in self.endpoints(&repository, &resolver, Actions::PullPush).await {
            let path = repository.path().to_owned();
            let credentials = credentials.clone();
            match Remote::connect(endpoint, &self.options, &resolver, path, credentials, Actions::PullPush).await {
                Ok(remote) => {
                    let mut pushed = Vec::new();
                    for reference in references {
                        let push = Push { remote: &remote, options: &self.options, reference, store, progress };
                        pushed.push(push.run().await?);
                    }
                    return Ok(pushed);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// One push of one tag.
struct Push<'a> {
    remote: &'a Remote,
    options: &'a Options,
    reference: &'a Reference,
    store: &'a Store,
    progress: &'a Sender,
}

/// A layer that is to be in the registry in the end.
struct Layer<'a> {
    diff_id: Digest,
    /// The blob that the image's own manifest names: it must be this one.
    wanted: Option<Descriptor>,
    /// Blobs with this content that are known from here or elsewhere, all in gzip.
    known: &'a [Known],
    progress: Arc<LayerProgress>,
}

/// A blob that a layer was seen as.
struct Known {
    descriptor: Descriptor,
    /// Repositories of the same registry that have it.
    repositories: Vec<String>,
}

impl Push<'_> {
    async fn run(&self) -> Result<Pushed> {
        let (store, name) = (self.store.clone(), self.reference.clone());
        let prepared = blocking(move || prepare(&store, &name)).await?;
        let Prepared { image, manifest, known } = prepared;
        let lease = self.store.lease();
        let blobs = self.layers(&lease, &image, manifest.as_ref().map(|(manifest, _)| manifest), &known).await?;
        let (config_type, kept) = match manifest {
            Some((manifest, bytes))
                if manifest.layers.iter().map(|d| &d.digest).eq(blobs.iter().map(|d| &d.digest)) =>
            {
                let kind = manifest.media_type.clone().unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
                (manifest.config.media_type, Some((kind, bytes)))
            }
            _ => (media_type::DOCKER_CONFIG.to_owned(), None),
        };
        let config = self.config(&image.id).await?;
        let (kind, bytes) = kept.unwrap_or_else(|| {
            let config = Descriptor::new(&config_type, image.id.digest().clone(), config);
            (media_type::DOCKER_MANIFEST.to_owned(), Manifest::docker(config, blobs).to_bytes())
        });
        let (kind, bytes) = self.manifest(kind, bytes).await?;
        self.finish(&lease, &image.id, &kind, bytes).await
    }

    /// Sends the configuration if the registry lacks it. Returns its length.
    async fn config(&self, id: &ImageId) -> Result<u64> {
        let (store, wanted) = (self.store.clone(), id.clone());
        let bytes = blocking(move || Ok(store.image_config_bytes(&wanted)?)).await?;
        let size = bytes.len() as u64;
        if !self.remote.has_blob(id.digest()).await? {
            self.remote.put_bytes(id.digest(), bytes).await?;
        }
        Ok(size)
    }

    /// Brings all layers into the registry. Returns their blobs, from the lowest up.
    async fn layers(
        &self,
        lease: &Lease,
        image: &Image,
        manifest: Option<&Manifest>,
        known: &HashMap<Digest, Vec<Known>>,
    ) -> Result<Vec<Descriptor>> {
        let mut layers = Vec::new();
        for (index, layer) in image.layers.iter().enumerate() {
            layers.push(Layer {
                diff_id: layer.diff_id.clone(),
                wanted: manifest.and_then(|manifest| manifest.layers.get(index).cloned()),
                known: known.get(&layer.diff_id).map(Vec::as_slice).unwrap_or_default(),
                progress: Arc::new(LayerProgress::new(self.progress, &layer.diff_id)),
            });
        }
        // Docker shows the highest layer first.
        for layer in layers.iter().rev() {
            layer.progress.state(LayerStatus::Preparing).await?;
        }
        let waiting = layers.len().saturating_sub(self.options.max_uploads);
        for layer in layers.iter().take(waiting).rev() {
            layer.progress.state(LayerStatus::Waiting).await?;
        }
        let turns = Semaphore::new(self.options.max_uploads.max(1));
        let work: FuturesOrdered<_> = layers
            .iter()
            .rev()
            .map(async |layer| {
                let _turn = turns.acquire().await.map_err(|_| Error::Task)?;
                self.layer(lease, layer).await
            })
            .collect();
        let mut blobs: Vec<Descriptor> = work.try_collect().await?;
        blobs.reverse();
        Ok(blobs)
    }

    /// Brings one layer into the registry, in the cheapest way that works.
    async fn layer(&self, lease: &Lease, layer: &Layer<'_>) -> Result<Descriptor> {
        let known = || layer.known.iter().map(|known| &known.descriptor);
        let candidates: Vec<&Descriptor> = match &layer.wanted {
            Some(wanted) => vec![wanted],
            None => known().collect(),
        };
        for candidate in &candidates {
            if self.remote.has_blob(&candidate.digest).await? {
                layer.progress.state(LayerStatus::LayerAlreadyExists).await?;
                return Ok((*candidate).clone());
            }
        }
        if let Some(wanted) = layer.wanted.as_ref().filter(|wanted| media_type::is_foreign_layer(&wanted.media_type)) {
            layer.progress.state(LayerStatus::SkippedForeignLayer).await?;
            return Ok(wanted.clone());
        }
        let mut target = None;
        for known in layer.known.iter().filter(|known| candidates.iter().any(|c| c.digest == known.descriptor.digest)) {
            for from in known.repositories.iter().take(MAX_MOUNTS) {
                match self.remote.mount(&known.descriptor.digest, from).await? {
                    Mount::Mounted => {
                        layer.progress.state(LayerStatus::MountedFrom(from.clone())).await?;
                        return Ok(known.descriptor.clone());
                    }
                    Mount::Upload(url) => target = Some(url),
                }
            }
        }
        let blob = self.blob(lease, layer, &candidates).await?;
        if candidates.iter().all(|candidate| candidate.digest != blob.digest)
            && self.remote.has_blob(&blob.digest).await?
        {
            layer.progress.state(LayerStatus::LayerAlreadyExists).await?;
            return Ok(blob);
        }
        self.upload(&blob, target, layer).await?;
        layer.progress.state(LayerStatus::Pushed).await?;
        Ok(blob)
    }

    /// A blob of the layer that is in the store: one that came, or one that is made now.
    async fn blob(&self, lease: &Lease, layer: &Layer<'_>, candidates: &[&Descriptor]) -> Result<Descriptor> {
        let (store, lease, diff_id) = (self.store.clone(), lease.clone(), layer.diff_id.clone());
        let candidates: Vec<Descriptor> = candidates.iter().map(|candidate| (*candidate).clone()).collect();
        blocking(move || {
            for candidate in candidates {
                if store.blob_hold(&lease, &candidate.digest)? {
                    return Ok(candidate);
                }
            }
            gzip_blob(&store, &lease, &diff_id)
        })
        .await
    }

    async fn upload(&self, blob: &Descriptor, mut target: Option<reqwest::Url>, layer: &Layer<'_>) -> Result<()> {
        let mut attempts = 1;
        loop {
            let sent = self.remote.put_blob(self.options, self.store, &blob.digest, target.take(), &layer.progress);
            let error = match sent.await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !error.is_transient() || attempts >= self.options.attempts {
                return Err(error);
            }
            let pause = download::delay(self.options, attempts);
            tracing::info!(%error, blob = %blob.digest, "upload broke off");
            layer.progress.state(LayerStatus::Retrying { seconds: pause.as_secs().max(1) }).await?;
            tokio::time::sleep(pause).await;
            attempts += 1;
        }
    }

    /// Sends the manifest under the tag. If the image was pulled by an index and the repository has all that the index
    /// names, the tag becomes that index again. Returns what the tag is.
    async fn manifest(&self, kind: String, bytes: Vec<u8>) -> Result<(String, Vec<u8>)> {
        let digest = Digest::of(&bytes);
        let (store, name) = (self.store.clone(), self.reference.clone());
        let index = blocking(move || index_of(&store, &name, &digest)).await?;
        if let Some((index_kind, index_bytes, children)) = index {
            self.put_manifest(Digest::of(&bytes).as_str(), &kind, bytes.clone()).await?;
            let mut has_all = true;
            for child in &children {
                has_all = has_all && self.remote.has_manifest(child).await?;
            }
            if has_all {
                self.put_manifest(self.reference.tag().unwrap_or_default(), &index_kind, index_bytes.clone()).await?;
                return Ok((index_kind, index_bytes));
            }
        }
        self.put_manifest(self.reference.tag().unwrap_or_default(), &kind, bytes.clone()).await?;
        Ok((kind, bytes))
    }

    async fn put_manifest(&self, name: &str, kind: &str, bytes: Vec<u8>) -> Result<()> {
        let url = self.remote.repository_url(&format!("manifests/{name}"))?;
        let kind = HeaderValue::try_from(kind).map_err(|_| Error::Setup(format!("\"{kind}\" is no media type")))?;
        let mut request = Request::new(Method::PUT, url).header(CONTENT_TYPE, kind);
        request.body = Some(bytes.into());
        self.remote.send(request).await?.success().await.map(drop)
    }

    /// Tells the end, and remembers what the image is in the registry.
    async fn finish(&self, lease: &Lease, id: &ImageId, kind: &str, bytes: Vec<u8>) -> Result<Pushed> {
        let digest = Digest::of(&bytes);
        let size = bytes.len() as u64;
        let tag = self.reference.tag().unwrap_or_default().to_owned();
        message(self.progress, "", format!("{tag}: digest: {digest} size: {size}")).await?;
        let pushed = Progress::Pushed { tag, digest: digest.clone(), size };
        self.progress.send(pushed).await.map_err(|_| Error::Cancelled)?;
        let (store, lease, id) = (self.store.clone(), lease.clone(), id.clone());
        let name = self.reference.with_digest(digest.clone());
        let manifest = media_type::is_manifest(kind).then(|| Descriptor::new(kind, digest.clone(), size));
        blocking(move || {
            store.blob_put(&lease, &bytes)?;
            Ok(store.image_add_repo_digest(&id, &name, manifest)?)
        })
        .await?;
        Ok(Pushed { reference: self.reference.clone(), digest, size })
    }
}

/// What is known before the registry is asked.
struct Prepared {
    image: Image,
    /// The manifest that the image came or went with, and its bytes.
    manifest: Option<(Manifest, Vec<u8>)>,
    known: HashMap<Digest, Vec<Known>>,
}

fn prepare(store: &Store, name: &Reference) -> Result<Prepared> {
    let id = store.image_named(name)?.ok_or_else(|| Error::NoTag(name.familiar()))?;
    let image = store.image(&id)?;
    let manifest = manifest_of(store, &image);
    let mut known: HashMap<Digest, Vec<Known>> = HashMap::new();
    for other in store.images()? {
        let Some((manifest, _)) = manifest_of(store, &other) else { continue };
        let same_registry = |digest: &&Reference| digest.domain() == name.domain() && digest.path() != name.path();
        let repositories: Vec<String> =
            other.repo_digests.iter().filter(same_registry).map(|digest| digest.path().to_owned()).collect();
        for (layer, descriptor) in other.layers.iter().zip(manifest.layers) {
            if !image.layers.iter().any(|own| own.diff_id == layer.diff_id) {
                continue;
            }
            let list = known.entry(layer.diff_id.clone()).or_default();
            match list.iter_mut().find(|known| known.descriptor.digest == descriptor.digest) {
                Some(same) => same.repositories.extend(repositories.iter().cloned()),
                None => list.push(Known { descriptor, repositories: repositories.clone() }),
            }
        }
    }
    let lease = store.lease();
    for layer in &image.layers {
        let list = known.entry(layer.diff_id.clone()).or_default();
        if let Some(blob) = store.layer_hold(&lease, &layer.diff_id)?.and_then(|layer| layer.blob)
            && !list.iter().any(|known| known.descriptor.digest == blob.digest)
        {
            list.push(Known { descriptor: blob, repositories: Vec::new() });
        }
        if manifest.is_none() {
            // A manifest that is made here is Docker's, with gzip.
            list.retain(|known| known.descriptor.media_type.ends_with("gzip"));
            for known in list {
                known.descriptor.media_type = media_type::DOCKER_LAYER_GZIP.to_owned();
            }
        }
    }
    Ok(Prepared { image, manifest, known })
}

/// The manifest of an image, if it has one that fits it.
fn manifest_of(store: &Store, image: &Image) -> Option<(Manifest, Vec<u8>)> {
    let descriptor = image.manifest.as_ref()?;
    let bytes = store.blob_read(&descriptor.digest, oci::manifest::MAX_SIZE as u64).ok()?;
    match Document::parse(&descriptor.media_type, &bytes).ok()? {
        Document::Manifest(manifest) if manifest.layers.len() == image.layers.len() => Some((manifest, bytes)),
        _ => None,
    }
}

/// The index that an image is known by, if it has this manifest in it: media type, bytes, and the other manifests.
type IndexFound = (String, Vec<u8>, Vec<Digest>);

fn index_of(store: &Store, name: &Reference, manifest: &Digest) -> Result<Option<IndexFound>> {
    let Some(id) = store.image_named(name)? else { return Ok(None) };
    for known in store.image(&id)?.repo_digests {
        let Some(digest) = known.digest() else { continue };
        let Ok(bytes) = store.blob_read(digest, oci::manifest::MAX_SIZE as u64) else { continue };
        if let Ok(Document::Index(index)) = Document::parse("", &bytes)
            && index.manifests.iter().any(|entry| entry.digest == *manifest)
        {
            let kind = index.media_type.clone().unwrap_or_else(|| media_type::OCI_INDEX.to_owned());
            let children = index.manifests.into_iter().map(|entry| entry.digest).filter(|d| d != manifest).collect();
            return Ok(Some((kind, bytes, children)));
        }
    }
    Ok(None)
}

/// The layer as a gzip blob: the one that it came as, or one that is made now.
fn gzip_blob(store: &Store, lease: &Lease, diff_id: &Digest) -> Result<Descriptor> {
    let blob = store.layer_blob(lease, diff_id)?;
    if blob.media_type.ends_with("gzip") {
        return Ok(Descriptor::new(media_type::DOCKER_LAYER_GZIP, blob.digest, blob.size));
    }
    // It came in another compression, which Docker's manifest has no name for.
    let written = |error| Error::Setup(format!("compressing a layer: {error}"));
    let mut blob = store.ingest(lease)?;
    let mut gzip = GzEncoder::new(&mut blob, Compression::default());
    io::copy(&mut store.layer_tar(diff_id)?, &mut gzip).map_err(written)?;
    gzip.finish().map_err(written)?;
    let (digest, size) = blob.finish()?;
    Ok(Descriptor::new(media_type::DOCKER_LAYER_GZIP, digest, size))
}
