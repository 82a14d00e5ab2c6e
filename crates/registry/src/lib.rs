//! Images from place to place: registries, archives and the store, by one copy.
//!
//! [`Client`] is the interface. Everything it does is one operation with other ends:
//!
//! ```text
//!  pull        a repository  ──►  the store             push    the store    ──►  a repository
//!  load        an archive    ──►  the store             save    the store    ──►  an archive
//!  between     a repository  ──►  a repository
//!              └───────────── copy ─────────────┘
//!  remote      one repository: endpoints, authentication, requests        progress    what is told meanwhile
//! ```
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

mod between;
mod copy;
mod error;
mod inspect;
mod load;
mod offer;
mod progress;
mod pull;
mod push;
mod remote;
mod save;
mod web;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use between::Between;
pub use error::{Error, ErrorKind, RegistryError, RegistryErrors, Result};
pub use inspect::Inspected;
pub use load::Loaded;
pub use offer::{Offer, OfferedDocument, offer};
pub use progress::{LayerStatus, Progress, QUEUE, Sender};
pub use pull::Pulled;
pub use push::Pushed;
pub use remote::{Credentials, Hit, Upstream, UpstreamBlob};
pub use save::save;
pub use web::Download;

use copy::flight::Flights;
use remote::endpoint::Insecure;
use remote::limit::Connections;

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
    /// Requests at once at one host, over everything that this client does; at least 2.
    pub max_connections: usize,
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
    /// The longest wait before the second attempt; doubled for each further one.
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
            max_connections: 6,
            connect_timeout: Duration::from_secs(15),
            header_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            upload_timeout: Duration::from_secs(300),
            attempts: 5,
            retry_delay: Duration::from_secs(1),
        }
    }
}

/// Speaks to registries. Holds settings, and what its operations share: connections live as long as one of them.
#[derive(Debug, Clone)]
pub struct Client {
    options: Options,
    insecure: Insecure,
    connections: Arc<Connections>,
    flights: Arc<Flights>,
}

impl Client {
    /// A client with these settings. Does nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let insecure = Insecure::new(&options.insecure_registries);
        let connections = Arc::new(Connections::new(options.max_connections));
        Self { options, insecure, connections, flights: Arc::default() }
    }
}

/// The readers of what foreign servers write, for the targets in `fuzz/`.
#[doc(hidden)]
pub mod foreign {
    use crate::remote::{ContentRange, challenge};

    /// Schemes with their parameters.
    #[must_use]
    pub fn challenges(headers: &[&str]) -> Vec<(String, Vec<(String, String)>)> {
        let found = challenge::parse(headers.iter().copied());
        found.into_iter().map(|one| (one.scheme, one.parameters.into_iter().collect())).collect()
    }

    /// First byte and length of the whole.
    #[must_use]
    pub fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
        ContentRange::parse(text).map(|range| (range.start, range.total))
    }
}

/// Work of the store, on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Task)?
}
