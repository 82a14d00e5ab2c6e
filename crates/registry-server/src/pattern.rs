//! Patterns of repositories' names, in rights and quotas.

/// A name in which each `*` stands for any text, slashes included: `team/*`, `*`, `mirror/*/app`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(String);

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of all that match begin with this.
    pub(crate) fn fixed_part(&self) -> &str {
        self.0.split('*').next().unwrap_or_default()
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        oci::wildcard::matches(&self.0, name)
    }
}
