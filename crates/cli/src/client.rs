//! The engine at the other end of a socket: requests, answers, and connections taken over for streams.
//!
//! There is no handshake. Requests name the newest version of the API, and only an engine that finds it too new makes us ask again
//! with its own; Docker's client pays for a ping before every command instead. A connection that has answered is kept for the next
//! request.

pub(crate) mod autostart;
mod connect;
mod hijack;
mod request;
mod tls;

pub(crate) use connect::Endpoint;
pub(crate) use hijack::Hijacked;
pub(crate) use request::{Answer, Body, Query, encode};

use crate::error::Error;
use crate::flags::Values;
use api::Version;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};

/// A client of one engine.
pub(crate) struct Client {
    endpoint: Endpoint,
    /// The version that requests name.
    version: Cell<Version>,
    /// Whether the version may still turn out to be too new.
    negotiable: Cell<bool>,
    /// A connection without a request on it.
    idle: RefCell<Option<SendRequest<Body>>>,
    /// Headers of every request, from the user's configuration.
    headers: Vec<(String, String)>,
    /// Whether to start an engine when nothing listens.
    own_engine: Option<&'static str>,
    /// What we were called by: `docker` or `gantry`.
    program: &'static str,
}

impl Client {
    /// A client of `--host`, else `DOCKER_HOST`, else of our own engine, which is started when it does not run.
    pub(crate) fn new(global: &Values, program: &'static str) -> Result<Self, Error> {
        if let Some(name) = global.last("context")
            && name != "default"
        {
            return Err(Error::plain(format!(
                "Failed to initialize: unable to resolve docker endpoint: context \"{name}\": context not found"
            )));
        }
        let hosts = global.list("host");
        if hosts.len() > 1 {
            return Err(Error::plain("Failed to initialize: unable to resolve docker endpoint: specify only one -H"));
        }
        let named =
            hosts.first().cloned().or_else(|| std::env::var("DOCKER_HOST").ok()).filter(|host| !host.is_empty());
        let own_engine = named.is_none().then_some(program);
        let endpoint = match named {
            Some(host) => Endpoint::parse(&host)?.with_tls(tls::Tls::wanted(global)),
            None => Endpoint::own(),
        };
        let asked = std::env::var("DOCKER_API_VERSION").ok().filter(|version| !version.is_empty());
        let version =
            asked.as_deref().map_or(Some(Version::LATEST), |text| Version::parse(text.trim_start_matches('v')));
        let version = version.ok_or_else(|| {
            Error::plain(format!("invalid API version in DOCKER_API_VERSION: {}", asked.as_deref().unwrap_or_default()))
        })?;
        Ok(Self {
            endpoint,
            version: Cell::new(version),
            negotiable: Cell::new(asked.is_none()),
            idle: RefCell::new(None),
            headers: Vec::new(),
            own_engine,
            program,
        })
    }

