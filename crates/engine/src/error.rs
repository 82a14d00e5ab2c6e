//! What can go wrong in the engine, in Docker's words.
//!
//! An [`Error`] is a kind (which the daemon maps to an HTTP status, in one place) and a text that Docker's clients and scripts
//! match on. Layers below keep their own enums; they become an [`Error`] where the engine knows what they mean for the caller.

use std::fmt;

/// What class of failure it is: decides the HTTP status and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 400: the request is wrong in itself.
    InvalidParameter,
    /// 401: credentials are missing or refused.
    Unauthorized,
    /// 403: well-formed, but never allowed.
    Forbidden,
    /// 404: a named thing does not exist.
    NotFound,
    /// 409: not in this state, or the name is taken.
    Conflict,
    /// 304: already as asked for (start of a running container, stop of a stopped one).
    NotModified,
    /// 501: named and not offered by this engine.
    NotImplemented,
    /// 503: cannot be served right now.
    Unavailable,
    /// 499/500 of a caller that went away or of a deadline.
    Cancelled,
    /// 500: the system failed.
    System,
}

/// A failed operation: its kind, its text and what caused it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of every operation of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self { Self::new(Kind::$kind, message) })*
        }
    };
}

constructors! {
    /// The request is wrong in itself (400).
    invalid => InvalidParameter,
    /// Credentials are missing or refused (401).
    unauthorized => Unauthorized,
    /// Never allowed (403).
    forbidden => Forbidden,
    /// A named thing does not exist (404).
    not_found => NotFound,
    /// Not in this state, or the name is taken (409).
    conflict => Conflict,
    /// Already as asked for (304).
    not_modified => NotModified,
    /// Named and not offered (501).
    not_implemented => NotImplemented,
    /// Cannot be served right now (503).
    unavailable => Unavailable,
    /// The caller went away or a deadline passed.
    cancelled => Cancelled,
    /// The system failed (500).
    system => System,
}

impl Error {
    /// An error of this kind with this text.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// A failure of a layer below: `context: cause`, with the cause kept as the source.
    pub fn caused(
        kind: Kind,
        context: impl fmt::Display,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        Self { kind, message: format!("{context}: {}", chain(source.as_ref())), source: Some(source) }
    }

    /// The class that decides the HTTP status.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Docker's text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same kind with a text around the old one (`prefix: old`).
    #[must_use]
    pub fn prefixed(mut self, prefix: impl fmt::Display) -> Self {
        self.message = format!("{prefix}: {}", self.message);
        self
    }

    /// The same text under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}

/// The text of an error and of all that caused it, each said once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Enums of lower crates often print their source themselves, without the number and the capital letter.
        let bare = cause_text.split(" (os error").next().unwrap_or_default().to_lowercase();
        if !text.to_lowercase().contains(&bare) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static))
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        let kind = match error.kind() {
            store::ErrorKind::NotFound => Kind::NotFound,
            store::ErrorKind::Conflict => Kind::Conflict,
            store::ErrorKind::InvalidParameter => Kind::InvalidParameter,
            _ => Kind::System,
        };
        Self { kind, message: chain(&error), source: Some(Box::new(error)) }
    }
}
