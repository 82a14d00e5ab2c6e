//! References: the names of images, `[domain/]path[:tag][@digest]`.
//!
//! The grammar, the normalisation of short names and the texts of the errors are those of Docker
//! (distribution/reference):
//!
//! ```text
//! reference := name [ ":" tag ] [ "@" digest ]
//! name      := [ domain "/" ] path
//! domain    := host [ ":" digits ]          host := component { "." component } | "[" IPv6 "]"
//! component := letters and digits, "-" inside
//! path      := part { "/" part }            part := alnum { separator alnum }   (lower case)
//! separator := "." | "_" | "__" | "-" …
//! tag       := word character, then up to 127 of word characters, "." and "-"
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, DigestError};

/// The domain that a short name belongs to.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag that is meant when none is given.
pub const DEFAULT_TAG: &str = "latest";
const LEGACY_DOMAIN: &str = "index.docker.io";
/// Where docker.io's registry answers.
const DOCKER_HOSTS: [&str; 2] = [LEGACY_DOMAIN, "registry-1.docker.io"];
const OFFICIAL_PREFIX: &str = "library/";
/// Longest path, in bytes.
const MAX_NAME: usize = 255;

/// Why a text is not a reference; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// It would, in lower case.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// 64 hex digits: reserved for ids.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The path is longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// What follows the `@` looks like a digest and is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// A normalised reference: `busybox` is `docker.io/library/busybox`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Empty only when the first part looks like a domain to Docker's shortcut but not to its grammar (`a_b.c/d`).
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as a user types it, and completes the domain (and `library/`) but not the tag.
    pub fn parse_normalized(text: &str) -> Result<Self, ReferenceError> {
        if is_identifier(text) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.chars().any(char::is_uppercase) {
            return Err(ReferenceError::Uppercase(remote.to_owned()));
        }
        Self::parse_full(&format!("{domain}/{remainder}"))
    }

    /// Reads a name that is complete already, such as one that [`Display`](fmt::Display) wrote.
    fn parse_full(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if looks_like_digest(digest) => (rest, Some(digest)),
            Some(_) => return Err(ReferenceError::Format),
            None => (text, None),
        };
        // The last colon starts a tag unless it belongs to the port of the domain.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Format);
        }
        let (domain, path) = match name.split_once('/') {
            Some((domain, path)) if is_domain(domain) => (domain, path),
            _ => ("", name),
        };
        if !is_path(path) {
            return Err(ReferenceError::Format);
        }
        if path.len() > MAX_NAME {
            return Err(ReferenceError::TooLong);
        }
        let digest = digest.map(str::parse).transpose()?;
        Ok(Self { domain: domain.to_owned(), path: path.to_owned(), tag: tag.map(str::to_owned), digest })
    }

    /// The registry, `docker.io` or `localhost:5000`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The registry whatever way it is spelled: in lower case, without a port that is the usual one, and `docker.io` for all
    /// names that Docker's registry has. For rules about registries; requests go to [`Reference::domain`].
    #[must_use]
    pub fn registry(&self) -> String {
        canonical_registry(&self.domain)
    }

    /// The repository inside the registry, `library/busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Domain and path: `docker.io/library/busybox`.
    #[must_use]
    pub fn name(&self) -> String {
        if self.domain.is_empty() { self.path.clone() } else { format!("{}/{}", self.domain, self.path) }
    }

    /// Domain and path as a user types them: `busybox`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as a user types it: `busybox:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffixes(self.familiar_name())
    }

    fn with_suffixes(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest.as_str());
        }
        name
    }

    /// Has it neither tag nor digest?
    #[must_use]
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// Adds `latest` when there is neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with this tag (and no digest).
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with this digest (and no tag): `docker.io/library/busybox@sha256:…`.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The repository alone.
    #[must_use]
    pub fn without_suffixes(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }
}

impl fmt::Display for Reference {
    /// The complete form, `docker.io/library/busybox:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.with_suffixes(self.name()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse_normalized(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// See [`Reference::registry`].
#[must_use]
pub fn canonical_registry(domain: &str) -> String {
    let lower = domain.to_ascii_lowercase();
    // Plain http has another usual port, and the host is the same.
    let bare = lower.strip_suffix(":443").or_else(|| lower.strip_suffix(":80")).unwrap_or(&lower);
    if DOCKER_HOSTS.contains(&bare) { DEFAULT_DOMAIN.to_owned() } else { bare.to_owned() }
}

/// Is this 64 lower case hex digits, the id of an image or a container without its algorithm?
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Is this a valid tag?
#[must_use]
pub fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = tag.bytes();
    tag.len() <= 128 && bytes.next().is_some_and(is_word) && bytes.all(|byte| is_word(byte) || b".-".contains(&byte))
}