    /// Adds the headers that the user's configuration asks for.
    pub(crate) fn with_headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers = headers;
        self
    }

    /// The version that requests name now.
    pub(crate) fn version(&self) -> Version {
        self.version.get()
    }

    /// `GET` that answers with JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<T, Error> {
        self.send(Method::GET, path, query, Body::empty, &[]).await?.json().await
    }

    /// `GET` that answers with a stream or text.
    pub(crate) async fn open(&self, path: &str, query: &Query) -> Result<Answer<'_>, Error> {
        self.send(Method::GET, path, query, Body::empty, &[]).await
    }

    /// `POST` of nothing, of which only success matters.
    pub(crate) async fn post(&self, path: &str, query: &Query) -> Result<(), Error> {
        self.send(Method::POST, path, query, Body::empty, &[]).await?.finish().await
    }

    /// `POST` of JSON that answers with JSON.
    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.send_json(path, query, body).await?.json().await
    }

    /// `POST` of JSON.
    pub(crate) async fn send_json(
        &self,
        path: &str,
        query: &Query,
        body: &impl Serialize,
    ) -> Result<Answer<'_>, Error> {
        let text = serde_json::to_vec(body).map_err(|error| Error::Protocol(error.to_string()))?;
        self.send(Method::POST, path, query, || Body::json(text.clone()), &[]).await
    }

    /// `DELETE`.
    pub(crate) async fn delete(&self, path: &str, query: &Query) -> Result<Answer<'_>, Error> {
        self.send(Method::DELETE, path, query, Body::empty, &[]).await
    }

    /// Any request whose body can be made again, should the engine find our version too new.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: impl Fn() -> Body,
        headers: &[(&str, String)],
    ) -> Result<Answer<'_>, Error> {
        let first = self.attempt(&method, path, query, body(), headers).await;
        let Err(Error::Daemon(error)) = &first else { return first };
        if method == Method::HEAD && error.status == 400 && self.negotiable.get() {
            // The answer has no text that could tell the version.
            self.negotiate().await?;
        } else if !self.lower_version(error) {
            return first;
        }
        self.attempt(&method, path, query, body(), headers).await
    }

    /// A request whose body is a stream that exists once; the version is settled before it.
    pub(crate) async fn upload(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: Body,
        headers: &[(&str, String)],
    ) -> Result<Answer<'_>, Error> {
        self.negotiate().await?;
        self.attempt(&method, path, query, body, headers).await
    }

    /// Asks the engine for its version and goes down to it. Needed only where the version decides what to send.
    pub(crate) async fn negotiate(&self) -> Result<(), Error> {
        if !self.negotiable.get() {
            return Ok(());
        }
        let request = self.request(&Method::HEAD, "/_ping".into(), Body::empty(), &[])?;
        let answer = self.exchange(request).await?;
        let theirs = answer.header("api-version").and_then(Version::parse).unwrap_or(Version::OLDEST);
        self.version.set(self.version.get().min(theirs));
        self.negotiable.set(false);
        answer.finish().await
    }

    /// Takes the version out of `client version 1.50 is too new. Maximum supported API version is 1.45`.
    fn lower_version(&self, error: &api::ApiError) -> bool {
        const HINT: &str = "Maximum supported API version is ";
        if error.status != 400 || !self.negotiable.get() {
            return false;
        }
        let theirs = error.message.split_once(HINT).and_then(|(_, rest)| Version::parse(rest.trim()));
        if let Some(theirs) = theirs.filter(|theirs| *theirs < self.version.get()) {
            self.version.set(theirs);
            self.negotiable.set(false);
            return true;
        }
        false
    }

    async fn attempt(
        &self,
        method: &Method,
        path: &str,
        query: &Query,
        body: Body,
        headers: &[(&str, String)],
    ) -> Result<Answer<'_>, Error> {
        let target = format!("/v{}{path}{query}", self.version.get());
        let answer = self.exchange(self.request(method, target, body, headers)?).await?;
        answer.checked().await
    }

    /// Sends a request that asks for the connection itself, and takes it over.
    pub(crate) async fn hijack(&self, path: &str, query: &Query, body: Option<Vec<u8>>) -> Result<Hijacked, Error> {
        let make = || body.clone().map_or_else(Body::empty, Body::json);
        let upgrade = [("connection", "Upgrade".to_owned()), ("upgrade", "tcp".to_owned())];
        let answer = self.send(Method::POST, path, query, make, &upgrade).await?;
        answer.hijack().await
    }

    fn request(
        &self,
        method: &Method,
        target: String,
        body: Body,
        headers: &[(&str, String)],
    ) -> Result<Request<Body>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "docker")
            .header(header::USER_AGENT, concat!("Gantry-Client/", env!("CARGO_PKG_VERSION"), " (linux)"));
        if let Some(kind) = body.content_type() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.body(body).map_err(|error| Error::Protocol(error.to_string()))
    }

    /// Sends over the idle connection or a new one, and waits for the head of the answer.
    async fn exchange(&self, request: Request<Body>) -> Result<Answer<'_>, Error> {
        let idle = self.idle.borrow_mut().take();
        let mut usable = None;
        if let Some(mut sender) = idle
            && sender.ready().await.is_ok()
        {
            usable = Some(sender);
        }
        let mut sender = match usable {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await.map_err(|error| Error::Protocol(request::cause(&error)))?;
        Ok(Answer::new(self, response, sender))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Error> {
        match self.endpoint.connect().await {
            Err(Error::Unreachable(_)) if self.own_engine.is_some() => {
                autostart::start(self.own_engine.unwrap_or_default()).await?;
                self.endpoint.connect().await
            }
            other => other,
        }
    }

    /// Keeps a connection whose answer was read to its end.
    fn keep(&self, sender: SendRequest<Body>) {
        self.idle.borrow_mut().get_or_insert(sender);
    }
}

/// 101 and 200 both hand the connection over.
fn upgraded(status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS
}
