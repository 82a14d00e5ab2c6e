//! One small process per container: standard streams, log, exit record.
//!
//! The shim is born by the engine, with `shim.json` in its run directory, and outlives it. It makes the container
//! through the runtime library (it has one thread, so it may clone), keeps the other ends of the container's streams,
//! and serves a socket on which any engine finds it again.
//!
//! ```text
//!                      ┌──────────────────── shim ────────────────────┐
//!  container ─stdout──►│ output ──► log file (json lines, rotated)    │
//!            ─stderr──►│        └─► spool of each attached client ────┼──► engine ──► docker attach
//!            ◄─stdin───│ queue ◄──────────────────────────────────────┼─── engine ◄── docker attach
//!            ─exit────►│ exit record on disk, then event ─────────────┼──► engine
//!                      └──────────────────────────────────────────────┘
//! ```
//!
//! The container never waits for a client: what a client does not take goes to a nameless file on disk, up to a limit,
//! beyond which the client is cut off. It waits for its own log, which is a file, unless the log's mode says that lines are to be
//! dropped instead. A shim whose container is idle has nothing in memory but what it waits with: buffers are made by the
//! first byte and given back a second after the last.

mod call;
pub mod client;
pub mod exit;
pub mod init;
mod log;
mod monitor;
pub mod protocol;
mod session;
mod spool;

pub use client::Client;
pub use protocol::{Attach, Config, Event, Exec, Exit, Failure, FailureKind, LogConfig, Request, Response, State};

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Name of the configuration in the run directory.
pub const CONFIG: &str = "shim.json";

/// Name of the file in the run directory that the shim's own complaints go to.
pub const LOG: &str = "shim.log";

/// The program `gantry shim RUN_DIR`, with the name of the program as the first argument.
///
/// Its standard input is the connection of the engine that started it.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let Ok([_, run_dir]) = <[OsString; 2]>::try_from(arguments) else {
        eprintln!("gantry shim: started by the engine, with a run directory as its only argument");
        return ExitCode::from(2);
    };
    // Every process that it puts into the container runs this program's file for a moment.
    if let Err(error) = runtime::protect_program() {
        eprintln!("gantry shim: the program's file is not protected from the container: {error}");
    }
    match monitor::run(Path::new(&run_dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry shim: {error}");
            ExitCode::FAILURE
        }
    }
}
