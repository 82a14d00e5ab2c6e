//! A limit on how much of something there is at once, for threads.

use std::sync::{Condvar, Mutex, PoisonError};

/// So many places.
pub(crate) struct Places {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One of them, free again when it is dropped.
pub(crate) struct Place(&'static Places);

impl Places {
    pub(crate) const fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), freed: Condvar::new() }
    }

    /// Waits for a place.
    pub(crate) fn take(&'static self) -> Place {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Place(self)
    }

    /// A place if there is one now.
    pub(crate) fn try_take(&'static self) -> Option<Place> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Place(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
