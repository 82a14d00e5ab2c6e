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
    // `0` is a time.
    if let (true, Ok(nanoseconds)) = (text != "0", oci::go::parse_duration(text)) {
        return Ok(Timestamp::now().checked_sub(jiff::SignedDuration::from_nanos(nanoseconds)).ok());
    }
    match api::time::parse_local(text) {
        Some(time) => Ok(Some(time)),
        None => api::time::parse_query(text).map_err(Error::invalid),
    }
}
