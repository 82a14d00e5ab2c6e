//! The grammars of single options: each reads one value of a flag, in Docker's form and with Docker's errors.

pub(crate) mod container;
pub(crate) mod csv;
pub(crate) mod device;
pub(crate) mod environment;
pub(crate) mod host;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod platform;
pub(crate) mod port;
pub(crate) mod security;
pub(crate) mod ulimit;
pub(crate) mod volume;
