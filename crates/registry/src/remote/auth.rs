//! Proving who we are: basic authentication, and bearer tokens from the token server that a registry names.
//!
//! ```text
//! registry:  401, WWW-Authenticate: Bearer realm="https://auth…/token",service="…",scope="repository:a/b:pull"
//! we:        GET  realm?service=…&scope=…          with basic authentication, or nothing for public repositories
//!            POST realm  grant_type=refresh_token   with an identity token
//! server:    {"token":"…","expires_in":300}
//! we:        the first request again, with Authorization: Bearer …
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::challenge::Challenge;
use super::endpoint::Trust;
use super::retry;
use super::transport::{Request, Transport, transport as failed};
use crate::Options;
use crate::error::{Error, Result};

/// Of a token server's answer, in bytes.
const MAX_TOKEN: u64 = 1 << 20;
/// Tokens live at least this long by the protocol.
const MIN_LIFETIME_S: u64 = 60;
/// A token is not used in the last seconds of its life: it has to arrive.
const MARGIN: Duration = Duration::from_secs(10);
/// What Docker calls itself at token servers.
const CLIENT_ID: &str = "docker";

/// A user's credentials at one registry. Not printable, so that no log shows a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// None: public repositories.
    #[default]
    Anonymous,
    /// A name and a password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// What a token server gave in exchange for a password, to get tokens with.
    IdentityToken(String),
    /// A bearer token to be sent as it is.
    RegistryToken(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(..)",
            Self::IdentityToken(_) => "IdentityToken(..)",
            Self::RegistryToken(_) => "RegistryToken(..)",
        })
    }
}

/// Makes the `Authorization` headers for one registry, from its challenges and a user's credentials.
pub(crate) struct Authorizer {
    credentials: Credentials,
    challenges: Mutex<Vec<Challenge>>,
    tokens: Mutex<HashMap<String, Token>>,
    /// Whoever has it asks for a token; others wait, and use that one.
    asking: Semaphore,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    expires: Instant,
}

