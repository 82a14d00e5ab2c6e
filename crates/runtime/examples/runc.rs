//! The runtime's command line as a program of its own: for tests, and for trying it without the engine.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::cli::main(std::env::args_os().collect())
}
