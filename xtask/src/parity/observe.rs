//! One engine under observation: sends requests, notes the answers, cleans up behind the scenario.

use serde_json::{Value, json};
use std::path::PathBuf;

use super::http::{Answer, Connection};

/// How much of a body is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Every value, after ids, times and addresses were replaced by their format.
    Values,
    /// Keys and types only: for what describes the engine and its host.
    Shape,
}

/// A noted answer.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// What was asked, in words.
    pub(crate) name: String,
    /// What came: `{"status", "headers", "body"}`, or `{"failure"}` of the connection.
    pub(crate) answer: Value,
    pub(crate) depth: Depth,
}

/// Headers that clients read; of the others only the framing is compared, where a scenario says so.
const HEADERS: &[&str] = &[
    "content-type",
    "api-version",
    "docker-experimental",
    "ostype",
    "server",
    "builder-version",
    "swarm",
    "cache-control",
    "pragma",
    "connection",
    "upgrade",
    "location",
    "x-docker-container-path-stat",
];

/// One engine, for one scenario.
pub(crate) struct Side {
    socket: PathBuf,
    version: String,
    /// Where images are pushed to and pulled from.
    pub(crate) registry: String,
    /// The root file system that scenarios import.
    pub(crate) archive: Vec<u8>,
    noted: Vec<Observation>,
    /// Requests that undo what the scenario did, last first.
    cleanup: Vec<(String, String)>,
}

impl Side {
    pub(crate) fn new(socket: PathBuf, version: String, registry: String, archive: Vec<u8>) -> Self {
        Self { socket, version, registry, archive, noted: Vec::new(), cleanup: Vec::new() }
    }

    /// What was noted, after cleaning up.
    pub(crate) fn finish(mut self) -> Vec<Observation> {
        while let Some((method, target)) = self.cleanup.pop() {
            let _ = self.send(&method, &target, &[], b"");
        }
        self.noted
    }

    /// Asks for this request at the end.
    pub(crate) fn at_the_end(&mut self, method: &str, target: &str) {
        self.cleanup.push((method.into(), target.into()));
    }

    /// A target with the version before it, unless it names one.
    fn target(&self, path: &str) -> String {
        if path.starts_with("/v1.") || path.starts_with("/v9") || path.starts_with("//") {
            return path.to_owned();
        }
        format!("/v{}{path}", self.version)
    }

    /// What tells this engine from the other one.
    pub(crate) fn socket_name(&self) -> String {
        self.socket.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Sends without noting.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        Connection::open(&self.socket)?.request(method, &self.target(path), headers, body)
    }

    /// A connection after the request was sent, for streams.
    pub(crate) fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Connection, String> {
        let mut connection = Connection::open(&self.socket)?;
        connection.send(method, &self.target(path), headers, body)?;
        Ok(connection)
    }

    /// Sends JSON without noting, and returns the JSON of the answer.
    pub(crate) fn quietly(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.send(method, path, &[("Content-Type", "application/json")], &text)
            .map(|answer| answer.json())
            .unwrap_or_default()
    }

    /// Notes the answer to a request without a body.
    pub(crate) fn ask(&mut self, name: &str, method: &str, path: &str) -> Value {
        let answer = self.send(method, path, &[], b"");
        self.note(name, &answer, Depth::Values)
    }

    /// The same, comparing keys and types only.
    pub(crate) fn ask_shape(&mut self, name: &str, method: &str, path: &str) -> Value {
        let answer = self.send(method, path, &[], b"");
        self.note(name, &answer, Depth::Shape)
    }

    /// Notes the answer to a request with a JSON body.
    pub(crate) fn ask_with(&mut self, name: &str, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.send(method, path, &[("Content-Type", "application/json")], body.to_string().as_bytes());
        self.note(name, &answer, Depth::Values)
    }

