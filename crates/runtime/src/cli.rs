//! The runc command line: what containerd, CRI-O, Podman and people call.
//!
//! One table of commands and flags ([`flags`]) feeds the parser and the help ([`grammar`]); each command is a function of
//! what was parsed. Errors go to standard error and to `--log`, in the form that containerd reads them back from there.

mod commands;
mod events;
mod features;
mod flags;
mod foreground;
mod grammar;
mod inherited;
mod list;
mod log;
mod notify;
mod process;
mod signals;
mod spec;
mod stats;
mod update;

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use grammar::{Parsed, Request};
use inherited::Inherited;

/// Where the state of root's containers is unless `--root` says otherwise.
const DEFAULT_ROOT: &str = "/run/gantry-runtime";
/// Where it is for others, in the directory that their session has for such things.
const USER_ROOT: &str = "gantry-runtime";

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
    root: PathBuf,
    /// `--root` said so: then it has to be there.
    root_is_given: bool,
    log: log::Log,
    /// `--rootless`, unless that is `auto`.
    rootless: Option<bool>,
    /// Descriptors for the container, taken once.
    inherited: RefCell<Option<Inherited>>,
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
    match grammar::parse(name, &words) {
        Ok(Request::Help(command)) => {
            print!("{}", grammar::help(name, command));
            ExitCode::SUCCESS
        }
        Ok(Request::Version) => {
            println!("{name} version {}\nspec: {}", env!("CARGO_PKG_VERSION"), oci::spec::VERSION);
            ExitCode::SUCCESS
        }
        Ok(Request::Run { global, command, arguments }) => run(name, &global, command, arguments),
        Err(misuse) => {
            if let Some(heading) = misuse.heading {
                print!("{heading}\n\n{}", grammar::help(name, misuse.command));
            }
            let global = misuse.global;
            let log = log::Log::open(global.value("log"), global.value("log-format"), global.is_set("debug"));
            report(&log.unwrap_or_else(|_| log::Log::to_stderr()), &misuse.message);
            ExitCode::from(misuse.code)
        }
    }
}

/// The log is for programs; a person looks at standard error.
fn report(log: &log::Log, message: &str) {
    log.error(message);
    if !log.is_stderr() {
        eprintln!("{message}");
    }
}

fn run(name: &str, global: &Parsed, command: &'static flags::Command, arguments: Parsed) -> ExitCode {
    // This first, since it executes the program again, then what is inherited, then what is opened here.
    let makes_processes = ["create", "run", "exec"].contains(&command.name);
    let protection = if makes_processes { crate::protect_program() } else { Ok(()) };
    let inherited = RefCell::new(makes_processes.then(|| Inherited::take(command.name, &arguments)));
    let opened = log::Log::open(global.value("log"), global.value("log-format"), global.is_set("debug"));
    let log = match opened {
        Ok(log) => log,
        Err(error) => {
            report(&log::Log::to_stderr(), &error.to_string());
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = protection {
        log.debug(&format!("the program's file is not protected from containers: {error}"));
    }
    let outcome = refuse(global).and_then(|()| {
        let rootless = rootless(global)?;
        let given = global.text("root");
        let root = match given {
            Some(root) => std::path::absolute(root)?,
            // These know of no containers.
            None if ["features", "spec"].contains(&command.name) => PathBuf::new(),
            None => default_root()?,
        };
        let root_is_given = given.is_some();
        let (name, log) = (name.to_owned(), log.clone());
        (command.run)(&Context { name, root, root_is_given, log, rootless, inherited, arguments })
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            report(&log, &failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// What runc offers and this program does not, by name.
fn refuse(global: &Parsed) -> Result<(), Failure> {
    if global.is_set("systemd-cgroup") {
        return Err(
            "--systemd-cgroup is not supported yet, it comes with a later version: cgroups are made in the file system"
                .into(),
        );
    }
    if global.value("criu").is_some() {
        return Err("--criu is not supported yet: checkpoint and restore come with a later version".into());
    }
    Ok(())
}

fn rootless(global: &Parsed) -> Result<Option<bool>, Failure> {
    match global.value("rootless") {
        None | Some("auto") => Ok(None),
        // The words that runc's library takes for a switch.
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(other) => Err(format!("invalid value for --rootless: {other:?} is none of auto, true and false").into()),
    }
}

/// The directory for root's containers, or one of the user's own: below `$XDG_RUNTIME_DIR`, or where that is by default.
fn default_root() -> Result<PathBuf, Failure> {
    let user = rustix::process::geteuid();
    if user.is_root() && !honours_session() {
        return Ok(DEFAULT_ROOT.into());
    }
    let named = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).map(PathBuf::from);
    let session = match named {
        Some(path) => path,
        None if user.is_root() => return Ok(DEFAULT_ROOT.into()),
        None => {
            let usual = Path::new("/run/user").join(user.as_raw().to_string());
            if !usual.is_dir() {
                let why = format!("XDG_RUNTIME_DIR is not set and {} does not exist", usual.display());
                return Err(format!("no directory for the state of containers: {why}; --root names one").into());
            }
            usual
        }
    };
    let root = std::path::absolute(session.join(USER_ROOT))?;
    // What lies unused in such a directory is cleaned away, unless it is sticky (XDG base directory specification).
    std::fs::create_dir_all(&root)
        .and_then(|()| std::fs::set_permissions(&root, Permissions::from_mode(0o1700)))
        .map_err(|error| format!("the directory for the state of containers, {}: {error}", root.display()))?;
    Ok(root)
}

/// Root of a user namespace is a user of the machine, unless it says to be root by name.
fn honours_session() -> bool {
    sys::user::in_user_namespace() && !std::env::var("USER").is_ok_and(|name| name == "root")
}
