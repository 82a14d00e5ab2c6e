//! Work that several operations want at once is done by one of them.
//!
//! Whoever comes first works; who comes later waits, and shows what the first one tells. When the first has ended, well
//! or not, the next one looks whether anything is left to do. So a failure costs the others nothing but time, and
//! nobody's pull depends on the patience of somebody else's client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedMutexGuard, watch};

use crate::error::Result;
use crate::progress::{LayerProgress, LayerStatus};

/// What is under way, by what it is: the digest of a layer, or a blob on its way to a repository.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<String, Weak<Flight>>>);

#[derive(Debug)]
struct Flight {
    turn: Arc<tokio::sync::Mutex<()>>,
    news: watch::Sender<Option<LayerStatus>>,
}

/// The right to do the work. It goes to the next one when the last copy is dropped: a thread that still works for an
/// operation that was given up has one as well.
#[derive(Clone)]
pub(crate) struct Turn {
    flight: Arc<Flight>,
    _turn: Arc<OwnedMutexGuard<()>>,
    /// Did somebody else work before? Then there may be nothing left to do.
    pub(crate) waited: bool,
}

impl Flights {
    /// Waits for the turn, and meanwhile tells what the one who has it tells.
    pub(crate) async fn board(&self, key: String, progress: &LayerProgress) -> Result<Turn> {
        let flight = self.flight(key);
        if let Ok(turn) = Arc::clone(&flight.turn).try_lock_owned() {
            return Ok(Turn { flight, _turn: Arc::new(turn), waited: false });
        }
        let mut news = flight.news.subscribe();
        let turn = Arc::clone(&flight.turn).lock_owned();
        tokio::pin!(turn);
        loop {
            tokio::select! {
                turn = &mut turn => {
                    return Ok(Turn { flight: Arc::clone(&flight), _turn: Arc::new(turn), waited: true });
                }
                Ok(()) = news.changed() => {
                    let status = news.borrow_and_update().clone();
                    match status {
                        Some(status) if status.count().is_some() => progress.count(status),
                        Some(status @ LayerStatus::Retrying { .. }) => progress.state(status).await?,
                        _ => {}
                    }
                }
            }
        }
    }

    fn flight(&self, key: String) -> Arc<Flight> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::new(Flight { turn: Arc::default(), news: watch::Sender::new(None) });
        flights.insert(key, Arc::downgrade(&flight));
        flight
    }
}

impl Turn {
    /// The voice of whoever has the turn: those who wait hear it as well.
    pub(crate) fn voice(&self, progress: &LayerProgress) -> LayerProgress {
        progress.heard_by(self.flight.news.clone())
    }
}
