//! One repository in one registry: requests with authentication, manifests and blobs.
//!
//! ```text
//! hosts, endpoint   where a registry is        challenge, auth   who we are
//! resolve           names to addresses         limit, retry      how much at once, and when again
//! tls, transport    requests and answers       fetch, upload     what the protocol says
//! ```

mod auth;
pub(crate) mod challenge;
pub(crate) mod endpoint;
mod fetch;
mod hosts;
pub(crate) mod limit;
pub(crate) mod resolve;
pub(crate) mod retry;
mod search;
mod tls;
pub(crate) mod transport;
mod upload;
mod upstream;

use std::sync::{Arc, Mutex, PoisonError};

use oci::Reference;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode, Url};

use self::auth::Authorizer;
pub use self::auth::Credentials;
use self::endpoint::Endpoint;
pub(crate) use self::fetch::{ContentRange, Fetched, MAX_CONFIG};
use self::limit::Connections;
use self::resolve::Resolver;
pub use self::search::Hit;
use self::transport::{Request, Response, Transport, transport};
pub(crate) use self::upload::{Mount, Pieces, Session, pieces};
pub use self::upstream::{Upstream, UpstreamBlob};
use crate::error::{Error, RegistryErrors, Result};
use crate::{Client, Options};

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

    fn verb(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::PullPush => "push",
        }
    }
}

/// A repository at an endpoint that has answered.
pub(crate) struct Remote {
    pub(crate) endpoint: Endpoint,
    pub(crate) options: Options,
    transport: Transport,
    authorizer: Authorizer,
    /// `docker.io`, whatever host stands for it.
    pub(crate) domain: String,
    /// `library/busybox`.
    pub(crate) path: String,
    scopes: Mutex<Vec<String>>,
}

impl Client {
    /// Reaches the repository at this endpoint and learns what its registry asks for.
    pub(crate) async fn connect(
        &self,
        endpoint: Endpoint,
        resolver: &Resolver,
        repository: &Reference,
        credentials: &Credentials,
        actions: Actions,
    ) -> Result<Remote> {
        let place = (repository.domain().to_owned(), repository.path().to_owned());
        Remote::connect(endpoint, &self.options, resolver, &self.connections, place, credentials.clone(), actions).await
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
        let mut endpoints: Vec<Endpoint> = Vec::new();
        // Whatever they may be used for.
        for actions in [Actions::Pull, Actions::PullPush] {
            match self.endpoints(domain, &resolver, actions).await {
                Ok(found) => {
                    let known = endpoints.clone();
                    endpoints.extend(found.into_iter().filter(|endpoint| !known.contains(endpoint)));
                }
                Err(error) => failure = error,
            }
        }
        // Mirrors are somebody else: what they think of the password says nothing, and they shall not see it.
        for endpoint in endpoints.into_iter().filter(|endpoint| !endpoint.is_mirror) {
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
        let nowhere = (String::new(), String::new());
        let connections = &self.connections;
        let remote =
            Remote::connect(endpoint, &self.options, resolver, connections, nowhere, credentials, Actions::Pull)
                .await?;
        let url = remote.endpoint.url("/")?;
        let token = match remote.authorizer.identity_token(&remote.transport, &self.options).await {
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
    async fn connect(
        endpoint: Endpoint,
        options: &Options,
        resolver: &Resolver,
        connections: &Arc<Connections>,
        (domain, path): (String, String),
        credentials: Credentials,
        actions: Actions,
    ) -> Result<Self> {
        let transport = Transport::new(&endpoint, options, resolver, connections).await?;
        // A mirror is somebody else: it gets nobody's password.
        let credentials = if endpoint.is_mirror { Credentials::Anonymous } else { credentials };
        // Without a repository nothing of one is asked for.
        let scope = (!path.is_empty()).then(|| format!("repository:{path}:{}", actions.text()));
        let scopes = Mutex::new(scope.into_iter().collect());
        let authorizer = Authorizer::new(credentials);
        let remote = Self { endpoint, options: options.clone(), transport, authorizer, domain, path, scopes };
        // One that does not answer is no registry, which is told at once: there may be another endpoint.
        let ping = Request::new(Method::GET, remote.endpoint.url("/")?).single();
        let ping = retry::patiently(options, ping, |request| remote.transport.send(request)).await?;
        // Whatever the status: a registry that answers is one, and the next request will tell what is wrong with it.
        if remote.endpoint.is_home(ping.url()) {
            remote.authorizer.learn(ping.challenges());
        }
        Ok(remote)
    }

    /// Asks for this scope as well with the next request.
    fn also(&self, scope: &str) {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }

    /// A URL inside the repository: `manifests/latest`.
    fn repository_url(&self, rest: &str) -> Result<Url> {
        self.endpoint.url(&format!("/{}/{rest}", self.path))
    }

    /// Sends a request with authentication, as often as it takes within the limit.
    async fn send(&self, request: Request) -> Result<Response> {
        retry::patiently(&self.options, request, |request| self.send_once(request)).await
    }

    /// As [`Remote::send`], without patience. When credentials are refused, the registry's new challenge is answered
    /// once, if the request can be repeated: a token may have ended meanwhile.
    async fn send_once(&self, mut request: Request) -> Result<Response> {
        let again = request.repeated();
        request.authorization = self.authorization(&request).await?;
        let used = request.authorization.clone();
        let response = self.transport.send(request).await?;
        // Storage that a redirect or an upload leads to may refuse as well. It is not told who we are.
        if response.status() != StatusCode::UNAUTHORIZED || !self.endpoint.is_home(response.url()) {
            return Ok(response);
        }
        let challenges = response.challenges();
        if challenges.is_empty() {
            return Ok(response);
        }
        self.authorizer.learn(challenges);
        if let Some(used) = &used {
            self.authorizer.forget(used);
        }
        let Some(mut again) = again else { return Ok(response) };
        drop(response);
        again.authorization = self.authorization(&again).await?;
        self.transport.send(again).await
    }

    async fn authorization(&self, request: &Request) -> Result<Option<HeaderValue>> {
        // Uploads may go elsewhere: the registry said where, and its credentials are not for others.
        if !self.endpoint.is_home(&request.url) {
            return Ok(None);
        }
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        scopes.extend(request.scope.clone());
        let header = self.authorizer.header(&self.transport, &self.options, &scopes).await;
        header.map_err(|error| at(&request.method, &request.url, error))
    }
}

/// A failure on the way to a token, as Docker tells it: of the request that needs one. It was tried often enough.
fn at(method: &Method, url: &Url, error: Error) -> Error {
    match error {
        Error::Setup(_) | Error::Cancelled | Error::Task => error,
        Error::Transport { problem, .. } => transport(method, url, &problem, false),
        other => transport(method, url, &other.to_string(), false),
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
