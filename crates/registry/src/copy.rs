//! The one operation under pull, push, save, load and registry-to-registry copy.
//!
//! ```text
//!             source                                     destination
//!  remote     documents and blobs by digest              asks: is it there? can it be mounted? else takes a stream
//!  store      the same, and layers that become blobs     unpacks layers under their diff ids; keeps documents
//!             only when somebody wants them
//!  content    –                                          keeps blobs as they are, for platforms that never run here
//!  archive    documents, and layers that were taken      writes one file after another
//!             into the store while the stream was read
//! ```
//!
//! What is to be copied is a [`Tree`]: an index, its manifests, and what they name. [`copy`] walks it with children
//! before parents, so that nothing is ever named whose parts are missing, and hands the blobs to the destination,
//! several at a time. The destination chooses the cheapest way for each. It does not name the result: that is the last
//! step of those above, who know what the name is (`pull`, `push`, `between`, `save`, `load`).

pub(crate) mod archive;
mod content;
pub(crate) mod flight;
mod remote;
pub(crate) mod store;

use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, TryStreamExt};
use oci::digest::Digest;
use oci::manifest::{Document, Index, ManifestError};
use oci::{Descriptor, Manifest, Platform, media_type};
use tokio::sync::{Semaphore, mpsc};

pub(crate) use self::content::Content;
use self::flight::Turn;
pub(crate) use self::remote::Pushing;
use crate::error::{Error, Result};
use crate::remote::Fetched;
use crate::remote::transport::go_json_error;

/// Indexes may name indexes, but not for ever.
const MAX_INDEX_DEPTH: usize = 3;
/// Manifests of one index and all below it; their bytes are held in memory until the copy ends.
const MAX_MANIFESTS: usize = 1000;
const MAX_DOCUMENTS: usize = 16 << 20;
/// Pieces between the making of a blob and its destination.
const QUEUE: usize = 2;

/// Where an image is copied from.
pub(crate) trait Source: Sync {
    /// A manifest or index by digest, verified.
    fn document(&self, digest: &Digest) -> impl Future<Output = Result<Fetched>> + Send;

    /// An image as its manifest describes it, with everything that is known of its layers.
    fn image(&self, fetched: Fetched, manifest: Manifest) -> impl Future<Output = Result<Image>> + Send;

    /// The bytes of a blob from this one on.
    fn open(&self, blob: &Descriptor, offset: u64) -> impl Future<Output = Result<Content>> + Send;

    /// The blob that a layer is, when the destination has none of its choices. A layer that was made here becomes one
    /// now, and goes through `tap` meanwhile; of what is a blob already nothing does.
    fn settle(&self, layer: &Layer, tap: Option<Tap>) -> impl Future<Output = Result<Descriptor>> + Send;
}

/// Where an image is copied to.
pub(crate) trait Destination: Sync {
    /// Something that has to be there before the manifest: a layer as this destination sees it.
    type Part: Send + Sync;
    /// An image or index whose parts are all there.
    type Placed: Send;

    /// So many parts are brought at once.
    fn lanes(&self) -> usize;

    /// Is this manifest or index there, and with it all that it names?
    fn has(&self, document: &Fetched) -> impl Future<Output = Result<Option<Self::Placed>>> + Send;

    /// What an image needs, in the order in which the work begins.
    fn parts<S: Source>(&self, source: &S, image: &Image) -> impl Future<Output = Result<Vec<Self::Part>>> + Send;

    /// Brings one of them. Returns the blob that it is at the destination.
    fn bring<S: Source>(&self, source: &S, part: &Self::Part) -> impl Future<Output = Result<Descriptor>> + Send;

    /// The image itself, after its parts. `brought` is what [`Destination::bring`] returned, in the order of the parts.
    fn image<S: Source>(
        &self,
        source: &S,
        image: &Image,
        brought: Vec<Descriptor>,
    ) -> impl Future<Output = Result<Self::Placed>> + Send;

    /// An index, after the manifests of it that are copied.
    fn index(&self, index: &Fetched, children: Vec<Self::Placed>) -> impl Future<Output = Result<Self::Placed>> + Send;
}

