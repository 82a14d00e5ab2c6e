//! The Engine API over HTTP: routes, versions, hijacked streams, configuration.
//!
//! ```text
//! flags, daemon.json ─► settings ─► engine::Engine
//!                          │            ▲
//!                          ▼            │ api types, latest version
//!     listen ─► server ─► router ─► routes::<resource> ─► reply | hijack
//!                                       │
//!                                   convert: what older versions send and expect
//! ```
//! Nothing here knows how a container is run, and nothing below knows HTTP.

mod convert;
mod failure;
mod hijack;
mod listen;
mod notify;
mod options;
mod pidfile;
mod reply;
mod request;
mod rest;
mod router;
mod routes;
mod run;
mod server;
mod settings;
mod tls;

pub use run::main;
