//! One repository in one registry: requests with authentication, manifests and blobs.

use std::sync::{Mutex, PoisonError};

use oci::digest::Digest;
use oci::{Reference, manifest, media_type};
use reqwest::header::{ACCEPT, HeaderValue, RANGE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::auth::{Authorizer, Credentials};
use crate::error::{Error, RegistryErrors, Result};
use crate::hosts::{self, Endpoint};
use crate::resolve::Resolver;
use crate::transport::{Request, Response, Transport, go_json_error, transport};
use crate::{Client, Options};

/// Of an image configuration, in bytes.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;
/// Of the list of tags, in bytes and pages.
const MAX_TAGS: u64 = 8 << 20;
const MAX_TAG_PAGES: usize = 1000;

/// What an operation wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actions {
    Pull,
    PullPush,
}

impl Actions {
    fn text(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::PullPush => "pull,push",
        }
    }
}

/// A repository at an endpoint that has answered.
pub(crate) struct Remote {
    pub(crate) endpoint: Endpoint,
    transport: Transport,
    authorizer: Authorizer,
    /// `library/busybox`.
    pub(crate) path: String,
    scopes: Mutex<Vec<String>>,
}

/// A manifest or index as it was delivered.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

impl Client {
    /// The endpoints of a reference's registry.
    pub(crate) async fn endpoints(
        &self,
        reference: &Reference,
        resolver: &Resolver,
        actions: Actions,
    ) -> Vec<Endpoint> {
        // Nothing is pushed to a mirror.
        let mirrors: &[String] = if actions == Actions::Pull { &self.options.mirrors } else { &[] };
        hosts::endpoints(reference.domain(), mirrors, &self.insecure, resolver).await
    }

