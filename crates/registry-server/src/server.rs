//! Connections and requests: from the socket to the route, and from the answer to the log.
//!
//! ```text
//! accept ─► (TLS) ─► hyper ─► route ─► who, and may they ─► routes::* ─► answer ─► log, metrics
//! ```
//! What takes content in runs in a task of its own: when its client goes away, what came is kept in good order.

use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, EXPECT, HeaderName, RETRY_AFTER, USER_AGENT};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};

use crate::access::{Access, Who};
use crate::body::Body;
use crate::cache::Cache;
use crate::engine::EngineStore;
use crate::failure::{Code, Failure, Result};
use crate::log::{AccessLog, Line};
use crate::metrics::Metrics;
use crate::quotas::Quotas;
use crate::reply;
use crate::request::{Request, RequestBody};
use crate::route::Route;
use crate::routes;
use crate::settings::Settings;
use crate::storage::Storage;
use crate::tls::Tls;
use crate::wire::{Outbox, Patient, Piece, Wire};

/// How long a client may take for the head of a request, and leave a connection unused.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that hyper buffers of a connection; also the limit of a request's head.
const BUFFER: usize = 128 << 10;
/// Header lines of a request.
const MAX_HEADERS: usize = 100;

/// What is logged of a request whose client leaves before there is an answer, as other servers do.
const CLIENT_LEFT: u16 = 499;

/// `Docker-Distribution-Api-Version`: Docker's clients look for it.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// What all connections share.
pub(crate) struct Server {
    pub(crate) settings: Settings,
    pub(crate) storage: Arc<Storage>,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) metrics: Metrics,
    pub(crate) log: AccessLog,
    pub(crate) access: Access,
    pub(crate) tls: Option<Tls>,
    /// The registry that this one is a cache of.
    pub(crate) cache: Option<Arc<Cache>>,
    /// The engine whose images these are.
    pub(crate) engine: Option<Arc<EngineStore>>,
    uploads: Semaphore,
}

/// Where a request came in.
#[derive(Debug, Clone)]
struct Origin {
    remote: SocketAddr,
    outbox: Option<Outbox>,
}

impl Server {
    pub(crate) fn new(
        settings: Settings,
        storage: Arc<Storage>,
        log: AccessLog,
        access: Access,
        tls: Option<Tls>,
        engine: Option<Arc<EngineStore>>,
    ) -> Self {
        let quotas = Arc::new(Quotas::new(settings.quotas.clone()));
        let uploads = Semaphore::new(settings.max_uploads);
        let cache = settings.cache.clone().map(|cache| Arc::new(Cache::new(cache)));
        Self { settings, storage, quotas, metrics: Metrics::new(), log, access, tls, cache, engine, uploads }
    }

