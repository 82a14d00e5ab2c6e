//! Changing the limits and the restart policy of a container that exists.

use api::container::{HostConfig, UpdateConfig, UpdateResponse};

use super::actor::{Actor, Request};
use super::transitions::Command;
use super::{spec, validate};
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Renames a container.
    pub async fn container_rename(&self, id: &str, new: &str) -> Result<()> {
        if id.is_empty() || new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let container = self.containers.get(id)?;
        let old = container.record().name.clone();
        if new.trim_start_matches('/') == old {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        let wrapped = |e: Error| e.prefixed("Error when allocating new name");
        // dockerd shows the name with a slash here, however it was given.
        let slashed = if new.starts_with('/') { new.to_owned() } else { format!("/{new}") };
        let name = super::names::validate(&slashed).map_err(wrapped)?.to_owned();
        self.containers.reserve(&name, container.id()).map_err(|owner| wrapped(super::name_taken(&name, &owner)))?;
        let renamed = container.ask(|reply| Request::Rename { name: name.clone(), reply }).await;
        // Whichever of the two names it has not in the end is free again.
        self.containers.release(if renamed.is_ok() { &old } else { &name }, container.id());
        renamed
    }

    /// Changes limits and restart policy.
    pub async fn container_update(&self, id: &str, mut change: UpdateConfig) -> Result<UpdateResponse> {
        let container = self.containers.get(id)?;
        let mut warnings = validate::update(&mut change)?;
        let change = Box::new(change);
        let mut response = container.ask(|reply| Request::Update { change, reply }).await?;
        if let Some(more) = response.warnings.take() {
            warnings.extend(more);
        }
        response.warnings = Some(warnings).filter(|w| !w.is_empty());
        Ok(response)
    }
}

impl Actor {
    pub(super) async fn on_update(&mut self, change: UpdateConfig) -> Result<UpdateResponse> {
        let id = self.record.id.clone();
        let failed = |e: Error| e.prefixed(format!("Cannot update container {id}"));
        self.decide(Command::Update).map_err(failed)?;
        if self.record.host_config.auto_remove && !matches!(change.restart_policy.name.as_str(), "" | "no") {
            return Err(failed(Error::system(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            )));
        }
        let mut host = self.record.host_config.clone();
        apply(&mut host, &change).map_err(failed)?;
        if let Some(monitor) = &self.monitor {
            monitor.update(spec::update_resources(&host)?).await.map_err(failed)?;
        }
        self.record.host_config = host;
        self.commit().await?;
        self.event("update", &[]);
        Ok(UpdateResponse::default())
    }
}

/// Zero values leave the old ones.
fn apply(host: &mut HostConfig, change: &UpdateConfig) -> Result<()> {
    if change.nano_cpus > 0 && (host.cpu_period > 0 || host.cpu_quota > 0) {
        return Err(Error::conflict(
            "Conflicting options: CPU Period/Quota cannot be updated as NanoCPUs has already been set",
        ));
    }
    if (change.cpu_period > 0 || change.cpu_quota > 0) && host.nano_cpus > 0 {
        return Err(Error::conflict(
            "Conflicting options: CPU Period/Quota cannot be updated as NanoCPUs has already been set",
        ));
    }
    if change.memory != 0 {
        // Without a word about swap the old limit for both has to hold.
        if change.memory_swap == 0 && change.memory > host.memory_swap {
            return Err(Error::conflict(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            ));
        }
        host.memory = change.memory;
    }
    let set = |target: &mut i64, value: i64| {
        if value != 0 {
            *target = value;
        }
    };
    set(&mut host.memory_swap, change.memory_swap);
    set(&mut host.memory_reservation, change.memory_reservation);
    set(&mut host.nano_cpus, change.nano_cpus);
    set(&mut host.cpu_shares, change.cpu_shares);
    set(&mut host.cpu_period, change.cpu_period);
    set(&mut host.cpu_quota, change.cpu_quota);
    set(&mut host.cpu_realtime_period, change.cpu_realtime_period);
    set(&mut host.cpu_realtime_runtime, change.cpu_realtime_runtime);
    if !change.cpuset_cpus.is_empty() {
        host.cpuset_cpus.clone_from(&change.cpuset_cpus);
    }
    if !change.cpuset_mems.is_empty() {
        host.cpuset_mems.clone_from(&change.cpuset_mems);
    }
    if change.blkio_weight != 0 {
        host.blkio_weight = change.blkio_weight;
    }
    if change.pids_limit.is_some() {
        host.pids_limit = change.pids_limit;
    }
    if !change.restart_policy.name.is_empty() {
        host.restart_policy = change.restart_policy.clone();
    }
    Ok(())
}
