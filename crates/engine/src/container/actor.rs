//! The actor of one container: takes requests one at a time, hears of the end of its process, and writes the record.
//!
//! Long waits never happen here: a stop, for instance, is a signal now and, on the caller's own task, a look at the published
//! records until the process has ended. What takes system calls goes to a blocking thread while the mailbox fills up (it is
//! bounded).

use std::sync::{Arc, Weak};
use std::time::Duration;

use api::container::{HealthcheckResult, UpdateConfig, UpdateResponse};
use jiff::Timestamp;
use network::ReservedPort;
use shim::protocol::{Event, Exit};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::monitor::{self, Events, Monitor};
use super::record::{Directories, Record};
use super::transitions::{Command, Status, Verdict, decide};
use super::{Container, Ends};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::proxy::PortProxy;
use crate::restart::{BackOff, Decision};

type Reply<T> = oneshot::Sender<Result<T>>;

/// What an actor can be asked.
#[derive(Debug)]
pub(crate) enum Request {
    Start {
        by_restart: bool,
        reply: Reply<()>,
    },
    Signal {
        number: i32,
        by_user: bool,
        reply: Reply<Verdict>,
    },
    Pause {
        reply: Reply<()>,
    },
    Unpause {
        reply: Reply<()>,
    },
    Resize {
        height: u16,
        width: u16,
        reply: Reply<()>,
    },
    Rename {
        name: String,
        reply: Reply<()>,
    },
    Update {
        change: Box<UpdateConfig>,
        reply: Reply<UpdateResponse>,
    },
    Remove {
        volumes: bool,
        force: bool,
        reply: Reply<()>,
    },
    /// The shim's connection, for an exec; checks that one is legal now.
    Monitor {
        command: Command,
        reply: Reply<Monitor>,
    },
    /// Result of a health check of the process that started then.
    Probed {
        started: Timestamp,
        result: HealthcheckResult,
    },
}

/// One container's owner.
pub(crate) struct Actor {
    pub(crate) engine: Weak<Engine>,
    pub(crate) handle: Container,
    pub(crate) record: Record,
    mailbox: mpsc::Receiver<Request>,
    publish: watch::Sender<Arc<Record>>,
    pub(super) monitor: Option<Monitor>,
    pub(super) events: Option<Events>,
    /// The shim, when this engine started it: a child that has to be reaped.
    pub(super) shim: Option<std::process::Child>,
    /// Bound host ports, and the tasks that serve them, for as long as the process runs.
    pub(super) ports: PortProxy,
    pub(super) back_off: BackOff,
    restart_at: Option<Instant>,
    pub(crate) health: Option<tokio::task::JoinHandle<()>>,
    /// The container is gone; the loop ends.
    pub(super) removed: bool,
}

/// What an adopted container brings along.
#[derive(Default)]
pub(crate) struct Adopted {
    pub(crate) connection: Option<(Monitor, Events)>,
    pub(crate) reserved: Vec<ReservedPort>,
    /// The process ended while no engine was there.
    pub(crate) ended: Option<Exit>,
}

impl Actor {
    /// Starts the task of a container and enters it into the engine's table.
    pub(crate) fn spawn(engine: &Arc<Engine>, record: Record, adopted: Adopted) -> Container {
        let directories = Directories::new(&engine.config.data_root, &engine.config.exec_root, &record.id);
        let (handle, Ends { mailbox, publish }) = Container::new(record.clone(), directories);
        let (monitor, events) = adopted.connection.unzip();
        let actor = Self {
            engine: Arc::downgrade(engine),
            handle: handle.clone(),
            record,
            mailbox,
            publish,
            monitor,
            events,
            shim: None,
            ports: PortProxy::start(adopted.reserved).unwrap_or_default(),
            back_off: BackOff::default(),
            restart_at: None,
            health: None,
            removed: false,
        };
        engine.containers.insert(handle.clone());
        tokio::spawn(actor.run(adopted.ended));
        handle
    }

    async fn run(mut self, ended: Option<Exit>) {
        if let Some(exited) = ended {
            self.on_exit(exited).await;
        } else if self.record.state.status == Status::Running {
            self.watch_health();
        }
        while !self.removed {
            tokio::select! {
                biased;
                event = next_event(&mut self.events) => match event {
                    Some(event) => self.on_event(event).await,
                    None => self.on_lost().await,
                },
                () = at(self.restart_at) => self.on_restart_due().await,
                request = self.mailbox.recv() => match request {
                    Some(request) => self.on_request(request).await,
                    // The last handle is gone: the engine is.
                    None => break,
                },
            }
        }
        self.stop_health();
    }

