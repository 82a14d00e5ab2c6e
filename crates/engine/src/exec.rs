//! More processes in a running container.
//!
//! An exec is made first and started later, once. It belongs to its container and goes with it; one that ended is remembered for a
//! while so that its exit code can be asked for.

use std::collections::HashMap;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::exec::{CreateRequest, CreateResponse, InspectResponse, ProcessConfig, StartRequest};
use oci::spec::{Capabilities, ConsoleSize, Process, User as SpecUser};
use rustix::fs::OFlags;
use shim::protocol::{Attach, Exec as ShimExec, FailureKind};
use tokio::sync::watch;

use crate::attach::{AttachSession, DetachKeys};
use crate::container::Container;
use crate::container::actor::Request;
use crate::container::monitor::Monitor;
use crate::container::record::Record;
use crate::container::root::open_inside;
use crate::container::transitions::Command;
use crate::container::{capability, merge, user};
use crate::engine::{Engine, random_id};
use crate::error::{Error, Kind, Result};

/// How long a finished exec can be inspected.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Execs that a container may have at one time, finished ones included.
const MAX_EXECS: usize = 8192;
/// Exit code of an exec whose container ended under it.
const KILLED: i64 = 137;

/// One exec.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) id: String,
    pub(crate) container: String,
    request: CreateRequest,
    state: Mutex<State>,
    done: watch::Sender<Option<i64>>,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    started: bool,
    exit_code: Option<i64>,
    pid: i64,
    ended: Option<Instant>,
}

impl Exec {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn words(&self) -> &[String] {
        self.request.cmd.as_deref().unwrap_or_default()
    }

    /// `PROGRAM ARG ARG`: how events show it.
    fn line(&self) -> String {
        let (program, arguments) = self.words().split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
        format!("{program} {}", arguments.join(" "))
    }

    fn finish(&self, code: i64) {
        let mut state = self.state();
        if state.exit_code.is_some() {
            return;
        }
        state.running = false;
        state.exit_code = Some(code);
        state.ended = Some(Instant::now());
        drop(state);
        self.done.send_replace(Some(code));
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> i64 {
        let mut done = self.done.subscribe();
        // The sender lives as long as `self`.
        done.wait_for(Option::is_some).await.ok().and_then(|code| *code).unwrap_or(KILLED)
    }
}

/// All execs of an engine.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<HashMap<String, Arc<Exec>>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &str) -> Result<Arc<Exec>> {
        self.lock().get(id).cloned().ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    fn insert(&self, exec: Arc<Exec>) -> Result<()> {
        let mut table = self.lock();
        table.retain(|_, old| old.state().ended.is_none_or(|at| at.elapsed() < REMEMBERED));
        if table.values().filter(|e| e.container == exec.container).count() >= MAX_EXECS {
            return Err(Error::unavailable(format!("container {} has too many execs", exec.container)));
        }
        table.insert(exec.id.clone(), exec);
        Ok(())
    }

