//! What the engine and a shim say to each other, on the shim's socket.
//!
//! Each connection begins with one request, a line of JSON, and is one of three kinds:
//!
//! | first request | the connection is | then |
//! |---|---|---|
//! | [`Request::Attach`], [`Request::Exec`] | a pair of streams | one [`Response`] line; then output downstream (frames of 8 bytes' header and payload as in the Engine API's multiplexed stream, or raw bytes of a terminal), and standard input upstream until the writing side is shut down |
//! | [`Request::Events`] | a stream of events | one [`Response`] line, then an [`Event`] line for each event; its end is the shim's end |
//! | anything else | a series of calls | a [`Response`] line for each request line, in order |
//!
//! The words are a public promise: an engine of a newer version adopts shims of an older one, which run for as long as their
//! containers do. So there is nothing to negotiate but what [`State::version`] says:
//!
//! * [`VERSION`] changes when a word changes its meaning. An engine knows the words of all versions before its own.
//! * A new request has a new name and does not change it: a shim that does not know it answers with [`Response::Failed`] of the
//!   kind [`FailureKind::Invalid`], and the connection goes on.
//! * A new field does not change it either: whoever does not know it passes it over, and whoever does has a default for its
//!   absence. The same holds for an event or a kind of failure that is not known.

use jiff::Timestamp;
use oci::spec::{Process, Resources, Spec};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// The longest line that either side accepts, in bytes; a specification with its mounts is the longest there is.
pub const MAX_LINE: usize = 32 << 20;

/// How a shim is set up, `shim.json` in its run directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Name of the container, unique below `state_root`.
    pub id: String,
    /// Absolute path of the bundle: the run directory, or that of another tool.
    pub bundle: PathBuf,
    /// The runtime specification.
    pub spec: Spec,
    /// Where the runtime keeps its state.
    pub state_root: PathBuf,
    /// What the root file system is mounted from, in order; empty for `root.path` of the specification.
    #[serde(default)]
    pub rootfs: Vec<oci::Mount>,
    /// Standard input is a pipe that stays open; otherwise it is empty from the start.
    #[serde(default)]
    pub stdin_open: bool,
    /// Standard input is closed when the first client that sends to it is done.
    #[serde(default)]
    pub stdin_once: bool,
    /// Where output is written besides the clients; nowhere when none.
    #[serde(default)]
    pub log: Option<LogConfig>,
    /// The socket to listen on, at most 107 bytes.
    pub socket_path: PathBuf,
    /// The exit record, see [`Exit`].
    pub exit_path: PathBuf,
    /// An existing directory on a disk, for what clients are too slow to take.
    pub spool_dir: PathBuf,
}

/// A log in the json-file format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The file; older ones have `.1`, `.2`, … behind.
    pub path: PathBuf,
    /// Bytes after which a new file is begun; never when none.
    #[serde(default)]
    pub max_size: Option<u64>,
    /// How many files there are at most, at least 1.
    #[serde(default = "one")]
    pub max_file: u32,
    /// A JSON object that is written with every line, as text: labels and variables that were asked for.
    #[serde(default)]
    pub attributes: Option<String>,
    /// The container does not wait for the file: so many bytes do at most, and lines beyond are left out. When none, it waits.
    #[serde(default)]
    pub buffer: Option<u64>,
}

fn one() -> u32 {
    1
}

/// What the engine asks for. `exec` names an exec; none is the container's own process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Make the container; answered by `Created` when only the start is left to do.
    Create,
    /// Let its program run.
    Start,
    /// Send a signal.
    Signal {
        /// To whom.
        #[serde(default)]
        exec: Option<String>,
        /// Its number.
        signal: i32,
        /// To every process of the container.
        #[serde(default)]
        all: bool,
    },
    /// Change the size of a terminal.
    Resize {
        /// Whose.
        #[serde(default)]
        exec: Option<String>,
        /// Characters.
        rows: u16,
        /// Characters.
        columns: u16,
    },
    /// Close standard input once what was sent before is written.
    CloseStdin {
        /// Whose.
        #[serde(default)]
        exec: Option<String>,
    },
    /// Freeze all processes.
    Pause,
    /// Thaw them.
    Resume,
    /// Change limits.
    Update {
        /// Those that are set are changed.
        resources: Box<Resources>,
    },
    /// The pids of all processes, as the host sees them.
    Processes,
    /// How things are.
    State,
    /// Connect to the streams of the container.
    Attach(Attach),
    /// Run one more program, connected to this connection unless it wants none of the streams.
    Exec(Box<Exec>),
    /// Be told of events.
    Events,
    /// Give up: kill what runs, remove what was made, end without an exit record if nothing was started.
    Shutdown,
}

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Bytes of this connection become standard input.
    #[serde(default)]
    pub stdin: bool,
    /// Standard output, and everything that a terminal shows.
    #[serde(default)]
    pub stdout: bool,
    /// Standard error.
    #[serde(default)]
    pub stderr: bool,
}

