//! Credentials for registries: the body of `/auth`, and the headers `X-Registry-Auth` and `X-Registry-Config`.
#![allow(missing_docs)] // the fields are those of the Engine API document's `AuthConfig`

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Clients write URL-safe base64 with padding; some write it without.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `AuthConfig`: a user's credentials at one registry. Not `Debug`-printable in full, so that logs never hold secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// `USER:PASSWORD` in base64, as configuration files hold it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    /// Given in place of a password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// A bearer token to send as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuthConfig {{ username: {:?}, serveraddress: {:?}, .. }}", self.username, self.serveraddress)
    }
}

impl AuthConfig {
    /// Reads an `X-Registry-Auth` header. Empty is "no credentials"; what cannot be read is Docker's `invalid X-Registry-Auth header`.
    pub fn from_header(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bytes = URL_SAFE.decode(text).map_err(|error| format!("invalid X-Registry-Auth header: {error}"))?;
        crate::json::from_slice(&bytes).map_err(|error| format!("invalid X-Registry-Auth header: {error}"))
    }

    /// Reads an `X-Registry-Config` header: credentials by registry. Empty is none.
    pub fn many_from_header(text: &str) -> Result<BTreeMap<String, Self>, String> {
        if text.is_empty() {
            return Ok(BTreeMap::new());
        }
        let bytes = URL_SAFE.decode(text).map_err(|error| format!("invalid X-Registry-Config header: {error}"))?;
        crate::json::from_slice(&bytes).map_err(|error| format!("invalid X-Registry-Config header: {error}"))
    }

    /// Writes an `X-Registry-Config` header.
    pub fn many_to_header(auths: &BTreeMap<String, Self>) -> String {
        // Structures of strings always serialize.
        URL_SAFE.encode(serde_json::to_vec(auths).unwrap_or_default())
    }

    /// Writes an `X-Registry-Auth` header.
    pub fn to_header(&self) -> String {
        // A structure of strings always serializes.
        URL_SAFE.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Whether nothing at all was given.
    pub fn is_empty(&self) -> bool {
        self.username.is_empty()
            && self.auth.is_empty()
            && self.identitytoken.is_empty()
            && self.registrytoken.is_empty()
    }
}

/// Answer to `POST /auth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AuthResponse {
    pub identity_token: String,
    /// `Login Succeeded`.
    pub status: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_survives_both_paddings() {
        let auth = AuthConfig { username: "u".into(), password: "p>?".into(), ..AuthConfig::default() };
        let header = auth.to_header();
        assert_eq!(AuthConfig::from_header(&header).unwrap(), auth);
        assert_eq!(AuthConfig::from_header(header.trim_end_matches('=')).unwrap(), auth);
        assert!(AuthConfig::from_header("%%%").is_err());
        assert!(AuthConfig::from_header("").unwrap().is_empty());
        assert!(!format!("{auth:?}").contains("p>?"));
    }
}
