//! The gantry and docker commands: a client of the Engine API.
//!
//! ```text
//! words ──► flags (what was asked) ──► command/<verb> ──► client (HTTP) ──► format, progress, terminal (what is shown)
//! ```
//!
//! The crate knows the API only: it never reads the engine's state, and whatever it can do, `curl` can. Its flags, its output, its exit
//! codes and its error texts are those of Docker's command line 28.2.

mod client;
mod command;
mod config;
mod error;
mod flags;
mod format;
mod options;
mod progress;
mod terminal;

use client::Client;
use config::Config;
use error::Error;
use flags::Values;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The version that `--version` says.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs a command line; `arguments` begin with the name that the program was called by, which messages repeat
/// (`docker` when it was called so, `gantry` otherwise).
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let called = arguments.next().unwrap_or_default();
    let program = if Path::new(&called).file_name().is_some_and(|name| name == "docker") { "docker" } else { "gantry" };
    let words: Result<Vec<String>, OsString> = arguments.map(OsString::into_string).collect();
    let result = match words {
        // The one question that is asked often enough to be answered before anything else is set up.
        Ok(words) if matches!(words.as_slice(), [word] if word == "--version" || word == "-v") => {
            terminal::print(&version_line());
            Ok(0)
        }
        Ok(words) if matches!(words.as_slice(), [word] if word == client::autostart::WORD) => {
            Err(client::autostart::become_engine())
        }
        Ok(words) => dispatch(program, &words),
        Err(word) => Err(Error::plain(format!("{program}: argument {} is not valid UTF-8", word.to_string_lossy()))),
    };
    let code = result.unwrap_or_else(|error| {
        let message = error.to_string();
        if !message.is_empty() {
            terminal::print_error(&format!("{message}\n"));
        }
        error.code()
    });
    ExitCode::from(code)
}

fn version_line() -> String {
    format!("Gantry version {VERSION}, build {}\n", build())
}

/// The commit that was built, if the build said so.
pub(crate) fn build() -> &'static str {
    option_env!("GANTRY_COMMIT").unwrap_or("unknown")
}

/// One call of a command: what it was called, what was asked of it, and where the engine is.
pub(crate) struct Invocation {
    /// `docker` or `gantry`.
    pub(crate) program: &'static str,
    /// The command as it was named: `container run`.
    pub(crate) called: String,
    pub(crate) values: Values,
    /// The words behind the flags.
    pub(crate) words: Vec<String>,
    /// The flags before the command.
    pub(crate) global: Values,
}

impl Invocation {
    /// A client of the engine that the flags and the environment name; starts the engine when nothing was named and none runs.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        Client::new(&self.global, self.program)
    }

    /// The user's configuration. One that cannot be read is said and taken as empty, as Docker does.
    pub(crate) fn config(&self) -> Config {
        Config::load(self.global.last("config"))
    }

    /// An error of Docker's form `docker: …`, with the hint at the help page.
    pub(crate) fn wrong(&self, code: u8, message: &str) -> Error {
        let Self { program, called, .. } = self;
        let verb = called.rsplit(' ').next().unwrap_or_default();
        let message = format!("{program}: {message}\n\nRun '{program} {verb} --help' for more information");
        Error::Plain { message, code }
    }
}

fn dispatch(program: &'static str, words: &[String]) -> Result<u8, Error> {
    let (global, rest) = match flags::parse_global(program, words)? {
        flags::Parsed::Help { .. } => return help(program, &[]),
        flags::Parsed::Call(values, rest) => (values, rest),
    };
    if global.on("version") {
        terminal::print(&version_line());
        return Ok(0);
    }
    if let Some(level) = global.last("log-level")
        && !matches!(level, "debug" | "info" | "warn" | "error" | "fatal" | "trace" | "panic")
    {
        return Err(Error::plain(format!("unable to parse logging level: {level}")));
    }
    match rest.first().map(String::as_str) {
        None => {
            // Nothing was asked: the page is a hint, not an answer.
            terminal::print_error(&flags::root_page(program));
            return Ok(0);
        }
        Some("help") => return help(program, &rest[1..]),
        Some(_) => {}
    }
    let Some((command, used)) = flags::find(&rest) else { return unknown(program, &rest) };
    let called = rest[..used].join(" ");
    match flags::parse(program, command, &called, &rest[used..])? {
        flags::Parsed::Help { deprecated } => {
            if deprecated {
                terminal::print("Flag shorthand -h has been deprecated, use --help\n");
            }
            terminal::print(&flags::page(program, command, &called));
            Ok(0)
        }
        flags::Parsed::Call(values, words) => {
            let call = Invocation { program, called, values, words, global };
            run(command, call)
        }
    }
}

/// Runs a command on a runtime of one thread: a command line moves bytes for one user.
fn run(command: &flags::Command, call: Invocation) -> Result<u8, Error> {
    terminal::restore_on_panic();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("cannot start the asynchronous runtime"))?;
    let result = runtime.block_on((command.handler)(call));
    // A thread that still reads standard input must not hold the process back.
    runtime.shutdown_background();
    result
}

fn help(program: &'static str, words: &[String]) -> Result<u8, Error> {
    if words.is_empty() {
        terminal::print(&flags::root_page(program));
        return Ok(0);
    }
    match flags::find(words) {
        Some((command, used)) => terminal::print(&flags::page(program, command, &words[..used].join(" "))),
        None if flags::GROUPS.iter().any(|(name, _)| *name == words[0]) => {
            terminal::print(&flags::group_page(program, &words[0]));
        }
        None => return Err(Error::plain(format!("unknown help topic: {}", words.join(" ")))),
    }
    Ok(0)
}

/// A group without a command, a group's help, or a command that does not exist.
fn unknown(program: &'static str, words: &[String]) -> Result<u8, Error> {
    let first = words[0].as_str();
    if !flags::GROUPS.iter().any(|(name, _)| *name == first) {
        return Err(Error::plain(format!(
            "{program}: unknown command: {program} {first}\n\nRun '{program} --help' for more information"
        )));
    }
    match words.get(1).map(String::as_str) {
        None => {
            terminal::print_error(&flags::group_page(program, first));
            Ok(0)
        }
        Some("--help" | "-h" | "help") => {
            terminal::print(&flags::group_page(program, first));
            Ok(0)
        }
        Some(flag) if flag.starts_with('-') => Err(Error::Usage {
            text: format!("unknown flag: {flag}"),
            usage: format!("{program} {first}"),
            hint: format!("Run '{program} {first} --help' for more information"),
            code: 125,
        }),
        Some(word) => Err(Error::plain(format!(
            "{program}: unknown command: {program} {first} {word}\n\nUsage:  {program} {first}\n\n\
             Run '{program} {first} --help' for more information"
        ))),
    }
}
