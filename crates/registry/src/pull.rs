//! Pulling: from a reference to an image in the store.

use std::collections::HashSet;

use futures_util::stream::{FuturesUnordered, TryStreamExt};
use oci::digest::Digest;
use oci::manifest::{Document, Index, ManifestError};
use oci::{Descriptor, ImageConfig, Manifest, Platform, Reference, media_type};
use store::{ImageId, Lease, NewImage, Store};
use tokio::sync::{Semaphore, mpsc};

use crate::auth::Credentials;
use crate::error::{Error, Result};
use crate::progress::{LayerProgress, LayerStatus, Sender, message};
use crate::remote::{Actions, Fetched, Remote, translate};
use crate::resolve::Resolver;
use crate::transport::go_json_error;
use crate::{Client, Options, download};

/// Indexes may name indexes, but not for ever.
const MAX_INDEX_DEPTH: usize = 3;

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image.
    pub image_id: ImageId,
    /// What the reference is in the registry: the digest of the manifest, or of the index.
    pub digest: Digest,
    /// Did the name lead to this image before?
    pub up_to_date: bool,
}

/// A platform's manifest, and what it was found in.
struct Chosen {
    manifest: Manifest,
    fetched: Fetched,
    /// The index that the reference names, if it names one.
    indexes: Vec<Fetched>,
}

