//! HTTP as registries need it: no wait without a limit, redirects that never carry credentials to another host, and
//! failures in Go's words, which Docker's users know.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Body, Method, StatusCode, Url};
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::endpoint::{Endpoint, Trust};
use super::limit::{Connections, Place};
use super::resolve::{LookupError, Resolver};
use super::tls;
use crate::Options;
use crate::error::{Error, RegistryError, RegistryErrors, Result};

/// Go's limit.
const MAX_REDIRECTS: usize = 10;
/// Of the body of an error response, in bytes.
const MAX_ERROR_BODY: u64 = 64 << 10;
/// Of such a body that is no error of the protocol, in an error text.
const MAX_SHOWN_BODY: usize = 1024;

/// A client for one endpoint. What it keeps (connections, certificates, a resolver) is shared by all operations that are
/// under way, and goes with the last of them: an idle engine has none of it.
pub(crate) struct Transport {
    client: Arc<reqwest::Client>,
    resolver: Resolver,
    connections: Arc<Connections>,
    /// Its headers are for its own URLs.
    endpoint: Endpoint,
    /// No byte for so long means that the other side is gone.
    stall: Duration,
    /// Answers to small requests must begin within this time.
    header: Duration,
}

/// A request to be sent.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    /// Sent to the host of `url` only.
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) body: Option<Body>,
    /// How long the answer may take to begin, when that is not the usual time (uploads).
    pub(crate) wait: Option<Duration>,
    /// Whoever sends it tries it again itself, or nobody shall: a failure is told at once.
    pub(crate) is_single: bool,
    /// What it needs beside the usual rights.
    pub(crate) scope: Option<String>,
}

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        let (headers, authorization, body, wait, scope) = (HeaderMap::new(), None, None, None, None);
        Self { method, url, headers, authorization, body, wait, is_single: false, scope }
    }

    /// The same once more, without its credentials; none if the body is a stream, which can be sent only once.
    pub(crate) fn repeated(&self) -> Option<Self> {
        let body = match &self.body {
            None => None,
            Some(body) => Some(body.as_bytes()?.to_vec().into()),
        };
        let (method, url, headers) = (self.method.clone(), self.url.clone(), self.headers.clone());
        let (wait, is_single, scope) = (self.wait, self.is_single, self.scope.clone());
        Some(Self { method, url, headers, authorization: None, body, wait, is_single, scope })
    }

    /// The same, without another try after a failure.
    #[must_use]
    pub(crate) fn single(mut self) -> Self {
        self.is_single = true;
        self
    }

    #[must_use]
    pub(crate) fn header(mut self, name: reqwest::header::HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }
}

impl Transport {
    pub(crate) async fn new(
        endpoint: &Endpoint,
        options: &Options,
        resolver: &Resolver,
        connections: &Arc<Connections>,
    ) -> Result<Self> {
        let key = format!("{:?}", (&endpoint.root, endpoint.trust, &endpoint.certificates, endpoint.dial_timeout));
        let client = match connections.client(&key) {
            Some(client) => client,
            None => connections.share(key, http_client(endpoint, options, resolver).await?),
        };
        Ok(Self {
            client,
            resolver: resolver.clone(),
            connections: Arc::clone(connections),
            endpoint: endpoint.clone(),
            stall: options.stall_timeout,
            header: options.header_timeout,
        })
    }

    pub(crate) fn trust(&self) -> Trust {
        self.endpoint.trust
    }

    /// Sends a request and waits for the head of the answer, whatever its status. Redirects of GET and HEAD are followed.
    pub(crate) async fn send(&self, request: Request) -> Result<Response> {
        let Request { method, mut url, headers, mut authorization, mut body, wait, .. } = request;
        let shown = url.clone();
        let is_stream = body.as_ref().is_some_and(|body| body.as_bytes().is_none());
        for _ in 0..=MAX_REDIRECTS {
            let place =
                if is_stream { self.connections.send(&url).await? } else { self.connections.receive(&url).await? };
            let mut builder = self.client.request(method.clone(), url.clone()).headers(headers.clone());
            if self.endpoint.covers(&url) {
                builder = builder.headers(self.endpoint.headers.clone());
            }
            if let Some(value) = &authorization {
                builder = builder.header(AUTHORIZATION, value.clone());
            }
            if let Some(body) = body.take() {
                builder = builder.body(body);
            }
            let inner = match tokio::time::timeout(wait.unwrap_or(self.header), builder.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(self.failure(&method, &shown, &url, &error).await),
                Err(_) => return Err(transport(&method, &shown, "net/http: timeout awaiting response headers", true)),
            };
            let Some(target) = self.redirect(&method, &url, &inner)? else {
                return Ok(Response { inner, stall: self.stall, _place: place });
            };
            if target.origin() != url.origin() {
                // Credentials stay home.
                authorization = None;
            }
            url = target;
        }
        Err(transport(&method, &shown, &format!("stopped after {MAX_REDIRECTS} redirects"), false))
    }

