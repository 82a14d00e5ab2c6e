//! From a bundle to a running process, and the runc command line over it.
//!
//! A container is made by [`Container::create`]: the calling process (single-threaded: the shim, or `gantry runtime`)
//! makes the cgroup and the root mount, clones the container's first process into new namespaces, and answers its
//! requests until everything that can fail has been done. A caller without the right to mount, an ordinary user, leaves
//! the root mount to that process, which gains the right with its user namespace. That process then waits for [`Container::start`] on a named
//! pipe in the state directory, so that any other process can start it, and executes the program.
//!
//! ```text
//!   caller                                 init (clone3 child)
//!   validate, cgroup, root mount, clone ─▶ join cgroups and namespaces
//!   write id maps                      ◀─▶ (user namespace) become root inside
//!   run createRuntime hooks            ◀─▶ mounts, devices; createContainer hooks
//!                                          pivot_root, sysctls, masked paths, terminal
//!   receive the terminal, warnings     ◀── limits, user, capabilities, seccomp, look up the program
//!   write state.json                   ◀── ready
//!   start: one byte into exec.fifo      ──▶ startContainer hooks, execve
//! ```
//!
//! State: `<state_root>/<id>@state.json` and `<id>@exec.fifo` (there until started).

mod added;
mod cgroups;
mod channel;
pub mod cli;
mod config;
mod container;
mod conversation;
mod create;
mod detached;
mod error;
mod failure;
mod hooks;
mod idmap;
mod init;
mod limits;
mod mount_options;
mod net_devices;
mod numbers;
mod options;
mod overlay;
mod plan;
mod processes;
pub mod ps;
mod rdt;
mod record;
mod rlimits;
mod sealed;
mod validate;

pub use config::check as check_config;
pub use container::Container;
pub use error::{Error, Result, Stage};
pub use options::{CreateOptions, Created, ExecOptions, ExecProcess, Stdio};
pub use sealed::{protect_program, read_only_mount};
