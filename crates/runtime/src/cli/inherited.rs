//! Descriptors that the caller left open for the container: those of socket activation, sd_listen_fds(3), and those of
//! `--preserve-fds`, from 3 on.
//!
//! They are taken before this program opens anything itself, since whatever it opens gets the numbers that are free.

use std::os::fd::OwnedFd;

use super::Failure;
use super::grammar::Parsed;

/// What was taken.
#[derive(Debug)]
pub(super) struct Inherited {
    descriptors: Result<Vec<OwnedFd>, String>,
    activated: i32,
}

impl Inherited {
    /// Takes what `command` passes on.
    pub(super) fn take(command: &str, arguments: &Parsed) -> Self {
        let activated = if command == "exec" { 0 } else { activated() };
        let asked = arguments.number("preserve-fds").unwrap_or_default().max(0);
        let count = i32::try_from(asked).unwrap_or(i32::MAX).saturating_add(activated);
        let take = |number: i32| {
            sys::inherited::take(number).map_err(|_| format!("preserve-fds: descriptor {number} is not open"))
        };
        // All are looked at first: a copy of one must not get the number of another.
        let open = |number: &i32| std::path::Path::new(&format!("/proc/self/fd/{number}")).exists();
        let descriptors = match (3..3_i32.saturating_add(count)).find(|number| !open(number)) {
            Some(missing) => Err(format!("preserve-fds: descriptor {missing} is not open")),
            None => (3..3_i32.saturating_add(count)).map(take).collect(),
        };
        Self { descriptors, activated }
    }

    /// The descriptors, which become 3, 4, … in the container.
    pub(super) fn descriptors(self) -> Result<Vec<OwnedFd>, Failure> {
        Ok(self.descriptors?)
    }

    /// What tells the container about those of socket activation. In a pid namespace of its own the first process is 1,
    /// as with runc.
    pub(super) fn environment(&self) -> Vec<String> {
        if self.activated == 0 {
            return Vec::new();
        }
        let names = std::env::var("LISTEN_FDNAMES").ok().map(|names| format!("LISTEN_FDNAMES={names}"));
        let known = [format!("LISTEN_FDS={}", self.activated), "LISTEN_PID=1".to_owned()];
        known.into_iter().chain(names).collect()
    }
}

/// How many there are for this very process.
fn activated() -> i32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<i32>().ok();
    let own = i32::try_from(std::process::id()).ok();
    if number("LISTEN_PID") == own { number("LISTEN_FDS").unwrap_or_default().max(0) } else { 0 }
}
