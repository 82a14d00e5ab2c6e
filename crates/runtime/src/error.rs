//! What can go wrong, in runc's words where callers are known to match on them.

use std::io;
use std::path::PathBuf;

use oci::spec::Status;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a container could not be made, changed or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The id has characters that are not allowed.
    #[error("invalid container ID format: {0:?}")]
    InvalidId(String),
    /// The id is in use below this state directory.
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    /// There is no such container below this state directory.
    #[error("container does not exist: {0}")]
    NotFound(String),
    /// The container's state does not allow the operation.
    #[error("{}", refusal(operation, id, *status))]
    Status {
        /// What was tried, e.g. `start`.
        operation: &'static str,
        /// Which container.
        id: String,
        /// Its state.
        status: Status,
    },
    /// The bundle asks for something impossible or unsupported; the text names the field.
    #[error("invalid config: {0}")]
    Spec(String),
    /// `config.json` cannot be read or parsed.
    #[error("cannot load {}: {source}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state directory or a file in it cannot be read or written.
    #[error("{operation} {}: {source}", path.display())]
    State {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the state directory was torn by a loss of power.
    #[error("container {id}: {} is damaged, as after a loss of power ({reason}); delete --force removes what is left", path.display())]
    Damaged {
        /// Which container.
        id: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller has more than one thread, so that it cannot be cloned safely.
    #[error("a container can only be made by a single-threaded process, this one has {0} threads")]
    Threads(u64),
    /// What was asked for needs a cgroup.
    #[error("container {0} has no cgroup, since it was made without the right to make one")]
    NoCgroup(String),
    /// A cgroup cannot be made, changed, read or removed.
    #[error("cgroup: {0}")]
    Cgroup(String),
    /// A system call of the caller's side failed.
    #[error("{operation}: {source}")]
    System {
        /// What was tried.
        operation: String,
        /// Why.
        source: io::Error,
    },
    /// The first process, or one that was added, could not be brought to executing its program.
    #[error("unable to start container process: {}{message}", stage.prefix())]
    Start {
        /// How far it came.
        stage: Stage,
        /// The sentence, e.g. `exec: "foo": executable file not found in $PATH`.
        message: String,
        /// Error number of the system call that failed, when it was one.
        errno: Option<i32>,
    },
    /// The process ended without saying why (killed, e.g. because its memory limit is too low to start).
    #[error("unable to start container process: container init exited before it was ready: {0}")]
    InitDied(String),
    /// A hook failed or ran out of time.
    #[error("error running {kind} hook #{index}: {message}")]
    Hook {
        /// E.g. `createRuntime`.
        kind: &'static str,
        /// Position in its list, from 0.
        index: usize,
        /// What happened, with what it wrote.
        message: String,
    },
}

/// The sentences are runc's: its callers look for them.
fn refusal(operation: &str, id: &str, status: Status) -> String {
    match (operation, status) {
        ("start", Status::Running) => "cannot start an already running container".to_owned(),
        ("start", Status::Stopped) => "cannot start a container that has stopped".to_owned(),
        ("start", status) => format!("cannot start a container in the {status} state"),
        ("delete", status) => format!("cannot delete container {id} that is not stopped: {status}"),
        ("exec", Status::Stopped) => "cannot exec in a stopped container".to_owned(),
        ("exec", Status::Paused) => "cannot exec in a paused container (use --ignore-paused to override)".to_owned(),
        ("resume", _) => "container not paused".to_owned(),
        (_, Status::Stopped | Status::Paused) => "container not running".to_owned(),
        (operation, status) => format!("cannot {operation} a container in the {status} state"),
    }
}

/// How far a process came on its way to executing its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Stage {
    /// Cgroups, namespaces and id maps.
    Namespaces,
    /// The root filesystem, mounts, devices, masked paths.
    Rootfs,
    /// Hooks inside the container.
    Hooks,
    /// Kernel parameters, host name, loopback interface.
    Settings,
    /// The terminal.
    Terminal,
    /// Limits, user, capabilities, filter.
    Security,
    /// Working directory and program: what a client reports with exit code 126 or 127.
    Program,
}

impl Stage {
    /// runc's words for what fails before it hands the process its final rights.
    fn prefix(self) -> &'static str {
        match self {
            Self::Rootfs | Self::Hooks | Self::Settings | Self::Terminal => "error during container init: ",
            Self::Namespaces | Self::Security | Self::Program => "",
        }
    }
}

impl Error {
    /// Whether the program was not found (exit code 127 of `docker run`).
    #[must_use]
    pub fn is_program_not_found(&self) -> bool {
        matches!(self, Self::Start { stage: Stage::Program, errno: Some(libc_enoent), .. } if *libc_enoent == ENOENT)
    }

    /// Whether the program was found and cannot be executed (exit code 126 of `docker run`).
    #[must_use]
    pub fn is_program_not_executable(&self) -> bool {
        matches!(self, Self::Start { stage: Stage::Program, errno: Some(errno), .. } if *errno != ENOENT)
    }
}

const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();
