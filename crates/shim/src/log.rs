//! The log in Docker's json-file format: one JSON object a line, with rotation by size.
//!
//! ```text
//! {"log":"text\n","stream":"stdout","time":"2026-11-24T10:00:00.123456789Z"}
//! ```
//!
//! Output is cut at line ends. A line longer than [`LINE`] is written in pieces, of which only the last ends with `\n`,
//! which is how readers put it together again. The container waits for the file as it would for a file of its own, unless
//! the log was asked to drop lines instead ([`writer`]).

mod escape;
mod file;
mod writer;

use crate::protocol::LogConfig;
use file::LogFile;
use jiff::Timestamp;
use std::io;
use std::os::fd::BorrowedFd;
use writer::Writer;

/// The longest piece of a line, in bytes; that of dockerd.
pub(crate) const LINE: usize = 16 << 10;

/// Bytes that are collected before they are written: many lines with one call, and no more memory for it than the
/// processor keeps near.
const BATCH: usize = 128 << 10;

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Where lines go.
#[derive(Debug)]
enum Sink {
    File(LogFile),
    Writer(Writer),
}

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    attributes: Option<String>,
    sink: Sink,
    /// What is not a whole line yet, for each stream.
    rest: [Vec<u8>; 2],
    /// Lines on their way to the file.
    text: Vec<u8>,
    /// What stands behind the text in each line.
    tail: Vec<u8>,
}

impl Log {
    /// Open for appending, as a restarted container goes on in the same file.
    pub(crate) fn open(config: &LogConfig) -> io::Result<Self> {
        let file = LogFile::open(config)?;
        let sink = match config.buffer {
            Some(limit) => Sink::Writer(Writer::start(file, usize::try_from(limit).unwrap_or(usize::MAX))?),
            None => Sink::File(file),
        };
        let attributes = config.attributes.clone();
        Ok(Self { attributes, sink, rest: [Vec::new(), Vec::new()], text: Vec::new(), tail: Vec::new() })
    }

    /// Write what the container wrote.
    pub(crate) fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        self.begin(stream);
        let mut rest = std::mem::take(&mut self.rest[stream as usize]);
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, tail) = bytes.split_at(end + 1);
            bytes = tail;
            if rest.is_empty() {
                self.line(line);
            } else {
                rest.extend_from_slice(line);
                self.line(&rest);
                rest.clear();
            }
        }
        if rest.len() + bytes.len() >= LINE {
            rest.extend_from_slice(bytes);
            let whole = rest.len() / LINE * LINE;
            self.line(&rest[..whole]);
            rest.drain(..whole);
        } else {
            rest.extend_from_slice(bytes);
        }
        self.rest[stream as usize] = rest;
        self.flush();
    }

    /// Write what is left of lines without an end. Nothing is written afterwards.
    pub(crate) fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.rest[stream as usize]);
            if !rest.is_empty() {
                self.begin(stream);
                self.line(&rest);
            }
        }
        self.flush();
        if let Sink::Writer(writer) = &mut self.sink {
            writer.close();
        }
    }

    /// Whether all is in the file, after [`Log::finish`].
    pub(crate) fn is_done(&self) -> bool {
        match &self.sink {
            Sink::File(_) => true,
            Sink::Writer(writer) => writer.is_done(),
        }
    }

    /// What to wait for until it can be written to.
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        match &self.sink {
            Sink::File(_) => None,
            Sink::Writer(writer) => writer.pipe(),
        }
    }

    /// It can be written to.
    pub(crate) fn ready(&mut self) {
        if let Sink::Writer(writer) = &mut self.sink {
            writer.flush();
        }
    }

    /// A child of the shim has ended.
    pub(crate) fn child_ended(&mut self, pid: i32) {
        if let Sink::Writer(writer) = &mut self.sink {
            writer.child_ended(pid);
        }
    }

    /// Gives memory back that is needed only while there is output.
    pub(crate) fn rest(&mut self) {
        (self.text, self.tail) = (Vec::new(), Vec::new());
        self.rest.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// Makes what stands behind each line of a stream. One time for all that came at once: it is not known better anyway.
    fn begin(&mut self, stream: Stream) {
        let tail = &mut self.tail;
        tail.clear();
        tail.extend_from_slice(match stream {
            Stream::Stdout => b"\",\"stream\":\"stdout\",",
            Stream::Stderr => b"\",\"stream\":\"stderr\",",
        });
        if let Some(attributes) = &self.attributes {
            tail.extend_from_slice(b"\"attrs\":");
            tail.extend_from_slice(attributes.as_bytes());
            tail.push(b',');
        }
        tail.extend_from_slice(b"\"time\":\"");
        tail.extend_from_slice(Timestamp::now().to_string().as_bytes());
        tail.extend_from_slice(b"\"}\n");
    }

    fn line(&mut self, line: &[u8]) {
        for piece in line.chunks(LINE) {
            self.text.extend_from_slice(b"{\"log\":\"");
            escape::escape(piece, &mut self.text);
            self.text.extend_from_slice(&self.tail);
            if self.text.len() >= BATCH {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        match &mut self.sink {
            Sink::File(file) => file.append(&self.text),
            Sink::Writer(writer) => writer.push(&self.text),
        }
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn log(name: &str, max_size: Option<u64>, max_file: u32) -> (tempfile::TempDir, PathBuf, Log) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let config = LogConfig { path: path.clone(), max_size, max_file, attributes: None, buffer: None };
        let log = Log::open(&config).unwrap();
        (folder, path, log)
    }

    /// What a reader makes of a log.
    fn texts(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        lines.map(|v| v["log"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn lines_are_cut_where_readers_expect_it() {
        let (_folder, path, mut log) = log("cut", None, 1);
        log.write(Stream::Stdout, b"one\ntwo");
        log.write(Stream::Stderr, b"other\n");
        log.write(Stream::Stdout, b" and more\n");
        log.write(Stream::Stdout, &[b'x'; 40_000]);
        log.write(Stream::Stdout, b"\nend");
        log.finish();
        let texts = texts(&path);
        assert_eq!(texts[..3], ["one\n", "other\n", "two and more\n"]);
        assert_eq!(texts[3..].iter().map(String::len).collect::<Vec<_>>(), [LINE, LINE, 40_000 - 2 * LINE + 1, 3]);
    }

    /// What stands in `turn`, `turn.1` and `turn.2` together.
    fn turned(path: &Path) -> Vec<Vec<String>> {
        ["turn.2", "turn.1", "turn"].iter().map(|name| texts(&path.with_file_name(name))).collect()
    }

    #[test]
    fn old_files_move_on_and_the_oldest_goes() {
        let lines: Vec<String> = (0..20).map(|n| format!("line {n}\n")).collect();
        let (folder, path, mut log) = log("turn", Some(200), 3);
        for line in &lines {
            log.write(Stream::Stdout, line.as_bytes());
        }
        log.finish();
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["turn", "turn.1", "turn.2"]);
        let files = turned(&path);
        let all = files.concat();
        assert_eq!(all, lines[20 - all.len()..]);

        // A file ends with the line that fills it, also when many come at once.
        let (_folder, path, mut log) = self::log("turn", Some(200), 3);
        log.write(Stream::Stdout, lines.concat().as_bytes());
        log.finish();
        assert_eq!(turned(&path), files);
    }
}
