//! One operation on many things at once, results in the order in which the things were named.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// How many run at once, as in Docker's client.
const AT_ONCE: usize = 50;

/// Runs an operation on every item, up to [`AT_ONCE`] at a time.
pub(super) async fn each<'a, T, F, R>(items: &'a [T], operation: impl Fn(&'a T) -> F) -> Vec<R>
where
    F: Future<Output = R> + 'a,
{
    let mut results = Vec::with_capacity(items.len());
    for batch in items.chunks(AT_ONCE) {
        let mut running: Vec<Running<'a, R>> = batch.iter().map(|item| Running::new(operation(item))).collect();
        poll_fn(|context| {
            for slot in &mut running {
                if let Running::Pending(future) = slot
                    && let Poll::Ready(result) = future.as_mut().poll(context)
                {
                    *slot = Running::Done(Some(result));
                }
            }
            if running.iter().all(|slot| matches!(slot, Running::Done(_))) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        results.extend(running.into_iter().filter_map(|slot| match slot {
            Running::Done(result) => result,
            Running::Pending(_) => None,
        }));
    }
    results
}

enum Running<'a, R> {
    Pending(Pin<Box<dyn Future<Output = R> + 'a>>),
    Done(Option<R>),
}

impl<'a, R> Running<'a, R> {
    fn new(future: impl Future<Output = R> + 'a) -> Self {
        Self::Pending(Box::pin(future))
    }
}