/// A token server's answer. OAuth2 calls the token `access_token`; `expires_in` is in seconds.
#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Authorizer {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, challenges: Mutex::default(), tokens: Mutex::default(), asking: Semaphore::new(1) }
    }

    /// What the registry asks for. Replaces what it asked for before; none: nothing new was said.
    pub(crate) fn learn(&self, challenges: Vec<Challenge>) {
        if !challenges.is_empty() {
            *self.challenges.lock().unwrap_or_else(PoisonError::into_inner) = challenges;
        }
    }

    /// Forgets a token, since the registry refused it. Another that came meanwhile stays.
    pub(crate) fn forget(&self, refused: &HeaderValue) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, token| token.header != *refused);
    }

    /// The header for a request with these scopes (`repository:a/b:pull`); none when nothing was asked for.
    pub(crate) async fn header(
        &self,
        transport: &Transport,
        options: &Options,
        scopes: &[String],
    ) -> Result<Option<HeaderValue>> {
        if let Credentials::RegistryToken(token) = &self.credentials {
            return bearer(token).map(Some);
        }
        let challenges = self.challenges.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(challenge) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            return self.token(transport, options, challenge, scopes).await.map(Some);
        }
        if challenges.iter().any(|challenge| challenge.scheme == "basic") {
            return match &self.credentials {
                Credentials::Basic { username, password } => basic(username, password).map(Some),
                _ => Err(Error::Auth("no basic auth credentials".into())),
            };
        }
        Ok(None)
    }

    async fn token(
        &self,
        transport: &Transport,
        options: &Options,
        challenge: &Challenge,
        scopes: &[String],
    ) -> Result<HeaderValue> {
        let key = scopes.join(" ");
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let _asking = self.asking.acquire().await.map_err(|_| Error::Task)?;
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let answer = self.fetch(transport, options, challenge, scopes, false).await?;
        let text = answer.token.or(answer.access_token).unwrap_or_default();
        if text.is_empty() {
            return Err(Error::Auth("authorization server did not include a token in the response".into()));
        }
        let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(0).clamp(MIN_LIFETIME_S, 24 * 3600));
        let header = bearer(&text)?;
        let token = Token { header: header.clone(), expires: Instant::now() + lifetime };
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, token);
        Ok(header)
    }

    fn known(&self, key: &str) -> Option<HeaderValue> {
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        known.filter(|token| token.expires > Instant::now() + MARGIN).map(|token| token.header)
    }

    /// For `login`: asks for a token that stands for the password from now on. `None` where there is no token server.
    pub(crate) async fn identity_token(&self, transport: &Transport, options: &Options) -> Result<Option<String>> {
        let challenges = self.challenges.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(challenge) = challenges.iter().find(|challenge| challenge.scheme == "bearer") else {
            return Ok(None);
        };
        Ok(self.fetch(transport, options, challenge, &[], true).await?.refresh_token.filter(|token| !token.is_empty()))
    }

    async fn fetch(
        &self,
        transport: &Transport,
        options: &Options,
        challenge: &Challenge,
        scopes: &[String],
        offline: bool,
    ) -> Result<TokenResponse> {
        let realm = challenge.get("realm");
        let url = Url::parse(realm).map_err(|_| Error::Auth("no realm specified for token auth challenge".into()))?;
        let secret = !matches!(self.credentials, Credentials::Anonymous);
        if url.scheme() != "https" && secret && transport.trust() == Trust::Verified {
            return Err(Error::Auth(format!("refusing to send credentials to the token server {url} without TLS")));
        }
        let request = match &self.credentials {
            Credentials::IdentityToken(token) => refresh(url, challenge, scopes, token),
            credentials => ask(url, challenge, scopes, credentials, offline)?,
        };
        let shown = (request.method.clone(), request.url.clone());
        let response = retry::patiently(options, request, |request| transport.send(request)).await?.success().await?;
        let body = response.bytes("token", MAX_TOKEN).await?;
        serde_json::from_slice(&body)
            .map_err(|error| failed(&shown.0, &shown.1, &format!("unable to decode token response: {error}"), false))
    }
}

/// The request of the older, simpler protocol.
fn ask(
    mut url: Url,
    challenge: &Challenge,
    scopes: &[String],
    credentials: &Credentials,
    offline: bool,
) -> Result<Request> {
    {
        let mut query = url.query_pairs_mut();
        if let Credentials::Basic { username, .. } = credentials {
            query.append_pair("account", username);
        }
        if offline {
            query.append_pair("offline_token", "true").append_pair("client_id", CLIENT_ID);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
        if !challenge.get("service").is_empty() {
            query.append_pair("service", challenge.get("service"));
        }
    }
    if url.query() == Some("") {
        url.set_query(None);
    }
    let mut request = Request::new(Method::GET, url);
    if let Credentials::Basic { username, password } = credentials {
        request.authorization = Some(basic(username, password)?);
    }
    Ok(request)
}

/// The request of OAuth2 with an identity token.
fn refresh(url: Url, challenge: &Challenge, scopes: &[String], token: &str) -> Request {
    let scope = scopes.join(" ");
    let fields = [
        ("client_id", CLIENT_ID),
        ("grant_type", "refresh_token"),
        ("refresh_token", token),
        ("scope", &scope),
        ("service", challenge.get("service")),
    ];
    let escape =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    let mut request = Request::new(Method::POST, url)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    request.body = Some(body.join("&").into());
    request
}

fn basic(username: &str, password: &str) -> Result<HeaderValue> {
    secret(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn bearer(token: &str) -> Result<HeaderValue> {
    secret(format!("Bearer {token}"))
}

/// A header that reqwest never prints.
fn secret(text: String) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Error::Auth("credentials contain characters that no header can have".into()))?;
    value.set_sensitive(true);
    Ok(value)
}