    /// Where this answer leads on to, if it does.
    fn redirect(&self, method: &Method, url: &Url, response: &reqwest::Response) -> Result<Option<Url>> {
        let follows = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        if !follows || !matches!(*method, Method::GET | Method::HEAD) {
            return Ok(None);
        }
        let bad = |problem: &str| transport(method, url, problem, false);
        let location = response.headers().get(LOCATION).ok_or_else(|| bad("redirect without Location header"))?;
        let location = location.to_str().map_err(|_| bad("failed to parse Location header"))?;
        let target = url.join(location).map_err(|_| bad("failed to parse Location header"))?;
        match target.scheme() {
            "https" => Ok(Some(target)),
            // Who asked a trusted registry gets no answer that anybody on the way could have written.
            "http" if self.trust() == Trust::Verified && url.scheme() == "https" => {
                Err(bad(&format!("refusing the redirect from https to \"{target}\"")))
            }
            "http" => Ok(Some(target)),
            other => Err(bad(&format!("unsupported protocol scheme \"{other}\""))),
        }
    }

    /// Puts a failed request into Go's words.
    async fn failure(&self, method: &Method, shown: &Url, url: &Url, error: &reqwest::Error) -> Error {
        let address = async || {
            let host = url.host_str().unwrap_or_default();
            let port = url.port_or_known_default().unwrap_or_default();
            match self.resolver.lookup(host).await.ok().and_then(|found| found.first().copied()) {
                Some(address) => std::net::SocketAddr::new(address, port).to_string(),
                None => format!("{host}:{port}"),
            }
        };
        if let Some(lookup) = find::<LookupError>(error) {
            return transport(method, shown, &format!("dial tcp: {lookup}"), true);
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            return transport(method, shown, &tls_problem(tls, url), false);
        }
        if error.is_connect() && error.is_timeout() {
            return transport(method, shown, &format!("dial tcp {}: i/o timeout", address().await), true);
        }
        let problem = match find::<io::Error>(error) {
            Some(cause) if error.is_connect() => format!("dial tcp {}: connect: {}", address().await, plain(cause)),
            Some(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            Some(cause) => format!("read tcp {}: {}", address().await, plain(cause)),
            // hyper has no public type for this: the connection ended before an answer.
            None if innermost(error).contains("before message completed") => "EOF".to_owned(),
            None => innermost(error),
        };
        transport(method, shown, &problem, true)
    }
}

/// The proxies that the environment names. As in Go there is none to this host itself, whatever `NO_PROXY` says: a proxy
/// would look for the registry on its own.
fn proxies() -> Result<Vec<reqwest::Proxy>> {
    type Make = fn(String) -> reqwest::Result<reqwest::Proxy>;
    let variable = |name: &str| {
        let found = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase()));
        found.ok().filter(|value| !value.is_empty())
    };
    let direct = format!("localhost,127.0.0.0/8,::1,{}", variable("NO_PROXY").unwrap_or_default());
    let kinds: [(&str, Make); 3] = [
        ("HTTP_PROXY", reqwest::Proxy::http),
        ("HTTPS_PROXY", reqwest::Proxy::https),
        ("ALL_PROXY", reqwest::Proxy::all),
    ];
    let mut proxies = Vec::new();
    for (name, make) in kinds {
        let Some(address) = variable(name) else { continue };
        let proxy = make(address).map_err(|error| Error::Setup(format!("{name}: {}", innermost(&error))))?;
        proxies.push(proxy.no_proxy(reqwest::NoProxy::from_string(&direct)));
    }
    Ok(proxies)
}

async fn http_client(endpoint: &Endpoint, options: &Options, resolver: &Resolver) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(&options.user_agent)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(endpoint.dial_timeout.unwrap_or(options.connect_timeout))
        .pool_max_idle_per_host(options.max_connections)
        .tcp_nodelay(true)
        .dns_resolver(resolver.clone());
    for proxy in proxies()? {
        builder = builder.proxy(proxy);
    }
    let (endpoint, certs_dirs) = (endpoint.clone(), options.certs_dirs.clone());
    // Plain http needs the settings as well: redirects may lead to https.
    let tls = tokio::task::spawn_blocking(move || tls::config(&endpoint, &certs_dirs));
    builder = builder.tls_backend_preconfigured(tls.await.map_err(|_| Error::Task)??);
    builder.build().map_err(|error| Error::Setup(innermost(&error)))
}

/// The head of an answer, and its body to be read.
pub(crate) struct Response {
    inner: reqwest::Response,
    stall: Duration,
    /// The connection is taken until the body was read.
    _place: Place,
}

