//! The binary: it looks at the name it was called by and at its first argument, and leads one of its lives.
//!
//! | called as | or with the first argument | it is |
//! |---|---|---|
//! | | `daemon` | the engine |
//! | | `shim` | the monitor of one container (the engine starts it) |
//! | `runc`, `gantry-runtime` | `runtime` | the OCI runtime's command line |
//! | `docker-init` | `init` | the first process of a container that was started with `--init` |
//! | | `registry` | the registry's server |
//! | | `hello-inside` | the program of the embedded image `hello` |
//! | anything else | anything else | the command line |

mod hello;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default().to_owned();
    match name.to_str() {
        Some("runc" | "gantry-runtime") => return runtime::cli::main(arguments),
        Some("docker-init") => return shim::init::main(arguments),
        _ => {}
    }
    let first = arguments.get(1).and_then(|a| a.to_str()).unwrap_or_default();
    let life = match first {
        "daemon" => daemon::main,
        "shim" => shim::main,
        "runtime" => runtime::cli::main,
        "init" => shim::init::main,
        "registry" => registry_server::main,
        "hello-inside" => return hello::main(),
        _ => return cli::main(arguments),
    };
    // Each life sees the arguments that it would see as a program of its own.
    arguments.remove(1);
    life(arguments)
}
