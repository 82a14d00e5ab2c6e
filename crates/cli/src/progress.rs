//! The progress of pull, push, copy, import and load: one line per layer that is redrawn on a terminal, plain lines elsewhere.
//!
//! Called as `docker`, the lines are Docker's. Called by its own name, a bar also tells how fast the bytes move and when
//! they will all be there.

mod rate;

use crate::client::Answer;
use crate::error::Error;
use crate::format::human;
use crate::terminal;
use api::progress::{Message, ProgressDetail};
use serde_json::Value;
use std::fmt::Write;
use std::io;
use std::time::Instant;

use rate::Rates;

/// A line of the stream must end within this; aux objects are the longest.
const MAX_LINE: usize = 16 << 20;

/// Where progress is drawn.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
    /// Only failures matter.
    Quiet,
}

/// Draws the whole stream and hands `aux` objects on. A failure in the stream is the error of the command.
pub(crate) async fn show(mut answer: Answer<'_>, output: Output, mut aux: impl FnMut(&Value)) -> Result<(), Error> {
    let mut lines = Lines::default();
    let mut screen = Screen::new(output, answer.program());
    while let Some(piece) = answer.chunk().await? {
        lines.push(&piece)?;
        while let Some(message) = lines.next::<Message>()? {
            if let Some(value) = &message.aux {
                aux(value);
                continue;
            }
            screen.draw(&message)?;
        }
    }
    Ok(())
}

/// JSON objects out of pieces of a stream.
#[derive(Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Error> {
        if self.pending.len() + piece.len() > MAX_LINE {
            return Err(Error::Protocol("a message of the stream is too long".into()));
        }
        self.pending.extend_from_slice(piece);
        Ok(())
    }

    /// The next whole object, if it has arrived. The engine ends each with a line break.
    pub(crate) fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                let message = api::json::from_slice(&line);
                return message
                    .map(Some)
                    .map_err(|error| Error::Protocol(format!("cannot read the engine's message: {error}")));
            }
        }
        Ok(None)
    }
}

struct Screen {
    output: Output,
    terminal: bool,
    width: usize,
    /// The lines that are redrawn, by id.
    lines: Vec<String>,
    /// How fast the bytes of each line move; none where the lines are Docker's.
    rates: Option<Rates>,
}

impl Screen {
    fn new(output: Output, program: &str) -> Self {
        use io::IsTerminal;
        let terminal = match output {
            Output::Stdout => io::stdout().is_terminal(),
            Output::Stderr => io::stderr().is_terminal(),
            Output::Quiet => false,
        };
        let width = terminal::size().map_or(200, |(_, columns)| usize::from(columns));
        let rates = (terminal && program != "docker").then(Rates::default);
        Self { output, terminal, width, lines: Vec::new(), rates }
    }

    fn draw(&mut self, message: &Message) -> Result<(), Error> {
        if let Some(error) = &message.error_detail {
            return Err(failure(error.code, &error.message));
        }
        if !message.error.is_empty() {
            return Err(failure(0, &message.error));
        }
        let mut text = String::new();
        let mut up = 0;
        let moving = message.progress_detail.is_some() || !message.progress.is_empty();
        if !message.id.is_empty() && moving && self.terminal {
            let line = self.lines.iter().position(|id| *id == message.id).unwrap_or_else(|| {
                self.lines.push(message.id.clone());
                text.push('\n');
                self.lines.len() - 1
            });
            up = self.lines.len() - line;
            let _ = write!(text, "\x1b[{up}A");
        } else if !moving || message.id.is_empty() {
            self.lines.clear();
        }
        text.push_str(&self.line(message, Instant::now()));
        if up > 0 {
            let _ = write!(text, "\x1b[{up}B");
        }
        match self.output {
            Output::Stdout => terminal::print(&text),
            Output::Stderr => terminal::print_error(&text),
            Output::Quiet => {}
        }
        Ok(())
    }

