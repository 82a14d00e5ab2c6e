//! Connections: HTTP/1.1 on whatever was accepted, until a handler takes the raw connection over or the engine stops.
//!
//! A client that goes away drops the future of its request, and with it everything that was being done for it alone.

use hyper::body::Incoming;
use hyper::header::{HeaderValue, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

use api::Version;
use engine::Engine;

use crate::failure::Failure;
use crate::hijack::{Connection, RawConnection, Takeover};
use crate::reply::{self, Body, Reply};
use crate::request::Request;
use crate::router::{self, Miss};
use crate::routes;

/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What all connections share.
pub(crate) struct Server {
    engine: Arc<Engine>,
    /// `Server: Docker/VERSION (linux)`: clients read the system from this very form.
    banner: String,
    /// Told of each connection that ended.
    pub(crate) ended: Arc<tokio::sync::Notify>,
}

/// The handler took the connection: ends HTTP on it without a word.
#[derive(Debug, thiserror::Error)]
#[error("the connection was taken over")]
struct TakenOver;

impl Server {
    pub(crate) fn new(engine: Arc<Engine>, version: &str) -> Self {
        Self { engine, banner: format!("Docker/{version} (linux)"), ended: Arc::default() }
    }

    /// Serves one connection until it ends. When `stopping` turns true, it ends after the request in hand.
    pub(crate) async fn serve(self: Arc<Self>, connection: Box<dyn Connection>, mut stopping: watch::Receiver<bool>) {
        let slot: Arc<Mutex<Option<Takeover>>> = Arc::default();
        let service = service_fn(|request| {
            let (server, slot) = (Arc::clone(&self), Arc::clone(&slot));
            Box::pin(async move {
                match server.answer(request).await {
                    Reply::Http(response) => Ok(response),
                    Reply::Takeover(takeover) => {
                        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(takeover);
                        Err(TakenOver)
                    }
                }
            })
        });
        let mut http = http1::Builder::new()
            .title_case_headers(true)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(connection), service);
        let mut stop_asked = false;
        let ended = loop {
            tokio::select! {
                ended = poll_fn(|cx| http.poll_without_shutdown(cx)) => break ended,
                _ = stopping.wait_for(|stopping| *stopping), if !stop_asked => {
                    stop_asked = true;
                    Pin::new(&mut http).graceful_shutdown();
                }
            }
        };
        let parts = http.into_parts();
        let taken = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut connection: Box<dyn Connection> = parts.io.into_inner();
        if let Some(takeover) = taken {
            takeover.run(RawConnection::new(connection, parts.read_buf)).await;
            return;
        }
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut connection).await;
    }

    /// Finds and runs the handler, and puts the headers of every answer on its answer.
    async fn answer(&self, request: hyper::Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        if method == Method::OPTIONS {
            return self.dressed(reply::empty(200)).into();
        }
        let target = match router::find(routes::TABLES, &method, &path) {
            Ok(target) => target,
            Err(Miss::Redirect(path)) => return redirect(&path, head.uri.query()).into(),
            // An unknown page has no headers of the API, an unserved version has some.
            Err(Miss::Failed(failure)) if failure.status == 404 => return reply::failure(&failure).into(),
            Err(Miss::Failed(failure)) => {
                let mut response = self.dressed(reply::failure(&failure));
                response.headers_mut().remove("docker-experimental");
                return response.into();
            }
        };
        let request = Request::new(Arc::clone(&self.engine), target.version, target.name, head, body);
        match (target.handler)(request).await {
            Ok(Reply::Http(response)) => self.dressed(response).into(),
            Ok(takeover) => takeover,
            Err(failure) => {
                log(&method, &path, &failure);
                self.dressed(reply::failure(&failure)).into()
            }
        }
    }

    /// The headers that dockerd puts on every answer of the API.
    fn dressed(&self, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        for (name, value) in [
            ("api-version", Version::LATEST.to_string()),
            ("docker-experimental", "false".to_owned()),
            ("ostype", "linux".to_owned()),
            ("server", self.banner.clone()),
        ] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// The headers of the API as lines, for answers that hyper does not write.
pub(crate) fn header_lines(version: &str) -> String {
    format!(
        "Api-Version: {}\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: Docker/{version} (linux)\r\n",
        Version::LATEST
    )
}

fn redirect(path: &str, query: Option<&str>) -> Response<Body> {
    let place = query.map_or(path.to_owned(), |query| format!("{path}?{query}"));
    let mut response = reply::empty(301);
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

fn log(method: &Method, path: &str, failure: &Failure) {
    if failure.status >= 500 {
        tracing::error!(%method, path, status = failure.status, "{}", failure.message);
    } else {
        tracing::debug!(%method, path, status = failure.status, "{}", failure.message);
    }
}
