//! HTTP/1.1 by hand, so that tests can also be wrong on purpose.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header by its name in lower case; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of the first error of the body.
    pub fn code(&self) -> String {
        let json = self.json();
        let error = &json["errors"][0];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
        error["code"].as_str().unwrap().to_owned()
    }

    /// A list of texts in the body.
    pub fn list(&self, key: &str) -> Vec<String> {
        let json = self.json();
        json[key].as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    }

    /// Where the next page is.
    pub fn next(&self) -> Option<String> {
        let link = self.headers.get("link")?;
        let (path, rel) = link.split_once(">; ").unwrap();
        assert_eq!(rel, "rel=\"next\"");
        Some(path.trim_start_matches('<').to_owned())
    }
}

fn head_of(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: registry\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

/// A connection, for any number of requests.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(port: u16) -> Self {
        Self::try_open(port).unwrap()
    }

    /// Fails when nobody listens.
    pub fn try_open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        // No test waits longer than this for an answer.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// A request with a body of known length.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body).unwrap()
    }

    /// As [`Connection::send`]; fails when the connection does.
    pub fn try_send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            all.push(("Content-Length", &length));
        }
        self.stream.get_mut().write_all(head_of(method, path, &all).as_bytes())?;
        // A registry that refuses may stop to listen: what it said is read nevertheless.
        let _ = self.stream.get_mut().write_all(body);
        self.try_answer(method)
    }

    /// The head of a request alone.
    pub fn head(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        self.write(head_of(method, path, headers).as_bytes());
    }

    /// Bytes of a body.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// One piece of a body of unknown length; an empty one ends it.
    pub fn chunk(&mut self, bytes: &[u8]) {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }

    /// Reads the first line of an answer alone.
    pub fn status(&mut self) -> u16 {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Reads an answer.
    pub fn answer(&mut self, method: &str) -> Answer {
        self.try_answer(method).unwrap()
    }

    fn try_answer(&mut self, method: &str) -> io::Result<Answer> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no answer: {line:?}")))?;
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |value| value.parse().unwrap());
        let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, headers, body })
    }

    /// Waits until the other side closes.
    pub fn closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }
}
