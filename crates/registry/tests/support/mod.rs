//! What the tests of this crate share: images to serve, a server that misbehaves on request, the reference registry.
// Each test binary uses another part of it.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod fake;
pub mod image;
pub mod proxy;
pub mod reference;

use registry::{Client, Credentials, Error, Options, Progress, Pulled, QUEUE};
use std::time::Duration;
use store::Store;
use tokio::sync::mpsc;

/// A client that does not wait as long as a user would.
pub fn client() -> Client {
    Client::new(options())
}

pub fn options() -> Options {
    Options {
        retry_delay: Duration::from_millis(1),
        stall_timeout: Duration::from_millis(300),
        header_timeout: Duration::from_millis(500),
        ..Options::default()
    }
}

/// A store in a directory that goes with it.
pub struct TestStore {
    pub store: Store,
    dir: tempfile::TempDir,
}

impl TestStore {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Store::open(dir.path()).unwrap(), dir }
    }

    /// The same, as another process finds it after this one.
    pub fn reopened(self) -> Self {
        let Self { store, dir } = self;
        drop(store);
        Self { store: Store::open(dir.path()).unwrap(), dir }
    }

    /// What is on the disk beside the database: must be nothing soon after a failed pull.
    pub fn leftovers(&self) -> Vec<String> {
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            let found = self.files();
            if found.is_empty() || std::time::Instant::now() > deadline {
                return found;
            }
            // A thread that unpacked for a transfer that was given up ends on its own; nobody tells when.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn files(&self) -> Vec<String> {
        self.store.drain();
        let mut found = Vec::new();
        for dir in ["blobs/sha256", "blobs/ingest", "layers", "layers/unpacking", "removing"] {
            for entry in std::fs::read_dir(self.store.root().join(dir)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if !(dir == "layers" && (name == "unpacking" || name == "empty")) {
                    found.push(format!("{dir}/{name}"));
                }
            }
        }
        found
    }
}

/// Collects what an operation tells, each event as one line.
pub fn lines(mut events: mpsc::Receiver<Progress>) -> tokio::task::JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut lines = Vec::new();
        while let Some(event) = events.recv().await {
            lines.push(match event {
                Progress::Message { id, text } if id.is_empty() => text,
                Progress::Message { id, text } => format!("{id}: {text}"),
                Progress::Layer { status, .. } if status.count().is_some() => continue,
                Progress::Layer { id, status } => format!("{id}: {}", status.text()),
                Progress::Pushed { tag, digest, size } => format!("{tag} {digest} {size}"),
            });
        }
        lines
    })
}

pub async fn pull_with(
    client: &Client,
    name: &str,
    store: &Store,
    credentials: &Credentials,
) -> (Result<Pulled, Error>, Vec<String>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let lines = lines(receiver);
    let reference = name.parse().unwrap();
    let pulled = client.pull(&reference, None, credentials, store, &sender).await;
    drop(sender);
    (pulled, lines.await.unwrap())
}

pub async fn pull(name: &str, store: &Store) -> (Result<Pulled, Error>, Vec<String>) {
    pull_with(&client(), name, store, &Credentials::Anonymous).await
}

/// An image that was made here, in layers that were never compressed, under a name.
pub fn make(store: &Store, made: &image::Image, name: &str) {
    let lease = store.lease();
    for layer in &made.layers {
        store.layer_import(&lease, None, layer.tar.as_slice()).unwrap();
    }
    let tags = vec![name.parse().unwrap()];
    let new = store::NewImage { config: made.config.clone(), tags, ..Default::default() };
    store.image_create(&lease, new).unwrap();
}

pub async fn push(name: &str, store: &Store) -> (Result<Vec<registry::Pushed>, Error>, Vec<String>) {
    push_with(&client(), name, store).await
}

pub async fn push_with(
    client: &Client,
    name: &str,
    store: &Store,
) -> (Result<Vec<registry::Pushed>, Error>, Vec<String>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let lines = lines(receiver);
    let pushed = client.push(&[name.parse().unwrap()], &Credentials::Anonymous, store, &sender).await;
    drop(sender);
    (pushed, lines.await.unwrap())
}
