//! Which command is legal in which state of a container: a pure table, and nothing else decides it.
//!
//! ```text
//!              start                    exit
//!   Created ──────────▶ Running ────────────────▶ Exited ──▶ (start) ──▶ Running
//!                        │   ▲  pause              │  ▲
//!                        ▼   │ unpause             │  │ the policy says no more
//!                       Paused                     ▼  │
//!                                              Restarting ── back-off over ──▶ Running
//!   Created, Exited, Dead ── remove ──▶ Removing ──▶ (gone), or Dead when the removal failed half-way
//!   Running, Paused, Restarting ── remove with force: killed first
//! ```

use crate::error::Error;
use serde::{Deserialize, Serialize};

/// Where a container is in its life; the names are those of the API's `State.Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, and never started (or the start failed).
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process ended and the restart policy will start it again.
    Restarting,
    /// Its process ended.
    Exited,
    /// Being removed.
    Removing,
    /// A removal failed half-way; only another removal is possible.
    Dead,
}

impl Status {
    /// As the API prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }

    /// Whether the API's `State.Running` is true: Docker counts paused and restarting containers as running.
    pub fn counts_as_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// Whether there is a process.
    pub fn has_process(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// All of them, for filters and tests.
    pub const ALL: [Self; 7] =
        [Self::Created, Self::Running, Self::Paused, Self::Restarting, Self::Exited, Self::Removing, Self::Dead];
}

/// What a caller may ask of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Run its process.
    Start,
    /// End it with grace.
    Stop,
    /// Send it a signal.
    Kill,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Unpause,
    /// Run another process in it.
    Exec,
    /// Change the size of its terminal.
    Resize,
    /// List its processes.
    Top,
    /// Give it another name.
    Rename,
    /// Change its limits or its restart policy.
    Update,
    /// Make an image of it.
    Commit,
    /// Remove it; with force, kill it first.
    Remove {
        /// `rm -f`.
        force: bool,
    },
}

impl Command {
    /// All of them, for tests.
    pub const ALL: [Self; 13] = [
        Self::Start,
        Self::Stop,
        Self::Kill,
        Self::Pause,
        Self::Unpause,
        Self::Exec,
        Self::Resize,
        Self::Top,
        Self::Rename,
        Self::Update,
        Self::Commit,
        Self::Remove { force: false },
        Self::Remove { force: true },
    ];
}

/// What the table says to a legal command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Do it.
    Proceed,
    /// Kill the process first, then do it.
    KillFirst,
    /// Only call off the pending restart; there is no process.
    CallOff,
}

/// Why the table says no: turned into Docker's text with the container's id and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Start of a running one, stop of a stopped one: 304.
    AlreadySo,
    /// `cannot start a paused container, try unpause instead`
    StartPaused,
    /// `container is marked for removal and cannot be …`
    MarkedForRemoval,
    /// `Container ID is not running`
    NotRunning,
    /// `Container ID is restarting, wait until the container is running`
    Restarting,
    /// `Container ID is already paused`
    AlreadyPaused,
    /// `Container ID is not paused`
    NotPaused,
    /// `Container NAME is paused, unpause the container before exec`
    ExecPaused,
    /// `cannot remove container "/NAME": container is STATE: stop the container before removing or force remove`
    RemoveRunning(Status),
    /// `removal of container NAME is already in progress`
    RemovalInProgress,
}

/// The table.
pub fn decide(status: Status, command: Command) -> Result<Verdict, Refusal> {
    use Command as C;
    use Status as S;
    use Verdict::{CallOff, KillFirst, Proceed};
    match (command, status) {
        (C::Start, S::Created | S::Exited | S::Restarting) => Ok(Proceed),
        (C::Start, S::Running) => Err(Refusal::AlreadySo),
        (C::Start, S::Paused) => Err(Refusal::StartPaused),
        (C::Start, S::Removing | S::Dead) => Err(Refusal::MarkedForRemoval),

        (C::Stop, S::Running | S::Paused) => Ok(Proceed),
        (C::Stop | C::Kill, S::Restarting) => Ok(CallOff),
        (C::Stop, _) => Err(Refusal::AlreadySo),

        (C::Kill, S::Running | S::Paused) => Ok(Proceed),
        (C::Kill | C::Resize | C::Top, S::Created | S::Exited | S::Removing | S::Dead) => Err(Refusal::NotRunning),
        (C::Resize | C::Top, S::Running | S::Paused) => Ok(Proceed),
        (C::Resize | C::Top | C::Exec | C::Pause, S::Restarting) => Err(Refusal::Restarting),

        (C::Pause, S::Running) => Ok(Proceed),
        (C::Pause, S::Paused) => Err(Refusal::AlreadyPaused),
        (C::Unpause, S::Paused) => Ok(Proceed),
        (C::Unpause, _) => Err(Refusal::NotPaused),

        (C::Exec, S::Running) => Ok(Proceed),
        (C::Exec, S::Paused) => Err(Refusal::ExecPaused),
        (C::Exec | C::Pause, S::Created | S::Exited | S::Removing | S::Dead) => Err(Refusal::NotRunning),

        (C::Rename | C::Update | C::Commit, S::Removing | S::Dead) => Err(Refusal::MarkedForRemoval),
        (C::Rename | C::Update | C::Commit, _) => Ok(Proceed),

        (C::Remove { .. }, S::Removing) => Err(Refusal::RemovalInProgress),
        (C::Remove { .. }, S::Created | S::Exited | S::Dead) => Ok(Proceed),
        (C::Remove { force: true }, S::Running | S::Paused) => Ok(KillFirst),
        (C::Remove { force: true }, S::Restarting) => Ok(CallOff),
        (C::Remove { force: false }, running) => Err(Refusal::RemoveRunning(running)),
    }
}

