//! Names of repositories and tags, by the grammar of the distribution specification ("Pulling manifests").

use std::fmt;

/// The longest name of a repository, in bytes: names become paths, and clients allow no more beside a host.
pub(crate) const MAX_NAME: usize = 255;

/// A valid name of a repository, `team/app`. None of its parts starts with `_`, `.` or `-`, so it is a safe key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(Box<str>);

impl Name {
    /// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`
    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() <= MAX_NAME && text.split('/').all(is_component)).then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    // What stands between two words is one separator: `.`, `_`, `__` or any number of `-`.
    is_word(*first)
        && is_word(*last)
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        for good in ["a", "0", "team/app", "a.b/c_d/e__f/g---h", "a/b/c/d/e"] {
            assert!(Name::parse(good).is_some(), "{good}");
        }
        let long = "a".repeat(MAX_NAME + 1);
        for bad in
            ["", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "_a", "a_", ".", "..", "a/../b", "a b", "ä", &long]
        {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
    }
}
