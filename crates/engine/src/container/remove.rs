//! Removing a container, and with it what belongs to it alone.
//!
//! Its directory is moved aside before anything goes, so that a crash is followed by the rest of the removal and never by a
//! container without files.

use std::sync::Arc;

use super::actor::{Actor, Request};
use super::record::MountKind;
use super::transitions::{Command, Status, Verdict};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Also its anonymous volumes.
    pub volumes: bool,
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove a link rather than a container; there are none.
    pub link: bool,
}

impl Engine {
    /// Removes a container.
    pub async fn container_remove(&self, id: &str, options: RemoveOptions) -> Result<()> {
        let container = self.containers.get(id)?;
        if options.link {
            return Err(Error::system("Conflict, cannot remove the default link name of the container"));
        }
        let RemoveOptions { volumes, force, .. } = options;
        let engine = self.arc();
        let work = tokio::spawn(async move {
            let remove = |force| {
                let container = container.clone();
                async move { container.ask(|reply| Request::Remove { volumes, force, reply }).await }
            };
            let verdict = super::transitions::decide(container.record().state.status, Command::Remove { force });
            if verdict == Ok(Verdict::KillFirst) {
                engine.kill_and_wait(&container, true).await.map_err(|e| e.prefixed("could not kill container"))?;
            }
            match remove(force).await {
                // With --rm its end was its removal.
                Err(error) if error.kind() == Kind::NotFound && force => Ok(()),
                other => other,
            }
        });
        work.await.map_err(|e| Error::system(format!("removing: {e}")))?
    }
}

impl Actor {
    pub(super) async fn on_remove(&mut self, volumes: bool, force: bool) -> Result<()> {
        match self.decide(Command::Remove { force })? {
            Verdict::Proceed => {}
            Verdict::CallOff => self.call_off().await?,
            // The caller kills before it asks; whoever started it again in between has to be told.
            Verdict::KillFirst => {
                return Err(Error::conflict(format!("container {} was started while it was removed", self.record.id)));
            }
        }
        self.remove(volumes).await
    }

    /// Removes everything; the loop ends after that. On an error the container is `dead` and can be removed again.
    pub(super) async fn remove(&mut self, volumes: bool) -> Result<()> {
        let engine = self.engine()?;
        self.record.state.status = Status::Removing;
        let record = Arc::new(self.record.clone());
        self.show();
        let directories = self.handle.directories().clone();
        let volumes = volumes && record.mounts.iter().any(|m| m.anonymous);
        let aside = if volumes { directories.ending_with_volumes() } else { directories.ending() };
        let (store, id, moved) = (engine.store.clone(), record.id.clone(), aside.clone());
        let removed = engine
            .blocking(move || {
                let failed = |e| Error::caused(Kind::System, format!("removing {}", directories.data.display()), e);
                // From here on it is gone.
                std::fs::rename(&directories.data, &moved).map_err(failed)?;
                match store.snapshot_remove(&id) {
                    Err(error) if error.kind() != store::ErrorKind::NotFound => {
                        std::fs::rename(&moved, &directories.data).map_err(failed)?;
                        return Err(error.into());
                    }
                    _ => {}
                }
                super::start::discard(&directories);
                // With volumes to remove, the directory still says which.
                if volumes { Ok(()) } else { std::fs::remove_dir_all(&moved).map_err(failed) }
            })
            .await;
        if let Err(error) = removed {
            self.record.state.status = Status::Dead;
            let _ = self.commit().await;
            return Err(error);
        }
        engine.execs.forget(&record.id);
        engine.containers.remove(&record.id);
        self.removed = true;
        if volumes {
            remove_volumes(&engine, &record).await;
            let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(aside)).await;
        }
        engine.container_event(&record, "destroy", &[]);
        Ok(())
    }
}

/// Anonymous volumes that nobody else has.
async fn remove_volumes(engine: &Engine, record: &super::record::Record) {
    let used = engine.volumes_in_use();
    for mount in record.mounts.iter().filter(|m| m.kind == MountKind::Volume && m.anonymous) {
        if !used.contains_key(&mount.name)
            && let Err(error) = engine.delete_volume(&mount.name).await
        {
            tracing::warn!(volume = mount.name, %error, "removing an anonymous volume");
        }
    }
}
