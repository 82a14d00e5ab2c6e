//! The runc command line: what containerd, CRI-O, Podman and people call.
//!
//! One table of commands and flags ([`flags`]) feeds the parser and the help; each command is a function of what was
//! parsed. Errors go to standard error and to `--log`, in the form that containerd reads them back from there.

mod commands;
mod events;
mod features;
mod flags;
mod foreground;
mod log;
mod process;
mod signals;
mod spec;
mod table;
mod update;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use flags::{Parsed, Request};

/// Where the state of containers is unless `--root` says otherwise.
const DEFAULT_ROOT: &str = "/run/gantry-runtime";

/// Why a command ends without having done its work.
#[derive(Debug)]
struct Failure {
    /// What is printed and logged.
    message: String,
    /// Exit code of the program.
    code: u8,
}

impl<E: std::fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { message: error.to_string(), code: 1 }
    }
}

impl Failure {
    /// Puts words before the message.
    fn within(self, words: &str) -> Self {
        Self { message: format!("{words}: {}", self.message), ..self }
    }
}

/// Exit code of the program, or why not.
type Outcome = Result<u8, Failure>;

/// What every command is given.
struct Context {
    name: String,
    root: std::path::PathBuf,
    log: log::Log,
    arguments: Parsed,
}

/// Runs the command line `arguments`, the program's name first.
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "the same shape as the other lives of the binary")]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let program = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let name = if program.contains("runc") { "runc" } else { "gantry runtime" };
    let words: Option<Vec<String>> = arguments.iter().skip(1).map(|word| word.to_str().map(str::to_owned)).collect();
    let Some(words) = words else {
        eprintln!("an argument is not UTF-8");
        return ExitCode::FAILURE;
    };
    match flags::parse(&words) {
        Ok(Request::Help(command)) => {
            print!("{}", flags::help(name, command));
            ExitCode::SUCCESS
        }
        Ok(Request::Version) => {
            println!("{name} version {}\nspec: {}", env!("CARGO_PKG_VERSION"), oci::spec::VERSION);
            ExitCode::SUCCESS
        }
        Ok(Request::Run { global, command, arguments }) => run(name, &global, command, arguments),
        Err(error) => {
            eprint!("Incorrect Usage. {error}\n\n{}", flags::help(name, None));
            log::Log::to_stderr().error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, global: &Parsed, command: &'static flags::Command, arguments: Parsed) -> ExitCode {
    let opened = log::Log::open(global.value("log"), global.value("log-format"), global.is_set("debug"));
    let log = match opened {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if ["create", "run", "exec"].contains(&command.name)
        && let Err(error) = crate::protect_program()
    {
        log.debug(&format!("the program's file is not protected from containers: {error}"));
    }
    let outcome = refuse(global).and_then(|()| {
        let root = Path::new(global.value("root").unwrap_or(DEFAULT_ROOT));
        let root = std::path::absolute(root)?;
        (command.run)(&Context { name: name.to_owned(), root, log: log.clone(), arguments })
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            log.error(&failure.message);
            if !log.is_stderr() {
                eprintln!("{}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// What runc offers and this program does not, by name.
fn refuse(global: &Parsed) -> Result<(), Failure> {
    if global.is_set("systemd-cgroup") {
        return Err("--systemd-cgroup is not supported: cgroups are made in the file system".into());
    }
    if global.value("criu").is_some() {
        return Err("--criu is not supported".into());
    }
    match global.value("rootless") {
        None | Some("auto" | "false") => Ok(()),
        Some("true") => Err("--rootless=true is not supported".into()),
        Some(other) => Err(format!("invalid value for --rootless: {other}").into()),
    }
}
