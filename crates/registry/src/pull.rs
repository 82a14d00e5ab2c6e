//! `docker pull`: from a name in a registry to an image in the store, in Docker's words.

use oci::digest::Digest;
use oci::manifest::Document;
use oci::{Platform, Reference};
use store::{ImageId, Store};

use crate::copy::store::{Contents, Images, Nearby};
use crate::copy::{Platforms, Source, Tree, check_is_image, copy, parse};
use crate::error::{Error, Result};
use crate::progress::{Sender, message, while_heard};
use crate::remote::resolve::Resolver;
use crate::remote::{Actions, Credentials, Fetched, Remote, translate};
use crate::{Client, blocking};

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

/// What of an index is brought.
#[derive(Debug, Clone, Copy)]
enum Extent {
    /// The image for the platform.
    Image,
    /// That, and everything else as it is.
    Whole,
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
        self.pull_extent(reference, platform, Extent::Image, credentials, store, progress).await
    }

    /// As [`Client::pull`], and keeps the images of the index for all other platforms with it, so that a push sends
    /// the index whole. They are not unpacked.
    pub async fn pull_all_platforms(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        credentials: &Credentials,
        store: &Store,
        progress: &Sender,
    ) -> Result<Pulled> {
        self.pull_extent(reference, platform, Extent::Whole, credentials, store, progress).await
    }

    async fn pull_extent(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        extent: Extent,
        credentials: &Credentials,
        store: &Store,
        progress: &Sender,
    ) -> Result<Pulled> {
        let reference = reference.clone().with_default_tag();
        if reference.familiar_name() == "scratch" {
            return Err(Error::Reserved);
        }
        let host = Platform::host();
        let wanted = platform.unwrap_or(&host);
        let resolver = Resolver::default();
        let mut failure = None;
        for endpoint in self.endpoints(reference.domain(), &resolver, Actions::Pull).await? {
            let is_mirror = endpoint.is_mirror;
            let connecting = self.connect(endpoint, &resolver, &reference, credentials, Actions::Pull);
            let error = match while_heard(progress, connecting).await {
                Ok(remote) => {
                    let pull = Pull { client: self, remote: &remote, reference: &reference, store, progress };
                    match pull.run(wanted, extent).await {
                        Ok(pulled) => return Ok(pulled),
                        Err(error) if is_mirror && !error.is_local() => error,
                        Err(error) => return Err(translate(error, &reference)),
                    }
                }
                Err(error @ Error::Cancelled) => return Err(error),
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
        for endpoint in self.endpoints(reference.domain(), &resolver, Actions::Pull).await? {
            match self.connect(endpoint, &resolver, reference, credentials, Actions::Pull).await {
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
    client: &'a Client,
    remote: &'a Remote,
    reference: &'a Reference,
    store: &'a Store,
    progress: &'a Sender,
}

impl Pull<'_> {
    async fn run(&self, platform: &Platform, extent: Extent) -> Result<Pulled> {
        let source = Nearby { remote: self.remote, store: self.store };
        let root = while_heard(self.progress, self.resolve(&source)).await?;
        let document = parse(&root)?;
        if let Document::Manifest(manifest) = &document {
            check_is_image(manifest)?;
        }
        let shown = self.reference.digest().map_or_else(|| self.reference.tag().unwrap_or_default(), Digest::as_str);
        message(self.progress, shown, format!("Pulling from {}", self.remote.path)).await?;
        let digest = root.digest.clone();
        let (image_id, up_to_date) = self.bring(&source, root, document, platform, extent).await?;
        message(self.progress, "", format!("Digest: {digest}")).await?;
        Ok(Pulled { image_id, digest, up_to_date })
    }

    /// The document that the reference names. If the tag is known here, its digest is asked for first, which costs
    /// registries little and often is the whole answer.
    async fn resolve(&self, source: &Nearby<'_>) -> Result<Fetched> {
        if let Some(digest) = self.reference.digest() {
            return source.document(digest).await;
        }
        let tag = self.reference.tag().unwrap_or_default();
        let (store, name) = (self.store.clone(), self.reference.clone());
        if blocking(move || Ok(store.image_named(&name)?)).await?.is_some()
            && let Some(digest) = self.remote.digest_of(tag).await?
        {
            return source.document(&digest).await;
        }
        self.remote.manifest(tag, None).await
    }

    /// Brings configuration and layers, and makes the image. Tells whether the name led to it before.
    async fn bring(
        &self,
        source: &Nearby<'_>,
        root: Fetched,
        document: Document,
        platform: &Platform,
        extent: Extent,
    ) -> Result<(ImageId, bool)> {
        let digest = root.digest.clone();
        let (options, flights) = (&self.client.options, &*self.client.flights);
        let images = Images::new(self.store, options, flights, self.progress);
        let work = async {
            let tree = Tree::read(source, root.clone(), document.clone(), Platforms::One(platform)).await?;
            let placed = copy(source, &images, &tree).await?;
            let documents = match extent {
                Extent::Image => Vec::new(),
                Extent::Whole => {
                    let whole = Tree::read(source, root, document, Platforms::All).await?;
                    let (store, lease, progress) = (self.store, images.lease(), self.progress);
                    copy(source, &Contents { store, lease, options, flights, progress }, &whole).await?
                }
            };
            let name = self.reference;
            let tags = if name.digest().is_some() { Vec::new() } else { vec![name.clone()] };
            images.register(placed, tags, vec![name.with_digest(digest)], documents).await
        };
        let result = while_heard(self.progress, work).await;
        // The lease goes when nobody adds to it any more.
        drop(images.settle().await);
        result
    }
}