    async fn on_request(&mut self, request: Request) {
        // Who asked may have hung up: an answer that nobody takes is no error.
        match request {
            Request::Start { by_restart, reply } => drop(reply.send(self.on_start(by_restart).await)),
            Request::Signal { number, by_user, reply } => drop(reply.send(self.on_signal(number, by_user).await)),
            Request::Pause { reply } => drop(reply.send(self.on_pause().await)),
            Request::Unpause { reply } => drop(reply.send(self.on_unpause().await)),
            Request::Resize { height, width, reply } => drop(reply.send(self.on_resize(height, width).await)),
            Request::Rename { name, reply } => drop(reply.send(self.on_rename(&name).await)),
            Request::Update { change, reply } => drop(reply.send(self.on_update(*change).await)),
            Request::Remove { volumes, force, reply } => drop(reply.send(self.on_remove(volumes, force).await)),
            Request::Monitor { command, reply } => {
                drop(reply.send(self.decide(command).and_then(|_| self.connected())));
            }
            Request::Probed { started, result } => self.on_probed(started, result).await,
        }
    }

    /// Asks the table, in this container's words.
    pub(super) fn decide(&self, command: Command) -> Result<Verdict> {
        decide(self.record.state.status, command)
            .map_err(|refusal| refusal.error(command, &self.record.id, &self.record.name))
    }

    pub(super) fn connected(&self) -> Result<Monitor> {
        self.monitor.clone().ok_or_else(|| Error::conflict(format!("container {} is not running", self.record.id)))
    }

    pub(super) fn engine(&self) -> Result<Arc<Engine>> {
        self.engine.upgrade().ok_or_else(|| Error::unavailable("the engine is shutting down"))
    }

    /// Writes the record, then shows it. The file is written first, so that nobody acts on what a crash would take back.
    pub(super) async fn commit(&mut self) -> Result<()> {
        let engine = self.engine()?;
        let record = Arc::new(self.record.clone());
        let (written, directory) = (record.clone(), self.handle.directories().data.clone());
        let saved = engine.blocking(move || written.save(&directory)).await;
        self.publish.send_replace(record);
        saved
    }

    /// Shows the record without writing it: for what is not worth a file (health checks).
    pub(crate) fn show(&self) {
        self.publish.send_replace(Arc::new(self.record.clone()));
    }

    pub(crate) fn event(&self, action: &str, more: &[(&str, &str)]) {
        if let Some(engine) = self.engine.upgrade() {
            engine.container_event(&self.record, action, more);
        }
    }

    async fn on_signal(&mut self, number: i32, by_user: bool) -> Result<Verdict> {
        let verdict = self.decide(Command::Kill)?;
        if by_user && !self.record.stopped_by_user {
            self.record.stopped_by_user = true;
            // Before the signal: a crash in between must not bring the container back.
            self.commit().await?;
        }
        if verdict == Verdict::CallOff {
            self.call_off().await?;
            return Ok(verdict);
        }
        let monitor = self.connected()?;
        monitor.signal(number).await?;
        if self.record.state.status == Status::Paused && (by_user || number == super::signal::KILL) {
            // What is meant to end a frozen process needs it thawed.
            monitor.resume().await?;
            self.record.state.status = Status::Running;
            self.commit().await?;
            self.event("unpause", &[]);
        }
        self.event("kill", &[("signal", &number.to_string())]);
        Ok(verdict)
    }

    /// Forgets a pending restart.
    pub(super) async fn call_off(&mut self) -> Result<()> {
        self.restart_at = None;
        self.record.state.status = Status::Exited;
        self.commit().await
    }

    async fn on_pause(&mut self) -> Result<()> {
        self.decide(Command::Pause)?;
        self.connected()?
            .pause()
            .await
            .map_err(|e| e.prefixed(format!("cannot pause container {}", self.record.id)))?;
        self.record.state.status = Status::Paused;
        self.stop_health();
        self.commit().await?;
        self.event("pause", &[]);
        Ok(())
    }

    async fn on_unpause(&mut self) -> Result<()> {
        self.decide(Command::Unpause)?;
        self.connected()?
            .resume()
            .await
            .map_err(|e| e.prefixed(format!("cannot resume container {}", self.record.id)))?;
        self.record.state.status = Status::Running;
        self.commit().await?;
        self.watch_health();
        self.event("unpause", &[]);
        Ok(())
    }

