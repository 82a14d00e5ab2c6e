//! The registry as a program of its own, without the rest of Gantry: quick to build, for tests and measurements.

fn main() -> std::process::ExitCode {
    registry_server::main(std::env::args_os().collect())
}
