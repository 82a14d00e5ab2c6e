//! Running a container's process.
//!
//! ```text
//! look up, write bundle ─▶ spawn shim ─▶ create (namespaces, mounts) ─▶ network into the namespace ─▶ subscribe ─▶ start
//! ```
//! All of it is one piece of work on one blocking thread. On an error everything is taken back, in the other direction.

use std::os::unix::net::UnixStream as StdStream;
use std::process::Child;
use std::sync::Arc;

use jiff::Timestamp;
use network::{AttachRequest, EndpointId, NetworkKind, Sandbox};
use shim::client::{self, Client, Spawned};
use shim::protocol::{FailureKind, Request as ShimRequest};

use super::actor::{Actor, Request};
use super::monitor::{self, Events, Monitor};
use super::prepare::{self, Prepared};
use super::record::{Directories, MountKind, Record};
use super::transitions::Status;
use crate::engine::{Engine, random_id};
use crate::error::{Error, Kind, Result};
use crate::networking::{self, Joined};
use crate::proxy::PortProxy;

/// A process that runs, and what the actor has to hold for it.
struct Launched {
    pid: u32,
    pid_start_time: u64,
    child: Child,
    events: StdStream,
    joined: Joined,
    started_at: Timestamp,
}

/// A failed start, with the exit code that Docker records for it.
struct Failed {
    error: Error,
    exit_code: i32,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, exit_code: 128 }
    }
}

impl Engine {
    /// Starts the process of a container; `NotModified` when it runs.
    pub async fn container_start(&self, id: &str) -> Result<()> {
        self.containers.get(id)?.ask(|reply| Request::Start { by_restart: false, reply }).await
    }
}

impl Actor {
    /// Starts the process; the table has said yes. Records a failure as Docker does.
    pub(super) async fn start(&mut self) -> Result<()> {
        let engine = self.engine()?;
        // Until its process is known: from then on others look at the root through that.
        let _root = self.handle.take_root().await;
        if let Some(other) = self.record.host_config.network_mode.strip_prefix("container:")
            && let Ok(other) = engine.containers.get(other)
        {
            // One network, one name.
            let other = other.record();
            self.record.config.hostname.clone_from(&other.config.hostname);
            self.record.config.domainname.clone_from(&other.config.domainname);
        }
        let record = Arc::new(self.record.clone());
        let directories = self.handle.directories().clone();
        let worker = engine.clone();
        let work = tokio::task::spawn_blocking(move || launch(&worker, &record, &directories));
        let launched = work.await.map_err(|e| Error::system(format!("starting: {e}")))?;
        match launched {
            Ok(launched) => self.started(&engine, launched).await,
            Err(failed) => {
                let state = &mut self.record.state;
                state.exit_code = failed.exit_code;
                failed.error.message().clone_into(&mut state.error);
                if state.status == Status::Restarting {
                    state.status = Status::Exited;
                }
                self.commit().await?;
                Err(failed.error)
            }
        }
    }

    async fn started(&mut self, engine: &Arc<Engine>, launched: Launched) -> Result<()> {
        self.shim = Some(launched.child);
        self.monitor = Some(Monitor::new(self.handle.directories()));
        self.events =
            Some(Events::new(launched.events).map_err(|e| Error::caused(Kind::System, "listening to the shim", e))?);
        let record = &mut self.record;
        networking::leave(record);
        record.network.sandbox_id = random_id();
        record.network.sandbox_key = match record.host_config.network_mode.as_str() {
            "host" => "/proc/1/ns/net".to_owned(),
            _ => format!("/proc/{}/ns/net", launched.pid),
        };
        if let Some(endpoint) = launched.joined.endpoint() {
            networking::enter(record, endpoint);
        }
        if let Joined::Bridge(attachment) = launched.joined {
            self.ports = PortProxy::start(attachment.reserved)
                .map_err(|e| Error::caused(Kind::System, "serving published ports", e))?;
        }
        let state = &mut record.state;
        state.status = Status::Running;
        state.pid = launched.pid;
        state.pid_start_time = launched.pid_start_time;
        state.exit_code = 0;
        state.error.clear();
        state.oom_killed = false;
        state.started_at = Some(launched.started_at);
        record.started_before = true;
        self.begin_health();
        let saved = self.commit().await;
        self.announce(engine);
        self.watch_health();
        saved
    }

