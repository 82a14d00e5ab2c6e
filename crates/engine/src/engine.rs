//! The engine itself: what it owns, how it starts and stops.
//!
//! ```text
//! start: open store ─▶ open volumes ─▶ open network ─▶ load records ─▶ adopt what runs ─▶ remove what nobody owns
//!        ─▶ give addresses back that nobody has ─▶ start what shall always run
//! stop:  nothing is stopped. Containers belong to their shims; the next engine adopts them.
//! ```

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use network::{Network, NetworkConfig};
use store::Store;
use tokio::sync::Notify;

use crate::config::EngineConfig;
use crate::container::Table;
use crate::container::record::Record;
use crate::error::{Error, Kind, Result};
use crate::events::Broker;
use crate::volume::Volumes;

/// One engine. Shared by reference; every operation is a method.
pub struct Engine {
    /// What it was started with.
    pub config: EngineConfig,
    /// Images, content and snapshots. Blocking: use it through [`Engine::blocking`].
    pub store: Store,
    /// The networks. Blocking as well.
    pub network: Network,
    /// Who is told what happens.
    pub events: Broker,
    /// The registries.
    pub registry: registry::Client,
    pub(crate) containers: Table,
    pub(crate) execs: crate::exec::Table,
    pub(crate) volumes: Volumes,
    /// Clients that attached before their container was started.
    pub(crate) waiting: crate::attach::Waiting,
    /// Told when the disk holds more than before: see [`crate::budget`].
    pub(crate) disk_grown: Arc<Notify>,
    /// Stable over restarts.
    pub(crate) id: String,
    /// Closed to end the thread that watches the firewall.
    firewall_watch: Mutex<Option<OwnedFd>>,
    me: Weak<Engine>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("id", &self.id)
            .field("data_root", &self.config.data_root)
            .finish_non_exhaustive()
    }
}

/// What the first, blocking half of a start gives.
struct Opened {
    store: Store,
    network: Network,
    volumes: Volumes,
    id: String,
}

impl Engine {
    /// Starts an engine on these roots. Fails when another one has them.
    pub async fn start(config: EngineConfig) -> Result<Arc<Self>> {
        let given = config.clone();
        let opened = tokio::task::spawn_blocking(move || open(&given));
        let opened = opened.await.map_err(|e| Error::system(format!("starting: {e}")))??;
        let registry = registry_client(&config);
        let engine = Arc::new_cyclic(|me| Self {
            config,
            store: opened.store,
            network: opened.network,
            events: Broker::default(),
            registry,
            containers: Table::default(),
            execs: crate::exec::Table::default(),
            volumes: opened.volumes,
            waiting: crate::attach::Waiting::default(),
            disk_grown: Arc::default(),
            id: opened.id,
            firewall_watch: Mutex::default(),
            me: me.clone(),
        });
        crate::adopt::run(&engine).await?;
        engine.watch_firewall()?;
        crate::budget::watch(&engine, Arc::downgrade(&engine));
        Ok(engine)
    }

    /// Ends the engine's own work. Containers go on: their shims keep streams and logs, and the next engine adopts them.
    pub async fn shutdown(&self) {
        drop(self.firewall_watch.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (network, store) = (self.network.clone(), self.store.clone());
        let running = self.containers.all().iter().any(|c| c.record().state.status.has_process());
        let stopped = self.blocking(move || {
            if !running && let Err(error) = network.shutdown() {
                tracing::warn!(%error, "removing the network");
            }
            store.drain();
            Ok(store.sync()?)
        });
        if let Err(error) = stopped.await {
            tracing::warn!(%error, "shutting down");
        }
    }

    /// The handle that tasks keep.
    pub(crate) fn arc(&self) -> Arc<Self> {
        // Whoever has a reference got it from an `Arc`, so the upgrade cannot fail while it is used.
        self.me.upgrade().expect("an engine that is borrowed is alive")
    }

    /// Runs blocking work on a thread of its own, off the tokio workers.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| Error::system(format!("a blocking task ended early: {e}")))?
    }

    /// A container by id, name, or unique beginning of an id.
    pub fn container(&self, name: &str) -> Result<crate::container::Container> {
        self.containers.get(name)
    }

    /// All containers.
    pub fn all_containers(&self) -> Vec<crate::container::Container> {
        self.containers.all()
    }

    /// Says that something happened to a container: its labels, image and name are added.
    pub fn container_event(&self, record: &Record, action: &str, more: &[(&str, &str)]) {
        let mut attributes: BTreeMap<String, String> = record.config.labels.clone().unwrap_or_default();
        attributes.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        if !record.config.image.is_empty() {
            attributes.insert("image".to_owned(), record.config.image.clone());
        }
        attributes.insert("name".to_owned(), record.name.clone());
        self.events.emit("container", action, &record.id, attributes);
    }

