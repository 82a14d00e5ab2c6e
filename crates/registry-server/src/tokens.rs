//! Bearer tokens, in the form of Docker's token specification: JSON web tokens that say what their owner may do.
//!
//! Tokens come from this registry itself (`/token`, signed with a key of its own), or from an issuer elsewhere whose
//! public keys the registry was given. Both say for whom they are (`aud`), by whom (`iss`) and until when (`exp`).

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::access::Right;
use crate::jwt;
use crate::storage::unix_ms;

/// Who signs the tokens of this registry.
const OWN_ISSUER: &str = "gantry-registry";

/// Rights in a repository, as a token states them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// `repository`; others (`registry`) are not about repositories.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) actions: Vec<String>,
}

impl Grant {
    pub(crate) fn gives(&self, name: &str, right: Right) -> bool {
        self.kind == "repository"
            && self.name == name
            && self.actions.iter().any(|action| action == right.word() || action == "*")
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    sub: String,
    aud: serde_json::Value,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    #[serde(default)]
    access: Vec<Grant>,
}

/// A public key of an issuer.
struct Key {
    /// Its name, when it is one of a set.
    id: Option<String>,
    key: DecodingKey,
}

/// What a token says that is good.
pub(crate) struct Token {
    /// For whom it was made.
    pub(crate) user: Option<String>,
    /// What it gives.
    pub(crate) grants: Vec<Grant>,
    /// Did this registry sign it?
    pub(crate) is_own: bool,
}

struct Issuer {
    name: String,
    is_own: bool,
    keys: Vec<Key>,
}

/// The issuers that are believed.
pub(crate) struct Tokens {
    issuers: Vec<Issuer>,
    own: Option<EncodingKey>,
    expiry: Duration,
    /// For whom tokens must be: the name of this service.
    pub(crate) audience: String,
    /// Where clients get them, when it is not here.
    pub(crate) realm: Option<String>,
}

/// What the settings say about tokens.
#[derive(Debug, Clone)]
pub(crate) struct TokenSettings {
    /// The file of the own key, when this registry gives tokens out.
    pub(crate) own_key: Option<std::path::PathBuf>,
    /// An issuer elsewhere, and the file of its public keys.
    pub(crate) issuer: Option<(String, std::path::PathBuf)>,
    pub(crate) audience: String,
    pub(crate) realm: Option<String>,
    pub(crate) expiry: Duration,
}

impl Tokens {
    /// Reads the keys; a key of one's own is made when there is none.
    pub(crate) fn open(settings: &TokenSettings) -> Result<Self, String> {
        // A second registry in one process keeps the first one's provider, which is the same.
        let _ = jwt::PROVIDER.install_default();
        let mut issuers = Vec::new();
        let mut own = None;
        if let Some(path) = &settings.own_key {
            let pkcs8 = own_key(path).map_err(|reason| format!("key {}: {reason}", path.display()))?;
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8)
                .map_err(|error| format!("key {}: {error}", path.display()))?;
            let key = DecodingKey::from_ed_der(pair.public_key().as_ref());
            issuers.push(Issuer { name: OWN_ISSUER.to_owned(), is_own: true, keys: vec![Key { id: None, key }] });
            own = Some(EncodingKey::from_ed_der(&pkcs8));
        }
        if let Some((name, path)) = &settings.issuer {
            let bytes = std::fs::read(path).map_err(|error| format!("keys {}: {error}", path.display()))?;
            let keys = public_keys(&bytes).map_err(|reason| format!("keys {}: {reason}", path.display()))?;
            issuers.push(Issuer { name: name.clone(), is_own: false, keys });
        }
        let TokenSettings { audience, realm, expiry, .. } = settings.clone();
        Ok(Self { issuers, own, expiry, audience, realm })
    }

