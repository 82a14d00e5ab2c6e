//! Ending a container's process: `stop`, `kill`, `restart`; and freezing it.

use std::time::Duration;

use super::Container;
use super::actor::Request;
use super::signal;
use super::transitions::{Command, Refusal, Verdict, decide};
use crate::engine::Engine;
use crate::error::{Kind, Result};

/// How to stop.
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// In place of the container's stop signal.
    pub signal: Option<String>,
    /// Seconds before SIGKILL, in place of the container's; negative waits for ever.
    pub timeout_s: Option<i64>,
}

/// How long the kernel may take to end a process after SIGKILL before `stop` gives up.
const AFTER_KILL: Duration = Duration::from_secs(10);

impl Engine {
    /// Ends the process with grace; `NotModified` when there is none.
    pub async fn container_stop(&self, id: &str, options: StopOptions) -> Result<()> {
        let container = self.containers.get(id)?;
        if let Err(Refusal::AlreadySo) = decide(container.record().state.status, Command::Stop) {
            return Err(Refusal::AlreadySo.error(Command::Stop, id, ""));
        }
        let record = container.record();
        let wrapped = |e: crate::Error| e.prefixed(format!("cannot stop container: {id}"));
        let number = match &options.signal {
            // dockerd lets this one escape as 500.
            Some(text) if !text.is_empty() => signal::parse(text).map_err(|e| wrapped(e).with_kind(Kind::System))?,
            _ => record.stop_signal(),
        };
        let engine = self.arc();
        let grace_s = options.timeout_s.unwrap_or_else(|| record.stop_timeout_s());
        // Goes on when the caller hangs up, as dockerd does.
        let stopping = tokio::spawn(async move { engine.stop(&container, number, grace_s).await });
        stopping.await.map_err(|e| crate::Error::system(format!("stopping: {e}")))?.map_err(wrapped)
    }

    /// The steps of a stop; also used by restart and remove. Emits `stop` at the end.
    pub(crate) async fn stop(&self, container: &Container, number: i32, grace_s: i64) -> Result<()> {
        let ended = ended(container);
        match self.signal(container, number, true).await {
            Ok(Verdict::CallOff) => return Ok(()),
            Ok(_) => {}
            // It ended by itself in between.
            Err(error) if error.kind() == Kind::Conflict => return Ok(()),
            Err(error) => return Err(error),
        }
        let in_time = match u64::try_from(grace_s) {
            Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), ended).await.is_ok(),
            Err(_) => {
                ended.await;
                true
            }
        };
        if !in_time {
            self.kill_and_wait(container, true).await?;
        }
        self.container_event(&container.record(), "stop", &[]);
        Ok(())
    }

    /// SIGKILL, and the end of the process.
    pub(crate) async fn kill_and_wait(&self, container: &Container, by_user: bool) -> Result<()> {
        let waiting = ended(container);
        match self.signal(container, signal::KILL, by_user).await {
            Ok(Verdict::CallOff) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == Kind::Conflict => return Ok(()),
            Err(error) => return Err(error),
        }
        tokio::time::timeout(AFTER_KILL, waiting).await.map_err(|_| {
            crate::Error::system(format!("container {} did not end within 10s of SIGKILL", container.id()))
        })
    }

    async fn signal(&self, container: &Container, number: i32, by_user: bool) -> Result<Verdict> {
        container.ask(|reply| Request::Signal { number, by_user, reply }).await
    }

    /// Sends a signal (SIGKILL without one). The caller says `cannot kill container: NAME` before an error's text.
    pub async fn container_kill(&self, id: &str, text: Option<&str>) -> Result<()> {
        let container = self.containers.get(id)?;
        let name = container.record().name.clone();
        let number = match text.filter(|t| !t.is_empty()) {
            Some(text) => signal::parse(text)?,
            None => signal::KILL,
        };
        if number == signal::KILL {
            if let Err(refusal) = decide(container.record().state.status, Command::Kill) {
                return Err(refusal.error(Command::Kill, container.id(), &name));
            }
            return self.kill_and_wait(&container, true).await;
        }
        // Only a signal that is meant to stop the container counts as the user's wish to have it stopped.
        let meant_to_stop = number == container.record().stop_signal();
        self.signal(&container, number, meant_to_stop).await.map(drop)
    }

    /// Stops the process if there is one, and starts it again.
    pub async fn container_restart(&self, id: &str, options: StopOptions) -> Result<()> {
        let container = self.containers.get(id)?;
        let wrapped = |e: crate::Error| e.prefixed(format!("Cannot restart container {id}"));
        let record = container.record();
        let number = match options.signal.as_deref().filter(|t| !t.is_empty()) {
            Some(text) => signal::parse(text).map_err(wrapped)?,
            None => record.stop_signal(),
        };
        let grace_s = options.timeout_s.unwrap_or_else(|| record.stop_timeout_s());
        let engine = self.arc();
        let work = tokio::spawn(async move {
            if container.record().state.status.counts_as_running() {
                engine.stop(&container, number, grace_s).await?;
            }
            match container.ask(|reply| Request::Start { by_restart: true, reply }).await {
                Err(error) if error.kind() == Kind::NotModified => {}
                started => started?,
            }
            engine.container_event(&container.record(), "restart", &[]);
            Ok(())
        });
        work.await.map_err(|e| crate::Error::system(format!("restarting: {e}")))?.map_err(wrapped)
    }

    /// Freezes all processes.
    pub async fn container_pause(&self, id: &str) -> Result<()> {
        self.containers.get(id)?.ask(|reply| Request::Pause { reply }).await
    }

    /// Thaws all processes.
    pub async fn container_unpause(&self, id: &str) -> Result<()> {
        self.containers.get(id)?.ask(|reply| Request::Unpause { reply }).await
    }

    /// Tells the terminal its size, in characters.
    pub async fn container_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        self.containers.get(id)?.ask(|reply| Request::Resize { height, width, reply }).await
    }
}

/// Ends when the process that runs now has ended, and its end is recorded.
fn ended(container: &Container) -> impl Future<Output = ()> + Send + 'static + use<> {
    let mut watch = container.watch();
    let exits = watch.borrow_and_update().state.exits;
    async move {
        // An error means that the container is gone, which is an end as well.
        let _ = watch.wait_for(|r| r.state.exits > exits || !r.state.status.counts_as_running()).await;
    }
}