    fn announce(&self, engine: &Engine) {
        let record = &self.record;
        if let Some(settings) = record.network.endpoints.values().next() {
            engine.network_event("connect", &record.host_config.network_mode, &settings.network_id, &record.id);
        }
        for mount in record.mounts.iter().filter(|m| m.kind == MountKind::Volume) {
            let rw = if mount.rw { "true" } else { "false" };
            let attributes = [
                ("container", record.id.as_str()),
                ("destination", &mount.destination),
                ("propagation", ""),
                ("read/write", rw),
            ];
            engine.volume_event("mount", &mount.name, &attributes);
        }
        self.event("start", &[]);
    }

    /// Gives back what a process used, after its end: network, ports, run directory.
    pub(super) async fn release(&mut self) {
        let Ok(engine) = self.engine() else { return };
        if let Some(mut shim) = self.shim.take() {
            // It ends after its last event; nobody has to wait for that.
            tokio::task::spawn_blocking(move || shim.wait());
        }
        std::mem::take(&mut self.ports).stop().await;
        let endpoint = std::mem::take(&mut self.record.network.endpoint_id);
        let mode = self.record.host_config.network_mode.clone();
        let network_id = self.record.network.endpoints.values().next().map(|e| e.network_id.clone());
        let directories = self.handle.directories().clone();
        let network = engine.network.clone();
        let id = self.record.id.clone();
        let released = tokio::task::spawn_blocking(move || {
            if !endpoint.is_empty()
                && let Err(error) = network.detach(&EndpointId(endpoint))
            {
                tracing::warn!(container = id, %error, "detaching from the network");
            }
            discard(&directories);
        });
        let _ = released.await;
        networking::leave(&mut self.record);
        if let Some(network_id) = network_id {
            engine.network_event("disconnect", &mode, &network_id, &self.record.id);
        }
        for mount in self.record.mounts.iter().filter(|m| m.kind == MountKind::Volume) {
            engine.volume_event("unmount", &mount.name, &[("container", &self.record.id)]);
        }
    }
}

/// Removes the run directory with everything in it. It is out of the way at once; deleting its files, for which some
/// file systems wait for the disk, is left to another thread. What a killed engine leaves is deleted by the next one.
pub(crate) fn discard(directories: &Directories) {
    prepare::release_shared_memory(directories);
    let aside = directories.removing.join(random_id());
    match std::fs::rename(&directories.exec, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(path = %directories.exec.display(), %error, "removing a run directory");
            return;
        }
    }
    let delete = move || {
        if let Err(error) = std::fs::remove_dir_all(&aside) {
            tracing::warn!(path = %aside.display(), %error, "removing a run directory");
        }
    };
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(delete)),
        Err(_) => delete(),
    }
}

fn launch(engine: &Engine, record: &Record, directories: &Directories) -> Result<Launched, Failed> {
    discard(directories);
    let launched = prepare::prepare(engine, record, directories)
        .map_err(Failed::from)
        .and_then(|prepared| run(engine, record, directories, &prepared));
    if launched.is_err() {
        engine.waiting.give_up(&record.id);
        discard(directories);
    }
    launched
}

fn run(engine: &Engine, record: &Record, directories: &Directories, prepared: &Prepared) -> Result<Launched, Failed> {
    let spawned = client::spawn(&engine.config.program, &directories.exec, &prepared.config);
    let Spawned { mut client, mut process } = spawned.map_err(|e| create_failed(&e, directories))?;
    let mut joined = None;
    match steps(engine, record, directories, prepared, &mut client, &mut joined) {
        Ok((pid, events, started_at)) => Ok(Launched {
            pid: pid.unsigned_abs(),
            pid_start_time: start_time(pid).unwrap_or_default(),
            child: process,
            events,
            joined: joined.unwrap_or(Joined::Shared),
            started_at,
        }),
        Err(failed) => {
            let _ = client.run(&ShimRequest::Shutdown);
            drop(client);
            if let Some(endpoint) = joined.as_ref().and_then(Joined::endpoint) {
                let _ = engine.network.detach(&endpoint.id);
            }
            let _ = process.wait();
            Err(failed)
        }
    }
}

