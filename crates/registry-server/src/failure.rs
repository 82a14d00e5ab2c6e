//! Failures, in the JSON form of the distribution specification ("Error Codes").

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::storage::StorageError;

/// The codes: those of the OCI specification, and for failures of the registry itself the two that the reference registry
/// has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unavailable,
    Unknown,
}

impl Code {
    pub(crate) fn name(self) -> &'static str {
        self.text().0
    }

    /// Its name, the status that goes with it when the route has no other, and its message.
    fn text(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::BlobUnknown => ("BLOB_UNKNOWN", 404, "blob unknown to registry"),
            Self::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", 400, "blob upload invalid"),
            Self::BlobUploadUnknown => ("BLOB_UPLOAD_UNKNOWN", 404, "blob upload unknown to registry"),
            Self::DigestInvalid => ("DIGEST_INVALID", 400, "provided digest did not match uploaded content"),
            Self::ManifestBlobUnknown => {
                ("MANIFEST_BLOB_UNKNOWN", 400, "manifest references a manifest or blob unknown to registry")
            }
            Self::ManifestInvalid => ("MANIFEST_INVALID", 400, "manifest invalid"),
            Self::ManifestUnknown => ("MANIFEST_UNKNOWN", 404, "manifest unknown to registry"),
            Self::NameInvalid => ("NAME_INVALID", 400, "invalid repository name"),
            Self::NameUnknown => ("NAME_UNKNOWN", 404, "repository name not known to registry"),
            Self::SizeInvalid => ("SIZE_INVALID", 400, "provided length did not match content length"),
            Self::Unauthorized => ("UNAUTHORIZED", 401, "authentication required"),
            Self::Denied => ("DENIED", 403, "requested access to the resource is denied"),
            Self::Unsupported => ("UNSUPPORTED", 405, "the operation is unsupported"),
            Self::TooManyRequests => ("TOOMANYREQUESTS", 429, "too many requests"),
            Self::Unavailable => ("UNAVAILABLE", 503, "service unavailable"),
            Self::Unknown => ("UNKNOWN", 500, "the registry failed; its log says more"),
        }
    }
}

/// A refusal or failure on its way to the client.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) code: Code,
    message: Option<String>,
    detail: Option<Box<Value>>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log alone.
    pub(crate) cause: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code) -> Self {
        let status = StatusCode::from_u16(code.text().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, message: None, detail: None, headers: Vec::new(), cause: None }
    }

    /// A failure of this registry itself, with the reason for its log.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        Self { cause: Some(cause.to_string()), ..Self::new(Code::Unknown) }
    }

    /// Another status than the usual one of the code.
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Says more than the code's message.
    pub(crate) fn because(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// The reason, for the log alone.
    pub(crate) fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// What it is about, for programs.
    pub(crate) fn detail(mut self, detail: Value) -> Self {
        self.detail = Some(Box::new(detail));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// The body.
    pub(crate) fn json(&self) -> String {
        let (name, _, usual) = self.code.text();
        let mut error = json!({"code": name, "message": self.message.as_deref().unwrap_or(usual)});
        if let (Some(object), Some(detail)) = (error.as_object_mut(), &self.detail) {
            object.insert("detail".into(), Value::clone(detail));
        }
        json!({"errors": [error]}).to_string()
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let failure = Self::internal(&error);
        if error.is_full() {
            return failure
                .status(StatusCode::INSUFFICIENT_STORAGE)
                .because("no space is left in the registry's storage");
        }
        match error {
            StorageError::Slow { .. } => Self { cause: failure.cause, ..Self::new(Code::Unavailable) },
            _ => failure,
        }
    }
}