impl Response {
    pub(crate) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// A header as text, empty when it is missing or none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.inner.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// All values of `WWW-Authenticate`.
    pub(crate) fn challenges(&self) -> Vec<Challenge> {
        let values = self.inner.headers().get_all(reqwest::header::WWW_AUTHENTICATE);
        challenge::parse(values.iter().filter_map(|value| value.to_str().ok()))
    }

    /// Where the answer came from, after redirects.
    pub(crate) fn url(&self) -> &Url {
        self.inner.url()
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.inner.content_length()
    }

    /// The next bytes of the body, `None` at its end. A body that is shorter than announced is an error.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        match tokio::time::timeout(self.stall, self.inner.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => {
                let problem = match find::<io::Error>(&error) {
                    Some(cause) if cause.kind() != io::ErrorKind::UnexpectedEof => plain(cause),
                    _ => "unexpected EOF".to_owned(),
                };
                Err(Error::Body(problem))
            }
            Err(_) => Err(Error::Body("i/o timeout".into())),
        }
    }

    /// The whole body, which must not be larger than this.
    pub(crate) async fn bytes(mut self, what: &'static str, limit: u64) -> Result<Vec<u8>> {
        if let Some(size) = self.content_length().filter(|size| *size > limit) {
            return Err(Error::TooLarge { what, size, limit });
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(Error::TooLarge { what, size: bytes.len() as u64, limit });
            }
        }
        Ok(bytes)
    }

    /// The answer itself if its status says success, else the error that it stands for.
    pub(crate) async fn success(self) -> Result<Self> {
        if self.status().is_success() { Ok(self) } else { Err(self.into_error().await) }
    }

    /// What this unsuccessful answer means: errors of the protocol from its challenges and its body, if there are any.
    pub(crate) async fn into_error(self) -> Error {
        let status = self.status();
        if !status.is_client_error() {
            return Error::Status {
                status: status.as_u16(),
                reason: status.canonical_reason().unwrap_or_default().to_owned(),
            };
        }
        let from_challenge = self.challenges().iter().find_map(|challenge| {
            let code = match (challenge.scheme.as_str(), challenge.get("error")) {
                ("bearer", "invalid_token") => "UNAUTHORIZED",
                ("bearer", "insufficient_scope") => "DENIED",
                _ => return None,
            };
            Some(RegistryError::with_message(code, challenge.get("error_description")))
        });
        let content_type = self.header("content-type").split(';').next().unwrap_or_default().trim().to_lowercase();
        let is_json = matches!(content_type.as_str(), "application/json" | "application/vnd.api+json");
        let body = self.bytes("error response", MAX_ERROR_BODY).await.unwrap_or_default();
        let from_body = if is_json { errors_of_json(status, &body) } else { Ok(errors_of_text(status, &body)) };
        match (from_challenge, from_body) {
            (Some(first), Ok(RegistryErrors(mut rest))) => {
                rest.insert(0, first);
                Error::Registry(RegistryErrors(rest))
            }
            (Some(first), Err(_)) => Error::Registry(RegistryErrors(vec![first])),
            (None, Ok(errors)) => Error::Registry(errors),
            (None, Err(error)) => error,
        }
    }
}

/// A body that is no JSON is the message, and the status is the code.
fn errors_of_text(status: StatusCode, body: &[u8]) -> RegistryErrors {
    let code = code_of(status);
    let shown = String::from_utf8_lossy(&body[..body.len().min(MAX_SHOWN_BODY)]).into_owned();
    RegistryErrors(vec![RegistryError { code: code.to_owned(), message: Some(shown) }])
}

fn code_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        429 => "TOOMANYREQUESTS",
        _ => "UNKNOWN",
    }
}

/// Reads `{"errors":[{"code":"…","message":"…"}]}`, and `{"details":"…"}` of older token servers.
fn errors_of_json(status: StatusCode, body: &[u8]) -> Result<RegistryErrors> {
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        detail: Option<serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Option<Vec<One>>,
        #[serde(default)]
        details: Option<String>,
    }
    let unreadable = |problem: String| {
        let shown = &body[..body.len().min(MAX_SHOWN_BODY)];
        Error::Response { status: status.as_u16(), problem, body: String::from_utf8_lossy(shown).into_owned() }
    };
    let parsed: Errors = serde_json::from_slice(body).map_err(|error| unreadable(go_json_error(body, &error)))?;
    if let Some(details) = parsed.details.filter(|text| !text.is_empty()) {
        return Ok(RegistryErrors(vec![RegistryError::with_message(code_of(status), &details)]));
    }
    let one =
        |one: &One| RegistryError::new(&one.code, one.message.as_deref().unwrap_or_default(), one.detail.is_some());
    let errors: Vec<RegistryError> = parsed.errors.unwrap_or_default().iter().map(one).collect();
    if errors.is_empty() {
        return Err(unreadable("no error details found in HTTP response body".into()));
    }
    Ok(RegistryErrors(errors))
}

