//! The command line alone, under the name `docker`: what the tests run beside Docker's own.

fn main() -> std::process::ExitCode {
    cli::main(std::env::args_os().collect())
}
