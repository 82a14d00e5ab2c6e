//! What outlives the engine: `network.json`.
//!
//! ```json
//! { "version": 1, "created_ns": 1700000000000000000, "bridge_name": "gantry0", "bridge_address": "172.30.0.1/16",
//!   "ids": { "bridge": "<64 hex>", "host": "…", "none": "…" },
//!   "endpoints": { "<64 hex>": { "network": "bridge", "ip": "172.30.0.2", … } } }
//! ```
//!
//! An endpoint is written before anything of it is made, and removed after everything of it is gone, so that a crash
//! at any moment leaves nothing that nobody knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Endpoint, EndpointId, Error, Ipv4Cidr, NetworkKind, PublishedPort, Result};

const VERSION: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    created_ns: u64,
    /// The bridge that the endpoints are plugged into.
    pub(crate) bridge_name: String,
    /// Its address; `None` before the first start has chosen one.
    pub(crate) bridge_address: Option<Ipv4Cidr>,
    ids: BTreeMap<NetworkKind, String>,
    /// By id.
    pub(crate) endpoints: BTreeMap<EndpointId, Endpoint>,
}

impl State {
    /// The file's content, or a new state when there is none. A damaged file is an error: to forget it would hand out
    /// the addresses of running containers a second time.
    pub(crate) fn load(path: &Path, bridge_name: &str) -> Result<Self> {
        let error = |source| Error::State { path: path.to_owned(), source };
        match fs::read(path) {
            Ok(bytes) => {
                let state: Self = serde_json::from_slice(&bytes).map_err(|source| error(source.into()))?;
                if state.version != VERSION {
                    return Err(error(io::Error::other(format!("unknown version {}", state.version))));
                }
                Ok(state)
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => Self::new(bridge_name),
            Err(source) => Err(error(source)),
        }
    }

    fn new(bridge_name: &str) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut ids = BTreeMap::new();
        for kind in [NetworkKind::Bridge, NetworkKind::Host, NetworkKind::None] {
            ids.insert(kind, random_id()?);
        }
        Ok(Self {
            version: VERSION,
            created_ns: u64::try_from(now.as_nanos()).unwrap_or_default(),
            bridge_name: bridge_name.to_owned(),
            bridge_address: None,
            ids,
            endpoints: BTreeMap::new(),
        })
    }

    /// Replaces the file. It is not synced: after a power failure no endpoint is left anyway, and the rename never
    /// exposes a half-written file.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let write = || -> io::Result<()> {
            let temporary = path.with_extension("json.new");
            fs::write(&temporary, serde_json::to_vec(self)?)?;
            fs::rename(&temporary, path)
        };
        write().map_err(|source| Error::State { path: path.to_owned(), source })
    }

    /// When the file was first made.
    pub(crate) fn created(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.created_ns)
    }

    /// The network's id, the same for ever.
    pub(crate) fn id(&self, kind: NetworkKind) -> &str {
        self.ids.get(&kind).map_or("", String::as_str)
    }

    /// Published ports of all endpoints.
    pub(crate) fn published(&self) -> impl Iterator<Item = PublishedPort> + '_ {
        self.endpoints.values().flat_map(|endpoint| endpoint.ports.iter().cloned())
    }

    /// Addresses of endpoints.
    pub(crate) fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.endpoints.values().filter_map(|endpoint| endpoint.ip).collect()
    }
}

/// 64 random hexadecimal digits.
pub(crate) fn random_id() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|source| Error::Io { operation: "reading random bytes".into(), source: io::Error::other(source) })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
