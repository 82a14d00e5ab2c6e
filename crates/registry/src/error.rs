//! What can go wrong on the way to a registry and back, in the words of dockerd (which took many of them from Go).

use std::fmt;

use oci::digest::Digest;

/// What kind of trouble an [`Error`] is, for a caller that answers with a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The registry has no such repository, tag or manifest, or does not show it to us.
    NotFound,
    /// The credentials are wrong.
    Unauthorized,
    /// The reference is bad.
    InvalidParameter,
    /// The reference is well-formed and never allowed.
    Forbidden,
    /// Nobody listens to the result any more.
    Cancelled,
    /// A connection, the registry or the local disk.
    System,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `scratch` stands for 'no image' and can be neither pulled nor pushed.
    #[error("'scratch' is a reserved name")]
    Reserved,
    /// The registry does not know it, or does not say.
    #[error("{0}")]
    NotFound(String),
    /// A name that is no reference.
    #[error(transparent)]
    Reference(#[from] oci::reference::ReferenceError),
    /// No answer: the name, the connection or TLS failed. `Get "http://…": dial tcp …`.
    #[error("{method} \"{url}\": {problem}")]
    Transport {
        /// As Go writes it, `Get`.
        method: String,
        /// What was asked for.
        url: String,
        /// Why there is no answer.
        problem: String,
        /// Might another try help?
        transient: bool,
    },
    /// A body broke off: `unexpected EOF`, `i/o timeout`.
    #[error("{0}")]
    Body(String),
    /// The registry said what is wrong.
    #[error("{0}")]
    Registry(RegistryErrors),
    /// The registry failed without saying why.
    #[error("received unexpected HTTP status: {status} {reason}")]
    Status {
        /// The status.
        status: u16,
        /// Its name.
        reason: String,
    },
    /// An error status with a body that is no error of the protocol.
    #[error("error parsing HTTP {status} response body: {problem}: {body:?}")]
    Response {
        /// The status.
        status: u16,
        /// What is wrong with the body.
        problem: String,
        /// The body, cut.
        body: String,
    },
    /// A download broke off, stalled or was refused as often as is tried.
    #[error("download failed after attempts={attempts}: {source}")]
    Download {
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        source: Box<Error>,
    },
    /// The registry has too much to do, and says when it wants to be asked again.
    #[error("{source}")]
    Busy {
        /// So long after its answer.
        after: std::time::Duration,
        /// Its answer.
        source: Box<Error>,
    },
    /// A blob is not what its digest says.
    #[error("filesystem layer verification failed for digest {0}")]
    LayerDigest(Digest),
    /// A registry sent another part of a blob than it was asked for.
    #[error("the registry answered the request for blob {digest} from byte {offset} on with \"{answer}\"")]
    Range {
        /// The blob.
        digest: Digest,
        /// What was asked for.
        offset: u64,
        /// Its `Content-Range`.
        answer: String,
    },
    /// A manifest is not what its digest says.
    #[error("manifest verification failed for digest {0}")]
    ManifestDigest(Digest),
    /// The configuration is not what its digest says.
    #[error("image config verification failed for digest {0}")]
    ConfigDigest(Digest),
    /// The configuration names no layers.
    #[error("invalid rootfs in image configuration")]
    RootFs,
    /// The manifest and the configuration disagree about the layers.
    #[error("layers from manifest don't match image configuration")]
    LayerMismatch,
    /// The registry has no blob that the manifest names.
    #[error("unknown blob")]
    UnknownBlob,
    /// The configuration did not come.
    #[error("error pulling image configuration: {0}")]
    PullConfig(#[source] Box<Error>),
    /// A manifest or configuration is not the JSON that it should be; the text is Go's.
    #[error("{0}")]
    Json(String),
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] oci::manifest::ManifestError),
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] oci::image_config::ImageConfigError),
    /// An index has nothing for this machine.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
    /// An image is for another system.
    #[error("image operating system \"{0}\" cannot be used on this platform: operating system is not supported")]
    OperatingSystem(String),
    /// What was found is an artifact, not an image.
    #[error("Encountered remote \"{0}\"({1}) when fetching")]
    NotAnImage(String, &'static str),
    /// A push of a name that no local image has.
    #[error("tag does not exist: {0}")]
    NoTag(String),
    /// A push of a repository without any tag.
    #[error("An image does not exist locally with the tag: {0}")]
    NoTags(String),
    /// Too many bytes where a document was expected.
    #[error("{what} of {size} bytes is larger than the allowed {limit}")]
    TooLarge {
        /// `manifest`, `image configuration`, …
        what: &'static str,
        /// What the registry offers or has sent so far, in bytes.
        size: u64,
        /// In bytes.
        limit: u64,
    },
    /// The credentials are no use.
    #[error("{0}")]
    Auth(String),
    /// The client cannot be set up: certificates, TLS.
    #[error("{0}")]
    Setup(String),
    /// An index with more below it than is read.
    #[error("the index is too large: {0}")]
    TooMany(String),
    /// An archive broke off, or is none.
    #[error("reading the archive: {0}")]
    ReadArchive(#[source] std::io::Error),
    /// The disk that something is read from, or what makes a stream of a layer.
    #[error("{0}")]
    Read(#[source] std::io::Error),
    /// An archive is not what `docker load` takes; the text is Docker's.
    #[error("{0}")]
    Archive(String),
    /// The local store.
    #[error("failed to register layer: {0}")]
    Layer(#[source] store::Error),
    /// The local store, outside of layers.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Nobody listens to the result any more.
    #[error("context canceled")]
    Cancelled,
    /// A thread or task of ours ended unexpectedly.
    #[error("a task of the registry client ended unexpectedly")]
    Task,
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What kind of trouble this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Reserved => ErrorKind::Forbidden,
            Self::Reference(_) | Self::Archive(_) => ErrorKind::InvalidParameter,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Auth(_) => ErrorKind::Unauthorized,
            _ => ErrorKind::System,
        }
    }

    /// Is it trouble of ours, that another registry would not help?
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Layer(_) | Self::Store(_) | Self::Read(_) | Self::Task)
    }

    /// HTTP's 413.
    pub(crate) fn too_large_a_request() -> Self {
        Self::Status { status: 413, reason: "Request Entity Too Large".into() }
    }

    /// Might a shorter request succeed?
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Self::Status { status: 413, .. })
    }

    /// Are the credentials, or the token that was made of them, no longer good?
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Registry(errors) if errors.first().is_some_and(|error| error.code == "UNAUTHORIZED"))
    }

    /// Might the same request succeed a little later?
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Transport { transient, .. } => *transient,
            Self::Body(_) | Self::Range { .. } | Self::Busy { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

/// One error of the distribution protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// `MANIFEST_UNKNOWN`; a code that the protocol does not know becomes `UNKNOWN`, as in Docker.
    pub code: String,
    /// What the registry wrote. None if that is nothing beyond the usual text of the code: Docker shows only the code
    /// then, and does not take it for a hint that something does not exist.
    pub message: Option<String>,
}

