//! A line of a log becomes a frame: `{"log":"text\n","stream":"stdout","time":"…Z"}` → header, text.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;

use jiff::Timestamp;
use serde::Deserialize;

/// Which lines are wanted, and how they are shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Format {
    /// Each line behind a header that names its stream.
    pub(super) framed: bool,
    /// Lines of one stream that follow each other may share a header.
    pub(super) joined: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) timestamps: bool,
    pub(super) details: bool,
    pub(super) since: Option<Bound>,
    pub(super) until: Option<Bound>,
}

/// Where a frame takes no further line: clients begin with room for 32 KiB.
const FULL: usize = 16 << 10;

/// Frames behind each other, or raw lines.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) bytes: Vec<u8>,
    /// Where the last frame begins.
    last: usize,
}

impl Frames {
    /// Begins a frame of a stream, unless the last one may be gone on with.
    fn open(&mut self, kind: u8, joined: bool) {
        let goes_on = joined && self.bytes.len() - self.last < FULL && self.bytes.get(self.last) == Some(&kind);
        if !goes_on {
            self.last = self.bytes.len();
            self.bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        }
    }

    /// Fills in the length of the last frame.
    fn close(&mut self) {
        // A line is far below 4 GiB.
        let length = (self.bytes.len() - self.last - 8) as u32;
        self.bytes[self.last + 4..self.last + 8].copy_from_slice(&length.to_be_bytes());
    }
}

/// What a line means for those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    More,
    /// It is beyond `until`, and so are they.
    Beyond,
}

/// A limit in time, ready to be compared with the text of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bound {
    /// `2026-11-24T10:28:46`
    seconds: [u8; 19],
    nanoseconds: u32,
}

impl Bound {
    pub(super) fn new(time: Timestamp) -> Self {
        let mut seconds = [b'0'; 19];
        let text = time.to_string();
        // Years beyond 9999 or before 0 have other lengths; no line has such a time, so any order will do.
        if let Some(start) = text.as_bytes().first_chunk::<19>() {
            seconds = *start;
        }
        Self { seconds, nanoseconds: time.subsec_nanosecond().unsigned_abs() }
    }

    /// From a time in UTC as Go writes it, or in another offset the slow way.
    fn read(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let seconds = *bytes.first_chunk::<19>()?;
        match &bytes[19..] {
            [b'Z'] => Some(Self { seconds, nanoseconds: 0 }),
            [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) => {
                let value = digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
                Some(Self { seconds, nanoseconds: value * 10_u32.pow(9 - digits.len() as u32) })
            }
            _ => text.parse().ok().map(Self::new),
        }
    }
}

/// A line in its parts; the text is still escaped.
struct Parts<'a> {
    text: &'a [u8],
    stderr: bool,
    time: &'a str,
    attributes: &'a [u8],
}

/// A line that another program wrote in another order.
#[derive(Deserialize)]
struct Loose<'a> {
    #[serde(default)]
    log: String,
    #[serde(default, borrow)]
    stream: Cow<'a, str>,
    #[serde(default, borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: Option<BTreeMap<String, String>>,
}

const START: &[u8] = b"{\"log\":\"";
const STDOUT: &[u8] = b"\",\"stream\":\"stdout\",";
const STDERR: &[u8] = b"\",\"stream\":\"stderr\",";
const ATTRIBUTES: &[u8] = b"\"attrs\":";
const TIME: &[u8] = b"\"time\":\"";

