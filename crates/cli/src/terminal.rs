//! The terminal: is it one, how large, raw mode that is always taken back, and text written to it.

use rustix::termios::{self, OptionalActions, Termios};
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

/// The settings to go back to while the terminal is raw.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Puts standard input into raw mode until it is dropped.
#[must_use]
pub(crate) struct RawMode(());

impl RawMode {
    /// Raw mode, if standard input is a terminal.
    pub(crate) fn enter() -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        let before = termios::tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        if let Ok(mut saved) = SAVED.lock() {
            saved.get_or_insert(before);
        }
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Takes raw mode back; harmless when it is not on.
pub(crate) fn restore() {
    if let Ok(mut saved) = SAVED.lock()
        && let Some(before) = saved.take()
    {
        // Nothing can be done about a terminal that has gone away.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// A panic must not leave the user with a raw terminal (the release build aborts without dropping anything).
pub(crate) fn restore_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        before(info);
    }));
}

/// Rows and columns of the terminal on standard output, or of standard input when output goes elsewhere.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdout()).or_else(|_| termios::tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Whether standard output is a terminal.
pub(crate) fn output_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard input is a terminal.
pub(crate) fn input_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// The width that help pages are broken to: that of the terminal on standard input, as Docker has it.
pub(crate) fn help_width() -> usize {
    let width = termios::tcgetwinsize(io::stdin()).map_or(80, |size| usize::from(size.ws_col));
    width.max(1) - 1
}

/// Writes to standard output. A reader that has gone away ends the program quietly, as it ends `docker … | head`.
pub(crate) fn print(text: &str) {
    write(&mut io::stdout().lock(), text.as_bytes());
}

/// The same for bytes.
pub(crate) fn print_bytes(bytes: &[u8]) {
    write(&mut io::stdout().lock(), bytes);
}

/// Writes to standard error.
pub(crate) fn print_error(text: &str) {
    // There is nowhere left to report that nobody reads our errors.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn write(out: &mut impl Write, bytes: &[u8]) {
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        restore();
        // 128 + SIGPIPE, what the shell reports of a program that the signal ended.
        std::process::exit(141);
    }
}

/// Asks a question and reads one line; only `y` and `Y` are a yes.
pub(crate) fn confirm(question: &str) -> bool {
    print(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    matches!(read, Ok(1..)) && answer.trim().eq_ignore_ascii_case("y")
}

/// Reads one line without showing it.
pub(crate) fn read_secret(prompt: &str) -> io::Result<String> {
    print(prompt);
    let before = termios::tcgetattr(io::stdin())?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(termios::LocalModes::ECHO);
    if let Ok(mut saved) = SAVED.lock() {
        saved.get_or_insert(before);
    }
    termios::tcsetattr(io::stdin(), OptionalActions::Now, &quiet)?;
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    restore();
    print("\n");
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
