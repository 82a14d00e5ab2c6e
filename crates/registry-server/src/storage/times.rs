//! How long things live that nothing points to: asked for by each process, agreed on in the storage.
//!
//! What one process promises to a client (a blob that it asked for stays for half of the grace), the garbage collection of
//! all others has to keep. So the times stand in the storage, in the object `times`. Who asks for nothing takes those; who
//! asks for longer ones makes them longer for everybody, since every collection reads them again; who asks for shorter ones
//! is refused.

use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::blobs::document;
use super::error::{Result, StorageError};
use super::objects::Objects;

const DEFAULT: Times = Times { grace: Duration::from_secs(24 * 3600), settle: Duration::from_secs(60) };

/// How long things live that nothing points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// What is younger is never removed; what is used and older than half of it is renewed first.
    pub(crate) grace: Duration,
    /// No single step (reading a record, writing it again) takes longer; garbage collection waits so long between its two
    /// looks.
    pub(crate) settle: Duration,
}

/// What the settings ask for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AskedTimes {
    pub(crate) grace: Option<Duration>,
    pub(crate) settle: Option<Duration>,
}

/// As they are stored, in milliseconds.
#[derive(Serialize, Deserialize)]
struct Stored {
    grace: u64,
    settle: u64,
}

impl AskedTimes {
    /// What holds beside what is stored.
    fn beside(self, stored: Option<Times>) -> Result<Times> {
        let longer = |name: &str, asked: Option<Duration>, stored: Option<Duration>, otherwise: Duration| match (
            asked, stored,
        ) {
            (Some(asked), Some(stored)) if asked < stored => Err(StorageError::Times(format!(
                "--{name} {asked:?} is shorter than the {stored:?} that whoever else serves this storage relies on \
                 (they are in its object `times`)"
            ))),
            (asked, stored) => Ok(asked.or(stored).unwrap_or(otherwise)),
        };
        let times = Times {
            grace: longer("grace", self.grace, stored.map(|times| times.grace), DEFAULT.grace)?,
            settle: longer("settle", self.settle, stored.map(|times| times.settle), DEFAULT.settle)?,
        };
        if times.settle * 4 > times.grace {
            let reason = "grace is not four times as long as settle: content could be removed while it is in use";
            return Err(StorageError::Times(format!("--grace {:?}: {reason}", times.grace)));
        }
        Ok(times)
    }

    /// Finds out what holds, and stores it when that is news.
    pub(super) async fn agree(self, objects: &Objects, writable: bool) -> Result<Times> {
        let stored = Times::read(objects).await?;
        let times = self.beside(stored)?;
        if writable && stored != Some(times) {
            times.write(objects).await?;
        }
        Ok(times)
    }
}

impl Times {
    /// What holds now: others may have asked for longer times since. Stores what holds where shorter ones are.
    pub(super) async fn again(self, objects: &Objects) -> Result<Self> {
        let stored = Self::read(objects).await?;
        let longest = stored.map_or(self, |stored| Self {
            grace: self.grace.max(stored.grace),
            settle: self.settle.max(stored.settle),
        });
        if stored != Some(longest) {
            longest.write(objects).await?;
        }
        Ok(longest)
    }

    async fn read(objects: &Objects) -> Result<Option<Self>> {
        let key = key();
        let Some(bytes) = objects.get(&key).await? else { return Ok(None) };
        let Stored { grace, settle } = document(&key, &bytes)?;
        Ok(Some(Self { grace: Duration::from_millis(grace), settle: Duration::from_millis(settle) }))
    }

    async fn write(self, objects: &Objects) -> Result<()> {
        let key = key();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let stored = Stored { grace: millis(self.grace), settle: millis(self.settle) };
        let bytes =
            serde_json::to_vec(&stored).map_err(|source| StorageError::Document { key: key.to_string(), source })?;
        match objects.put(&key, bytes.into()).await {
            // What makes room again must go on; it is stored when there is room.
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "others are not told how long garbage is kept");
                Ok(())
            }
            written => written,
        }
    }
}

fn key() -> Path {
    Path::from("times")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_times_hold_and_shorter_ones_are_refused() {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let asked = |grace| AskedTimes { grace, settle: None };
        let stored = Times { grace: hours(48), settle: Duration::from_secs(90) };
        assert_eq!(asked(None).beside(None).unwrap(), DEFAULT);
        assert_eq!(asked(None).beside(Some(stored)).unwrap(), stored);
        assert_eq!(asked(Some(hours(1))).beside(None).unwrap().grace, hours(1));
        assert_eq!(asked(Some(hours(50))).beside(Some(stored)).unwrap(), Times { grace: hours(50), ..stored });
        assert!(asked(Some(hours(47))).beside(Some(stored)).is_err());
        assert!(asked(Some(Duration::from_secs(100))).beside(None).is_err());
    }
}