    /// Other programs change the firewall too (dockerd sets the policy of FORWARD); our accept rules are put back.
    fn watch_firewall(&self) -> Result<()> {
        let (watched, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| Error::caused(Kind::System, "watching the firewall", e))?;
        let network = self.network.clone();
        std::thread::Builder::new()
            .name("firewall".to_owned())
            .stack_size(128 << 10)
            .spawn(move || {
                if let Err(error) = network.watch_firewall(std::os::fd::AsFd::as_fd(&watched)) {
                    tracing::warn!(%error, "watching the firewall");
                }
            })
            .map_err(|e| Error::caused(Kind::System, "watching the firewall", e))?;
        *self.firewall_watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(ours);
        Ok(())
    }
}

fn registry_client(config: &EngineConfig) -> registry::Client {
    registry::Client::new(registry::Options {
        insecure_registries: config.insecure_registries.clone(),
        mirrors: config.registry_mirrors.clone(),
        user_agent: format!("gantry/{}", config.version),
        max_downloads: config.max_concurrent_downloads,
        max_uploads: config.max_concurrent_uploads,
        max_connections: config.max_connections_per_host,
        ..registry::Options::default()
    })
}

fn open(config: &EngineConfig) -> Result<Opened> {
    use std::os::unix::fs::DirBuilderExt;
    let make = |path: PathBuf, mode: u32| {
        let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(&path);
        made.map_err(|e| Error::caused(Kind::System, format!("creating {}", path.display()), e))
    };
    make(config.data_root.clone(), 0o710)?;
    make(config.data_root.join("containers"), 0o710)?;
    make(config.exec_root.join("containers"), 0o711)?;
    make(config.exec_root.join("shims"), 0o700)?;
    make(config.exec_root.join("removing"), 0o700)?;
    // The store is the lock: a second engine on the same root fails here, before it can touch anything.
    let store = Store::open_with(&config.data_root, config.storage_driver).map_err(|e| match e {
        store::Error::Locked(_) => Error::unavailable(format!("failed to start: {e} (is an engine running already?)")),
        other => other.into(),
    })?;
    let volumes = Volumes::open(config.data_root.join("volumes"))?;
    let id = identity(config)?;
    let network = Network::open(network_config(config)?)
        .map_err(|e| Error::caused(Kind::System, "error initializing network controller", e))?;
    Ok(Opened { store, network, volumes, id })
}

fn network_config(config: &EngineConfig) -> Result<NetworkConfig> {
    use std::os::unix::ffi::OsStrExt;
    // Names the firewall's table and marks the bridge: the same for ever, whatever compiler built this engine.
    let instance = oci::Digest::of(config.data_root.as_os_str().as_bytes()).hex()[..12].to_owned();
    let mut network = NetworkConfig::new(instance, &config.bridge_name, config.data_root.join("network.json"));
    network.endpoints_path = Some(config.exec_root.join("endpoints.json"));
    let cidr = |text: &Option<String>| {
        text.as_ref().map(|text| text.parse().map_err(|e: network::Error| Error::invalid(e.to_string()))).transpose()
    };
    network.bip = cidr(&config.bip)?;
    network.fixed_cidr = cidr(&config.fixed_cidr)?;
    network.default_gateway = config.default_gateway;
    network.default_host_ip = config.default_host_ip;
    network.inter_container = config.inter_container;
    network.masquerade = config.masquerade;
    network.ip_forward = config.ip_forward;
    if let Some(mtu) = config.mtu {
        network.mtu = mtu;
    }
    Ok(network)
}

/// The engine's id: made at the first start, the same ever after.
fn identity(config: &EngineConfig) -> Result<String> {
    let path = config.data_root.join("engine-id");
    let failed = |e| Error::caused(Kind::System, format!("opening {}", path.display()), e);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let hex = random_id();
    let id = format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
    std::fs::write(&path, &id).map_err(failed)?;
    Ok(id)
}

/// 64 random hexadecimal digits that do not look like a number when cut to twelve (a host name must not).
pub(crate) fn random_id() -> String {
    loop {
        let id = hex::encode(random_bytes::<32>());
        if !id[..12].bytes().all(|b| b.is_ascii_digit()) {
            return id;
        }
    }
}

pub(crate) fn random_u64() -> u64 {
    u64::from_le_bytes(random_bytes())
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // getrandom(2) fails only on kernels that do not have it; nothing here could run on those.
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
