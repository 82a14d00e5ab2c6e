//! Containers: one actor task each, found through one index.
//!
//! ```text
//!   Engine::container_x(id) ──▶ Table::get ──▶ Container (handle) ──mailbox──▶ Actor ──▶ shim ──▶ process
//!                                                 │                             │
//!                                                 └── record() ◀── published ───┘ writes config.json first
//! ```
//! The actor alone changes the record. Readers (`inspect`, `list`, `wait`) never wait for it: they look at the record that it
//! published last.

pub(crate) mod actor;
pub(crate) mod capability;
pub(crate) mod create;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod log_options;
pub(crate) mod merge;
pub(crate) mod monitor;
pub(crate) mod mounts;
pub(crate) mod names;
pub(crate) mod prepare;
pub(crate) mod prune;
pub mod record;
pub(crate) mod remove;
pub(crate) mod root;
pub(crate) mod seccomp;
pub(crate) mod security;
pub(crate) mod signal;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod sysinfo;
pub(crate) mod top;
pub mod transitions;
pub(crate) mod update;
pub(crate) mod user;
pub(crate) mod validate;
pub(crate) mod wait;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, mpsc, oneshot, watch};

use crate::error::{Error, Result};
use actor::Request;
use record::{Directories, Record};

/// Requests that may wait for one container; more are refused rather than queued for ever.
const MAILBOX: usize = 64;

/// A handle on one container: cheap to clone, good for as long as the engine runs.
#[derive(Debug, Clone)]
pub struct Container(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    directories: Directories,
    mailbox: mpsc::Sender<Request>,
    published: watch::Receiver<Arc<Record>>,
    root: Arc<tokio::sync::RwLock<()>>,
}

/// The right to mount the root of a container that does not run: see [`Container::share_root`].
pub(crate) type RootShare = OwnedRwLockReadGuard<()>;

/// The two ends that an actor needs.
pub(crate) struct Ends {
    pub(crate) mailbox: mpsc::Receiver<Request>,
    pub(crate) publish: watch::Sender<Arc<Record>>,
}

impl Container {
    /// A handle and the ends for its actor.
    pub(crate) fn new(record: Record, directories: Directories) -> (Self, Ends) {
        let (mailbox, requests) = mpsc::channel(MAILBOX);
        let id = record.id.clone();
        let (publish, published) = watch::channel(Arc::new(record));
        (
            Self(Arc::new(Inner { id, directories, mailbox, published, root: Arc::default() })),
            Ends { mailbox: requests, publish },
        )
    }

    /// 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// What the actor published last.
    pub fn record(&self) -> Arc<Record> {
        self.0.published.borrow().clone()
    }

    /// Every record that comes; ends when the container is removed.
    pub fn watch(&self) -> watch::Receiver<Arc<Record>> {
        self.0.published.clone()
    }

    /// Where its files are.
    pub fn directories(&self) -> &Directories {
        &self.0.directories
    }

    /// Where its shim listens, while it runs.
    pub fn shim_socket(&self) -> PathBuf {
        self.0.directories.shim_socket()
    }

    /// The process's root as seen through /proc, while it runs.
    pub fn live_root(&self) -> Option<PathBuf> {
        let record = self.record();
        (record.state.pid != 0).then(|| format!("/proc/{}/root", record.state.pid).into())
    }

    /// Waits until no start is under way. As long as the result lives none begins, as in Docker: two mounts of one upper
    /// directory take each other's work directory away, and one of them can remove no file any more.
    pub(crate) async fn share_root(&self) -> RootShare {
        Arc::clone(&self.0.root).read_owned().await
    }

    /// Waits until nobody has the root of the container that does not run yet, and keeps it so.
    pub(crate) async fn take_root(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.0.root).write_owned().await
    }

    /// Tells the actor something that needs no answer.
    pub(crate) async fn tell(&self, request: Request) -> Result<()> {
        let gone = |_| Error::not_found(format!("No such container: {}", self.id()));
        self.0.mailbox.send(request).await.map_err(gone)
    }

    /// Asks the actor and waits for its answer. `make` gets the end that the answer is sent to.
    pub(crate) async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::not_found(format!("No such container: {}", self.id()));
        self.0.mailbox.send(make(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// All containers of an engine, by id and by name.
#[derive(Debug, Default)]
pub struct Table {
    index: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    by_id: BTreeMap<String, Container>,
    /// Name → id. A name is reserved before its container exists.
    names: HashMap<String, String>,
}

impl Table {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// By full id, name, or unique beginning of an id, in this order.
    pub fn get(&self, name: &str) -> Result<Container> {
        if name.is_empty() {
            return Err(Error::invalid("No container name or ID supplied"));
        }
        let index = self.read();
        let bare = name.strip_prefix('/').unwrap_or(name);
        let exact = index.by_id.get(name).or_else(|| index.by_id.get(index.names.get(bare)?));
        if let Some(container) = exact {
            return Ok(container.clone());
        }
        let mut candidates = index.by_id.range(name.to_owned()..).take_while(|(id, _)| id.starts_with(name));
        match (candidates.next(), candidates.next()) {
            (Some((_, only)), None) => Ok(only.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!("Multiple IDs found with provided prefix: {name}"))),
            _ => Err(Error::not_found(format!("No such container: {name}"))),
        }
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> Vec<Container> {
        self.read().by_id.values().cloned().collect()
    }

    /// Takes a name for an id, or says who has it.
    pub(crate) fn reserve(&self, name: &str, id: &str) -> Result<(), String> {
        let mut index = self.write();
        match index.names.get(name) {
            Some(owner) if owner != id => Err(owner.clone()),
            _ => {
                index.names.insert(name.to_owned(), id.to_owned());
                Ok(())
            }
        }
    }

    /// Gives a name back, if this id has it.
    pub(crate) fn release(&self, name: &str, id: &str) {
        let mut index = self.write();
        if index.names.get(name).is_some_and(|owner| owner == id) {
            index.names.remove(name);
        }
    }

    pub(crate) fn insert(&self, container: Container) {
        self.write().by_id.insert(container.id().to_owned(), container);
    }

    /// Forgets a container and every name it has.
    pub(crate) fn remove(&self, id: &str) {
        let mut index = self.write();
        index.by_id.remove(id);
        index.names.retain(|_, owner| owner != id);
    }
}

/// Docker's sentence for a name that is taken.
pub(crate) fn name_taken(name: &str, owner: &str) -> Error {
    Error::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
    ))
}
