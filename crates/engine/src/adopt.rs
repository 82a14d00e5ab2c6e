//! What an engine does with what an earlier one left: finish what was begun, adopt what runs, remove what nobody owns.
//!
//! An engine can be killed at any instruction. What it leaves, and what becomes of it:
//!
//! | left behind | then |
//! |---|---|
//! | a directory `.creating-<id>`, a snapshot without a record | a creation that was cut short: taken back |
//! | a directory `.removing-<id>`, a record `removing` | a removal that was cut short: finished |
//! | a shim with a container that was not started | a start that was cut short: shut down |
//! | a shim with a running container | adopted, whatever the record says |
//! | an exit record | the container ended meanwhile: its end is told now |
//! | a record with a process and neither of these | the shim was killed: what is left of the container is ended |
//! | a run directory without a record | ended and removed |

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use network::{Attachment, EndpointId};
use shim::protocol::{Exit, Request as ShimRequest};

use crate::container::Container;
use crate::container::actor::{Actor, Adopted, Request};
use crate::container::monitor::{self, Events, Monitor};
use crate::container::record::{Directories, Record};
use crate::container::start;
use crate::container::transitions::Status;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::networking;
use crate::restart;

/// A container as it was found.
struct Found {
    record: Record,
    directories: Directories,
    /// Subscribed connection to a living shim.
    connection: Option<std::os::unix::net::UnixStream>,
    ended: Option<Exit>,
}

/// Brings records and reality together, and starts the actors.
pub(crate) async fn run(engine: &Arc<Engine>) -> Result<()> {
    let worker = engine.clone();
    let (found, mut attachments) = engine.blocking(move || survey(&worker)).await?;
    let mut handles = Vec::new();
    for Found { record, directories, connection, ended } in found {
        engine.containers.reserve(&record.name, &record.id).unwrap_or_else(|owner| {
            tracing::error!(name = record.name, owner, id = record.id, "two containers have the same name");
        });
        let connection = match connection.map(Events::new) {
            Some(Ok(events)) => Some((Monitor::new(&directories), events)),
            Some(Err(error)) => return Err(Error::caused(Kind::System, "listening to a shim", error)),
            None => None,
        };
        let reserved = attachments.remove(&record.id).map(|a: Attachment| a.reserved).unwrap_or_default();
        let had_end = ended.is_some();
        let boot = !had_end && !record.state.status.has_process();
        let handle = Actor::spawn(engine, record, Adopted { connection, reserved, ended });
        if boot {
            handles.push(handle);
        }
    }
    for handle in handles {
        wake(engine, handle);
    }
    Ok(())
}

/// Starts what shall always run, and removes what shall not outlive its process.
fn wake(engine: &Arc<Engine>, container: Container) {
    let record = container.record();
    let engine = engine.clone();
    if record.state.status == Status::Restarting || restart::wanted_at_boot(&record) {
        tokio::spawn(async move {
            if let Err(error) = container.ask(|reply| Request::Start { by_restart: true, reply }).await {
                tracing::warn!(container = container.id(), %error, "starting a container with the engine");
            }
        });
    } else if record.host_config.auto_remove && record.started_before {
        tokio::spawn(async move {
            let options = crate::container::remove::RemoveOptions { volumes: true, force: true, link: false };
            if let Err(error) = engine.container_remove(container.id(), options).await {
                tracing::warn!(container = container.id(), %error, "removing a container that ended");
            }
        });
    }
}

/// The blocking part: everything but the actors.
fn survey(engine: &Engine) -> Result<(Vec<Found>, BTreeMap<String, Attachment>)> {
    let records = load(engine)?;
    let known: BTreeSet<&str> = records.iter().map(|r| r.id.as_str()).collect();
    for (snapshot, _) in engine.store.snapshots() {
        if !known.contains(snapshot.as_str())
            && let Err(error) = engine.store.snapshot_remove(&snapshot)
        {
            tracing::warn!(snapshot, %error, "removing a snapshot without container");
        }
    }
    remove_strangers(engine, &known);
    let found: Vec<Found> = records.into_iter().map(|record| examine(engine, record)).collect();
    let live: Vec<EndpointId> = found
        .iter()
        .filter(|f| f.connection.is_some() && !f.record.network.endpoint_id.is_empty())
        .map(|f| EndpointId(f.record.network.endpoint_id.clone()))
        .collect();
    let reconciled = engine.network.reconcile(&live);
    for problem in &reconciled.problems {
        tracing::warn!(%problem, "restoring the network");
    }
    let attachments = reconciled.adopted.into_iter().map(|a| (a.endpoint.container_id.clone(), a)).collect();
    Ok((found, attachments))
}