fn steps(
    engine: &Engine,
    record: &Record,
    directories: &Directories,
    prepared: &Prepared,
    client: &mut Client,
    joined: &mut Option<Joined>,
) -> Result<(i32, StdStream, Timestamp), Failed> {
    let (pid, warnings) = client.create().map_err(|e| create_failed(&e, directories))?;
    for warning in warnings {
        tracing::warn!(container = %record.id, warning, "a setting was not applied");
    }
    *joined = Some(join(engine, record, pid, prepared.network)?);
    if let (Some(kind), Some(endpoint)) = (prepared.network, joined.as_ref().and_then(Joined::endpoint))
        && endpoint.ip.is_some()
    {
        prepare::write_hosts(engine, record, directories, kind, endpoint.ip)?;
    }
    let events = monitor::subscribe(&directories.shim_socket())?;
    // Before the program runs, so that not a byte is missed.
    engine.waiting.connect(&record.id, &directories.shim_socket());
    let started_at = Timestamp::now();
    client.run(&ShimRequest::Start).map_err(|e| create_failed(&e, directories))?;
    Ok((pid, events, started_at))
}

fn join(engine: &Engine, record: &Record, pid: i32, kind: Option<NetworkKind>) -> Result<Joined> {
    let name = format!("{} ({})", record.name, record.id);
    let failed = |e: network::Error| networking::error(&name, &e);
    let sandbox = Sandbox::Pid(pid.unsigned_abs());
    match kind {
        None => Ok(Joined::Shared),
        Some(NetworkKind::Bridge) => {
            let asked = record.network.endpoints.get("bridge");
            let mac = asked.map(|s| s.mac_address.as_str()).filter(|m| !m.is_empty());
            let request = AttachRequest {
                container_id: record.id.clone(),
                sandbox,
                ip: None,
                mac: mac.and_then(|text| text.parse().ok()),
                ports: networking::port_bindings(record)?,
            };
            Ok(Joined::Bridge(engine.network.attach(&request).map_err(failed)?))
        }
        Some(kind) => {
            let sandbox = (kind == NetworkKind::None).then_some(&sandbox);
            Ok(Joined::Plain(engine.network.join(kind, &record.id, sandbox).map_err(failed)?))
        }
    }
}

/// Docker's wrapping of what the runtime said, and the exit code that it means.
fn create_failed(error: &client::Error, directories: &Directories) -> Failed {
    let inner = match error {
        client::Error::Refused(_) => format!("runc create failed: {error}"),
        // It died: its last words say more than the broken connection.
        _ => match std::fs::read_to_string(directories.exec.join(shim::LOG)) {
            Ok(words) if !words.trim().is_empty() => format!("{error}: {}", words.trim()),
            _ => error.to_string(),
        },
    };
    let mut text = format!(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: {inner}: unknown"
    );
    let lower = text.to_lowercase();
    let (exit_code, kind) = if lower.contains("is a directory") && error.kind() == FailureKind::ProgramNotExecutable {
        text.push_str(": permission denied");
        (126, Kind::InvalidParameter)
    } else if error.kind() == FailureKind::ProgramNotExecutable || lower.contains("permission denied") {
        (126, Kind::InvalidParameter)
    } else if lower.contains("not a directory") {
        text.push_str(": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type");
        (127, Kind::InvalidParameter)
    } else if error.kind() == FailureKind::ProgramNotFound || lower.contains("no such file or directory") {
        (127, Kind::InvalidParameter)
    } else {
        (128, Kind::System)
    };
    Failed { error: Error::new(kind, text), exit_code }
}

/// When a process was started, in clock ticks since boot: field 22 of its stat.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also parentheses and blanks.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_start_time_is_known() {
        assert!(start_time(std::process::id() as i32).unwrap() > 0);
        assert_eq!(start_time(-1), None);
    }
}