    async fn on_resize(&mut self, height: u16, width: u16) -> Result<()> {
        self.decide(Command::Resize)?;
        // Without a terminal there is nothing to do, and nothing wrong.
        if self.record.config.tty {
            self.connected()?.resize(None, height, width).await?;
        }
        self.event("resize", &[("height", &height.to_string()), ("width", &width.to_string())]);
        Ok(())
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Exited(Exit { exec: Some(id), code, .. }) => {
                if let Ok(engine) = self.engine() {
                    engine.exec_ended(&self.record, &id, code);
                }
            }
            Event::Exited(exit) => self.on_exit(exit).await,
            Event::Oom => {
                self.record.state.oom_killed = true;
                self.event("oom", &[]);
                let _ = self.commit().await;
            }
        }
    }

    /// The shim went away without a word: it was killed, and with it (it is the reaper) what we know of the process.
    async fn on_lost(&mut self) {
        self.events = None;
        self.monitor = None;
        if !self.record.state.status.has_process() {
            return;
        }
        let directories = self.handle.directories().clone();
        let ended = tokio::task::spawn_blocking(move || {
            monitor::exit_record(&directories).unwrap_or_else(|| monitor::end_orphan(&directories))
        });
        let exited = ended.await.unwrap_or_else(|_| monitor::unknown_end());
        self.on_exit(exited).await;
    }

    /// The process ended: give back what it used, tell everybody, and see what the restart policy says.
    pub(super) async fn on_exit(&mut self, exited: Exit) {
        self.stop_health();
        self.events = None;
        self.monitor = None;
        if let Ok(engine) = self.engine() {
            engine.execs.container_ended(&self.record.id);
        }
        let ran = self.record.state.started_at.map(|at| exited.at.duration_since(at));
        let ran = ran.and_then(|d| Duration::try_from(d).ok()).unwrap_or_default();
        let state = &mut self.record.state;
        state.pid = 0;
        state.pid_start_time = 0;
        state.exit_code = exited.code;
        state.oom_killed |= exited.oom;
        state.finished_at = Some(exited.at);
        state.exits += 1;
        let decision = self.back_off.decide(&self.record, ran);
        self.record.state.status = match decision {
            Decision::Restart(_) => Status::Restarting,
            Decision::Stay => Status::Exited,
        };
        self.release().await;
        let goes = decision == Decision::Stay && self.record.host_config.auto_remove;
        if goes {
            // Its file is removed in a moment; a crash until then finds it without a process and removes it as well.
            self.show();
        } else if let Err(error) = self.commit().await {
            tracing::error!(container = %self.record.id, %error, "recording the end of a process");
        }
        let seconds = ran.as_secs().to_string();
        self.event("die", &[("execDuration", &seconds), ("exitCode", &exited.code.to_string())]);
        match decision {
            Decision::Restart(delay) => self.restart_at = Some(Instant::now() + delay),
            Decision::Stay if goes => {
                if let Err(error) = self.remove(true).await {
                    tracing::error!(container = %self.record.id, %error, "removing a container after its end");
                }
            }
            Decision::Stay => {}
        }
    }

    async fn on_restart_due(&mut self) {
        self.restart_at = None;
        if self.record.state.status != Status::Restarting {
            return;
        }
        self.record.restart_count += 1;
        if let Err(error) = self.start().await {
            tracing::warn!(container = %self.record.id, %error, "restarting a container");
            // As dockerd: a start that fails ends the policy's efforts.
            self.record.state.status = Status::Exited;
            let _ = self.commit().await;
        }
    }

    async fn on_start(&mut self, by_restart: bool) -> Result<()> {
        self.decide(Command::Start)?;
        self.restart_at = None;
        self.record.stopped_by_user = false;
        self.record.restart_count = 0;
        self.back_off = BackOff::default();
        let started = self.start().await;
        if started.is_err() && self.record.host_config.auto_remove && !by_restart {
            let _ = self.remove(true).await;
        }
        started
    }

    async fn on_rename(&mut self, name: &str) -> Result<()> {
        self.decide(Command::Rename)?;
        let old = std::mem::replace(&mut self.record.name, name.to_owned());
        if let Err(error) = self.commit().await {
            self.record.name = old;
            self.show();
            return Err(error);
        }
        self.event("rename", &[("oldName", &format!("/{old}"))]);
        Ok(())
    }
}

async fn next_event(events: &mut Option<Events>) -> Option<Event> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
