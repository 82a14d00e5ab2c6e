//! The log in Docker's json-file format: one JSON object a line, with rotation by size.
//!
//! ```text
//! {"log":"text\n","stream":"stdout","time":"2026-11-24T10:00:00.123456789Z"}
//! ```
//!
//! Output is cut at line ends. A line longer than [`LINE`] is written in pieces, of which only the last ends with `\n`,
//! which is how readers put it together again.

use crate::protocol::LogConfig;
use jiff::Timestamp;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The longest piece of a line, in bytes; that of dockerd.
pub(crate) const LINE: usize = 16 << 10;

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    config: LogConfig,
    file: File,
    size: u64,
    /// What is not a whole line yet, for each stream.
    rest: [Vec<u8>; 2],
    /// Lines on their way to the file; kept for its memory.
    text: Vec<u8>,
    /// The first complaint is enough: a full disk would repeat it for each line.
    complained: bool,
}

impl Log {
    /// Open for appending, as a restarted container goes on in the same file.
    pub(crate) fn open(config: LogConfig) -> io::Result<Self> {
        let file = append(&config.path)?;
        let size = file.metadata()?.len();
        Ok(Self { config, file, size, rest: [Vec::new(), Vec::new()], text: Vec::new(), complained: false })
    }

    /// Write what the container wrote. Errors are said once and then suffered: a log on a full disk must not end the container.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut rest = std::mem::take(&mut self.rest[stream as usize]);
        // One time for all that came at once: the text is made once, and it is not known better anyway.
        let now = Timestamp::now().to_string();
        let mut input = bytes;
        while let Some(end) = input.iter().position(|b| *b == b'\n') {
            let (line, tail) = input.split_at(end + 1);
            input = tail;
            if rest.is_empty() {
                self.pieces(stream, line, &now);
            } else {
                rest.extend(line);
                self.pieces(stream, &rest, &now);
                rest.clear();
            }
        }
        rest.extend(input);
        let whole = rest.len() / LINE * LINE;
        if whole > 0 {
            self.pieces(stream, &rest[..whole], &now);
            rest.drain(..whole);
        }
        self.rest[stream as usize] = rest;
        self.flush();
    }

    /// Write what is left of lines without an end.
    pub(crate) fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.rest[stream as usize]);
            if !rest.is_empty() {
                self.pieces(stream, &rest, &Timestamp::now().to_string());
            }
        }
        self.flush();
    }

    fn pieces(&mut self, stream: Stream, line: &[u8], now: &str) {
        for piece in line.chunks(LINE) {
            // Before the line and not after it, as dockerd does: the newest file is never empty for long.
            if self.config.max_size.is_some_and(|max| self.size + self.text.len() as u64 >= max) {
                self.flush();
                if let Err(error) = self.rotate() {
                    self.complain("rotate", &error);
                }
            }
            self.entry(stream, piece, now);
        }
    }

    fn entry(&mut self, stream: Stream, piece: &[u8], now: &str) {
        self.text.extend(b"{\"log\":\"");
        escape(piece, &mut self.text);
        self.text.extend(match stream {
            Stream::Stdout => &b"\",\"stream\":\"stdout\","[..],
            Stream::Stderr => b"\",\"stream\":\"stderr\",",
        });
        if let Some(attributes) = &self.config.attributes {
            self.text.extend(b"\"attrs\":");
            self.text.extend(attributes.as_bytes());
            self.text.push(b',');
        }
        self.text.extend(b"\"time\":\"");
        self.text.extend(now.as_bytes());
        self.text.extend(b"\"}\n");
    }

    fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        match self.file.write_all(&self.text) {
            Ok(()) => self.size += self.text.len() as u64,
            Err(error) => self.complain("write", &error),
        }
        self.text.clear();
        // A burst of long lines must not stay in memory for good.
        self.text.shrink_to(64 << 10);
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.config.path;
        if self.config.max_file < 2 {
            self.file = File::create(path)?;
        } else {
            for number in (1..self.config.max_file - 1).rev() {
                rename(&numbered(path, number), &numbered(path, number + 1))?;
            }
            rename(path, &numbered(path, 1))?;
            self.file = append(path)?;
        }
        self.size = 0;
        Ok(())
    }

    fn complain(&mut self, what: &str, error: &io::Error) {
        if !self.complained {
            eprintln!("gantry shim: cannot {what} the log {}: {error}", self.config.path.display());
            self.complained = true;
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().create(true).append(true).mode(0o640).open(path)
}

/// Move a file that may not be there.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The inside of a JSON string as Go writes it: HTML's characters escaped, what is no UTF-8 replaced.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid();
        let mut from = 0;
        for (at, byte) in text.bytes().enumerate() {
            let short: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                // U+2028 and U+2029, which end lines in JavaScript, begin with these bytes.
                0xe2 if matches!(text.as_bytes().get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) => b"",
                0..=0x1f | b'<' | b'>' | b'&' => b"",
                _ => continue,
            };
            out.extend(&text.as_bytes()[from..at]);
            from = at + 1;
            if !short.is_empty() {
                out.extend(short);
            } else if byte == 0xe2 {
                let last = text.as_bytes()[at + 2];
                // Writing to a vector cannot fail.
                let _ = write!(out, "\\u20{:02x}", last - 0x80);
                from = at + 3;
            } else {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
        out.extend(&text.as_bytes()[from..]);
        // Go replaces each byte that is no UTF-8 by itself.
        for _ in chunk.invalid() {
            out.extend(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn log(name: &str, max_size: Option<u64>, max_file: u32) -> (tempfile::TempDir, PathBuf, Log) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let log = Log::open(LogConfig { path: path.clone(), max_size, max_file, attributes: None }).unwrap();
        (folder, path, log)
    }

    /// What a reader makes of a log.
    fn texts(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        lines.map(|v| v["log"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn strings_as_go_writes_them() {
        assert_eq!(escaped(b"a\"b\\\t\r\n"), r#"a\"b\\\u0009\r\n"#);
        assert_eq!(escaped(b"<&>\x01\x7f"), "\\u003c\\u0026\\u003e\\u0001\x7f");
        assert_eq!(escaped("ä\u{2028}\u{2029}\u{2030}".as_bytes()), "ä\\u2028\\u2029\u{2030}");
        assert_eq!(escaped(b"a\xff\xfeb"), "a\\ufffd\\ufffdb");
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

    #[test]
    fn old_files_move_on_and_the_oldest_goes() {
        let (folder, path, mut log) = log("turn", Some(200), 3);
        for n in 0..20 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes());
        }
        log.finish();
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["turn", "turn.1", "turn.2"]);
        let all: Vec<String> =
            ["turn.2", "turn.1", "turn"].iter().flat_map(|n| texts(&path.with_file_name(n))).collect();
        let last = all.len();
        let want: Vec<String> = (20 - last..20).map(|n| format!("line {n}\n")).collect();
        assert_eq!(all, want);
    }
}