/// What Go's JSON reader says about the usual cases: nothing at all, and HTML or plain text.
pub(crate) fn go_json_error(body: &[u8], error: &serde_json::Error) -> String {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => "unexpected end of JSON input".into(),
        Some(first) if error.is_syntax() && !matches!(first, b'{' | b'[' | b'"') => {
            format!("invalid character '{}' looking for beginning of value", char::from(*first))
        }
        Some(_) => error.to_string(),
    }
}

/// `Get "http://…": problem`, with the method as Go writes it.
pub(crate) fn transport(method: &Method, url: &Url, problem: &str, transient: bool) -> Error {
    let method = method.as_str();
    let method = format!("{}{}", &method[..1], method[1..].to_lowercase());
    let mut url = url.clone();
    // A user name in a mirror's URL may come with a password, which no log should show.
    if url.password().is_some() {
        let _ = url.set_password(Some("xxxxx"));
    }
    Error::Transport { method, url: url.to_string(), problem: problem.to_owned(), transient }
}

/// An error of this type among the causes, the innermost one.
///
/// What an [`io::Error`] was made of is not its `source`, but the source of that is: so both ways are gone.
fn find<T: StdError + 'static>(error: &reqwest::Error) -> Option<&T> {
    fn search<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inside = inside.and_then(|inner| search(inner as &(dyn StdError + 'static)));
        inside.or_else(|| error.source().and_then(search)).or_else(|| error.downcast_ref())
    }
    error.source().and_then(search)
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// `connection refused`, as Go and C write it, without Rust's number.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".into(),
        io::ErrorKind::BrokenPipe => "broken pipe".into(),
        io::ErrorKind::TimedOut => "i/o timeout".into(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        io::ErrorKind::HostUnreachable => "no route to host".into(),
        _ => error.to_string(),
    }
}

/// What Go says about the usual failures of TLS.
fn tls_problem(error: &rustls::Error, url: &Url) -> String {
    use rustls::CertificateError as C;
    let certificate = |problem: &str| format!("tls: failed to verify certificate: x509: {problem}");
    match error {
        rustls::Error::InvalidMessage(_) => "http: server gave HTTP response to HTTPS client".into(),
        rustls::Error::InvalidCertificate(C::UnknownIssuer) => certificate("certificate signed by unknown authority"),
        rustls::Error::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        ) => certificate("certificate has expired or is not yet valid"),
        rustls::Error::InvalidCertificate(C::NotValidForNameContext { presented, .. }) => {
            certificate(&wrong_name(presented, url.host_str().unwrap_or_default()))
        }
        other => format!("tls: {other}"),
    }
}

/// Go's sentence for a certificate that is somebody else's. `presented` is like `DnsName("localhost")`, `IpAddress(::1)`.
fn wrong_name(presented: &[String], host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let kind = if is_address { "IpAddress(" } else { "DnsName(" };
    let names = presented.iter().filter_map(|name| name.strip_prefix(kind)?.strip_suffix(')'));
    let names: Vec<&str> = names.map(|name| name.trim_matches('"')).collect();
    match (names.is_empty(), is_address) {
        (false, _) => format!("certificate is valid for {}, not {host}", names.join(", ")),
        (true, true) => format!("cannot validate certificate for {host} because it doesn't contain any IP SANs"),
        (true, false) => format!("certificate is not valid for any names, but wanted to match {host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_names_in_go_s_words() {
        let presented = ["IpAddress(127.0.0.1)".to_owned(), "DnsName(\"localhost\")".to_owned()];
        assert_eq!(wrong_name(&presented, "10.0.0.1"), "certificate is valid for 127.0.0.1, not 10.0.0.1");
        assert_eq!(wrong_name(&presented, "a.b"), "certificate is valid for localhost, not a.b");
        let expected = "cannot validate certificate for ::1 because it doesn't contain any IP SANs";
        assert_eq!(wrong_name(&presented[1..], "[::1]"), expected);
        assert_eq!(wrong_name(&[], "a"), "certificate is not valid for any names, but wanted to match a");
    }

    #[test]
    fn errors_of_responses() {
        let json =
            |status: u16, body: &str| match errors_of_json(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
                Ok(errors) => errors.to_string(),
                Err(error) => error.to_string(),
            };
        let two = r#"{"errors":[{"code":"DENIED","message":"x"},{"code":"NEW","message":"y","detail":1}]}"#;
        assert_eq!(json(403, two), "errors:\ndenied: x\nunknown: y\n");
        assert_eq!(json(401, r#"{"details":"wrong"}"#), "unauthorized: wrong");
        assert_eq!(json(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#), "name unknown");
        assert_eq!(errors_of_text(StatusCode::FORBIDDEN, b"no").to_string(), "denied: no");
    }
}
