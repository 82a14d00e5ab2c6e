//! Memory at rest: what a burst of work needed is given back to the kernel once the burst is over.
//!
//! The allocator keeps what was freed for the next allocation. An engine waits for hours between bursts, and its host has
//! better uses for that memory.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long nothing may have ended before the engine is at rest.
const QUIET: Duration = Duration::from_millis(700);

/// Trim the heap each time that `ended` has been told of something and then not for a while; never returns.
pub(crate) async fn trim(ended: Arc<Notify>) {
    loop {
        ended.notified().await;
        while tokio::time::timeout(QUIET, ended.notified()).await.is_ok() {}
        // It walks the whole heap, so it is no work for a worker. It cannot fail.
        let _ = tokio::task::spawn_blocking(sys::process::trim_heap).await;
    }
}