    /// Notes the answer to a request that says everything itself.
    pub(crate) fn ask_raw(
        &mut self,
        name: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Value {
        let answer = self.send(method, path, headers, body);
        self.note(name, &answer, Depth::Values)
    }

    /// Notes an answer and returns its JSON.
    pub(crate) fn note(&mut self, name: &str, answer: &Result<Answer, String>, depth: Depth) -> Value {
        let (noted, value) = match answer {
            Ok(answer) => (described(answer), answer.json()),
            Err(failure) => (json!({ "failure": failure }), Value::Null),
        };
        self.note_value(name, noted, depth);
        value
    }

    /// Notes anything that can be compared.
    pub(crate) fn note_value(&mut self, name: &str, answer: Value, depth: Depth) {
        self.noted.push(Observation { name: name.into(), answer, depth });
    }

    /// Makes a container (not noted) that goes at the end; returns its id.
    pub(crate) fn container(&mut self, name: &str, body: &Value) -> String {
        let created = self.quietly("POST", &format!("/containers/create?name={name}"), body);
        let id = created["Id"].as_str().unwrap_or("missing").to_owned();
        self.at_the_end("DELETE", &format!("/containers/{id}?force=1&v=1"));
        id
    }

    /// The same, started.
    pub(crate) fn running(&mut self, name: &str, body: &Value) -> String {
        let id = self.container(name, body);
        self.quietly("POST", &format!("/containers/{id}/start"), &Value::Null);
        id
    }

    /// Waits until a container does not run.
    pub(crate) fn wait(&self, id: &str) -> Value {
        self.quietly("POST", &format!("/containers/{id}/wait"), &Value::Null)
    }

    /// Makes the image that scenarios run, unless it is there.
    pub(crate) fn image(&mut self) -> &'static str {
        const NAME: &str = "parity/rootfs:1";
        if self.send("GET", &format!("/images/{NAME}/json"), &[], b"").is_ok_and(|answer| answer.status == 200) {
            return NAME;
        }
        let target = "/images/create?fromSrc=-&repo=parity/rootfs&tag=1&changes=ENV%20PATH%3D/bin&changes=CMD%20%5B%22sleep%22%2C%221000%22%5D";
        let _ = self.send("POST", target, &[("Content-Type", "application/x-tar")], &self.archive);
        NAME
    }
}

/// An answer in a form that can be compared.
pub(crate) fn described(answer: &Answer) -> Value {
    let headers: serde_json::Map<String, Value> =
        HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), header(name, answer.header(name)?)))).collect();
    // When a connection is kept is no part of the API.
    let headers: serde_json::Map<String, Value> = headers.into_iter().filter(|(_, value)| value != "close").collect();
    json!({ "status": format!("{} {}", answer.status, answer.reason), "headers": headers, "body": body(answer) })
}

/// A header's value, without what names the program and its version.
fn header(name: &str, value: &str) -> Value {
    match name {
        // `Docker/VERSION (linux)`: clients read the form.
        "server" => value.split_once('/').map_or(value, |(name, _)| name).into(),
        "api-version" => "a version".into(),
        "x-docker-container-path-stat" => "base64".into(),
        _ => value.into(),
    }
}

/// The body as JSON, as lines of JSON, or as text.
pub(crate) fn body(answer: &Answer) -> Value {
    let text = String::from_utf8_lossy(&answer.body);
    let json = answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    if !json {
        return text.into_owned().into();
    }
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
    match values {
        Ok(mut values) if values.len() == 1 => values.remove(0),
        Ok(values) => values.into(),
        Err(_) => text.into_owned().into(),
    }
}

/// A framed stream, one string per stream in order of the first byte, so that the cutting of writes does not matter.
pub(crate) fn frames(bytes: &[u8]) -> Value {
    let (mut streams, mut rest) = (Vec::<(u8, Vec<u8>)>::new(), bytes);
    while !rest.is_empty() {
        let Some((header, after)) = rest.split_first_chunk::<8>() else {
            return json!({ "not framed": String::from_utf8_lossy(bytes) });
        };
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if header[0] > 3 || header[1..4] != [0, 0, 0] || length > after.len() {
            return json!({ "not framed": String::from_utf8_lossy(bytes) });
        }
        match streams.iter_mut().find(|(kind, _)| *kind == header[0]) {
            Some((_, text)) => text.extend_from_slice(&after[..length]),
            None => streams.push((header[0], after[..length].to_vec())),
        }
        rest = &after[length..];
    }
    streams.sort_unstable_by_key(|(kind, _)| *kind);
    let names = ["stdin", "stdout", "stderr", "error"];
    Value::Object(
        streams
            .into_iter()
            .map(|(kind, text)| {
                (names[usize::from(kind)].to_owned(), String::from_utf8_lossy(&text).into_owned().into())
            })
            .collect(),
    )
}
