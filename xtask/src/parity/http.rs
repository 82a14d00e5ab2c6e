//! HTTP/1.1 over a unix socket, read byte for byte: a library would hide the framing that is compared here.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// No answer takes longer, not even a pull.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The words after the status.
    pub(crate) reason: String,
    /// Names in lower case, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `null` when it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// One connection, for one request.
pub(crate) struct Connection {
    stream: UnixStream,
    /// Read but not used yet.
    ahead: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let failed = |error| format!("{}: {error}", path.display());
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Self { stream, ahead: Vec::new() })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn request(
        mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        self.send(method, target, headers, body)?;
        let mut answer = self.head()?;
        answer.body = self.body(method, &answer)?;
        Ok(answer)
    }

    /// Sends a request only.
    pub(crate) fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(), String> {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: parity\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" || method == "PUT" {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        self.write(text.as_bytes())?;
        // An answer may come before the whole body was read: a broken pipe here is not the end.
        let _ = self.stream.write_all(body);
        Ok(())
    }

    /// Raw bytes, after a connection was hijacked.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| format!("write: {error}"))
    }

    /// Says that no more input comes.
    pub(crate) fn close_input(&mut self) -> Result<(), String> {
        self.stream.shutdown(std::net::Shutdown::Write).map_err(|error| format!("shutdown: {error}"))
    }

    fn more(&mut self) -> Result<usize, String> {
        let mut buffer = [0; 16 << 10];
        let count = self.stream.read(&mut buffer).map_err(|error| format!("read: {error}"))?;
        self.ahead.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(|_| "a head that is not text".to_owned());
            }
            if self.more()? == 0 {
                return Err("the connection ended in a head".into());
            }
        }
    }

    /// The head of the answer; what follows stays to be read.
    pub(crate) fn head(&mut self) -> Result<Answer, String> {
        let line = self.line()?;
        let mut words = line.splitn(3, ' ');
        let status = words.nth(1).and_then(|word| word.parse().ok()).ok_or(format!("no status in {line:?}"))?;
        let reason = words.next().unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Answer { status, reason, headers, body: Vec::new() })
    }

    fn body(&mut self, method: &str, answer: &Answer) -> Result<Vec<u8>, String> {
        if method == "HEAD" || answer.status == 204 || answer.status == 304 {
            return Ok(Vec::new());
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            return Ok(self.chunks()?.concat());
        }
        match answer.header("content-length").and_then(|length| length.parse().ok()) {
            Some(length) => self.exactly(length),
            None => self.rest(),
        }
    }

    /// All chunks, each as it was sent.
    pub(crate) fn chunks(&mut self) -> Result<Vec<Vec<u8>>, String> {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.chunk()? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    /// The next chunk; `None` at the end of the body.
    pub(crate) fn chunk(&mut self) -> Result<Option<Vec<u8>>, String> {
        let line = self.line()?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(|_| format!("no chunk length in {line:?}"))?;
        let chunk = self.exactly(length)?;
        self.line()?;
        Ok((length > 0).then_some(chunk))
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.ahead.len() < length {
            if self.more()? == 0 {
                return Err("the connection ended in a body".into());
            }
        }
        Ok(self.ahead.drain(..length).collect())
    }

    /// Everything until the other side closes.
    pub(crate) fn rest(&mut self) -> Result<Vec<u8>, String> {
        while self.more()? > 0 {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// Bytes until they contain `end`.
    pub(crate) fn until(&mut self, end: &[u8]) -> Result<Vec<u8>, String> {
        while !self.ahead.windows(end.len()).any(|part| part == end) {
            if self.more()? == 0 {
                break;
            }
        }
        Ok(std::mem::take(&mut self.ahead))
    }
}