    /// Checks credentials at a registry. Returns a token that can be kept in place of the password, if it gives one.
    ///
    /// `server` is a host, `host:port` or URL; empty is Docker Hub.
    pub async fn login(&self, server: &str, credentials: Credentials) -> Result<Option<String>> {
        let host = server.split_once("://").map_or(server, |(_, rest)| rest).split('/').next().unwrap_or_default();
        let domain = match host {
            "" | "index.docker.io" | "registry-1.docker.io" => oci::reference::DEFAULT_DOMAIN,
            other => other,
        };
        let resolver = Resolver::default();
        let mut failure = Error::Auth(format!("no endpoints found for {server}"));
        for endpoint in hosts::endpoints(domain, &[], &self.insecure, &resolver).await {
            match self.login_at(endpoint, &resolver, credentials.clone()).await {
                Ok(token) => return Ok(token),
                Err(error @ Error::Auth(_)) => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn login_at(
        &self,
        endpoint: Endpoint,
        resolver: &Resolver,
        credentials: Credentials,
    ) -> Result<Option<String>> {
        let remote =
            Remote::connect(endpoint, &self.options, resolver, String::new(), credentials, Actions::Pull).await?;
        remote.scopes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let url = remote.url("/v2/")?;
        let token = match remote.authorizer.identity_token(&remote.transport).await {
            Ok(token) => token,
            Err(error) => return Err(unauthorized(at(&Method::GET, &url, error))),
        };
        let response = remote.send(Request::new(Method::GET, url.clone())).await.map_err(unauthorized)?;
        let status = response.status();
        if status.is_success() {
            return Ok(token);
        }
        let text = format!("login attempt to {url} failed with status: {status}");
        Err(Error::Setup(text))
    }
}

/// Marks the refusal of a token server as one, so that the caller answers 401.
fn unauthorized(error: Error) -> Error {
    match &error {
        Error::Transport { problem, .. } if problem.starts_with("unauthorized: ") => Error::Auth(error.to_string()),
        _ => error,
    }
}

impl Remote {
    /// Reaches the registry and learns what it asks for.
    pub(crate) async fn connect(
        endpoint: Endpoint,
        options: &Options,
        resolver: &Resolver,
        path: String,
        credentials: Credentials,
        actions: Actions,
    ) -> Result<Self> {
        let transport = Transport::new(&endpoint, options, resolver).await?;
        // A mirror is somebody else: it gets nobody's password.
        let credentials = if endpoint.is_mirror { Credentials::Anonymous } else { credentials };
        let scopes = Mutex::new(vec![format!("repository:{path}:{}", actions.text())]);
        let remote = Self { endpoint, transport, authorizer: Authorizer::new(credentials), path, scopes };
        let ping = remote.transport.send(Request::new(Method::GET, remote.url("/v2/")?)).await?;
        // Whatever the status: a registry that answers is one, and the next request will tell what is wrong with it.
        remote.authorizer.learn(ping.challenges());
        Ok(remote)
    }

    /// Asks for more rights with the next request: reading another repository, to mount its blobs.
    pub(crate) fn also_pull(&self, path: &str) {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let scope = format!("repository:{path}:pull");
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }

    fn url(&self, path: &str) -> Result<Url> {
        let text = format!("{}{path}", self.endpoint.base);
        Url::parse(&text).map_err(|error| Error::Setup(format!("parse \"{text}\": {error}")))
    }

    /// A URL inside the repository: `manifests/latest`.
    pub(crate) fn repository_url(&self, rest: &str) -> Result<Url> {
        self.url(&format!("/v2/{}/{rest}", self.path))
    }

    /// Sends a request with authentication. When that is refused, the registry's new challenge is answered once, if
    /// the request can be repeated (its body was not a stream).
    pub(crate) async fn send(&self, request: Request) -> Result<Response> {
        let Request { method, url, headers, body, wait, .. } = request;
        let again = body.as_ref().is_none_or(|body| body.as_bytes().is_some());
        let copy = body.as_ref().and_then(|body| body.as_bytes()).map(<[u8]>::to_vec);
        let with = async |body| {
            let authorization = self.authorization(&method, &url).await?;
            let request = Request {
                method: method.clone(),
                url: url.clone(),
                headers: headers.clone(),
                authorization,
                body,
                wait,
            };
            self.transport.send(request).await
        };
        let response = with(body).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !again {
            return Ok(response);
        }
        let challenges = response.challenges();
        if challenges.is_empty() {
            return Ok(response);
        }
        self.authorizer.learn(challenges);
        self.authorizer.forget_tokens();
        with(copy.map(Into::into)).await
    }

    async fn authorization(&self, method: &Method, url: &Url) -> Result<Option<HeaderValue>> {
        // Uploads may go elsewhere: the registry said where, and its credentials are not for others.
        if Url::parse(&self.endpoint.base).is_ok_and(|base| base.origin() != url.origin()) {
            return Ok(None);
        }
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let scopes = if self.path.is_empty() { Vec::new() } else { scopes };
        self.authorizer.header(&self.transport, &scopes).await.map_err(|error| at(method, url, error))
    }

    /// The digest of a tag, without its manifest; none when the registry does not say.
    pub(crate) async fn digest_of(&self, tag: &str) -> Result<Option<Digest>> {
        let request = accepting(Request::new(Method::HEAD, self.repository_url(&format!("manifests/{tag}"))?));
        let response = self.send(request).await?;
        let digest = response.header("docker-content-digest").parse().ok();
        Ok(digest.filter(|_| response.status().is_success()))
    }

    /// Is this manifest in the repository?
    pub(crate) async fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        let request = accepting(Request::new(Method::HEAD, self.repository_url(&format!("manifests/{digest}"))?));
        Ok(self.send(request).await?.status().is_success())
    }

    /// A manifest or index by tag or digest, verified against the digest (or the one that the registry names).
    pub(crate) async fn manifest(&self, tag: &str, expected: Option<&Digest>) -> Result<Fetched> {
        let name = expected.map_or(tag, Digest::as_str);
        let request = accepting(Request::new(Method::GET, self.repository_url(&format!("manifests/{name}"))?));
        // Failures to reach the registry are told of the request that Docker makes first.
        let response = self.send(request).await.map_err(|error| as_head(error, expected.is_none()))?;
        let response = response.success().await?;
        let media_type = response.header("content-type").to_owned();
        let named: Option<Digest> = response.header("docker-content-digest").parse().ok();
        let bytes = response.bytes("manifest", manifest::MAX_SIZE as u64).await?;
        if let Some(expected) = expected.or(named.as_ref())
            && !expected.verifies(&bytes)
        {
            return Err(Error::ManifestDigest(expected.clone()));
        }
        let digest = expected.cloned().or(named).unwrap_or_else(|| Digest::of(&bytes));
        Ok(Fetched { media_type, digest, bytes })
    }

    /// A blob from this byte on. The answer may begin earlier than asked: see the returned offset.
    pub(crate) async fn blob(&self, digest: &Digest, offset: u64) -> Result<(Response, u64)> {
        let mut request = Request::new(Method::GET, self.repository_url(&format!("blobs/{digest}"))?);
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-")).map_err(|_| Error::Task)?;
            request = request.header(RANGE, range);
        }
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Err(Error::UnknownBlob),
            StatusCode::PARTIAL_CONTENT => {
                // `bytes 100-199/200`
                let start = response.header("content-range").strip_prefix("bytes ");
                let start = start.and_then(|range| range.split('-').next()).and_then(|number| number.parse().ok());
                Ok((response, start.unwrap_or(offset)))
            }
            _ => Ok((response.success().await?, 0)),
        }
    }

