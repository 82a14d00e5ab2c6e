//! Digests: content named by its hash, `algorithm:hex`.
//!
//! The rules and the texts of the errors are those of the Go library that Docker uses (opencontainers/go-digest).

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use sha2::digest::common::hazmat::SerializableState;

/// Why a text is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// It is not of the form `algorithm:hex`, or the hex digits are not lower case.
    #[error("invalid checksum digest format")]
    Format,
    /// The number of hex digits does not fit the algorithm.
    #[error("invalid checksum digest length")]
    Length,
    /// A well formed digest of an algorithm that is not supported.
    #[error("unsupported digest algorithm")]
    Unsupported,
}

/// A hash function that content may be named by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, the one everybody uses.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name that stands before the colon.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512].into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Number of hex digits of a digest.
    #[must_use]
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

/// A valid digest, e.g. `sha256:e3b0c442…`.
///
/// There is no other way to get one than from bytes or from a checked text, so its hex part is always safe to use as a
/// file name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Box<str>);

impl Digest {
    /// SHA-256 of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_raw(Algorithm::Sha256, &sha2::Sha256::digest(bytes))
    }

    /// A SHA-256 digest from its 32 bytes.
    #[must_use]
    pub fn from_sha256(raw: [u8; 32]) -> Self {
        Self::from_raw(Algorithm::Sha256, &raw)
    }

    fn from_raw(algorithm: Algorithm, raw: &[u8]) -> Self {
        Self(format!("{}:{}", algorithm.name(), hex::encode(raw)).into_boxed_str())
    }

    /// The whole text, `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hex digits after the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The hash function.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        let name = self.0.split_once(':').map_or("", |(name, _)| name);
        Algorithm::from_name(name).unwrap_or(Algorithm::Sha256)
    }

    /// Is this the digest of these bytes?
    #[must_use]
    pub fn verifies(&self, bytes: &[u8]) -> bool {
        let mut digester = Digester::new(self.algorithm());
        digester.update(bytes);
        digester.finish() == *self
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        if hex.is_empty() || !is_algorithm_name(name) || !hex.bytes().all(is_encoded_byte) {
            return Err(DigestError::Format);
        }
        let algorithm = Algorithm::from_name(name).ok_or(DigestError::Unsupported)?;
        if hex.len() != algorithm.hex_len() {
            return Err(DigestError::Length);
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::Format);
        }
        Ok(Self(text.into()))
    }
}

/// `[a-z0-9]+([.+_-][a-z0-9]+)*`
fn is_algorithm_name(name: &str) -> bool {
    name.split(['.', '+', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()))
}

/// `[a-zA-Z0-9=_-]`: what the grammar allows for algorithms in general.
fn is_encoded_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-')
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a digest of bytes that come piece by piece. Also an [`io::Write`] that never fails.
#[derive(Clone)]
pub struct Digester(Hasher);

#[derive(Clone)]
enum Hasher {
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl Digester {
    /// Starts with no bytes.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha384 => Hasher::Sha384(sha2::Sha384::new()),
            Algorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        })
    }

    /// Starts a SHA-256 digest.
    #[must_use]
    pub fn sha256() -> Self {
        Self::new(Algorithm::Sha256)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha384(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// What has been added so far as bytes, from which [`Digester::resume`] goes on, in another process too. They hold
    /// part of the content (less than a block) and are read by this version of the program alone.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        match &self.0 {
            Hasher::Sha256(hasher) => hasher.serialize().to_vec(),
            Hasher::Sha384(hasher) => hasher.serialize().to_vec(),
            Hasher::Sha512(hasher) => hasher.serialize().to_vec(),
        }
    }

    /// Goes on from a [`Digester::state`]; None when the bytes are not one of this algorithm.
    #[must_use]
    pub fn resume(algorithm: Algorithm, state: &[u8]) -> Option<Self> {
        fn read<H: SerializableState>(state: &[u8]) -> Option<H> {
            H::deserialize(state.try_into().ok()?).ok()
        }
        Some(Self(match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(read(state)?),
            Algorithm::Sha384 => Hasher::Sha384(read(state)?),
            Algorithm::Sha512 => Hasher::Sha512(read(state)?),
        }))
    }

    /// The digest of everything added.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            Hasher::Sha256(hasher) => Digest::from_raw(Algorithm::Sha256, &hasher.finalize()),
            Hasher::Sha384(hasher) => Digest::from_raw(Algorithm::Sha384, &hasher.finalize()),
            Hasher::Sha512(hasher) => Digest::from_raw(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}

impl Default for Digester {
    fn default() -> Self {
        Self::sha256()
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

impl Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn known_digest() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap().hex(), &EMPTY[7..]);
        assert!(Digest::of(b"x").verifies(b"x"));
        assert!(!Digest::of(b"x").verifies(b"y"));
    }

    #[test]
    fn errors_are_go_digests() {
        for (text, error) in [
            ("", DigestError::Format),
            ("sha256", DigestError::Format),
            ("sha256:", DigestError::Format),
            (":ab", DigestError::Format),
            ("sha256:../../etc", DigestError::Format),
            ("SHA256:ab", DigestError::Format),
            ("sha256:abc", DigestError::Length),
            ("md5:0123456789abcdef0123456789abcdef", DigestError::Unsupported),
            (&EMPTY.to_uppercase().replace("SHA", "sha"), DigestError::Format),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512] {
                let mut digester = Digester::new(algorithm);
                let cut = cut.min(bytes.len());
                digester.update(&bytes[..cut]);
                let state = digester.state();
                prop_assert!(Digester::resume(algorithm, &state[1..]).is_none());
                let mut digester = Digester::resume(algorithm, &state).unwrap();
                digester.write_all(&bytes[cut..]).unwrap();
                let digest = digester.finish();
                prop_assert_eq!(digest.algorithm(), algorithm);
                prop_assert!(digest.verifies(&bytes));
                prop_assert_eq!(&digest.to_string().parse::<Digest>().unwrap(), &digest);
                let json = serde_json::to_string(&digest).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Digest>(&json).unwrap(), &digest);
            }
        }

        #[test]
        fn never_panics_and_is_a_safe_file_name(text in "\\PC{0,80}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert!(!digest.hex().contains(['/', '.']));
            }
        }
    }
}