/// Tells a domain from the first part of a path: Docker's shortcut, which only looks for what no path starts with.
fn split_domain(text: &str) -> (&str, String) {
    let (domain, remote) = match text.split_once('/') {
        Some((LEGACY_DOMAIN, remote)) => (DEFAULT_DOMAIN, remote),
        Some((first, remote))
            if first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase) =>
        {
            (first, remote)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !remote.contains('/') {
        (domain, format!("{OFFICIAL_PREFIX}{remote}"))
    } else {
        (domain, remote.to_owned())
    }
}

fn is_domain(domain: &str) -> bool {
    let host = match domain.rsplit_once(':') {
        // Inside brackets a colon belongs to the address.
        Some((host, port)) if !port.ends_with(']') => {
            if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
                return false;
            }
            host
        }
        _ => domain,
    };
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
    }
    host.split('.').all(|component| {
        !component.is_empty()
            && !component.starts_with('-')
            && !component.ends_with('-')
            && component.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_path_part)
}

fn is_path_part(part: &str) -> bool {
    let is_alnum = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().is_some_and(|byte| is_alnum(*byte)) || !bytes.last().is_some_and(|byte| is_alnum(*byte)) {
        return false;
    }
    // Every run of other characters between two alphanumerics is one separator.
    bytes.split(|byte| is_alnum(*byte)).filter(|run| !run.is_empty()).all(|run| match run {
        b"." | b"_" | b"__" => true,
        run => run.iter().all(|byte| *byte == b'-'),
    })
}

/// `[A-Za-z][A-Za-z0-9]*([-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}`
fn looks_like_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let is_component = |part: &str| {
        part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(is_component)
        && hex.len() >= 32
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn normalises_as_docker_does() {
        for (typed, full, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("a/b", "docker.io/a/b", "a/b"),
            ("docker.io/x", "docker.io/library/x", "x"),
            ("index.docker.io/a/b:t", "docker.io/a/b:t", "a/b:t"),
            ("library/x/y", "docker.io/library/x/y", "library/x/y"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("localhost:5000/x", "localhost:5000/x", "localhost:5000/x"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("[::1]/x", "[::1]/x", "[::1]/x"),
            ("Foo/bar", "Foo/bar", "Foo/bar"),
            ("foo_bar.x/abc", "foo_bar.x/abc", "foo_bar.x/abc"),
            ("a__b/c--d.e_f:UP", "docker.io/a__b/c--d.e_f:UP", "a__b/c--d.e_f:UP"),
        ] {
            let reference = Reference::parse_normalized(typed).unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar));
        }
        let both = Reference::parse_normalized(&format!("a:b@sha256:{HEX}")).unwrap();
        assert_eq!((both.tag(), both.digest().map(Digest::hex)), (Some("b"), Some(HEX)));
        assert_eq!(both.with_default_tag().familiar(), format!("a:b@sha256:{HEX}"));
    }

    #[test]
    fn one_registry_has_many_spellings() {
        for (typed, registry) in [
            ("busybox", "docker.io"),
            ("DOCKER.io/library/busybox", "docker.io"),
            ("docker.io:443/library/busybox", "docker.io"),
            ("Index.docker.io/library/busybox", "docker.io"),
            ("registry-1.docker.io/library/busybox", "docker.io"),
            ("Registry-1.docker.io:443/library/busybox", "docker.io"),
            ("GHCR.IO/x", "ghcr.io"),
            ("ghcr.io:443/x", "ghcr.io"),
            ("ghcr.io:80/x", "ghcr.io"),
            ("ghcr.io:8443/x", "ghcr.io:8443"),
            ("localhost:5000/x", "localhost:5000"),
            ("[FD00::443]/x", "[fd00::443]"),
            ("[fd00::1]:443/x", "[fd00::1]"),
        ] {
            assert_eq!(Reference::parse_normalized(typed).unwrap().registry(), registry, "{typed}");
        }
    }

    #[test]
    fn refuses_in_dockers_words() {
        for (typed, error) in [
            ("", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("foo:", "invalid reference format"),
            ("a:b:c", "invalid reference format"),
            ("fo$o", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("foo@sha256:abc", "invalid reference format"),
            ("foo/Bar", "invalid reference format: repository name (foo/Bar) must be lowercase"),
            ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
            ("foo@md5:0123456789abcdef0123456789abcdef", "unsupported digest algorithm"),
            ("foo@sha512:0123456789abcdef0123456789abcdef", "invalid checksum digest length"),
            (&format!("a@sha256:{}F", &HEX[1..]), "invalid checksum digest format"),
            (HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
            (&format!("x.y/{}", "a".repeat(256)), "repository name must not be more than 255 characters"),
        ] {
            assert_eq!(Reference::parse_normalized(typed).unwrap_err().to_string(), error, "{typed}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            domain in "(([a-z0-9]{1,5}\\.){0,2}[a-z]{2,5}(:[0-9]{1,5})?/)?",
            path in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}){0,3}",
            tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?",
            digest in "(@sha256:[0-9a-f]{64})?",
        ) {
            let typed = format!("{domain}{path}{tag}{digest}");
            let reference = Reference::parse_normalized(&typed).unwrap();
            prop_assert_eq!(&Reference::parse_normalized(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&Reference::parse_normalized(&reference.familiar()).unwrap(), &reference);
            let json = serde_json::to_string(&reference).unwrap();
            prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        }

        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            if let Ok(reference) = Reference::parse_normalized(&text) {
                prop_assert!(Reference::parse_normalized(&reference.to_string()).is_ok());
            }
        }
    }
}
