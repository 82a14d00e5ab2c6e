//! The processes of a container that has no cgroup to ask: those in its namespaces, and what they made.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use oci::spec::Spec;
use rustix::io::Errno;
use rustix::process::Signal;
use sys::pidfd;

use crate::error::Result;
use crate::plan::system;

/// Ids of the processes of the container whose first process is `first`, as the caller sees them.
///
/// A namespace of the container's own tells them: that of process ids, else that of users. Those that have moved on into
/// namespaces of their own (a container in the container) are found by their parents.
pub(crate) fn of(first: i32, spec: &Spec) -> Result<Vec<i32>> {
    let listed = std::fs::read_dir("/proc").map_err(|error| system("reading /proc", error))?;
    let all: Vec<i32> = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let own = ["pid", "user"].into_iter().find(|kind| is_own(spec, kind));
    let wanted = own.and_then(|kind| namespace(first, kind));
    let inside = |pid: i32| own.is_some_and(|kind| namespace(pid, kind) == wanted);
    let mut found: BTreeSet<i32> = match wanted {
        Some(_) => all.iter().copied().filter(|pid| inside(*pid)).collect(),
        None => BTreeSet::new(),
    };
    if all.contains(&first) {
        found.insert(first);
    }
    let parents: Vec<(i32, i32)> =
        all.iter().filter_map(|pid| Some((*pid, sys::process::parent(*pid).ok().flatten()?))).collect();
    loop {
        let before = found.len();
        found.extend(
            parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if found.len() == before {
            return Ok(found.into_iter().collect());
        }
    }
}

/// Sends a signal to all of them; to the first one last, since it is what tells the others. SIGKILL is repeated until
/// nobody else is left: one that was missed may have made new ones.
pub(crate) fn signal(first: i32, spec: &Spec, signal: i32) -> Result<()> {
    const MAX_ROUNDS: usize = 1000;
    let kills = signal == Signal::KILL.as_raw();
    for _ in 0..MAX_ROUNDS {
        let others = open_others(first, spec)?;
        others.iter().try_for_each(|process| send(process, signal))?;
        if others.is_empty() || !kills {
            break;
        }
    }
    match pidfd::open(first) {
        Ok(process) => send(&process, signal),
        Err(_) => Ok(()),
    }
}

/// Those that live, without the first one. They are looked for again when they are open, so that none is another process
/// with the number of one that has ended meanwhile.
fn open_others(first: i32, spec: &Spec) -> Result<Vec<OwnedFd>> {
    let lives = |pid: &i32| *pid != first && sys::process::is_alive(*pid).unwrap_or(false);
    let opened: Vec<(i32, OwnedFd)> =
        of(first, spec)?.into_iter().filter(lives).filter_map(|pid| Some((pid, pidfd::open(pid).ok()?))).collect();
    let known = of(first, spec)?;
    Ok(opened.into_iter().filter(|(pid, _)| known.contains(pid)).map(|(_, process)| process).collect())
}

/// One that has ended meanwhile is no error.
fn send(process: &OwnedFd, signal: i32) -> Result<()> {
    match pidfd::send_signal(process.as_fd(), signal) {
        Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => {
            Err(system(format!("sending signal {signal}"), error))
        }
        _ => Ok(()),
    }
}

/// Whether the container was made with a new namespace of this kind.
fn is_own(spec: &Spec, kind: &str) -> bool {
    let mut namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    namespaces.any(|one| one.kind == kind && one.path.as_deref().is_none_or(str::is_empty))
}

/// What tells a namespace from others.
fn namespace(pid: i32, kind: &str) -> Option<(u64, u64)> {
    let stat = rustix::fs::stat(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some((stat.st_dev, stat.st_ino))
}
