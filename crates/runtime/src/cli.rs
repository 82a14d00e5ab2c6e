//! The runc command line.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command line `arguments`, the program's name first.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    drop(arguments);
    ExitCode::FAILURE
}
