//! An engine for tests: it listens on a socket of its own, notes every request, and answers as the test says.
#![allow(dead_code)] // every test file uses its own part

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the version.
    pub(crate) path: String,
    /// Sorted.
    pub(crate) query: BTreeMap<String, Vec<String>>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What the engine does with a request.
pub(crate) enum Reply {
    /// Status and body.
    Whole(u16, &'static str),
    /// 101, and the connection goes to the test.
    Upgrade(Box<dyn FnOnce(UnixStream) + Send>),
    /// 200, and a body that begins at once and ends when the function returns it.
    Later(Box<dyn FnOnce() -> String + Send>),
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A running engine; its socket is removed when it is dropped.
pub(crate) struct Engine {
    path: PathBuf,
    requests: Arc<Mutex<Vec<Request>>>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Engine {
    /// Starts one.
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gantry-cli-{}-{number}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (noted, handler): (_, Arc<Handler>) = (Arc::clone(&requests), Arc::new(handler));
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (noted, handler) = (Arc::clone(&noted), Arc::clone(&handler));
                // A client that goes away in the middle is not the engine's problem.
                thread::spawn(move || serve(connection, &noted, &*handler).unwrap_or_default());
            }
        });
        Self { path, requests }
    }

    /// For `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// What came since the last call, without pings.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(connection: UnixStream, noted: &Mutex<Vec<Request>>, handler: &Handler) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut writer = connection;
    while let Some(request) = read(&mut reader)? {
        if request.path == "/_ping" {
            writer.write_all(b"HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nOstype: linux\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        noted.lock().unwrap().push(request.clone());
        match handler(&request) {
            // The answer to HEAD has no body, whatever its length says.
            Reply::Whole(status, _) if request.method == "HEAD" => write!(writer, "HTTP/1.1 {status} X\r\n\r\n")?,
            Reply::Whole(status, body) => write!(
                writer,
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?,
            Reply::Upgrade(take) => {
                writer.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")?;
                take(writer);
                return Ok(());
            }
            Reply::Later(body) => {
                writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                let body = body();
                write!(writer, "{:x}\r\n{body}\r\n0\r\n\r\n", body.len())?;
            }
        }
    }
    Ok(())
}

fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut parts = line.split_whitespace();
    let (method, target) = (parts.next().unwrap_or_default().to_owned(), parts.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix("/v1.50").unwrap_or(path).to_owned();
    let mut parsed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parsed.entry(name.to_owned()).or_default().push(decode(value));
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length").and_then(|length| length.parse().ok()) {
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    } else if headers.contains_key("transfer-encoding") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
    Ok(Some(Request { method, path, query: parsed, headers, body }))
}

fn decode(text: &str) -> String {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let hex: String = bytes.by_ref().take(2).map(char::from).collect();
                out.push(u8::from_str_radix(&hex, 16).unwrap_or(b'?'));
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap_or_default()
}