    fn line(&mut self, message: &Message, now: Instant) -> String {
        let mut bar = message.progress_detail.as_ref().map(|detail| bar(detail, self.width));
        if let (Some(bar), Some(rates), Some(detail)) = (&mut bar, &mut self.rates, &message.progress_detail) {
            bar.push_str(&rates.note(&message.id, &message.status, detail, now));
        }
        let mut text = String::new();
        let mut end = "";
        if self.terminal && message.stream.is_empty() && bar.is_some() {
            text.push_str("\x1b[2K\r");
            end = "\r";
        } else if bar.as_ref().is_some_and(|bar| !bar.is_empty()) {
            // Bars are for terminals only.
            return String::new();
        }
        if !message.id.is_empty() {
            let _ = write!(text, "{}: ", message.id);
        }
        if !message.from.is_empty() {
            let _ = write!(text, "(from {}) ", message.from);
        }
        let _ = match bar.filter(|_| self.terminal) {
            Some(bar) => write!(text, "{} {bar}{end}", message.status),
            None if !message.progress.is_empty() => write!(text, "{} {}{end}", message.status, message.progress),
            None if !message.stream.is_empty() => write!(text, "{}{end}", message.stream),
            None => writeln!(text, "{}{end}", message.status),
        };
        text
    }
}

/// A failure that came in a stream: its status was sent long before.
fn failure(code: i64, message: &str) -> Error {
    if code == 401 {
        return Error::plain("authentication is required");
    }
    Error::plain(message.to_owned())
}

/// `[====>    ]  1.2MB/3MB`, fitted to the width of the terminal.
fn bar(detail: &ProgressDetail, width: usize) -> String {
    let (current, total) = (detail.current, detail.total);
    if current <= 0 && total <= 0 {
        return String::new();
    }
    let amount = |value: i64| match detail.units.as_str() {
        "" => human::size_precise(value),
        units => format!("{value} {units}"),
    };
    if total <= 0 {
        return format!("{:>8}", amount(current));
    }
    let done = usize::try_from((i128::from(current) * 50 / i128::from(total)).clamp(0, 50)).unwrap_or(50);
    let mut text = String::new();
    if width > 110 {
        let _ = write!(text, "[{}>{}] ", "=".repeat(done), " ".repeat(50 - done));
    }
    if !detail.hidecounts {
        let whole = if current > total { String::new() } else { format!("/{}", amount(total)) };
        let _ = match detail.units.as_str() {
            "" => write!(text, "{:>8}{whole}", amount(current)),
            units if current > total => write!(text, "{current} {units}"),
            units => write!(text, "{current}/{total} {units}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        let detail = ProgressDetail { current: 512, total: 1024, ..ProgressDetail::default() };
        assert_eq!(bar(&detail, 80), "    512B/1.024kB");
        assert_eq!(bar(&detail, 200), format!("[{}>{}]     512B/1.024kB", "=".repeat(25), " ".repeat(25)));
        assert_eq!(bar(&ProgressDetail::default(), 80), "");
    }

    #[test]
    fn plain_lines() {
        let mut screen = Screen { output: Output::Quiet, terminal: false, width: 80, lines: Vec::new(), rates: None };
        let empty = Some(ProgressDetail::default());
        let some = Some(ProgressDetail { current: 1, total: 2, ..ProgressDetail::default() });
        let message = |detail, id: &str| Message {
            status: "Pulling".into(),
            progress_detail: detail,
            id: id.into(),
            ..Message::default()
        };
        assert_eq!(screen.line(&message(None, "latest"), Instant::now()), "latest: Pulling\n");
        assert_eq!(screen.line(&message(empty, "abc"), Instant::now()), "abc: Pulling\n");
        assert_eq!(screen.line(&message(some, "abc"), Instant::now()), "");
    }

    #[test]
    fn rates_are_ours_alone() {
        let start = Instant::now();
        for (rates, expected) in [(None, ""), (Some(Rates::default()), "  10MB/s  9s left")] {
            let mut screen = Screen { output: Output::Quiet, terminal: true, width: 80, lines: Vec::new(), rates };
            let mut shown = |seconds: u64, current: i64| {
                let message = Message::action("abc", "Downloading", ProgressDetail::bytes(current, 100_000_000));
                screen.line(&message, start + std::time::Duration::from_secs(seconds))
            };
            shown(0, 1_000_000);
            assert_eq!(shown(1, 11_000_000), format!("\x1b[2K\rabc: Downloading     11MB/100MB{expected}\r"));
        }
    }
}
