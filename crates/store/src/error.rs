//! What can go wrong in the store. Texts that a client may match on are Docker's own.

use std::io;
use std::path::{Path, PathBuf};

use oci::digest::Digest;

/// What kind of trouble an [`Error`] is, for a caller that answers with a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such thing.
    NotFound,
    /// It cannot be done in this state.
    Conflict,
    /// The input is bad.
    InvalidParameter,
    /// It is our trouble: a disk, a database, a bug.
    System,
}

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No image has this name or id.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// A name that is no reference.
    #[error(transparent)]
    Reference(#[from] oci::reference::ReferenceError),
    /// A name that cannot become a tag; the text is Docker's.
    #[error("{0}")]
    BadTag(&'static str),
    /// The image cannot be deleted now; the text is Docker's.
    #[error("{0}")]
    ImageConflict(String),
    /// The configuration of an image cannot be read.
    #[error(transparent)]
    ImageConfig(#[from] oci::image_config::ImageConfigError),
    /// An image cannot be made because one of its layers is not here.
    #[error("layer {0} does not exist")]
    NoSuchLayer(Digest),
    /// A layer's files are not what they were.
    #[error("layer {0} is damaged: pull or load its image again")]
    DamagedLayer(Digest),
    /// No content has this digest.
    #[error("content {0} does not exist")]
    NoSuchBlob(Digest),
    /// An image has more layers than can be mounted.
    #[error("the image has {0} layers, and the kernel stacks no more than {1}")]
    TooDeep(usize, usize),
    /// There is no snapshot for this container.
    #[error("no snapshot for container {0}")]
    NoSuchSnapshot(String),
    /// There is one already.
    #[error("container {0} has a snapshot already")]
    SnapshotExists(String),
    /// The root of a container cannot be mounted.
    #[error("mounting the root of container {id}: {source}")]
    Mount {
        /// The container.
        id: String,
        /// Why.
        source: sys::mount::Error,
    },
    /// A name that cannot be a container's directory.
    #[error("invalid container id: {0}")]
    InvalidId(String),
    /// Content is larger than a caller is ready to take.
    #[error("content {digest} has {size} bytes, more than the allowed {limit}")]
    TooLarge {
        /// Its digest.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Content is not what its digest says.
    #[error("filesystem layer verification failed for digest {expected}: got {found}")]
    WrongDigest {
        /// What was promised.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Content is not as long as its descriptor says.
    #[error("unexpected size of {digest}: expected {expected} bytes, got {found}")]
    WrongSize {
        /// Its digest.
        digest: Digest,
        /// What was promised, in bytes.
        expected: u64,
        /// What came, in bytes.
        found: u64,
    },
    /// An uncompressed layer is not what the image's configuration says.
    #[error("layer {found} does not match the diff id {expected} of the image configuration")]
    WrongDiffId {
        /// What was promised.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Compressed data cannot be inflated.
    #[error("decompressing the layer: {0}")]
    Decompress(#[source] io::Error),
    /// A tar stream is broken, or asks for what it must not have.
    #[error(transparent)]
    Tar(#[from] crate::tar::TarError),
    /// An entry of a tar stream could not be made, or a file not packed.
    #[error("{action} {}: {}", .path.display(), plain(source))]
    Entry {
        /// What was tried, e.g. `open`.
        action: &'static str,
        /// The entry's name, as an absolute path inside the root.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An entry leads out of the directory that is unpacked into.
    #[error("\"{}\" is outside of \"{}\"", .path.display(), .target.display())]
    Breakout {
        /// The entry's name.
        path: PathBuf,
        /// The directory that it is to be in.
        target: PathBuf,
    },
    /// A layer has more of something than anybody needs.
    #[error("the layer has more than {1} {0}, which is refused")]
    TooMany(&'static str, u64),
    /// An archive cannot be packed or unpacked as asked; the text is Docker's.
    #[error("{0}")]
    Archive(String),
    /// A path inside a container does not exist.
    #[error("lstat {}: no such file or directory", .0.display())]
    NoSuchPath(PathBuf),
    /// Reading what is to be unpacked.
    #[error("reading the stream: {0}")]
    Read(#[source] io::Error),
    /// Writing what was packed.
    #[error("writing the stream: {}", plain(.0))]
    Write(#[source] io::Error),
    /// A file or directory of the store.
    #[error("{action} {}: {}", .path.display(), plain(source))]
    File {
        /// What was tried, e.g. `creating`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has this store open.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The store was written by a later version.
    #[error("the store has version {found}, this program knows up to {known}")]
    Version {
        /// What the database says.
        found: u32,
        /// What is known here.
        known: u32,
    },
    /// The database.
    #[error("database: {0}")]
    Database(#[source] Box<redb::Error>),
    /// A record in the database cannot be read.
    #[error("database: record {key}: {source}")]
    Record {
        /// Its key.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A helper thread ended unexpectedly.
    #[error("a thread of the store ended unexpectedly")]
    Thread,
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What kind of trouble this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchImage(_) | Self::NoSuchSnapshot(_) | Self::NoSuchPath(_) | Self::NoSuchBlob(_) => {
                ErrorKind::NotFound
            }
            Self::ImageConflict(_) | Self::SnapshotExists(_) => ErrorKind::Conflict,
            Self::Reference(_) | Self::BadTag(_) | Self::InvalidId(_) | Self::Breakout { .. } | Self::Archive(_) => {
                ErrorKind::InvalidParameter
            }
            _ => ErrorKind::System,
        }
    }

    /// The error of the kernel below this one, if there is one (to tell a full disk from a bad layer).
    #[must_use]
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Entry { source, .. } | Self::File { source, .. } => Some(source),
            Self::Read(source) | Self::Write(source) | Self::Decompress(source) => Some(source),
            _ => None,
        }
    }

    pub(crate) fn file<E: Into<io::Error>>(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { action, path, source: source.into() }
    }

    /// `path` is taken from the root, with or without a slash.
    pub(crate) fn entry<E: Into<io::Error>>(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        let path = Path::new("/").join(path);
        move |source| Self::Entry { action, path, source: source.into() }
    }
}

/// An error of the kernel as Go says it: without its number, and with a small letter.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// All errors of redb convert into its own sum type, and that one goes into a box because it is large.
macro_rules! from_redb {
    ($($kind:ty),*) => {
        $(impl From<$kind> for Error {
            fn from(error: $kind) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError, redb::DatabaseError);
