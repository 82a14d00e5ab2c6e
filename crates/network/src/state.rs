//! What outlives the engine, in two files.
//!
//! ```json
//! network.json    { "version": 1, "created_ns": 1700000000000000000, "bridge_name": "gantry0",
//!                   "bridge_address": "172.30.0.1/16", "ids": { "bridge": "<64 hex>", "host": "…", "none": "…" } }
//! endpoints.json  { "version": 1, "endpoints": { "<64 hex>": { "network": "bridge", "ip": "172.30.0.2", … } } }
//! ```
//!
//! The first is for ever, changes seldom, and is synced. The second changes with every container and is void after a
//! reboot: it belongs on a tmpfs, and is never waited for.
//!
//! An endpoint is written before anything of it is made, and removed after everything of it is gone, so that a crash
//! at any moment leaves nothing that nobody knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Endpoint, EndpointId, Error, Ipv4Cidr, NetworkConfig, NetworkKind, PublishedPort, Result};

const VERSION: u32 = 1;

/// Both files' content.
#[derive(Debug)]
pub(crate) struct State {
    identity: Identity,
    /// As it stands in the file.
    saved: Option<Identity>,
    /// By id.
    pub(crate) endpoints: BTreeMap<EndpointId, Endpoint>,
    identity_path: PathBuf,
    endpoints_path: PathBuf,
}

/// network.json
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    version: u32,
    created_ns: u64,
    bridge_name: String,
    bridge_address: Option<Ipv4Cidr>,
    ids: BTreeMap<NetworkKind, String>,
}

/// endpoints.json
#[derive(Debug, Default, Deserialize)]
struct EndpointsFile {
    version: u32,
    endpoints: BTreeMap<EndpointId, Endpoint>,
}

/// The same for writing, without a copy.
#[derive(Serialize)]
struct EndpointsOut<'a> {
    version: u32,
    endpoints: &'a BTreeMap<EndpointId, Endpoint>,
}

impl State {
    /// The files' content, or a new state when there are none. A damaged file is an error: to forget it would hand out
    /// the addresses of running containers a second time.
    pub(crate) fn load(config: &NetworkConfig) -> Result<Self> {
        let identity_path = config.state_path.clone();
        let endpoints_path =
            config.endpoints_path.clone().unwrap_or_else(|| identity_path.with_extension("endpoints.json"));
        let saved: Option<Identity> = read(&identity_path, |identity: &Identity| identity.version)?;
        let identity = saved.clone().map_or_else(|| Identity::new(&config.bridge), Ok)?;
        let endpoints = read(&endpoints_path, |file: &EndpointsFile| file.version)?.unwrap_or_default().endpoints;
        Ok(Self { identity, saved, endpoints, identity_path, endpoints_path })
    }

    /// Replaces network.json, if it would change.
    pub(crate) fn save_identity(&mut self) -> Result<()> {
        if self.saved.as_ref() != Some(&self.identity) {
            replace(&self.identity_path, &self.identity, true)?;
            self.saved = Some(self.identity.clone());
        }
        Ok(())
    }

    /// Replaces endpoints.json.
    pub(crate) fn save_endpoints(&self) -> Result<()> {
        replace(&self.endpoints_path, &EndpointsOut { version: VERSION, endpoints: &self.endpoints }, false)
    }

    /// The bridge that the endpoints are plugged into.
    pub(crate) fn bridge_name(&self) -> &str {
        &self.identity.bridge_name
    }

    /// Its address; `None` before the first start has chosen one.
    pub(crate) fn bridge_address(&self) -> Option<Ipv4Cidr> {
        self.identity.bridge_address
    }

    /// Another bridge: what was plugged into the former one is lost.
    pub(crate) fn set_bridge_name(&mut self, name: &str) {
        name.clone_into(&mut self.identity.bridge_name);
        self.identity.bridge_address = None;
        self.endpoints.clear();
    }

    /// With another subnet nobody can be reached at the old addresses any more.
    pub(crate) fn set_bridge_address(&mut self, address: Ipv4Cidr) {
        if self.identity.bridge_address.is_some_and(|former| former.network() != address.network()) {
            self.endpoints.retain(|_, endpoint| endpoint.network != NetworkKind::Bridge);
        }
        self.identity.bridge_address = Some(address);
    }

    /// When the file was first made.
    pub(crate) fn created(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.identity.created_ns)
    }

    /// The network's id, the same for ever.
    pub(crate) fn id(&self, kind: NetworkKind) -> &str {
        self.identity.ids.get(&kind).map_or("", String::as_str)
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

impl Identity {
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
        })
    }
}

/// `None` when there is no such file, or a blank one (a power failure before its data reached the disk).
fn read<T: for<'de> Deserialize<'de>>(path: &Path, version: impl Fn(&T) -> u32) -> Result<Option<T>> {
    let error = |source| Error::State { path: path.to_owned(), source };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error(source)),
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let content: T = serde_json::from_slice(&bytes).map_err(|source| error(source.into()))?;
    match version(&content) {
        VERSION => Ok(Some(content)),
        other => Err(error(io::Error::other(format!("unknown version {other}")))),
    }
}

/// The rename never exposes a half-written file to another process.
fn replace(path: &Path, content: &impl Serialize, sync: bool) -> Result<()> {
    let write = || -> io::Result<()> {
        let temporary = path.with_extension("json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(content)?)?;
        if sync {
            file.sync_data()?;
        }
        fs::rename(&temporary, path)
    };
    write().map_err(|source| Error::State { path: path.to_owned(), source })
}

/// 64 random hexadecimal digits.
pub(crate) fn random_id() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|source| Error::Io { operation: "reading random bytes".into(), source: io::Error::other(source) })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