    /// Ids of the execs of a container that have not ended, sorted.
    pub(crate) fn of(&self, container: &str) -> Vec<String> {
        let table = self.lock();
        let open = table.values().filter(|e| e.container == container && e.state().exit_code.is_none());
        let mut ids: Vec<String> = open.map(|e| e.id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// The container's process ended, and with it all of these.
    pub(crate) fn container_ended(&self, container: &str) {
        let open: Vec<_> = self.lock().values().filter(|e| e.container == container).cloned().collect();
        for exec in open.iter().filter(|exec| exec.state().started) {
            exec.finish(KILLED);
        }
    }

    /// The container is gone.
    pub(crate) fn forget(&self, container: &str) {
        self.lock().retain(|_, exec| exec.container != container);
    }
}

impl Engine {
    /// Makes an exec in a running container.
    pub async fn exec_create(&self, container: &str, request: CreateRequest) -> Result<CreateResponse> {
        if request.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        let asked = container;
        let container = self.containers.get(container)?;
        DetachKeys::parse(&request.detach_keys)
            .map_err(|_| Error::system(format!("Invalid escape keys ({}) provided", request.detach_keys)))?;
        let record = container.record();
        crate::container::transitions::decide(record.state.status, Command::Exec)
            .map_err(|refusal| refusal.error(Command::Exec, &record.id, asked))?;
        Ok(CreateResponse { id: self.register_exec(&record, request)?.id.clone() })
    }

    pub(crate) fn register_exec(&self, record: &Record, request: CreateRequest) -> Result<Arc<Exec>> {
        let exec = Arc::new(Exec {
            id: random_id(),
            container: record.id.clone(),
            request,
            state: Mutex::default(),
            done: watch::Sender::new(None),
        });
        self.execs.insert(exec.clone())?;
        self.container_event(record, &format!("exec_create: {}", exec.line()), &[("execID", &exec.id)]);
        Ok(exec)
    }

    /// Starts an exec, once. `None` when it is detached. The session carries what the request of its creation asked for.
    ///
    /// dockerd has answered 101 before it starts the process, so it writes a failure into the stream (`TEXT\r\n`); the caller of
    /// this does the same when it has to.
    pub async fn exec_start(&self, id: &str, request: StartRequest) -> Result<Option<AttachSession>> {
        let exec = self.execs.get(id)?;
        let streams = if request.detach {
            Attach::default()
        } else {
            Attach {
                stdin: exec.request.attach_stdin,
                stdout: exec.request.attach_stdout,
                stderr: exec.request.attach_stderr,
            }
        };
        let size = request.console_size.or(exec.request.console_size);
        let (early, connection) = self.launch_exec(&exec, streams, size).await?;
        if request.detach {
            return Ok(None);
        }
        let session = AttachSession::from_connection(connection, early, exec.request.tty, streams.stdin)
            .map_err(|e| Error::caused(Kind::System, "connecting to the process", e))?;
        let keys = DetachKeys::parse(&exec.request.detach_keys)?;
        let (engine, record) = (self.arc(), self.containers.get(&exec.container)?.record());
        let told = move || engine.container_event(&record, "exec_detach", &[("execID", &exec.id)]);
        Ok(Some(session.detachable(keys, told)))
    }

    /// Runs the process and gives the connection with its streams.
    pub(crate) async fn launch_exec(
        &self,
        exec: &Arc<Exec>,
        streams: Attach,
        size: Option<[u64; 2]>,
    ) -> Result<(Vec<u8>, StdStream)> {
        let container = self.containers.get(&exec.container)?;
        let record = container.record();
        begin(exec)?;
        let monitor = match container.ask(|reply| Request::Monitor { command: Command::Exec, reply }).await {
            Ok(monitor) => monitor,
            Err(error) => {
                exec.state().started = false;
                return Err(error);
            }
        };
        self.container_event(&record, &format!("exec_start: {}", exec.line()), &[("execID", &exec.id)]);
        let (worker, held) = (exec.clone(), record.clone());
        let launched = self.blocking(move || launch(&worker, &held, &container, &monitor, streams, size)).await;
        if launched.is_err() {
            // The code was set by what went wrong; without one it is Docker's for a runtime that failed.
            exec.finish(126);
        }
        launched
    }

    /// Tells the terminal of an exec its size, in characters.
    pub async fn exec_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let exec = self.execs.get(id)?;
        let container = self.containers.get(&exec.container)?;
        let monitor = container.ask(|reply| Request::Monitor { command: Command::Exec, reply }).await?;
        if !exec.state().running {
            // dockerd waits ten seconds for the process before it says this.
            return Err(Error::system("timeout waiting for exec session ready"));
        }
        if !exec.request.tty {
            return Ok(());
        }
        monitor.resize(Some(exec.id.clone()), height, width).await
    }

    /// What is known of an exec.
    pub async fn exec_inspect(&self, id: &str) -> Result<InspectResponse> {
        let exec = self.execs.get(id)?;
        self.containers.get(&exec.container)?;
        let state = exec.state();
        let request = &exec.request;
        // Checked when the exec was made; empty for the default.
        let keys = DetachKeys::parse(&request.detach_keys)?;
        let (program, arguments) =
            exec.words().split_first().map_or((String::new(), Vec::new()), |(p, a)| (p.clone(), a.to_vec()));
        Ok(InspectResponse {
            id: exec.id.clone(),
            running: state.running,
            exit_code: state.exit_code,
            process_config: ProcessConfig {
                tty: request.tty,
                entrypoint: program,
                arguments,
                privileged: Some(request.privileged),
                user: request.user.clone(),
            },
            open_stdin: request.attach_stdin,
            open_stderr: request.attach_stderr,
            open_stdout: request.attach_stdout,
            can_remove: false,
            container_id: exec.container.clone(),
            detach_keys: keys.encoded(),
            pid: state.pid,
        })
    }

    /// The shim said that an exec ended.
    pub(crate) fn exec_ended(&self, record: &Record, id: &str, code: i32) {
        let Ok(exec) = self.execs.get(id) else { return };
        exec.finish(i64::from(code));
        self.container_event(record, "exec_die", &[("execID", id), ("exitCode", &code.to_string())]);
    }
}

fn begin(exec: &Exec) -> Result<()> {
    let mut state = exec.state();
    if state.exit_code.is_some() {
        return Err(Error::conflict(format!("Error: Exec command {} has already run", exec.id)));
    }
    if state.started {
        return Err(Error::conflict(format!("Error: Exec command {} is already running", exec.id)));
    }
    state.started = true;
    Ok(())
}

fn launch(
    exec: &Exec,
    record: &Record,
    container: &Container,
    monitor: &Monitor,
    streams: Attach,
    size: Option<[u64; 2]>,
) -> Result<(Vec<u8>, StdStream)> {
    let process = process(exec, record, container, size)?;
    let mut client = monitor.connect()?;
    // Set before the request: the end of a short process may be told before the answer is read.
    exec.state().running = true;
    let started = client.exec(ShimExec { id: exec.id.clone(), process, streams });
    match started {
        Ok((pid, warnings)) => {
            exec.state().pid = i64::from(pid);
            for warning in warnings {
                tracing::warn!(exec = exec.id, warning, "a setting was not applied");
            }
            Ok(client.into_stream())
        }
        Err(error) => {
            let code = match error.kind() {
                FailureKind::ProgramNotFound => 127,
                _ => 126,
            };
            exec.finish(code);
            let text = format!("OCI runtime exec failed: exec failed: {error}: unknown");
            let kind = match error.kind() {
                FailureKind::System => Kind::System,
                _ => Kind::InvalidParameter,
            };
            Err(Error::new(kind, text))
        }
    }
}

fn process(exec: &Exec, record: &Record, container: &Container, size: Option<[u64; 2]>) -> Result<Process> {
    let request = &exec.request;
    let mut env = merge::environment(&record.config, request.tty);
    merge::replace_or_append(&mut env, request.env.as_deref().unwrap_or_default());
    let cwd = [&request.working_dir, &record.config.working_dir].into_iter().find(|d| !d.is_empty());
    let user = if request.user.is_empty() { &record.config.user } else { &request.user };
    let [height, width] = size.unwrap_or_default();
    Ok(Process {
        terminal: request.tty,
        console_size: (request.tty && height > 0 && width > 0).then(|| ConsoleSize {
            height: height.min(u64::from(u16::MAX)) as u32,
            width: width.min(u64::from(u16::MAX)) as u32,
            ..ConsoleSize::default()
        }),
        user: resolve_user(user, record, container)?,
        args: exec.words().to_vec(),
        env,
        cwd: cwd.cloned().unwrap_or_else(|| "/".to_owned()),
        // None: those of the container's own process.
        capabilities: request.privileged.then(all_capabilities).transpose()?,
        no_new_privileges: record.security.no_new_privileges,
        ..Process::default()
    })
}

fn all_capabilities() -> Result<Capabilities> {
    let held = sys::capability::current().map_or(u64::MAX, |sets| sets.bounding.0);
    let set = capability::effective(&[], &[], true, |bit| held & (1 << bit) != 0)?;
    Ok(Capabilities { bounding: set.clone(), effective: set.clone(), permitted: set, ..Capabilities::default() })
}

/// From the live container's own files.
fn resolve_user(spec: &str, record: &Record, container: &Container) -> Result<SpecUser> {
    let not_running = || Error::conflict(format!("container {} is not running", record.id));
    let root = container.live_root().ok_or_else(not_running)?;
    let root = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|_| not_running())?;
    let read = |path: &str| -> String {
        use std::io::Read;
        let mut text = String::new();
        if let Ok(file) = open_inside(&root, path, OFlags::RDONLY | OFlags::NONBLOCK) {
            let _ = std::fs::File::from(file).take(8 << 20).read_to_string(&mut text);
        }
        text
    };
    let group = read("/etc/group");
    let found = user::resolve(spec, &read("/etc/passwd"), &group)?;
    let names = record.host_config.group_add.as_deref().unwrap_or_default();
    let mut groups = vec![found.gid];
    groups.extend(found.groups);
    groups.extend(user::additional_groups(names, &group)?);
    Ok(SpecUser { uid: found.uid, gid: found.gid, additional_gids: groups, ..SpecUser::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec() -> Exec {
        Exec {
            id: "e".into(),
            container: "c".into(),
            request: CreateRequest { cmd: Some(vec!["sh".into(), "-c".into(), "exit 3".into()]), ..Default::default() },
            state: Mutex::default(),
            done: watch::Sender::new(None),
        }
    }

    #[test]
    fn an_exec_starts_once_and_ends_once() {
        let exec = exec();
        assert_eq!(exec.line(), "sh -c exit 3");
        begin(&exec).unwrap();
        assert_eq!(begin(&exec).unwrap_err().message(), "Error: Exec command e is already running");
        exec.finish(3);
        exec.finish(4);
        assert_eq!(exec.state().exit_code, Some(3));
        assert_eq!(begin(&exec).unwrap_err().message(), "Error: Exec command e has already run");
    }

    #[test]
    fn the_table_forgets_with_the_container() {
        let table = Table::default();
        table.insert(Arc::new(exec())).unwrap();
        assert_eq!(table.of("c"), ["e"]);
        table.forget("c");
        assert_eq!(table.get("e").unwrap_err().message(), "No such exec instance: e");
    }
}
