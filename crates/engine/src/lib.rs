//! The life of containers, execs, volumes and images, and the events they cause.
//!
//! [`Engine`] is the whole interface: its methods take and return the types of crate `api` (latest version) and fail with an
//! [`Error`] whose kind decides the HTTP status and whose text is Docker's.
pub mod config;
pub mod error;

pub use config::EngineConfig;
pub use error::{Error, Kind, Result};
