//! `gantry image copy`: from one repository into another, bit for bit. Nothing of it touches the disk.

use oci::digest::Digest;
use oci::{Platform, Reference};

use crate::Client;
use crate::copy::{Platforms, Pushing, Source, Tree, copy, parse};
use crate::error::{Error, Result};
use crate::progress::{Progress, Sender, message, while_heard};
use crate::push::Pushed;
use crate::remote::resolve::Resolver;
use crate::remote::{Actions, Credentials, Fetched, Remote, translate};

/// What is copied to where, and who asks.
#[derive(Debug)]
pub struct Between<'a> {
    /// From here; `latest` if it has neither tag nor digest.
    pub source: &'a Reference,
    /// To here. Without tag or digest it becomes what the source is called.
    pub destination: &'a Reference,
    /// Only the image for this platform; none: everything that the source names.
    pub platform: Option<&'a Platform>,
    /// For the source's registry.
    pub source_credentials: &'a Credentials,
    /// For the destination's.
    pub destination_credentials: &'a Credentials,
}

impl Client {
    /// Copies an image, or an index with everything below it. Blobs that both registries share are not sent: those of the
    /// same registry are mounted.
    pub async fn copy(&self, between: Between<'_>, progress: &Sender) -> Result<Pushed> {
        while_heard(progress, self.copy_to_first(between, progress)).await
    }

    async fn copy_to_first(&self, between: Between<'_>, progress: &Sender) -> Result<Pushed> {
        let source = between.source.clone().with_default_tag();
        let destination = named_like(between.destination, &source)?;
        if source.familiar_name() == "scratch" || destination.familiar_name() == "scratch" {
            return Err(Error::Reserved);
        }
        let resolver = Resolver::default();
        let mut failure = Error::Task;
        for endpoint in self.endpoints(destination.domain(), &resolver, Actions::PullPush).await? {
            let credentials = between.destination_credentials;
            failure = match self.connect(endpoint, &resolver, &destination, credentials, Actions::PullPush).await {
                Ok(to) => match self.copy_from_first(&between, &source, &to, &destination, progress).await {
                    Ok(root) => return finish(&destination, root, progress).await,
                    Err(error) if to.endpoint.is_mirror && !error.is_local() => error,
                    Err(error) => return Err(error),
                },
                Err(error) => error,
            };
        }
        Err(failure)
    }

    async fn copy_from_first(
        &self,
        between: &Between<'_>,
        source: &Reference,
        to: &Remote,
        destination: &Reference,
        progress: &Sender,
    ) -> Result<Fetched> {
        let (resolver, platform) = (Resolver::default(), between.platform);
        let mut failure = Error::Task;
        for endpoint in self.endpoints(source.domain(), &resolver, Actions::Pull).await? {
            failure = match self.connect(endpoint, &resolver, source, between.source_credentials, Actions::Pull).await {
                Ok(from) => match self.between(&from, source, to, destination, platform, progress).await {
                    Err(error) if from.endpoint.is_mirror && !error.is_local() => error,
                    done => return done,
                },
                Err(error) => error,
            };
        }
        Err(failure)
    }

    async fn between(
        &self,
        from: &Remote,
        source: &Reference,
        to: &Remote,
        destination: &Reference,
        platform: Option<&Platform>,
        progress: &Sender,
    ) -> Result<Fetched> {
        // What the source refuses is told of the source. Later refusals may be the destination's.
        let refused = |error| translate(error, source);
        let root = match source.digest() {
            Some(digest) => from.document(digest).await.map_err(refused)?,
            None => from.manifest(source.tag().unwrap_or_default(), None).await.map_err(refused)?,
        };
        message(progress, "", format!("Copying {source} to {destination}")).await?;
        let document = parse(&root)?;
        let platforms = platform.map_or(Platforms::All, Platforms::One);
        let tree = Tree::read(from, root, document, platforms).await.map_err(refused)?;
        let tree = match (platform, tree) {
            // Of one platform the image itself is wanted, not an index that names what is not there.
            (Some(_), Tree::Index(_, children)) => innermost(children)?,
            (_, tree) => tree,
        };
        let root = copy(from, &Pushing { remote: to, flights: &self.flights, progress }, &tree).await?;
        if let Some(digest) = destination.digest().filter(|digest| **digest != root.digest) {
            return Err(Error::Setup(format!("{source} is {}, it cannot be copied to {digest}", root.digest)));
        }
        let name = destination.digest().map_or_else(|| destination.tag().unwrap_or_default(), Digest::as_str);
        to.put_manifest(name, &root.media_type, root.bytes.clone()).await?;
        Ok(root)
    }
}

fn innermost(mut children: Vec<Tree>) -> Result<Tree> {
    loop {
        match children.pop() {
            Some(Tree::Index(_, deeper)) => children = deeper,
            Some(image) => return Ok(image),
            None => return Err(Error::Task),
        }
    }
}

/// The destination with the tag or digest of the source, if it has none of its own.
fn named_like(destination: &Reference, source: &Reference) -> Result<Reference> {
    if !destination.is_name_only() {
        return Ok(destination.clone());
    }
    match (source.tag(), source.digest()) {
        (Some(tag), _) => Ok(destination.with_tag(tag)?),
        (None, Some(digest)) => Ok(destination.with_digest(digest.clone())),
        (None, None) => Ok(destination.clone().with_default_tag()),
    }
}

/// Tells the end.
async fn finish(destination: &Reference, root: Fetched, progress: &Sender) -> Result<Pushed> {
    let (digest, size) = (root.digest, root.bytes.len() as u64);
    let tag = destination.tag().unwrap_or_default().to_owned();
    let shown = destination.digest().map_or(tag.as_str(), Digest::as_str);
    message(progress, "", format!("{shown}: digest: {digest} size: {size}")).await?;
    let pushed = Progress::Pushed { tag, digest: digest.clone(), size };
    progress.send(pushed).await.map_err(|_| Error::Cancelled)?;
    Ok(Pushed { reference: destination.clone(), digest, size })
}