/// What is copied.
pub(crate) enum Tree {
    Image(Box<Image>),
    Index(Fetched, Vec<Tree>),
}

/// One image for one platform.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Its manifest, if it has one. What was made here, or comes from an archive of Docker's own format, has none yet.
    pub(crate) manifest: Option<Fetched>,
    pub(crate) config: Descriptor,
    /// From the lowest up.
    pub(crate) layers: Vec<Layer>,
}

/// A layer, which may be known as several blobs: the same files, compressed in different ways.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// What it may be at the destination, the best first. Empty: nothing is known but the diff id.
    pub(crate) choices: Vec<Choice>,
    /// Digest of the plain tar, where the source knows it.
    pub(crate) diff_id: Option<Digest>,
}

/// Where the bytes of a blob go while it is made. It is made to its end whether anybody listens or not, and until then
/// whoever makes it has the turn: others that want it wait.
pub(crate) struct Tap {
    pieces: Option<mpsc::Sender<Made>>,
    _turn: Turn,
}

impl Tap {
    /// A tap, and the end that its bytes come out of.
    pub(crate) fn new(turn: Turn) -> (Self, mpsc::Receiver<Made>) {
        let (pieces, made) = mpsc::channel(QUEUE);
        (Self { pieces: Some(pieces), _turn: turn }, made)
    }

    /// Hands over a piece, which is put together only for somebody who listens. On a thread that may block.
    pub(crate) fn send(&mut self, make: impl FnOnce() -> Made) {
        self.pieces.take_if(|pieces| pieces.blocking_send(make()).is_err());
    }
}

/// A piece of a blob that is being made.
pub(crate) struct Made {
    pub(crate) bytes: Bytes,
    /// How far it is with what it is made of, in bytes, and of how many.
    pub(crate) position: (u64, u64),
}

/// A blob that a layer may be.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) blob: Descriptor,
    /// Repositories that have it, as domain and path.
    pub(crate) repositories: Vec<(String, String)>,
}

/// Which images of an index are copied.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Platforms<'a> {
    /// The best one for a platform.
    One(&'a Platform),
    All,
}

/// Copies everything below a tree, and its documents but the root's own. Returns what the destination made of the root.
pub(crate) async fn copy<S: Source, D: Destination>(source: &S, destination: &D, tree: &Tree) -> Result<D::Placed> {
    let lanes = Semaphore::new(destination.lanes().max(1));
    bring(source, destination, &lanes, tree).await
}

fn bring<'a, S: Source, D: Destination>(
    source: &'a S,
    destination: &'a D,
    lanes: &'a Semaphore,
    tree: &'a Tree,
) -> Pin<Box<dyn Future<Output = Result<D::Placed>> + Send + 'a>> {
    Box::pin(async move {
        match tree {
            Tree::Image(image) => bring_image(source, destination, lanes, image).await,
            Tree::Index(index, children) => {
                let mut placed = Vec::new();
                // One after the other: the parts of each are brought side by side, and what they share comes once.
                for child in children {
                    let there = match child.document() {
                        Some(document) => destination.has(document).await?,
                        None => None,
                    };
                    placed.push(match there {
                        Some(there) => there,
                        None => bring(source, destination, lanes, child).await?,
                    });
                }
                destination.index(index, placed).await
            }
        }
    })
}

async fn bring_image<S: Source, D: Destination>(
    source: &S,
    destination: &D,
    lanes: &Semaphore,
    image: &Image,
) -> Result<D::Placed> {
    let parts = destination.parts(source, image).await?;
    let work: FuturesOrdered<_> = parts
        .iter()
        .map(async |part| {
            let _lane = lanes.acquire().await.map_err(|_| Error::Task)?;
            destination.bring(source, part).await
        })
        .collect();
    let brought = work.try_collect().await?;
    destination.image(source, image, brought).await
}

impl Tree {
    /// Reads what is below a document, as far as it is to be copied.
    pub(crate) async fn read<S: Source>(
        source: &S,
        root: Fetched,
        document: Document,
        platforms: Platforms<'_>,
    ) -> Result<Self> {
        let mut budget = Budget { manifests: MAX_MANIFESTS, bytes: MAX_DOCUMENTS };
        read(source, root, document, platforms, MAX_INDEX_DEPTH, &mut budget).await
    }

