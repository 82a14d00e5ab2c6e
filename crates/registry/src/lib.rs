//! The distribution protocol: fetching and pushing images, with authentication and mirrors.
//!
//! [`Client`] is the whole interface: `pull` brings an image into a [`store::Store`], `push` sends one away, and both
//! tell what they do through a bounded queue of [`Progress`].
//!
//! ```text
//! pull:  manifest (index → platform) → configuration → layers, three at a time:
//!
//!        socket ──chunks──► bounded queue ──► blocking thread: SHA-256 + blob file
//!                                                   └─► inflate ─► SHA-256 (diff id) ─► files      (crate store)
//! ```
//!
//! A byte from a registry is read once, and nothing of it counts before its digest is right. A transfer that breaks off
//! is taken up again where it ended. Every wait, retry, queue and document has a limit ([`Options`]).

mod auth;
mod challenge;
mod download;
mod error;
mod hosts;
mod progress;
mod pull;
mod push;
mod remote;
mod resolve;
mod tls;
mod transport;
mod upload;
mod web;

use std::path::PathBuf;
use std::time::Duration;

pub use auth::Credentials;
pub use error::{Error, ErrorKind, RegistryError, RegistryErrors, Result};
pub use progress::{LayerStatus, Progress, QUEUE, Sender};
pub use pull::Pulled;
pub use push::Pushed;
pub use web::Download;

use hosts::Insecure;

/// The settings of a client.
#[derive(Debug, Clone)]
pub struct Options {
    /// Registries (`host`, `host:port`, CIDR) that may be spoken to without verified TLS, beside loopback.
    pub insecure_registries: Vec<String>,
    /// Mirrors of docker.io, tried in order.
    pub mirrors: Vec<String>,
    /// Directories with a directory of certificates per registry, see module `tls`.
    pub certs_dirs: Vec<PathBuf>,
    /// What we call ourselves.
    pub user_agent: String,
    /// Layers of one pull that are downloaded at once.
    pub max_downloads: usize,
    /// Layers of one push that are uploaded at once.
    pub max_uploads: usize,
    /// For the address, the connection and TLS.
    pub connect_timeout: Duration,
    /// For the first byte of an answer.
    pub header_timeout: Duration,
    /// Between two pieces of a body.
    pub stall_timeout: Duration,
    /// For the answer to an upload, which comes when the registry has stored it.
    pub upload_timeout: Duration,
    /// How often a download is tried in all.
    pub attempts: u32,
    /// Wait before the second attempt; doubled for each further one.
    pub retry_delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure_registries: Vec::new(),
            mirrors: Vec::new(),
            certs_dirs: vec!["/etc/gantry/certs.d".into(), "/etc/docker/certs.d".into()],
            user_agent: concat!("gantry/", env!("CARGO_PKG_VERSION")).into(),
            max_downloads: 3,
            max_uploads: 5,
            connect_timeout: Duration::from_secs(15),
            header_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            upload_timeout: Duration::from_secs(300),
            attempts: 5,
            retry_delay: Duration::from_secs(1),
        }
    }
}

/// Speaks to registries. Holds settings only: connections live as long as one operation.
#[derive(Debug, Clone)]
pub struct Client {
    options: Options,
    insecure: Insecure,
}

impl Client {
    /// A client with these settings. Does nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let insecure = Insecure::new(&options.insecure_registries);
        Self { options, insecure }
    }
}