/// All records; what was half made or half removed goes.
fn load(engine: &Engine) -> Result<Vec<Record>> {
    let root = engine.config.data_root.join("containers");
    let entries =
        std::fs::read_dir(&root).map_err(|e| Error::caused(Kind::System, format!("reading {}", root.display()), e))?;
    let (mut records, mut cut_short) = (Vec::new(), Vec::new());
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            cut_short.push(path);
            continue;
        }
        match Record::load(&path) {
            Ok(Some(record)) if record.state.status == Status::Removing => {
                finish_removal(engine, &record);
            }
            Ok(Some(record)) => records.push(record),
            Ok(None) => remove(&path),
            // Kept for a human: it may hold the only trace of data.
            Err(error) => tracing::error!(path = %path.display(), %error, "a container's record cannot be read"),
        }
    }
    for path in cut_short {
        take_back(engine, &path, &records);
    }
    Ok(records)
}

/// A creation or removal that was cut short: its anonymous volumes go with it (a removal keeps them unless it was told otherwise).
fn take_back(engine: &Engine, path: &Path, records: &[Record]) {
    let keeps = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".removing-"))
        && !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".removing-volumes-"));
    if let (false, Ok(Some(record))) = (keeps, Record::load(path)) {
        let used = |name: &str| records.iter().any(|r| r.mounts.iter().any(|m| m.name == name));
        for mount in record.mounts.iter().filter(|m| m.anonymous && !used(&m.name)) {
            // It may not have been made yet, or be gone already.
            let _ = engine.volumes.delete(&mount.name);
        }
    }
    remove(path);
}

fn finish_removal(engine: &Engine, record: &Record) {
    let directories = Directories::new(&engine.config.data_root, &engine.config.exec_root, &record.id);
    let _ = engine.store.snapshot_remove(&record.id);
    start::discard(&directories);
    remove(&directories.data);
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "removing what a killed engine left");
    }
}

/// Run directories that belong to no record: their containers are ended.
fn remove_strangers(engine: &Engine, known: &BTreeSet<&str>) {
    let config = &engine.config;
    for entry in std::fs::read_dir(config.exec_root.join("removing")).into_iter().flatten().flatten() {
        remove(&entry.path());
    }
    for entry in std::fs::read_dir(config.exec_root.join("containers")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !known.contains(name.as_str()) {
            give_up(&Directories::new(&config.data_root, &config.exec_root, &name));
        }
    }
}

/// Ends the container of a run directory and removes the directory.
fn give_up(directories: &Directories) {
    let ended = monitor::adopt(directories).map(|(mut client, _)| client.run(&ShimRequest::Shutdown));
    if !matches!(ended, Some(Ok(()))) {
        monitor::end_orphan(directories);
    }
    start::discard(directories);
}

/// What became of one container.
fn examine(engine: &Engine, mut record: Record) -> Found {
    let directories = Directories::new(&engine.config.data_root, &engine.config.exec_root, &record.id);
    let had_process = record.state.status.has_process();
    let mut connection = None;
    let mut ended = None;
    // Subscribed before it is asked, so that an end in between is told.
    let subscribed = monitor::subscribe(&directories.shim_socket()).ok();
    match subscribed.and_then(|events| monitor::adopt(&directories).map(|found| (events, found))) {
        Some((events, (_, state))) if state.started && state.exit.is_none() => {
            record.state.status = if state.paused { Status::Paused } else { Status::Running };
            record.state.pid = state.pid.unwrap_or_default().unsigned_abs();
            record.state.pid_start_time = start::start_time(state.pid.unwrap_or_default()).unwrap_or_default();
            record.state.started_at.get_or_insert_with(jiff::Timestamp::now);
            record.started_before = true;
            connection = Some(events);
        }
        Some((_, (_, state))) if state.exit.is_some() => ended = state.exit,
        Some((_, (mut client, _))) => {
            let _ = client.run(&ShimRequest::Shutdown);
            start::discard(&directories);
        }
        None => {
            ended = monitor::exit_record(&directories);
            if ended.is_none() && had_process {
                ended = Some(monitor::end_orphan(&directories));
            } else if ended.is_none() && directories.exec.exists() {
                give_up(&directories);
            }
        }
    }
    if connection.is_none() && ended.is_none() && had_process {
        ended = Some(monitor::unknown_end());
    }
    if connection.is_some() && !had_process {
        // The start was cut short after the process ran; the network still knows what it had been given.
        let networks = engine.network.list();
        let mut endpoints = networks.iter().flat_map(|n| &n.endpoints);
        if let Some(endpoint) = endpoints.find(|e| e.container_id == record.id) {
            networking::enter(&mut record, endpoint);
        }
        if let Err(error) = record.save(&directories.data) {
            tracing::error!(container = record.id, %error, "saving the record of an adopted container");
        }
    }
    // An end that was recorded before the crash is not told twice.
    if !had_process && record.state.finished_at.is_some() && ended.as_ref().map(|e| e.at) == record.state.finished_at {
        ended = None;
        start::discard(&directories);
    }
    Found { record, directories, connection, ended }
}