impl Format {
    /// Appends the line to `out`, if it is wanted. What is no line of a log is left out.
    pub(super) fn render(&self, line: &[u8], out: &mut Frames) -> Verdict {
        match take_apart(line) {
            Some(parts) => self.render_parts(&parts, out),
            None => match serde_json::from_slice::<Loose<'_>>(line) {
                Ok(loose) => self.render_loose(&loose, out),
                Err(_) => Verdict::More,
            },
        }
    }

    fn render_parts(&self, parts: &Parts<'_>, out: &mut Frames) -> Verdict {
        let (skip, verdict) = self.judge(parts.stderr, parts.time);
        if skip {
            return verdict;
        }
        let attributes = || serde_json::from_slice(parts.attributes).unwrap_or_default();
        self.begin(parts.stderr, parts.time, attributes, out);
        unescape(parts.text, &mut out.bytes);
        self.end(out);
        Verdict::More
    }

    fn render_loose(&self, loose: &Loose<'_>, out: &mut Frames) -> Verdict {
        let stderr = loose.stream == "stderr";
        let (skip, verdict) = self.judge(stderr, &loose.time);
        if skip {
            return verdict;
        }
        self.begin(stderr, &loose.time, || loose.attrs.clone().unwrap_or_default(), out);
        out.bytes.extend_from_slice(loose.log.as_bytes());
        self.end(out);
        Verdict::More
    }

    /// Whether the line is left out, and whether it is beyond the end.
    fn judge(&self, stderr: bool, time: &str) -> (bool, Verdict) {
        let wanted = if stderr { self.stderr } else { self.stdout };
        if self.since.is_some() || self.until.is_some() {
            let time = Bound::read(time);
            if self.until.is_some_and(|until| time > Some(until)) {
                return (true, Verdict::Beyond);
            }
            if self.since.is_some_and(|since| time < Some(since)) {
                return (true, Verdict::More);
            }
        }
        (!wanted, Verdict::More)
    }

    /// Everything before the text.
    fn begin(&self, stderr: bool, time: &str, attributes: impl FnOnce() -> BTreeMap<String, String>, out: &mut Frames) {
        if self.framed {
            out.open(1 + u8::from(stderr), self.joined);
        }
        let out = &mut out.bytes;
        if self.timestamps {
            match Bound::read(time) {
                Some(Bound { seconds, nanoseconds }) => {
                    out.extend_from_slice(&seconds);
                    // Writing to a vector cannot fail.
                    let _ = write!(out, ".{nanoseconds:09}Z ");
                }
                None => out.extend_from_slice(b"0001-01-01T00:00:00.000000000Z "),
            }
        }
        if self.details {
            for (at, (key, value)) in attributes().into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                query_escape(&key, out);
                out.push(b'=');
                query_escape(&value, out);
            }
            out.push(b' ');
        }
    }

    fn end(&self, out: &mut Frames) {
        if self.framed {
            out.close();
        }
    }
}

/// The parts of a line that was written by a shim or by dockerd; `None` for any other shape.
fn take_apart(line: &[u8]) -> Option<Parts<'_>> {
    let body = line.strip_prefix(START)?;
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &body[at..])?;
        if body[at] == b'"' {
            break;
        }
        // An escaped character, whichever it is, does not end the text.
        at += 2;
        if at > body.len() {
            return None;
        }
    }
    let (text, rest) = body.split_at(at);
    let (stderr, rest) = match rest.strip_prefix(STDOUT) {
        Some(rest) => (false, rest),
        None => (true, rest.strip_prefix(STDERR)?),
    };
    let (attributes, rest) = match rest.strip_prefix(ATTRIBUTES) {
        // The time comes last, so whatever is between is the attributes.
        Some(rest) => {
            let end = memchr::memmem::rfind(rest, TIME)?;
            (rest[..end].strip_suffix(b",")?, &rest[end..])
        }
        None => (&b"{}"[..], rest),
    };
    let time = rest.strip_prefix(TIME)?.strip_suffix(b"\"}")?;
    Some(Parts { text, stderr, time: std::str::from_utf8(time).ok()?, attributes })
}

/// Undoes JSON's escapes; what is no escape is kept as it is.
fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', text) {
        out.extend_from_slice(&text[..at]);
        let escape = text.get(at + 1).copied().unwrap_or(b'\\');
        text = text.get(at + 2..).unwrap_or_default();
        match escape {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => text = unescape_unicode(text, out),
            other => out.push(other),
        }
    }
    out.extend_from_slice(text);
}

/// Four digits, or a pair of them for characters beyond U+FFFF.
fn unescape_unicode<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let unit = |text: &[u8]| {
        let digits = std::str::from_utf8(text.get(..4)?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(text) else { return text };
    let second = text[4..].strip_prefix(b"\\u").and_then(unit);
    let mut units = [first, second.unwrap_or(0)].into_iter();
    let mut decoded = char::decode_utf16(units.by_ref());
    let character = match decoded.next() {
        Some(Ok(character)) => character,
        _ => char::REPLACEMENT_CHARACTER,
    };
    let mut buffer = [0; 4];
    out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    if u32::from(character) > 0xffff { &text[10..] } else { &text[4..] }
}

/// As Go's `url.QueryEscape`.
fn query_escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
}

#[cfg(test)]
#[path = "line/tests.rs"]
mod tests;
