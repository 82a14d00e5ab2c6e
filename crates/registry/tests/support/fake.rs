//! A registry in this process that does what a test says: a function from requests to replies, and ways to misbehave.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::image::Image;

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// `GET /path`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The path inside a repository: `manifests/latest`.
    pub fn inside(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        let rest = path.strip_prefix("/v2/").unwrap_or_default();
        let at = ["/manifests/", "/blobs/", "/tags/"].iter().find_map(|part| rest.find(part));
        at.map_or("", |at| &rest[at + 1..])
    }
}

#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Announce so many bytes, whatever the body has.
    pub announced: Option<usize>,
    /// Close the connection after so many bytes of the body.
    pub cut: Option<usize>,
    /// Send so many bytes of the body, then nothing, and keep the connection.
    pub stall: Option<usize>,
    /// Do not even answer.
    pub silent: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub fn json(status: u16, body: &str) -> Self {
        Self::new(status, body).with("Content-Type", "application/json")
    }

    /// An error of the protocol.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string())
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Handler = Arc<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

/// A server on a port of its own. It ends with the runtime of the test.
pub struct Fake {
    pub port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    busy: Arc<Busy>,
}

/// How many requests are answered at once.
#[derive(Default)]
struct Busy {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Fake {
    /// Serves this image, except where `handler` has another reply.
    pub async fn serve(image: Image, handler: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let busy = Arc::new(Busy::default());
        let gauge = Arc::clone(&busy);
        let handler: Handler = Arc::new(move |request| handler(request).or_else(|| Some(honest(&image, request))));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&handler), Arc::clone(&log), Arc::clone(&gauge)));
            }
        });
        Self { port, seen, busy }
    }

    /// The most requests that were under way at once.
    pub fn most_at_once(&self) -> usize {
        self.busy.most.load(Ordering::SeqCst)
    }

    /// `127.0.0.1:PORT/PATH`.
    pub fn name(&self, path: &str) -> String {
        format!("127.0.0.1:{}/{path}", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How often a path inside the repository was asked for.
    pub fn count(&self, inside: &str) -> usize {
        self.requests().iter().filter(|request| request.inside() == inside).count()
    }
}

/// What a good registry answers, with ranges.
fn honest(image: &Image, request: &Request) -> Reply {
    if request.path == "/v2/" {
        return Reply::json(200, "{}");
    }
    let Some((media_type, body)) = image.get(request.inside()) else {
        return match request.inside().split('/').next() {
            Some("manifests") => {
                Reply::json(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#)
            }
            _ => Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        };
    };
    let from =
        request.header("range").strip_prefix("bytes=").and_then(|range| range.trim_end_matches('-').parse().ok());
    let digest = oci::Digest::of(&body);
    let reply = match from {
        Some(from) if from < body.len() => Reply::new(206, &body[from..])
            .with("Content-Range", &format!("bytes {from}-{}/{}", body.len() - 1, body.len())),
        _ => Reply::new(200, body),
    };
    reply.with("Content-Type", media_type).with("Docker-Content-Digest", digest.as_str())
}

async fn connection(stream: TcpStream, handler: Handler, log: Arc<Mutex<Vec<Request>>>, busy: Arc<Busy>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        busy.most.fetch_max(busy.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let is_head = request.method == "HEAD";
        let reply = handler(&request).unwrap();
        log.lock().unwrap().push(request);
        let goes_on = write_reply(&mut stream, &reply, is_head).await;
        busy.now.fetch_sub(1, Ordering::SeqCst);
        if !goes_on {
            return;
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = Vec::new();
    // TLS begins with a byte that no request does: answer like Go's server, in plain HTTP.
    if *stream.fill_buf().await.ok()?.first()? == 0x16 {
        let _ = stream.get_mut().write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request.\n").await;
        return None;
    }
    stream.read_until(b'\n', &mut line).await.ok()?;
    let line = String::from_utf8(line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        let entry: &mut String = headers.entry(name.to_lowercase()).or_default();
        if !entry.is_empty() {
            entry.push_str(", ");
        }
        entry.push_str(value);
    }
    let body = match headers.get("content-length") {
        None if headers.contains_key("transfer-encoding") => read_chunks(stream).await?,
        length => {
            let mut body = vec![0; length.and_then(|value| value.parse().ok()).unwrap_or(0)];
            stream.read_exact(&mut body).await.ok()?;
            body
        }
    };
    Some(Request { method, path, headers, body })
}

/// A body whose length nobody knew before (RFC 9112, section 7.1).
async fn read_chunks(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let (start, length) = (body.len(), usize::from_str_radix(line.trim_end(), 16).ok()?);
        // Each chunk ends with CR and LF, and so does the empty one that is the last.
        body.resize(start + length + 2, 0);
        stream.read_exact(&mut body[start..]).await.ok()?;
        body.truncate(start + length);
        if length == 0 {
            return Some(body);
        }
    }
}

/// Whether the connection can go on.
async fn write_reply(stream: &mut BufReader<TcpStream>, reply: &Reply, is_head: bool) -> bool {
    let stream = stream.get_mut();
    if reply.silent {
        std::future::pending::<()>().await;
    }
    let length = reply.announced.unwrap_or(reply.body.len());
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {length}\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    if is_head {
        return true;
    }
    let end = reply.cut.or(reply.stall).unwrap_or(reply.body.len()).min(reply.body.len());
    let _ = stream.write_all(&reply.body[..end]).await;
    let _ = stream.flush().await;
    if reply.stall.is_some() {
        std::future::pending::<()>().await;
    }
    reply.cut.is_none()
}
