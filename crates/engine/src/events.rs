//! What happened: a bounded memory of the last events, and a channel to those who listen.
//!
//! Nobody who emits ever waits: a listener that is slower than [`CHANNEL`] events loses the oldest and is told nothing, as with
//! dockerd.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use api::Filters;
use api::event::{Actor, Message};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::engine::Engine;
use crate::error::{Error, Result};

/// Events that `since` can look back on.
const MEMORY: usize = 256;
/// Events that a listener may be behind.
const CHANNEL: usize = 1024;

/// What `GET /events` asks for.
#[derive(Debug, Default)]
pub struct EventsOptions {
    /// From the memory, everything from then on.
    pub since: Option<Timestamp>,
    /// The stream ends then; in the past: only what is remembered.
    pub until: Option<Timestamp>,
    /// Which ones.
    pub filters: Filters,
}

/// The engine's events.
#[derive(Debug)]
pub struct Broker {
    past: Mutex<VecDeque<Message>>,
    sender: broadcast::Sender<Message>,
}

impl Default for Broker {
    fn default() -> Self {
        Self { past: Mutex::default(), sender: broadcast::channel(CHANNEL).0 }
    }
}

impl Broker {
    /// Says that `action` happened to a thing of this kind.
    pub fn emit(&self, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let now = Timestamp::now();
        // The old fields of API 1.21 exist for containers and images only.
        let old = matches!(kind, "container" | "image");
        let message = Message {
            status: if old { action.to_owned() } else { String::new() },
            id: if old { id.to_owned() } else { String::new() },
            from: if kind == "container" {
                attributes.get("image").cloned().unwrap_or_default()
            } else {
                String::new()
            },
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes },
            scope: "local".to_owned(),
            time: now.as_second(),
            time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
        };
        // Both under one lock, so that a new listener sees each event exactly once.
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() == MEMORY {
            past.pop_front();
        }
        past.push_back(message.clone());
        let _ = self.sender.send(message);
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    fn subscribe(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> (Vec<Message>, broadcast::Receiver<Message>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = |message: &&Message| {
            let at = i128::from(message.time_nano);
            since.is_some_and(|s| at >= s.as_nanosecond()) && until.is_none_or(|u| at <= u.as_nanosecond())
        };
        (past.iter().filter(remembered).cloned().collect(), self.sender.subscribe())
    }
}

impl Engine {
    /// The remembered events since a time and, unless the end is past, those to come.
    pub fn events(&self, options: EventsOptions) -> Result<impl Stream<Item = Message> + Send + 'static + use<>> {
        let EventsOptions { since, until, filters } = options;
        if let (Some(since), Some(until)) = (since, until)
            && until < since
        {
            return Err(Error::invalid(format!(
                "`since` time ({}) cannot be after `until` time ({})",
                since.as_second(),
                until.as_second()
            )));
        }
        let (past, receiver) = self.events.subscribe(since, until);
        let left = until.map(|until| {
            std::time::Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or(std::time::Duration::ZERO)
        });
        let deadline = left.map(|left| tokio::time::Instant::now() + left);
        let coming = stream::unfold(receiver, move |mut receiver| async move {
            loop {
                let next = receiver.recv();
                let received = match deadline {
                    Some(deadline) => tokio::time::timeout_at(deadline, next).await.ok()?,
                    None => next.await,
                };
                match received {
                    Ok(message) => return Some((message, receiver)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let wanted = move |message: &Message| std::future::ready(includes(&filters, message));
        Ok(stream::iter(past).chain(coming).filter(wanted).boxed())
    }
}

/// Whether the filters let an event through.
fn includes(filters: &Filters, message: &Message) -> bool {
    let attributes = &message.actor.attributes;
    let name = attributes.get("name").map_or("", String::as_str);
    let kinds = ["daemon", "container", "plugin", "volume", "network", "service", "node", "secret", "config"];
    // These name one thing by id or name (a part is enough), whatever kind the event is of: dockerd's rule.
    let named = |key: &&str| filters.prefix(key, &message.actor.id) || filters.prefix(key, name);
    filters.any("event", |wanted| {
        wanted == message.action
            || (matches!(wanted, "health_status" | "exec_create" | "exec_start") && message.action.starts_with(wanted))
    }) && filters.exact("type", &message.kind)
        && filters.exact("scope", &message.scope)
        && kinds.iter().all(named)
        && image(filters, message)
        && filters.labels("label", attributes)
}

fn image(filters: &Filters, message: &Message) -> bool {
    let attribute = if message.kind == "image" { "name" } else { "image" };
    let name = message.actor.attributes.get(attribute).map_or("", String::as_str);
    let stripped = |text: &str| text.rsplit_once(':').map_or(text, |(repo, _)| repo).to_owned();
    [message.actor.id.clone(), name.to_owned(), stripped(&message.actor.id), stripped(name)]
        .iter()
        .any(|candidate| filters.exact("image", candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, action: &str, image: &str) -> Message {
        let broker = Broker::default();
        let attributes = [("image", image), ("name", "web"), ("x", "y")];
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        broker.emit(kind, action, "0123", attributes);
        broker.subscribe(Some(Timestamp::UNIX_EPOCH), None).0.remove(0)
    }

    fn passes(filter: &str, message: &Message) -> bool {
        includes(&Filters::parse(filter).unwrap(), message)
    }

    #[test]
    fn filters_choose() {
        let start = message("container", "start", "busybox:latest");
        for yes in [
            "{}",
            r#"{"event":["start","die"]}"#,
            r#"{"container":["web"]}"#,
            r#"{"container":["01"]}"#,
            r#"{"image":["busybox"]}"#,
            r#"{"label":["x=y"],"type":["container"]}"#,
        ] {
            assert!(passes(yes, &start), "{yes}");
        }
        for no in
            [r#"{"event":["stop"]}"#, r#"{"container":["db"]}"#, r#"{"image":["debian"]}"#, r#"{"label":["x=z"]}"#]
        {
            assert!(!passes(no, &start), "{no}");
        }
        assert!(passes(r#"{"event":["exec_create"]}"#, &message("container", "exec_create: ls ", "b")));
    }

    #[test]
    fn the_memory_is_bounded() {
        let broker = Broker::default();
        for _ in 0..MEMORY + 10 {
            broker.emit("volume", "create", "v", BTreeMap::new());
        }
        assert_eq!(broker.subscribe(Some(Timestamp::UNIX_EPOCH), None).0.len(), MEMORY);
    }
}
