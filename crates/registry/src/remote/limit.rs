//! At most so many requests at once at one host, over all operations of an engine.
//!
//! A connection carries one request at a time, so this is also the number of connections. A request counts until its
//! answer was read to the end or dropped.
//!
//! ```text
//! receive:  one of the host's N places
//! send:     one of N - 1 places for those whose body is a stream, then one of the N
//! ```
//!
//! The body of an upload may be the answer to another request to the same host. If uploads could take all places, each
//! would wait for ever for the download that feeds it; so one place is always left to those that only receive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use reqwest::Url;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Hosts that are remembered before those that nobody uses are forgotten. Storage behind a registry may have many names.
const MAX_IDLE_HOSTS: usize = 64;

/// The places of all hosts.
#[derive(Debug)]
pub(crate) struct Connections {
    /// Of each host, at least 2.
    limit: usize,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    /// HTTP clients of the endpoints that are in use, by their settings: operations share the connections that are open.
    clients: Mutex<HashMap<String, Weak<reqwest::Client>>>,
}

#[derive(Debug)]
struct Host {
    all: Arc<Semaphore>,
    senders: Arc<Semaphore>,
}

/// A place at a host, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _host: Arc<Host>,
    _place: OwnedSemaphorePermit,
    _sender: Option<OwnedSemaphorePermit>,
}

impl Connections {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(2), hosts: Mutex::default(), clients: Mutex::default() }
    }

    /// The client that others use with these settings now.
    pub(super) fn client(&self, key: &str) -> Option<Arc<reqwest::Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(key).and_then(Weak::upgrade)
    }

    /// Lets others use this client. Returns theirs, if they were faster.
    pub(super) fn share(&self, key: String, client: reqwest::Client) -> Arc<reqwest::Client> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(theirs) = clients.get(&key).and_then(Weak::upgrade) {
            return theirs;
        }
        clients.retain(|_, client| client.strong_count() > 0);
        let client = Arc::new(client);
        clients.insert(key, Arc::downgrade(&client));
        client
    }

    /// A place for a request whose body, if it has one, is in memory.
    pub(crate) async fn receive(&self, url: &Url) -> Result<Place> {
        let host = self.host(url);
        let place = Arc::clone(&host.all).acquire_owned().await.map_err(|_| Error::Task)?;
        Ok(Place { _host: host, _place: place, _sender: None })
    }

    /// A place for a request whose body comes from elsewhere while it is sent.
    pub(crate) async fn send(&self, url: &Url) -> Result<Place> {
        let host = self.host(url);
        let sender = Arc::clone(&host.senders).acquire_owned().await.map_err(|_| Error::Task)?;
        let place = Arc::clone(&host.all).acquire_owned().await.map_err(|_| Error::Task)?;
        Ok(Place { _host: host, _place: place, _sender: Some(sender) })
    }

    fn host(&self, url: &Url) -> Arc<Host> {
        let name =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() > MAX_IDLE_HOSTS {
            hosts.retain(|_, host| Arc::strong_count(host) > 1);
        }
        let new =
            || Host { all: Arc::new(Semaphore::new(self.limit)), senders: Arc::new(Semaphore::new(self.limit - 1)) };
        Arc::clone(hosts.entry(name).or_insert_with(|| Arc::new(new())))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn senders_leave_one_place() {
        let connections = Connections::new(3);
        let url = Url::parse("http://a:1/x").unwrap();
        let senders = [connections.send(&url).await.unwrap(), connections.send(&url).await.unwrap()];
        assert!(connections.send(&url).now_or_never().is_none());
        let receiver = connections.receive(&url).await.unwrap();
        assert!(connections.receive(&url).now_or_never().is_none());
        assert!(connections.receive(&Url::parse("http://b:1/").unwrap()).now_or_never().is_some());
        drop(receiver);
        assert!(connections.receive(&url).now_or_never().is_some());
        drop(senders);
        assert!(connections.send(&url).now_or_never().is_some());
    }
}
