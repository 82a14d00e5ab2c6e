//! The one shape of an error body: `{"message": "…"}`.

use serde::{Deserialize, Serialize};

/// A failed request: its HTTP status, and the sentence that the body carries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// 4xx or 5xx; 304 where Docker answers "already so" without a body.
    pub status: u16,
    /// In Docker's words: clients and scripts match on them.
    pub message: String,
}

impl ApiError {
    /// An error with this status and sentence.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400: the request is wrong in itself.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// 404: a named thing does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// The body that is sent.
    pub fn body(&self) -> ErrorResponse {
        ErrorResponse { message: self.message.clone() }
    }
}

/// `ErrorResponse` of the Engine API document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorResponse {
    /// The sentence.
    pub message: String,
}