impl Refusal {
    /// Docker's error for this container and command (`name` without its slash). Its capitals are not regular; clients match on them.
    pub fn error(self, command: Command, id: &str, name: &str) -> Error {
        match self {
            Self::AlreadySo => Error::not_modified(""),
            Self::StartPaused => Error::conflict("cannot start a paused container, try unpause instead"),
            Self::MarkedForRemoval if command == Command::Start => {
                Error::conflict("container is marked for removal and cannot be started")
            }
            Self::MarkedForRemoval => {
                let verb = format!("{command:?}").to_lowercase();
                Error::conflict(format!("container {id} is marked for removal and cannot be \"{verb}\""))
            }
            Self::NotRunning => Error::conflict(format!("container {id} is not running")),
            Self::Restarting => {
                Error::conflict(format!("Container {id} is restarting, wait until the container is running"))
            }
            Self::AlreadyPaused => Error::conflict(format!("Container {id} is already paused")),
            // dockerd answers 500 here, not 409.
            Self::NotPaused => Error::system(format!("Container {id} is not paused")),
            Self::ExecPaused => {
                Error::conflict(format!("Container {name} is paused, unpause the container before exec"))
            }
            Self::RemoveRunning(status) => Error::conflict(remove_running_text(name, status)),
            Self::RemovalInProgress => Error::conflict(format!("removal of container {name} is already in progress")),
        }
    }
}

fn remove_running_text(name: &str, status: Status) -> String {
    let reason = match status {
        Status::Paused => "container is paused and must be unpaused first".to_owned(),
        _ => format!("container is {}: stop the container before removing or force remove", status.as_str()),
    };
    format!("cannot remove container \"/{name}\": {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn every_pair_is_decided_and_every_refusal_has_a_text() {
        for status in Status::ALL {
            for command in Command::ALL {
                if let Err(refusal) = decide(status, command) {
                    let error = refusal.error(command, "0123", "web");
                    assert!(matches!(error.kind(), Kind::Conflict | Kind::NotModified | Kind::System));
                    assert_eq!(error.message().is_empty(), refusal == Refusal::AlreadySo);
                }
            }
        }
    }

    #[test]
    fn only_a_container_with_a_process_gets_signals_or_sizes() {
        for status in Status::ALL {
            for command in [Command::Kill, Command::Resize, Command::Top, Command::Stop] {
                let proceeds = decide(status, command) == Ok(Verdict::Proceed);
                assert_eq!(proceeds, status.has_process(), "{status:?} {command:?}");
            }
            // A removal kills exactly where there is something to kill, and only with force.
            let kills = decide(status, Command::Remove { force: true }) == Ok(Verdict::KillFirst);
            assert_eq!(kills, status.has_process());
            assert_ne!(decide(status, Command::Remove { force: false }), Ok(Verdict::KillFirst));
        }
    }

    #[test]
    fn texts_are_dockers() {
        let text =
            |status, command| decide(status, command).unwrap_err().error(command, "ID", "web").message().to_owned();
        assert_eq!(
            text(Status::Running, Command::Remove { force: false }),
            "cannot remove container \"/web\": container is running: stop the container before removing or force remove"
        );
        assert_eq!(text(Status::Exited, Command::Kill), "container ID is not running");
        assert_eq!(text(Status::Running, Command::Unpause), "Container ID is not paused");
        assert_eq!(text(Status::Created, Command::Exec), "container ID is not running");
    }
}