    /// Serves a connection until it ends. When `stopping` turns true, it ends after the request in hand.
    pub(crate) async fn serve(
        self: Arc<Self>,
        socket: tokio::net::TcpStream,
        remote: SocketAddr,
        stopping: watch::Receiver<bool>,
    ) {
        if let Some(tls) = &self.tls {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(socket));
            match handshake.await {
                Ok(Ok(stream)) => self.serve_stream(stream, Origin { remote, outbox: None }, stopping).await,
                Ok(Err(error)) => tracing::debug!(%error, %remote, "handshake failed"),
                Err(_) => tracing::debug!(%remote, "handshake took too long"),
            }
            return;
        }
        let outbox = Outbox::default();
        let wire = Wire::new(socket, outbox.clone());
        self.serve_stream(wire, Origin { remote, outbox: Some(outbox) }, stopping).await;
    }

    async fn serve_stream<S>(self: Arc<Self>, stream: S, origin: Origin, mut stopping: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.metrics.connections.inc();
        let stream = Patient::new(stream, self.settings.stall_timeout);
        let service = service_fn(|request| {
            let (server, origin) = (Arc::clone(&self), origin.clone());
            async move { Ok::<_, Infallible>(server.answer(request, origin).await) }
        });
        let mut http = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(BUFFER)
                .max_headers(MAX_HEADERS)
                .title_case_headers(true)
                .writev(true)
                .serve_connection(TokioIo::new(stream), service)
        );
        let mut stop_asked = false;
        let ended = loop {
            tokio::select! {
                ended = http.as_mut() => break ended,
                _ = stopping.wait_for(|stopping| *stopping), if !stop_asked => {
                    stop_asked = true;
                    http.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, remote = %origin.remote, "connection ended");
        }
        self.metrics.connections.dec();
    }

    /// Answers a request, and sees to it that it is logged when its answer is sent.
    async fn answer(self: Arc<Self>, request: hyper::Request<Incoming>, origin: Origin) -> Response<Logged> {
        let (head, incoming) = request.into_parts();
        let account = Account::open(&self, &head, origin.remote);
        let body = RequestBody::new(incoming, self.settings.stall_timeout);
        // So does what a cache brings: what was begun for a client that goes away is not for nothing.
        let takes_content = matches!(head.method, Method::POST | Method::PUT | Method::PATCH) || self.cache.is_some();
        let handled = self.handle(head, body, origin.outbox, account);
        let (response, account) = if takes_content {
            match tokio::spawn(handled).await {
                Ok((response, account)) => (response, Some(account)),
                Err(error) => (reply::failure(&Failure::internal(error)), None),
            }
        } else {
            let (response, account) = handled.await;
            (response, Some(account))
        };
        let response = reply::header(response, API_VERSION, "registry/2.0");
        response.map(|body| Logged { body, account })
    }

    async fn handle(
        self: Arc<Self>,
        head: Parts,
        mut body: RequestBody,
        outbox: Option<Outbox>,
        mut account: Account,
    ) -> (Response<Body>, Account) {
        let expects = head.headers.contains_key(EXPECT);
        let line = &mut account.line;
        let outcome = match Route::parse(&head.method, head.uri.path()) {
            Err(failure) => Err(failure),
            Ok(None) => {
                let failure = Failure::new(Code::Unsupported).status(StatusCode::NOT_FOUND);
                Err(failure.because("there is nothing at this path"))
            }
            Ok(Some(route)) => {
                line.route = route.word();
                line.repository = route.repository().map(|name| name.as_str().to_owned());
                match self.admit(&head, &route).await {
                    Err(failure) => Err(failure),
                    Ok(who) => {
                        line.user.clone_from(&who.user);
                        let mut request = Request::new(head, route, who, outbox, body);
                        let outcome = self.run(&mut request).await;
                        body = request.body;
                        outcome
                    }
                }
            }
        };
        line.received = body.read;
        let response = match outcome {
            Ok(response) => response,
            Err(failure) => {
                line.status = failure.status.as_u16();
                // Who waits for a word before sending a body has not sent it.
                if !expects && failure.status != StatusCode::REQUEST_TIMEOUT {
                    body.drain().await;
                }
                line.code = Some(failure.code.name());
                line.error.clone_from(&failure.cause);
                if let Some(cause) = &failure.cause {
                    tracing::error!(method = line.method, path = line.path, "{cause}");
                }
                reply::failure(&failure)
            }
        };
        line.received = body.read;
        line.status = response.status().as_u16();
        (response, account)
    }

    /// Finds out who asks, and whether they may.
    async fn admit(&self, head: &Parts, route: &Route) -> Result<Who> {
        if !route.methods().contains(&head.method) {
            let allowed: Vec<&str> = route.methods().iter().map(Method::as_str).collect();
            return Err(Failure::new(Code::Unsupported).header(ALLOW, &allowed.join(", ")));
        }
        let who = self.access.who(&head.headers, route).await?;
        self.access.check(&who, &head.headers, route, &head.method)?;
        if !matches!(head.method, Method::GET | Method::HEAD) && *route != Route::Token {
            self.writable()?;
        }
        Ok(who)
    }

    async fn run(&self, request: &mut Request) -> Result<Response<Body>> {
        // An upload holds memory and a file, a manifest memory: there are not more at once than the settings say.
        let takes_content = match request.route {
            Route::Uploads(_) | Route::Upload(..) => true,
            Route::Manifest(..) => request.is(&Method::PUT),
            _ => false,
        };
        let permit = takes_content.then(|| self.uploads.try_acquire()).transpose();
        let Ok(_permit) = permit else {
            return Err(Failure::new(Code::TooManyRequests).header(RETRY_AFTER, "1"));
        };
        routes::answer(self, request).await
    }

    /// Reads again what may have changed: passwords, certificates, the place of the access log.
    pub(crate) async fn reload(&self) {
        self.log.reopen().await;
        let users = self.access.users.as_ref().map(|users| ("users", users.reload()));
        let tls = self.tls.as_ref().map(|tls| ("certificates", tls.reload()));
        for (what, outcome) in users.into_iter().chain(tls) {
            match outcome {
                Ok(()) => tracing::info!("{what} were read again"),
                Err(reason) => tracing::error!("{what} stay as they were: {reason}"),
            }
        }
    }
}

/// A request in work, from its head to the end of its answer. However it ends, it is counted and logged then.
struct Account {
    server: Arc<Server>,
    line: Line,
    started: Instant,
}

impl Account {
    fn open(server: &Arc<Server>, head: &Parts, remote: SocketAddr) -> Self {
        let agent = head.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).map(str::to_owned);
        let line = Line {
            time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            remote: remote.to_string(),
            method: head.method.to_string(),
            path: head.uri.to_string(),
            route: "none",
            status: CLIENT_LEFT,
            agent,
            ..Line::default()
        };
        server.metrics.active.inc();
        Self { server: Arc::clone(server), line, started: Instant::now() }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        if std::thread::panicking() {
            line.status = StatusCode::INTERNAL_SERVER_ERROR.as_u16();
        }
        let spent = self.started.elapsed();
        line.ms = u64::try_from(spent.as_millis()).unwrap_or(u64::MAX);
        self.server.metrics.active.dec();
        self.server.metrics.request(&line, spent.as_secs_f64());
        if !self.server.log.write(line) {
            self.server.metrics.lost_line();
        }
    }
}

/// A body that is counted.
pub(crate) struct Logged {
    body: Body,
    account: Option<Account>,
}

impl hyper::body::Body for Logged {
    type Data = Piece;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Piece>>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let Some(account) = &mut self.account else { return frame };
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                account.line.sent += frame.data_ref().map_or(0, bytes::Buf::remaining) as u64;
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::error!(path = account.line.path, "{error}");
                account.line.error = Some(error.to_string());
            }
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
