//! The disk budget: when what the engine keeps grows above the high mark, what can be had again goes until it is below
//! the low mark.
//!
//! ```text
//! 0 ────────────────── low ─────────── high ──────── limit
//!                       ◄── make room ── ▲
//!                                        looked at after each pull, load, import and commit, and every five minutes
//! ```
//!
//! What counts is what `system df` shows: images, containers with their logs, and volumes. What goes, and in which order,
//! is the store's matter (`Store::make_room`); containers and volumes never go. A budget that cannot be kept is
//! said in the log, and breaks nothing.

use std::path::Path;
use std::sync::Weak;
use std::time::Duration;

use store::{Evicted, Removal};

use crate::engine::Engine;
use crate::error::Result;

/// How often the disk is looked at when nothing happens: containers write without telling.
const INTERVAL: Duration = Duration::from_secs(300);

/// How much the engine may keep on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskBudget {
    /// In bytes.
    pub limit: u64,
    /// Above this part of the limit, in percent, room is made.
    pub high_percent: u8,
    /// Until so much is left, in percent.
    pub low_percent: u8,
}

impl DiskBudget {
    /// How much has to go when so much is in use, in bytes; 0: nothing.
    #[must_use]
    pub fn excess(&self, used: u64) -> u64 {
        let part = |percent: u8| u64::try_from(u128::from(self.limit) * u128::from(percent) / 100).unwrap_or(u64::MAX);
        if used > part(self.high_percent) { used.saturating_sub(part(self.low_percent)) } else { 0 }
    }
}

/// Looks after the budget as long as the engine lives.
pub(crate) fn watch(engine: &Engine, me: Weak<Engine>) {
    let Some(budget) = engine.config.disk_budget else { return };
    let grown = engine.disk_grown.clone();
    tokio::spawn(async move {
        loop {
            {
                let Some(engine) = me.upgrade() else { return };
                if let Err(error) = engine.keep_budget(budget).await {
                    tracing::warn!(%error, "making room on the disk");
                }
            }
            // An early wake-up or a late one: both are right.
            let _ = tokio::time::timeout(INTERVAL, grown.notified()).await;
        }
    });
}

impl Engine {
    /// What the engine keeps on the disk, in bytes.
    pub(crate) fn disk_used(&self) -> Result<u64> {
        let data = self.config.data_root.as_path();
        let own = ["containers", "volumes"].map(|dir| store::disk_size(&data.join(dir)));
        Ok(self.store.disk_usage()?.total() + own.iter().sum::<u64>())
    }

    async fn keep_budget(&self, budget: DiskBudget) -> Result<()> {
        let engine = self.arc();
        let (used, evicted) = self
            .blocking(move || {
                let used = engine.disk_used()?;
                let excess = budget.excess(used);
                if excess == 0 {
                    return Ok((used, Vec::new()));
                }
                // Asked anew each time: containers are made meanwhile.
                let of = |id: &store::ImageId| engine.image_users().remove(id.as_str()).unwrap_or_default();
                let evicted = engine.store.make_room(excess, &of)?;
                engine.store.drain();
                Ok((engine.disk_used()?, evicted))
            })
            .await?;
        self.tell_evicted(&evicted);
        if budget.excess(used) > 0 {
            let limit = budget.limit;
            tracing::warn!(used, limit, "the disk budget is exceeded, and nothing more can be removed");
        }
        Ok(())
    }

    fn tell_evicted(&self, evicted: &[Evicted]) {
        for one in evicted {
            match one {
                Evicted::Partials(bytes) => tracing::info!(bytes, "disk budget: removed parts of broken transfers"),
                Evicted::Blob { digest, size } => {
                    tracing::info!(%digest, size, "disk budget: dropped a compressed layer");
                }
                Evicted::Image(id, removals) => {
                    tracing::info!(image = %id, "disk budget: removed an image");
                    for removal in removals {
                        let (action, image) = match removal {
                            Removal::Untagged { image, .. } => ("untag", image),
                            Removal::Deleted(image) => ("delete", image),
                            Removal::DeletedLayer(_) => continue,
                        };
                        let attributes = [("name".to_owned(), image.to_string())].into();
                        self.events.emit("image", action, image.as_str(), attributes);
                    }
                }
            }
        }
    }

    /// Says that the disk holds more than before.
    pub(crate) fn has_grown(&self) {
        self.disk_grown.notify_one();
    }
}

/// What a container's own files (record, log) take on the disk, in bytes.
pub(crate) fn container_files(data_root: &Path, id: &str) -> u64 {
    store::disk_size(&data_root.join("containers").join(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks() {
        let budget = DiskBudget { limit: 1000, high_percent: 90, low_percent: 70 };
        assert_eq!([0, 900, 901, 2000].map(|used| budget.excess(used)), [0, 0, 201, 1300]);
        let huge = DiskBudget { limit: u64::MAX, high_percent: 100, low_percent: 100 };
        assert_eq!(huge.excess(u64::MAX), 0);
    }
}
