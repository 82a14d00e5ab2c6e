//! Why a request failed, and the one place where kinds of errors become HTTP statuses.

use engine::Kind;

/// A failed request: its status and the sentence of its body.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The HTTP status.
    pub(crate) status: u16,
    /// In Docker's words.
    pub(crate) message: String,
}

/// What a handler returns.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    pub(crate) fn page_not_found() -> Self {
        Self::new(404, "page not found")
    }

    /// The text of Go's `strconv.Atoi` for what is no number.
    pub(crate) fn not_a_number(status: u16, text: &str) -> Self {
        Self::new(status, format!("strconv.Atoi: parsing {}: invalid syntax", quoted(text)))
    }

    /// The same failure with a text around the old one.
    pub(crate) fn prefixed(mut self, prefix: impl std::fmt::Display) -> Self {
        self.message = format!("{prefix}: {}", self.message);
        self
    }
}

/// A text as Go's `%q` writes it.
pub(crate) fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// The one map from kind to status.
fn status_of(kind: Kind) -> u16 {
    match kind {
        Kind::InvalidParameter => 400,
        Kind::Unauthorized => 401,
        Kind::Forbidden => 403,
        Kind::NotFound => 404,
        Kind::Conflict => 409,
        Kind::NotModified => 304,
        Kind::NotImplemented => 501,
        Kind::Unavailable => 503,
        Kind::Cancelled | Kind::System => 500,
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self::new(status_of(error.kind()), error.message())
    }
}

impl From<api::ApiError> for Failure {
    fn from(error: api::ApiError) -> Self {
        Self::new(error.status, error.message)
    }
}
