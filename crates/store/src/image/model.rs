//! What the store says about images.

use std::fmt;
use std::str::FromStr;

use oci::digest::{Digest, DigestError};
use oci::{Descriptor, ImageConfig, Reference};
use serde::{Deserialize, Serialize};

/// An image's id: the digest of its configuration.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub(crate) Digest);

impl ImageId {
    /// The digest of the configuration.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.0
    }

    /// `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The first twelve hex digits, as Docker shows ids to people.
    #[must_use]
    pub fn short(&self) -> &str {
        let hex = self.0.hex();
        hex.get(..12).unwrap_or(hex)
    }
}

impl From<Digest> for ImageId {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl FromStr for ImageId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// An image that is to be made. Its layers are in the store already, held by the same lease.
#[derive(Debug, Clone, Default)]
pub struct NewImage {
    /// The bytes of the configuration.
    pub config: Vec<u8>,
    /// The manifest that it came with, whose bytes were put into the store under the same lease. With it, a push sends
    /// what was pulled, bit for bit.
    pub manifest: Option<Descriptor>,
    /// The image that it was committed from.
    pub parent: Option<ImageId>,
    /// Names that shall lead to it (and no longer to another image).
    pub tags: Vec<Reference>,
    /// Digests that a registry knows it by, `name@sha256:…`: of its manifest, or of the index that was asked for.
    pub repo_digests: Vec<Reference>,
    /// Further documents to keep as long as the image, e.g. that index.
    pub documents: Vec<Digest>,
}

/// An image as it is stored.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Its configuration.
    pub config: ImageConfig,
    /// The image that it was committed from, if that is still here.
    pub parent: Option<ImageId>,
    /// Its names with tags, sorted.
    pub tags: Vec<Reference>,
    /// Its names with digests, sorted.
    pub repo_digests: Vec<Reference>,
    /// The latest manifest that it was pulled or pushed with.
    pub manifest: Option<Descriptor>,
    /// Its layers from the lowest up.
    pub layers: Vec<ImageLayer>,
    /// Sum of the sizes of its layers, in bytes.
    pub size: u64,
    /// When a user last tagged it, nanoseconds since 1970; None: never here.
    pub last_tagged_ns: Option<i64>,
    /// It is not removed to make room on the disk.
    pub is_pinned: bool,
}

impl Image {
    /// Has it no name with a tag?
    #[must_use]
    pub fn is_dangling(&self) -> bool {
        self.tags.is_empty()
    }
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    /// Digest of its plain tar.
    pub diff_id: Digest,
    /// Size of its files in bytes.
    pub size: u64,
}

/// A step of an image's history, as `docker history` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryItem {
    /// The image after this step, if it is here (Docker shows `<missing>` otherwise).
    pub id: Option<ImageId>,
    /// When, RFC 3339.
    pub created: Option<String>,
    /// By what command.
    pub created_by: String,
    /// A message.
    pub comment: String,
    /// Size of the layer that it made, in bytes; 0 if it made none.
    pub size: u64,
    /// Names of that image.
    pub tags: Vec<Reference>,
}

/// Which containers use an image, for the decision whether it may be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUsers {
    /// The id of a running (or paused) container, if there is one.
    pub running: Option<String>,
    /// The id of a container that does not run, if there is one.
    pub stopped: Option<String>,
}

/// What removing an image did, step by step, in the order that Docker reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A name was taken away: `{"Untagged": name.familiar()}`, event `untag` for the image.
    Untagged {
        /// The name.
        name: Reference,
        /// The image that it led to.
        image: ImageId,
    },
    /// An image was deleted: `{"Deleted": id}`, event `delete`.
    Deleted(ImageId),
    /// A layer of it was the last of its chain: `{"Deleted": chain id}`, no event.
    DeletedLayer(Digest),
}
