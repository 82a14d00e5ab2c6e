//! Removing all containers that do not run.

use std::collections::BTreeMap;

use api::Filters;
use api::container::PruneResponse;
use jiff::Timestamp;

use super::inspect::sizes;
use super::remove::RemoveOptions;
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Removes the containers that do not run and pass `label`, `label!` and `until`.
    pub async fn container_prune(&self, filters: &Filters) -> Result<PruneResponse> {
        filters.validate(&["label", "label!", "until"]).map_err(|e| Error::invalid(e.message))?;
        let until = until(filters)?;
        let mut response = PruneResponse::default();
        for container in self.containers.all() {
            let record = container.record();
            let labels = record.config.labels.clone().unwrap_or_default();
            let excluded = filters.contains("label!") && filters.labels("label!", &labels);
            let young = until.is_some_and(|until| record.created >= until);
            if record.state.status.counts_as_running() || excluded || young || !filters.labels("label", &labels) {
                continue;
            }
            let (store, id) = (self.store.clone(), record.id.clone());
            let (written, _) = self.blocking(move || Ok(sizes(&store, &id))).await?;
            match self.container_remove(&record.id, RemoveOptions::default()).await {
                Ok(()) => {
                    response.space_reclaimed += u64::try_from(written).unwrap_or(0);
                    response.containers_deleted.get_or_insert_default().push(record.id.clone());
                }
                Err(error) => tracing::warn!(container = record.id, %error, "pruning a container"),
            }
        }
        let reclaimed = BTreeMap::from([("reclaimed".to_owned(), response.space_reclaimed.to_string())]);
        self.events.emit("container", "prune", "", reclaimed);
        Ok(response)
    }
}

/// The filter `until`: a time, seconds, or a length of time before now (`24h`, `10m`).
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let mut values = filters.get("until");
    let Some(text) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::invalid("more than one until filter specified"));
    }
    if let Some(length) = go_duration(text) {
        return Ok(Timestamp::now().checked_sub(length).ok());
    }
    api::time::parse_query(text).map_err(Error::invalid)
}

/// `1h30m`, `45s`, `100ms` as Go reads it.
fn go_duration(text: &str) -> Option<std::time::Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    (!text.is_empty()).then(|| std::time::Duration::try_from_secs_f64(total).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_gos() {
        assert_eq!(go_duration("1h30m").unwrap().as_secs(), 5400);
        assert_eq!(go_duration("100ms").unwrap().as_millis(), 100);
        assert!(go_duration("5").is_none() && go_duration("").is_none() && go_duration("1x").is_none());
    }
}
