//! Signals that we get and the container should.

use crate::error::Error;
use std::future::poll_fn;
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// All signals that make sense to pass on: not those that report our own faults, our children or our terminal's size.
const PASSED_ON: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("XCPU", 24),
    ("VTALRM", 26),
    ("PROF", 27),
    ("IO", 29),
    ("PWR", 30),
];

/// Signals caught from now on.
pub(in crate::command) struct Signals {
    caught: Vec<(&'static str, Signal)>,
}

impl Signals {
    /// Catches everything that is passed on.
    pub(in crate::command) fn catch() -> Result<Self, Error> {
        let one = |(name, number): &(&'static str, i32)| {
            let caught = signal(SignalKind::from_raw(*number)).map_err(Error::io(format!("cannot catch SIG{name}")))?;
            Ok((*name, caught))
        };
        Ok(Self { caught: PASSED_ON.iter().map(one).collect::<Result<_, Error>>()? })
    }

    /// The name of the next signal, without `SIG`.
    pub(in crate::command) async fn next(&mut self) -> &'static str {
        poll_fn(|context| {
            for (name, caught) in &mut self.caught {
                if let Poll::Ready(Some(())) = caught.poll_recv(context) {
                    return Poll::Ready(*name);
                }
            }
            Poll::Pending
        })
        .await
    }
}
