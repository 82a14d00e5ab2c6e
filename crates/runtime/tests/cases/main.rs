//! The runtime against the kernel, from the outside: each case writes a bundle, runs it by the command line of a
//! runtime, and looks from inside the container.
//!
//! The runtime is `$GANTRY_TEST_RUNTIME` (several words are a program and its first arguments; `runc` runs the same
//! cases on the reference, which is how they were checked), or else this crate's example `runc`.

mod cgroups;
mod commandline;
mod configs;
mod delegated;
mod errors;
mod escapes;
mod exec;
mod faults;
mod fields;
mod hooks;
mod kills;
mod lifecycle;
mod machine;
mod mounts;
mod namespaces;
mod readiness;
mod rootless;
mod running;
mod security;
mod support;
mod terminal;
mod user;