/// One more program in the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// Its name.
    pub id: String,
    /// What to run.
    pub process: Process,
    /// What of it this connection wants.
    #[serde(default)]
    pub streams: Attach,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// It is done.
    Done,
    /// The container or the exec is there.
    Created {
        /// Its first process, as the host sees it.
        pid: i32,
        /// What could not be applied, one sentence each.
        #[serde(default)]
        warnings: Vec<String>,
    },
    /// Pids.
    Processes(Vec<i32>),
    /// How things are.
    State(State),
    /// It cannot be done.
    Failed(Failure),
}

/// Why something cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// A sentence in the runtime's words.
    pub message: String,
}

/// Kinds that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program does not exist (exit code 127).
    ProgramNotFound,
    /// The program cannot be executed (exit code 126).
    ProgramNotExecutable,
    /// The container's state does not allow it.
    Conflict,
    /// No such exec or process.
    NotFound,
    /// The request makes no sense.
    Invalid,
    /// Everything else, and kinds of a later version.
    #[serde(other)]
    System,
}

/// How things are with a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`] of the shim.
    pub version: u32,
    /// The shim's own pid.
    pub shim_pid: i32,
    /// The container's first process; none before it is made.
    pub pid: Option<i32>,
    /// The program was let go.
    pub started: bool,
    /// All processes are frozen.
    pub paused: bool,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Execs whose processes run.
    pub execs: Vec<String>,
}

/// How a process ended: an event, and for the container's own process the exit record on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Which exec; none is the container's own process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<String>,
    /// 0 to 255; 128 and the number of the signal that ended it.
    pub code: i32,
    /// That signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// A process of the container was killed for want of memory.
    #[serde(default)]
    pub oom: bool,
    /// When.
    pub at: Timestamp,
}

/// What happens by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A process ended. For the container's own it is the last event: its record is on disk, and what it occupied is free.
    Exited(Exit),
    /// A process was killed for want of memory.
    Oom,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_str, to_string};

    /// The words of version 1 as they were first spoken. They are never edited: shims that say and read them are running.
    #[test]
    fn the_words_of_version_1() {
        let requests = [
            (r#""create""#, Request::Create),
            (r#""start""#, Request::Start),
            (r#"{"signal":{"signal":15}}"#, Request::Signal { exec: None, signal: 15, all: false }),
            (
                r#"{"signal":{"exec":"e","signal":9,"all":true}}"#,
                Request::Signal { exec: Some("e".to_owned()), signal: 9, all: true },
            ),
            (r#"{"resize":{"rows":2,"columns":3}}"#, Request::Resize { exec: None, rows: 2, columns: 3 }),
            (r#"{"close_stdin":{}}"#, Request::CloseStdin { exec: None }),
            (r#""pause""#, Request::Pause),
            (r#""resume""#, Request::Resume),
            (r#""processes""#, Request::Processes),
            (r#""state""#, Request::State),
            (r#"{"attach":{"stdout":true}}"#, Request::Attach(Attach { stdin: false, stdout: true, stderr: false })),
            (r#""events""#, Request::Events),
            (r#""shutdown""#, Request::Shutdown),
        ];
        for (text, request) in requests {
            assert_eq!(from_str::<Request>(text).unwrap(), request);
            assert_eq!(from_str::<Request>(&to_string(&request).unwrap()).unwrap(), request);
        }
        let exit = r#"{"code":137,"signal":9,"oom":true,"at":"2026-11-24T10:00:00.5Z"}"#;
        let state = format!(
            r#"{{"state":{{"version":1,"shim_pid":7,"pid":8,"started":true,"paused":false,"exit":{exit},"execs":["e"]}}}}"#
        );
        for text in [r#""done""#, r#"{"created":{"pid":8,"warnings":["w"]}}"#, r#"{"processes":[8,9]}"#, &state] {
            assert_eq!(to_string(&from_str::<Response>(text).unwrap()).unwrap(), text);
        }
        for text in [r#""oom""#.to_owned(), format!(r#"{{"exited":{exit}}}"#)] {
            assert_eq!(to_string(&from_str::<Event>(&text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn words_of_a_later_version_are_passed_over() {
        let failed = r#"{"failed":{"kind":"out_of_luck","message":"m","hint":"h"}}"#;
        let failure = Failure { kind: FailureKind::System, message: "m".to_owned() };
        assert_eq!(from_str::<Response>(failed).unwrap(), Response::Failed(failure));
        let exit: Exit = from_str(r#"{"code":0,"at":"2026-11-24T10:00:00Z","reason":{"a":1}}"#).unwrap();
        assert_eq!((exit.code, exit.signal, exit.oom), (0, None, false));
        assert!(from_str::<Request>(r#"{"checkpoint":{}}"#).is_err());
    }
}