impl Client {
    /// Pulls an image and names it after the reference (with `latest` if it has neither tag nor digest).
    ///
    /// `platform` chooses from an index; none is this machine's.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        credentials: &Credentials,
        store: &Store,
        progress: &Sender,
    ) -> Result<Pulled> {
        let reference = reference.clone().with_default_tag();
        let resolver = Resolver::default();
        let mut failure = None;
        if reference.familiar_name() == "scratch" {
            return Err(Error::Reserved);
        }
        for endpoint in self.endpoints(&reference, &resolver, Actions::Pull).await {
            let is_mirror = endpoint.is_mirror;
            let path = reference.path().to_owned();
            let connected =
                Remote::connect(endpoint, &self.options, &resolver, path, credentials.clone(), Actions::Pull).await;
            let error = match connected {
                Ok(remote) => {
                    let pull = Pull { remote: &remote, options: &self.options, reference: &reference, store, progress };
                    match pull.run(platform).await {
                        Ok(pulled) => return Ok(pulled),
                        Err(error)
                            if is_mirror && !matches!(error, Error::Cancelled | Error::Layer(_) | Error::Store(_)) =>
                        {
                            error
                        }
                        Err(error) => return Err(translate(error, &reference)),
                    }
                }
                Err(error) => error,
            };
            tracing::debug!(%error, %reference, "trying the next endpoint");
            failure = Some(error);
        }
        Err(failure.map_or(Error::Task, |error| translate(error, &reference)))
    }

    /// All tags of a repository.
    pub async fn tags(&self, reference: &Reference, credentials: &Credentials) -> Result<Vec<String>> {
        let resolver = Resolver::default();
        let mut failure = Error::Task;
        for endpoint in self.endpoints(reference, &resolver, Actions::Pull).await {
            let path = reference.path().to_owned();
            match Remote::connect(endpoint, &self.options, &resolver, path, credentials.clone(), Actions::Pull).await {
                Ok(remote) => match remote.tags().await {
                    Ok(tags) => return Ok(tags),
                    Err(error) if remote.endpoint.is_mirror => failure = error,
                    Err(error) => return Err(translate(error, reference)),
                },
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// One pull from one endpoint.
struct Pull<'a> {
    remote: &'a Remote,
    options: &'a Options,
    reference: &'a Reference,
    store: &'a Store,
    progress: &'a Sender,
}

impl Pull<'_> {
    async fn run(&self, platform: Option<&Platform>) -> Result<Pulled> {
        let first = self.resolve().await?;
        let document = parse(&first)?;
        if let Document::Manifest(manifest) = &document {
            check_is_image(manifest)?;
        }
        let shown = self.reference.digest().map_or_else(|| self.reference.tag().unwrap_or_default(), Digest::as_str);
        message(self.progress, shown, format!("Pulling from {}", self.remote.path)).await?;
        let digest = first.digest.clone();
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        let chosen = self.choose(first, document, &wanted).await?;
        let (image_id, up_to_date) = self.bring(&digest, chosen).await?;
        message(self.progress, "", format!("Digest: {digest}")).await?;
        Ok(Pulled { image_id, digest, up_to_date })
    }

    /// The document that the reference names. If the tag is known here, its digest is asked for first, which costs
    /// registries little and often is the whole answer.
    async fn resolve(&self) -> Result<Fetched> {
        if let Some(digest) = self.reference.digest() {
            return self.fetch(digest).await;
        }
        let tag = self.reference.tag().unwrap_or_default();
        let (store, name) = (self.store.clone(), self.reference.clone());
        if blocking(move || Ok(store.image_named(&name)?)).await?.is_some()
            && let Some(digest) = self.remote.digest_of(tag).await?
        {
            return self.fetch(&digest).await;
        }
        self.remote.manifest(tag, None).await
    }

    /// A manifest or index by digest, from the store if it is there.
    async fn fetch(&self, digest: &Digest) -> Result<Fetched> {
        let (store, wanted) = (self.store.clone(), digest.clone());
        let known = blocking(move || match store.blob_read(&wanted, oci::manifest::MAX_SIZE as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(store::Error::NoSuchBlob(_)) => Ok(None),
            Err(error) => Err(error.into()),
        });
        match known.await? {
            Some(bytes) => Ok(Fetched { media_type: String::new(), digest: digest.clone(), bytes }),
            None => self.remote.manifest("", Some(digest)).await,
        }
    }

    /// From an index to the manifest for a platform.
    async fn choose(&self, mut fetched: Fetched, mut document: Document, wanted: &Platform) -> Result<Chosen> {
        let mut indexes = Vec::new();
        loop {
            let index = match document {
                Document::Manifest(manifest) => {
                    check_is_image(&manifest)?;
                    return Ok(Chosen { manifest, fetched, indexes });
                }
                Document::Index(index) => index,
            };
            let best = best_match(&index, wanted).ok_or_else(|| Error::NoPlatform(wanted.to_string()))?;
            let next = self.fetch(&best.digest).await?;
            indexes.push(fetched);
            if indexes.len() > MAX_INDEX_DEPTH {
                return Err(Error::NoPlatform(wanted.to_string()));
            }
            document = parse(&next)?;
            fetched = next;
        }
    }

    /// Brings configuration and layers, and makes the image. Tells whether the name led to it before.
    async fn bring(&self, digest: &Digest, chosen: Chosen) -> Result<(ImageId, bool)> {
        let store = self.store.clone();
        let lease = store.lease();
        let config_digest = chosen.manifest.config.digest.clone();
        let bytes = self.config(&config_digest).await?;
        let config = ImageConfig::parse(&bytes).map_err(|error| match error {
            oci::image_config::ImageConfigError::Json(error) => Error::Json(go_json_error(&bytes, &error)),
            oci::image_config::ImageConfigError::NoRootFs => Error::RootFs,
        })?;
        if !config.os.is_empty() && config.os != "linux" {
            return Err(Error::OperatingSystem(config.os));
        }
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != chosen.manifest.layers.len() {
            return Err(Error::LayerMismatch);
        }
        self.layers(&lease, &chosen.manifest, diff_ids).await?;
        let (name, digest) = (self.reference.clone(), digest.clone());
        blocking(move || register(&store, &lease, &name, &digest, bytes, &chosen)).await
    }

    async fn config(&self, digest: &Digest) -> Result<Vec<u8>> {
        let (store, wanted) = (self.store.clone(), digest.clone());
        if let Ok(known) = blocking(move || Ok(store.blob_read(&wanted, crate::remote::MAX_CONFIG)?)).await {
            return Ok(known);
        }
        let mut attempt = 1;
        loop {
            let error = match self.remote.config(digest).await {
                Ok(bytes) => return Ok(bytes),
                Err(error @ Error::ConfigDigest(_)) => return Err(Error::PullConfig(Box::new(error))),
                Err(error) => error,
            };
            if !error.is_transient() || attempt >= self.options.attempts {
                let source = Box::new(error);
                return Err(Error::PullConfig(Box::new(Error::Download { attempts: attempt, source })));
            }
            tokio::time::sleep(download::delay(self.options, attempt)).await;
            attempt += 1;
        }
    }

    /// Brings the layers that are not here, a few at a time.
    ///
    /// A layer may be here from elsewhere, compressed in another way or not at all. Then its blob alone is brought, so
    /// that the image can be pushed as it came. Of an image that is here as a whole nothing is told, as in Docker.
    async fn layers(&self, lease: &Lease, manifest: &Manifest, diff_ids: &[Digest]) -> Result<()> {
        let id = ImageId::from(manifest.config.digest.clone());
        let (store, held) = (self.store.clone(), lease.clone());
        let wanted: Vec<(Digest, Digest)> =
            diff_ids.iter().cloned().zip(manifest.layers.iter().map(|blob| blob.digest.clone())).collect();
        let (is_known, here) = blocking(move || {
            let hold = |(diff_id, blob): &(Digest, Digest)| -> Result<(bool, bool)> {
                Ok((store.layer_hold(&held, diff_id)?.is_some(), store.blob_hold(&held, blob)?))
            };
            let here = wanted.iter().map(hold).collect::<Result<Vec<_>>>()?;
            Ok((store.image(&id).is_ok(), here))
        })
        .await?;
        if is_known && here.iter().all(|(layer, blob)| *layer && *blob) {
            return Ok(());
        }
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for ((blob, diff_id), (has_layer, has_blob)) in manifest.layers.iter().zip(diff_ids).zip(here) {
            // An image may have the same layer twice, an empty one for example.
            if !seen.insert(diff_id) {
                continue;
            }
            let layer = LayerProgress::new(self.progress, &blob.digest);
            if has_layer && has_blob {
                layer.state(LayerStatus::AlreadyExists).await?;
            } else {
                layer.state(LayerStatus::PullingFsLayer).await?;
                missing.push((blob, (!has_layer).then_some(diff_id), layer));
            }
        }
        for (_, _, layer) in missing.iter().skip(self.options.max_downloads) {
            layer.state(LayerStatus::Waiting).await?;
        }
        let turns = Semaphore::new(self.options.max_downloads.max(1));
        // Every thread holds one end; the other sees when the last has ended.
        let (alive, mut ended) = mpsc::channel::<()>(1);
        let work: FuturesUnordered<_> = missing
            .into_iter()
            .map(async |(blob, diff_id, layer)| {
                let _turn = turns.acquire().await.map_err(|_| Error::Task)?;
                let layer = download::Layer { blob, diff_id, progress: &layer, alive: alive.clone() };
                download::layer(self.remote, self.options, self.store, lease, layer).await
            })
            .collect();
        // The first failure drops the others, whose threads end at their next byte. They hold what they have made,
        // so a pull that has failed leaves nothing only when they are gone.
        let result = work.try_collect::<Vec<()>>().await.map(drop);
        drop(alive);
        let _ = ended.recv().await;
        result
    }
}

/// Makes the image with its names, in one transaction.
fn register(
    store: &Store,
    lease: &Lease,
    name: &Reference,
    digest: &Digest,
    config: Vec<u8>,
    chosen: &Chosen,
) -> Result<(ImageId, bool)> {
    let before = store.image_named(name)?;
    store.blob_put(lease, &chosen.fetched.bytes)?;
    let mut documents: Vec<Digest> =
        chosen.indexes.iter().map(|index| store.blob_put(lease, &index.bytes)).collect::<Result<_, _>>()?;
    // The blobs that this manifest names stay as long as the image, whatever other images make of their layers.
    documents.extend(chosen.manifest.layers.iter().map(|blob| blob.digest.clone()));
    let media_type = chosen.manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
    let manifest = Descriptor::new(media_type, chosen.fetched.digest.clone(), chosen.fetched.bytes.len() as u64);
    let image = NewImage {
        config,
        manifest: Some(manifest),
        parent: None,
        tags: if name.digest().is_some() { Vec::new() } else { vec![name.clone()] },
        repo_digests: vec![name.with_digest(digest.clone())],
        documents,
    };
    let id = store.image_create(lease, image)?;
    let up_to_date = before.as_ref() == Some(&id);
    Ok((id, up_to_date))
}

fn parse(fetched: &Fetched) -> Result<Document> {
    Document::parse(&fetched.media_type, &fetched.bytes).map_err(|error| match error {
        ManifestError::Json(error) => Error::Json(go_json_error(&fetched.bytes, &error)),
        other => other.into(),
    })
}

/// Artifacts (charts, plugins, signatures) come in the same manifests.
fn check_is_image(manifest: &Manifest) -> Result<()> {
    let found = manifest.config.media_type.as_str();
    // Very old pushes name no type that says anything.
    if media_type::is_config(found) || matches!(found, "" | "application/octet-stream" | "text/html") {
        return Ok(());
    }
    let kind = if found == "application/vnd.docker.plugin.v1+json" { "plugin" } else { "unknown" };
    Err(Error::NotAnImage(found.to_owned(), kind))
}

/// The best entry for a platform: of those that run on it the one with the highest variant, of equals the first.
/// An entry without a platform is better than nothing.
fn best_match<'a>(index: &'a Index, wanted: &Platform) -> Option<&'a Descriptor> {
    let is_image = |d: &&Descriptor| media_type::is_manifest(&d.media_type) || media_type::is_index(&d.media_type);
    let rank = |descriptor: &Descriptor| match &descriptor.platform {
        None => Some(0),
        Some(platform) if platform.os.is_empty() && platform.architecture.is_empty() => Some(0),
        Some(platform) => platform.satisfies(wanted).then(|| 1 + platform.variant_number()),
    };
    let mut best: Option<(u32, &Descriptor)> = None;
    for descriptor in index.manifests.iter().filter(is_image) {
        if let Some(rank) = rank(descriptor)
            && best.is_none_or(|(so_far, _)| rank > so_far)
        {
            best = Some((rank, descriptor));
        }
    }
    best.map(|(_, descriptor)| descriptor)
}

