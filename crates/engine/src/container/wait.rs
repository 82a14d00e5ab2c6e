//! Waiting for a container to stop, to stop again, or to be gone.

use std::future::Future;
use std::sync::Arc;

use api::container::{WaitError, WaitResponse};
use tokio::sync::watch;

use super::record::Record;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run: returns at once for a stopped one.
    #[default]
    NotRunning,
    /// A process of it ends from now on.
    NextExit,
    /// It is removed.
    Removed,
}

impl std::str::FromStr for WaitCondition {
    type Err = Error;

    /// The API's words; empty is `not-running`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            _ => Err(Error::invalid(format!("invalid condition: {text:?}"))),
        }
    }
}

impl Engine {
    /// Begins to wait. When this returns the waiting has begun: no exit from then on is missed. The future gives the exit code.
    pub async fn container_wait(
        &self,
        id: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = Result<WaitResponse>> + Send + 'static + use<>> {
        let container = self.containers.get(id)?;
        let mut watch = container.watch();
        let begun = watch.borrow_and_update().clone();
        Ok(until(watch, begun, condition))
    }
}

async fn until(
    mut watch: watch::Receiver<Arc<Record>>,
    begun: Arc<Record>,
    condition: WaitCondition,
) -> Result<WaitResponse> {
    let mut last = begun.clone();
    loop {
        let done = match condition {
            WaitCondition::NotRunning => !last.state.status.counts_as_running(),
            WaitCondition::NextExit => last.state.exits > begun.state.exits,
            // Only the end of the actor tells.
            WaitCondition::Removed => false,
        };
        if done {
            break;
        }
        if watch.changed().await.is_err() {
            // Removed: its last record holds the exit code, whatever was waited for.
            last = watch.borrow().clone();
            break;
        }
        last = watch.borrow_and_update().clone();
    }
    // Who waits for the removal is told the code alone: the client has the error from its own start already.
    let told = Some(last.state.error.clone()).filter(|e| !e.is_empty() && condition != WaitCondition::Removed);
    let error = told.map(|message| WaitError { message });
    Ok(WaitResponse { error, status_code: i64::from(last.state.exit_code) })
}