    /// Makes a token; None when this registry gives none out. Returns it with the seconds that it is good for.
    pub(crate) fn issue(&self, user: Option<&str>, access: Vec<Grant>) -> Option<Result<(String, u64), String>> {
        let key = self.own.as_ref()?;
        let now = unix_ms() / 1000;
        let expires_in = self.expiry.as_secs();
        let claims = Claims {
            iss: OWN_ISSUER.to_owned(),
            sub: user.unwrap_or_default().to_owned(),
            aud: self.audience.clone().into(),
            exp: now.saturating_add(i64::try_from(expires_in).unwrap_or(i64::MAX)),
            // Clocks of several machines differ a little.
            nbf: Some(now - 60),
            iat: Some(now),
            access,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, key);
        Some(token.map(|token| (token, expires_in)).map_err(|error| error.to_string()))
    }

    /// Reads a token. Fails with the reason.
    pub(crate) fn verify(&self, token: &str) -> Result<Token, String> {
        let header =
            jsonwebtoken::decode_header(token).map_err(|error| format!("the token cannot be read: {error}"))?;
        if !jwt::ALGORITHMS.contains(&header.alg) {
            return Err(format!("tokens are not signed with {:?} here", header.alg));
        }
        let mut reason = "no issuer that is believed here signed the token".to_owned();
        for issuer in &self.issuers {
            let mut validation = Validation::new(header.alg);
            validation.set_audience(&[&self.audience]);
            validation.set_issuer(&[&issuer.name]);
            validation.set_required_spec_claims(&["exp", "aud", "iss"]);
            validation.validate_nbf = true;
            let named = |key: &&Key| key.id.is_none() || header.kid.is_none() || key.id == header.kid;
            for key in issuer.keys.iter().filter(named) {
                match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
                    Ok(data) => {
                        let user = Some(data.claims.sub).filter(|user| !user.is_empty());
                        return Ok(Token { user, grants: data.claims.access, is_own: issuer.is_own });
                    }
                    // The most telling: the signature was right, and something else was not.
                    Err(error) if !is_about_the_key(&error) => reason = format!("the token is not valid: {error}"),
                    Err(_) => {}
                }
            }
        }
        Err(reason)
    }
}

fn is_about_the_key(error: &jsonwebtoken::errors::Error) -> bool {
    use jsonwebtoken::errors::ErrorKind;
    matches!(error.kind(), ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat)
}

/// Reads the own key, or makes it, for its owner's eyes only. Processes that share a file share their tokens.
fn own_key(path: &Path) -> Result<Vec<u8>, String> {
    let text = |error: std::io::Error| error.to_string();
    if !path.exists() {
        let made =
            Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).map_err(|error| error.to_string())?;
        let beside = path.with_extension(format!("new-{}", std::process::id()));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(text)?;
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(text)?;
        file.write_all(made.as_ref()).and_then(|()| file.sync_all()).map_err(text)?;
        // Another process may be making one too: the first that has its name wins.
        let linked = std::fs::hard_link(&beside, path);
        std::fs::remove_file(&beside).map_err(text)?;
        if let Err(error) = linked
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(error.to_string());
        }
    }
    std::fs::read(path).map_err(text)
}

/// Public keys: a JSON web key set, or one key in PEM form.
fn public_keys(bytes: &[u8]) -> Result<Vec<Key>, String> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        let set: JwkSet = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let read = |jwk: &jsonwebtoken::jwk::Jwk| {
            let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
            Ok(Key { id: jwk.common.key_id.clone(), key })
        };
        return set.keys.iter().map(read).collect();
    }
    let kinds = [DecodingKey::from_ec_pem, DecodingKey::from_rsa_pem, DecodingKey::from_ed_pem];
    let key = kinds.iter().find_map(|read| read(bytes).ok());
    let key = key.ok_or("neither a set of keys (JSON) nor an EC, RSA or Ed25519 public key (PEM)")?;
    Ok(vec![Key { id: None, key }])
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let issuers: Vec<&str> = self.issuers.iter().map(|issuer| issuer.name.as_str()).collect();
        f.debug_struct("Tokens").field("issuers", &issuers).field("audience", &self.audience).finish_non_exhaustive()
    }
}