/// Work of the store, on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Task)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> Index {
        let one = |text: &&str| {
            let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, text.as_bytes());
            let mut parts = text.split('/').map(str::to_owned);
            descriptor.platform = (!text.is_empty()).then(|| Platform {
                os: parts.next().unwrap_or_default(),
                architecture: parts.next().unwrap_or_default(),
                variant: parts.next(),
                ..Platform::default()
            });
            descriptor
        };
        serde_json::from_value(serde_json::json!({
            "schemaVersion": 2, "manifests": platforms.iter().map(one).collect::<Vec<_>>()
        }))
        .unwrap()
    }

    #[test]
    fn the_best_platform_is_chosen() {
        for (wanted, platforms, expected) in [
            ("linux/amd64", &["linux/arm64", "linux/amd64", "unknown/unknown"][..], Some("linux/amd64")),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], Some("linux/arm/v6")),
            ("linux/arm64", &["linux/arm64/v8", "linux/arm/v7"], Some("linux/arm64/v8")),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], Some("linux/amd64")),
            ("linux/amd64", &["", "linux/amd64"], Some("linux/amd64")),
            ("linux/amd64", &["linux/s390x", ""], Some("")),
            ("linux/amd64", &["windows/amd64"], None),
        ] {
            let index = index(platforms);
            let found = best_match(&index, &Platform::parse(wanted).unwrap());
            assert_eq!(found.map(|d| &d.digest), expected.map(|text| Digest::of(text.as_bytes())).as_ref(), "{wanted}");
        }
    }
}
