//! `docker push`: an image of the store into a repository, in Docker's words.
//!
//! A pulled image is sent bit for bit, with the index that it came by where all of that is here or in the repository
//! already. An image that was made here gets a Docker manifest (schema 2) with its layers in gzip; what was found out
//! about it is kept, so that the next push of it, or of another image with the same layers, knows the digests before it
//! has compressed anything.

use oci::digest::Digest;
use oci::manifest::{Document, MAX_SIZE};
use oci::{Descriptor, Platform, Reference, media_type};
use store::{ImageId, Store};

use crate::copy::store::Stored;
use crate::copy::{Image, Platforms, Pushing, Tree, copy};
use crate::error::{Error, Result};
use crate::progress::{Progress, Sender, message, while_heard};
use crate::remote::resolve::Resolver;
use crate::remote::{Actions, Credentials, Fetched, Remote};
use crate::{Client, blocking};

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
        self.push_platform(references, None, credentials, store, progress).await
    }

    /// As [`Client::push`], but of images that are here for several platforms only the one for this platform.
    pub async fn push_platform(
        &self,
        references: &[Reference],
        platform: Option<&Platform>,
        credentials: &Credentials,
        store: &Store,
        progress: &Sender,
    ) -> Result<Vec<Pushed>> {
        let push = self.push_to_first(references, platform, credentials, store, progress);
        while_heard(progress, push).await
    }

    async fn push_to_first(
        &self,
        references: &[Reference],
        platform: Option<&Platform>,
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
        for endpoint in self.endpoints(repository.domain(), &resolver, Actions::PullPush).await? {
            failure = match self.connect(endpoint, &resolver, &repository, credentials, Actions::PullPush).await {
                Ok(remote) => match self.push_to(&remote, references, platform, store, progress).await {
                    Err(error) if remote.endpoint.is_mirror && !error.is_local() => error,
                    done => return done,
                },
                Err(error) => error,
            };
            tracing::debug!(error = %failure, %repository, "trying the next endpoint");
        }
        Err(failure)
    }

    async fn push_to(
        &self,
        remote: &Remote,
        references: &[Reference],
        platform: Option<&Platform>,
        store: &Store,
        progress: &Sender,
    ) -> Result<Vec<Pushed>> {
        let mut pushed = Vec::new();
        for reference in references {
            pushed.push(Push { client: self, remote, reference, platform, store, progress }.run().await?);
        }
        Ok(pushed)
    }
}

/// One push of one tag.
struct Push<'a> {
    client: &'a Client,
    remote: &'a Remote,
    reference: &'a Reference,
    platform: Option<&'a Platform>,
    store: &'a Store,
    progress: &'a Sender,
}

impl Push<'_> {
    async fn run(&self) -> Result<Pushed> {
        let (store, name) = (self.store.clone(), self.reference.clone());
        let id = blocking(move || store.image_named(&name)?.ok_or_else(|| Error::NoTag(name.familiar()))).await?;
        let mut source = Stored::new(self.store);
        let tree = self.tree(&mut source, &id).await?;
        let destination = Pushing { remote: self.remote, flights: &self.client.flights, progress: self.progress };
        let root = copy(&source, &destination, &tree).await?;
        let tag = self.reference.tag().unwrap_or_default();
        self.remote.put_manifest(tag, &root.media_type, root.bytes.clone()).await?;
        self.finish(&id, root).await
    }

    /// What is sent: as much as there is of what the image came with.
    async fn tree(&self, source: &mut Stored, id: &ImageId) -> Result<Tree> {
        let Some(platform) = self.platform else {
            if let Some(whole) = source.index_of(id, Platforms::All).await? {
                return Ok(whole);
            }
            let image = Box::new(source.image_for_registry(id).await?);
            return self.with_index(id, image).await;
        };
        if let Some(Tree::Index(_, mut children)) = source.index_of(id, Platforms::One(platform)).await?
            && let Some(child) = children.pop()
        {
            return Ok(child);
        }
        let (store, wanted) = (self.store.clone(), id.clone());
        let own = blocking(move || Ok(store.image(&wanted)?.config.platform())).await?;
        if !own.satisfies(platform) {
            let name = self.reference.familiar();
            return Err(Error::NotFound(format!("image {name} is not here for platform {platform}: it is for {own}")));
        }
        Ok(Tree::Image(Box::new(source.image_for_registry(id).await?)))
    }

    /// The index that the image was pulled by around it, if the repository has all else that it names.
    async fn with_index(&self, id: &ImageId, image: Box<Image>) -> Result<Tree> {
        let Some(manifest) = &image.manifest else { return Ok(Tree::Image(image)) };
        let (store, id, own) = (self.store.clone(), id.clone(), manifest.digest.clone());
        let Some((index, others)) = blocking(move || index_around(&store, &id, &own)).await? else {
            return Ok(Tree::Image(image));
        };
        for other in others {
            if !self.remote.has_manifest(&other).await? {
                return Ok(Tree::Image(image));
            }
        }
        Ok(Tree::Index(index, vec![Tree::Image(image)]))
    }

    /// Tells the end, and remembers what the image is in the registry.
    async fn finish(&self, id: &ImageId, root: Fetched) -> Result<Pushed> {
        let Fetched { media_type: kind, digest, bytes } = root;
        let size = bytes.len() as u64;
        let tag = self.reference.tag().unwrap_or_default().to_owned();
        message(self.progress, "", format!("{tag}: digest: {digest} size: {size}")).await?;
        let pushed = Progress::Pushed { tag, digest: digest.clone(), size };
        self.progress.send(pushed).await.map_err(|_| Error::Cancelled)?;
        let (store, id, own) = (self.store.clone(), id.clone(), digest.clone());
        let name = self.reference.with_digest(digest.clone());
        // With one platform of several, the registry has something that the image here is not.
        let is_own = self.platform.is_none();
        let manifest = (is_own && media_type::is_manifest(&kind)).then(|| Descriptor::new(&kind, digest.clone(), size));
        blocking(move || {
            let lease = store.lease();
            store.blob_put_as(&lease, &own, &bytes)?;
            if is_own {
                store.image_add_repo_digest(&id, &name, manifest)?;
            }
            Ok(())
        })
        .await?;
        Ok(Pushed { reference: self.reference.clone(), digest, size })
    }
}

/// The index that an image is known by, if it has this manifest in it, and the other manifests that it names.
fn index_around(store: &Store, id: &ImageId, manifest: &Digest) -> Result<Option<(Fetched, Vec<Digest>)>> {
    for known in store.image(id)?.repo_digests {
        let Some(digest) = known.digest() else { continue };
        let Ok(bytes) = store.blob_read(digest, MAX_SIZE as u64) else { continue };
        if let Ok(Document::Index(index)) = Document::parse("", &bytes)
            && index.manifests.iter().any(|entry| entry.digest == *manifest)
        {
            let others = index.manifests.into_iter().map(|entry| entry.digest).filter(|other| other != manifest);
            let fetched = Fetched { media_type: String::new(), digest: digest.clone(), bytes };
            return Ok(Some((fetched, others.collect())));
        }
    }
    Ok(None)
}