    /// A small blob, whole and verified.
    pub(crate) async fn config(&self, digest: &Digest) -> Result<Vec<u8>> {
        let (response, _) = self.blob(digest, 0).await?;
        let bytes = response.bytes("image configuration", MAX_CONFIG).await?;
        if digest.verifies(&bytes) { Ok(bytes) } else { Err(Error::ConfigDigest(digest.clone())) }
    }

    /// All tags of the repository.
    pub(crate) async fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut url = self.repository_url("tags/list")?;
        let mut found = Vec::new();
        for _ in 0..MAX_TAG_PAGES {
            let response = self.send(Request::new(Method::GET, url.clone())).await?.success().await?;
            let next = next_page(response.header("link")).and_then(|next| url.join(next).ok());
            let body = response.bytes("list of tags", MAX_TAGS).await?;
            let page: Tags = serde_json::from_slice(&body)
                .map_err(|error| transport(&Method::GET, &url, &go_json_error(&body, &error), false))?;
            found.extend(page.tags.unwrap_or_default().into_iter().filter(|tag| oci::reference::is_tag(tag)));
            match next {
                Some(next) if next.origin() == url.origin() => url = next,
                _ => break,
            }
        }
        Ok(found)
    }
}

/// `</v2/a/tags/list?last=b&n=1>; rel="next"`
fn next_page(link: &str) -> Option<&str> {
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    parameters.contains("rel=\"next\"").then_some(target)
}

/// All types that we can read, the preferred first.
fn accepting(mut request: Request) -> Request {
    for media_type in media_type::MANIFESTS {
        request = request.header(ACCEPT, HeaderValue::from_static(media_type));
    }
    request
}

/// What authentication failed with is told of the request that needed it.
fn at(method: &Method, url: &Url, error: Error) -> Error {
    match error {
        Error::Setup(_) | Error::Cancelled | Error::Task => error,
        Error::Transport { problem, transient, .. } => transport(method, url, &problem, transient),
        other => transport(method, url, &other.to_string(), other.is_transient()),
    }
}

fn as_head(error: Error, applies: bool) -> Error {
    match error {
        Error::Transport { url, problem, transient, .. } if applies => {
            Error::Transport { method: "Head".into(), url, problem, transient }
        }
        other => other,
    }
}

/// Docker's words for what a registry refuses to show (`pull access denied …`), and any other error unchanged.
pub(crate) fn translate(error: Error, reference: &Reference) -> Error {
    let Error::Registry(RegistryErrors(errors)) = &error else { return error };
    let Some(first) = errors.first() else { return error };
    let first = crate::error::RegistryErrors(vec![first.clone()]);
    let Some((code, Some(message))) = first.first().map(|one| (one.code.as_str(), one.message.clone())) else {
        return Error::Registry(first);
    };
    let (name, whole) = (reference.familiar_name(), reference.familiar());
    match code {
        "DENIED" => Error::NotFound(format!(
            "pull access denied for {name}, repository does not exist or may require 'docker login': {first}"
        )),
        "MANIFEST_UNKNOWN" => Error::NotFound(format!("manifest for {whole} not found: {first}")),
        "NAME_UNKNOWN" => Error::NotFound(format!("repository {name} not found: {first}")),
        "UNAUTHORIZED" => Error::NotFound(message),
        _ => Error::Registry(first),
    }
}
