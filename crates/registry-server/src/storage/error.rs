//! Why the storage did not do what it was asked to.

use std::error::Error;
use std::io;

use object_store::path::Path;

pub(crate) type Result<T> = std::result::Result<T, StorageError>;

/// What was being done, to which key, and why it failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// Of the object storage, or of the directory through it.
    #[error("{doing} {key}: {source}")]
    Object { doing: &'static str, key: String, source: object_store::Error },
    /// Of a file.
    #[error("{doing} {key}: {source}")]
    File { doing: &'static str, key: String, source: io::Error },
    /// A document that Gantry wrote cannot be read.
    #[error("reading {key}: {source}")]
    Document { key: String, source: serde_json::Error },
    /// An operation took longer than garbage collection waits for it, see module `gc`.
    #[error("{doing} {key}: no answer from the storage in time")]
    Slow { doing: &'static str, key: String },
    /// Others who serve the same storage rely on other times.
    #[error("{0}")]
    Times(String),
}

impl StorageError {
    pub(crate) fn object(doing: &'static str, key: &Path) -> impl FnOnce(object_store::Error) -> Self {
        let key = key.to_string();
        move |source| Self::Object { doing, key, source }
    }

    pub(crate) fn file(doing: &'static str, key: &Path) -> impl FnOnce(io::Error) -> Self {
        let key = key.to_string();
        move |source| Self::File { doing, key, source }
    }

    /// Is there no space left, on the disk or in its quota?
    pub(crate) fn is_full(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Does what was looked for not exist?
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Self::Object { source, .. } => matches!(source, object_store::Error::NotFound { .. }),
            Self::File { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Document { .. } | Self::Slow { .. } | Self::Times(_) => false,
        }
    }
}
