//! Who asks, and what they may.

/// Who sent a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    /// None for somebody who did not say.
    pub(crate) user: Option<String>,
}