impl RegistryError {
    /// An error as a registry wrote it.
    pub(crate) fn new(code: &str, message: &str, has_detail: bool) -> Self {
        let (code, usual) = CODES.iter().find(|(name, _)| *name == code).copied().unwrap_or(CODES[0]);
        let is_bare = !has_detail && (message.is_empty() || message == usual);
        Self { code: code.to_owned(), message: (!is_bare).then(|| message.to_owned()) }
    }

    /// An error with this text, or the usual one of its code.
    pub(crate) fn with_message(code: &str, message: &str) -> Self {
        let (code, usual) = CODES.iter().find(|(name, _)| *name == code).copied().unwrap_or(CODES[0]);
        Self { code: code.to_owned(), message: Some(if message.is_empty() { usual } else { message }.to_owned()) }
    }
}

impl fmt::Display for RegistryError {
    /// `manifest unknown: manifest unknown`: the code in words, then the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code.to_lowercase().replace('_', " "))?;
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}

/// The body of an error response: one error or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryErrors(pub Vec<RegistryError>);

impl RegistryErrors {
    /// The first one, which decides what Docker says.
    #[must_use]
    pub fn first(&self) -> Option<&RegistryError> {
        self.0.first()
    }
}

impl fmt::Display for RegistryErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => one.fmt(f),
            many => {
                f.write_str("errors:\n")?;
                many.iter().try_for_each(|error| writeln!(f, "{error}"))
            }
        }
    }
}

/// The codes of the protocol with their usual texts, `UNKNOWN` first.
const CODES: [(&str, &str); 20] = [
    ("UNKNOWN", "unknown error"),
    ("UNSUPPORTED", "The operation is unsupported."),
    ("UNAUTHORIZED", "authentication required"),
    ("DENIED", "requested access to the resource is denied"),
    ("UNAVAILABLE", "service unavailable"),
    ("TOOMANYREQUESTS", "too many requests"),
    ("DIGEST_INVALID", "provided digest did not match uploaded content"),
    ("SIZE_INVALID", "provided length did not match content length"),
    ("RANGE_INVALID", "invalid content range"),
    ("NAME_INVALID", "invalid repository name"),
    ("TAG_INVALID", "manifest tag did not match URI"),
    ("NAME_UNKNOWN", "repository name not known to registry"),
    ("MANIFEST_UNKNOWN", "manifest unknown"),
    ("MANIFEST_INVALID", "manifest invalid"),
    ("MANIFEST_UNVERIFIED", "manifest failed signature verification"),
    ("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"),
    ("BLOB_UNKNOWN", "blob unknown to registry"),
    ("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"),
    ("BLOB_UPLOAD_INVALID", "blob upload invalid"),
    ("PAGINATION_NUMBER_INVALID", "invalid number of results requested"),
];