    /// All images in it.
    pub(crate) fn images(&self) -> Vec<&Image> {
        match self {
            Self::Image(image) => vec![image],
            Self::Index(_, children) => children.iter().flat_map(Self::images).collect(),
        }
    }

    /// The manifest or index at the root, if there is one.
    pub(crate) fn document(&self) -> Option<&Fetched> {
        match self {
            Self::Image(image) => image.manifest.as_ref(),
            Self::Index(index, _) => Some(index),
        }
    }
}

/// What may still be read.
struct Budget {
    manifests: usize,
    bytes: usize,
}

impl Budget {
    fn take(&mut self, fetched: &Fetched) -> Result<()> {
        let spent = || Error::TooMany(format!("more than {MAX_MANIFESTS} manifests, or {MAX_DOCUMENTS} bytes of them"));
        self.manifests = self.manifests.checked_sub(1).ok_or_else(spent)?;
        self.bytes = self.bytes.checked_sub(fetched.bytes.len()).ok_or_else(spent)?;
        Ok(())
    }
}

fn read<'a, S: Source>(
    source: &'a S,
    fetched: Fetched,
    document: Document,
    platforms: Platforms<'a>,
    depth: usize,
    budget: &'a mut Budget,
) -> Pin<Box<dyn Future<Output = Result<Tree>> + Send + 'a>> {
    Box::pin(async move {
        budget.take(&fetched)?;
        let index = match document {
            Document::Manifest(manifest) => {
                if let Platforms::One(_) = platforms {
                    check_is_image(&manifest)?;
                }
                return Ok(Tree::Image(Box::new(source.image(fetched, manifest).await?)));
            }
            Document::Index(index) => index,
        };
        let wanted: Vec<&Descriptor> = match platforms {
            Platforms::All => index.manifests.iter().collect(),
            Platforms::One(platform) => {
                vec![best_match(&index, platform).ok_or_else(|| Error::NoPlatform(platform.to_string()))?]
            }
        };
        if depth == 0 {
            return Err(match platforms {
                Platforms::One(platform) => Error::NoPlatform(platform.to_string()),
                Platforms::All => Error::TooMany(format!("indexes nested more than {MAX_INDEX_DEPTH} deep")),
            });
        }
        let mut children = Vec::new();
        for entry in wanted {
            let child = source.document(&entry.digest).await?;
            let document = parse(&child)?;
            children.push(read(source, child, document, platforms, depth - 1, budget).await?);
        }
        Ok(Tree::Index(fetched, children))
    })
}

/// What a document is.
pub(crate) fn parse(fetched: &Fetched) -> Result<Document> {
    Document::parse(&fetched.media_type, &fetched.bytes).map_err(|error| match error {
        ManifestError::Json(error) => Error::Json(go_json_error(&fetched.bytes, &error)),
        other => other.into(),
    })
}

/// The type under which a document is sent: what it says itself, else what it came as, else OCI's.
pub(crate) fn type_of(fetched: &Fetched) -> String {
    let (own, usual) = match Document::parse(&fetched.media_type, &fetched.bytes) {
        Ok(Document::Index(index)) => (index.media_type, media_type::OCI_INDEX),
        Ok(Document::Manifest(manifest)) => (manifest.media_type, media_type::OCI_MANIFEST),
        Err(_) => (None, media_type::OCI_MANIFEST),
    };
    let delivered = fetched.media_type.split(';').next().unwrap_or_default().trim();
    let is_known = media_type::is_manifest(delivered) || media_type::is_index(delivered);
    own.unwrap_or_else(|| if is_known { delivered.to_owned() } else { usual.to_owned() })
}

/// Artifacts (charts, plugins, signatures) come in the same manifests.
pub(crate) fn check_is_image(manifest: &Manifest) -> Result<()> {
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
pub(crate) fn best_match<'a>(index: &'a Index, wanted: &Platform) -> Option<&'a Descriptor> {
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
