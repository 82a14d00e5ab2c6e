//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! Everything that a person or CI does to this repository beyond `cargo build` is here, so that
//! there is one way to do it and the way is checked like the rest of the code.

mod bench;
mod conformance;
mod order;
mod parity;
mod suite;
mod tidy;
mod transfers;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks, tests and comparisons of this project")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests need, then run every check and every test (as root)
    Test(suite::Options),
    /// Send the same requests to a real dockerd and to Gantry, and compare the answers
    Parity(parity::Options),
    /// Run the runtime's cases on any runtime, and real engines on Gantry's
    Conformance(conformance::Options),
    /// Measure the runtime beside another one (as root)
    Bench(bench::Options),
    /// Measure pull, push, save, load and commit beside another engine (removes all images of both)
    Transfers(transfers::Options),
    /// Measure the registry beside the reference registry
    BenchRegistry(bench::registry::Options),
    /// Find the functions that the runtime needs, for the linker to keep them together (as root)
    Order(order::Options),
    /// Check the crate table, unsafe code, dependencies, licences and the length of files and functions
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test(options) => suite::run(&options),
        Command::Parity(options) => parity::run(&options),
        Command::Conformance(options) => conformance::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Transfers(options) => transfers::run(&options),
        Command::BenchRegistry(options) => bench::registry::run(&options),
        Command::Order(options) => order::run(&options),
        Command::Tidy => tidy::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository, whatever folder the command was called from.
fn repository() -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
