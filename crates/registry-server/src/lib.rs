//! The registry: the distribution protocol served from a directory, an object store or the engine's store.
//!
//! ```text
//! flags, file ─► settings ─► run ─► server ─► route ─► access ─► routes::<what> ─► reply, body ─► wire
//!                                                                     │
//!                                                                  content ─► storage ─► objects by key
//! ```
//! Specification: [OCI distribution 1.1](https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md), and
//! what Docker's clients expect beyond it. A process has no state of its own: all of it is in the storage, so any number
//! of processes may serve the same content.

mod access;
mod body;
mod cache;
mod content;
mod engine;
mod failure;
mod gc;
mod htpasswd;
mod jwt;
mod log;
mod metrics;
mod name;
mod options;
mod pattern;
mod quotas;
mod reply;
mod request;
mod route;
mod routes;
mod run;
mod server;
mod settings;
mod storage;
mod tls;
mod tokens;
mod wire;

pub use run::main;
