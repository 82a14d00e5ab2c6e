//! `events` and `stats`: figures at an interval and out-of-memory events, one JSON object on each line, in runc's form.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use oci::spec::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::cgroup::{Cgroup, OomWatch, Version};

use super::commands::load;
use super::stats::{Event, Figures};
use super::{Context, Failure, Outcome};
use crate::Container;

pub(super) fn events(context: &Context) -> Outcome {
    let container = load(context)?;
    let interval = interval(context.arguments.value("interval").unwrap_or("5s"))?;
    refuse_stopped(&container)?;
    if context.arguments.is_set("stats") {
        print_figures(&container, &container.cgroup()?)?;
        return Ok(0);
    }
    watch(&container, interval)
}

pub(super) fn stats(context: &Context) -> Outcome {
    let container = load(context)?;
    refuse_stopped(&container)?;
    print_figures(&container, &container.cgroup()?)?;
    Ok(0)
}

fn refuse_stopped(container: &Container) -> Result<(), Failure> {
    match container.status()? {
        Status::Stopped => Err(format!("container with id {} is not running", container.id()).into()),
        _ => Ok(()),
    }
}

/// Prints until the container's first process ends. The first figures come after an interval, as with runc.
fn watch(container: &Container, interval: Duration) -> Outcome {
    let cgroup = container.cgroup()?;
    let process = container.process()?.ok_or("container is not running")?;
    let oom = cgroup.watch_oom()?;
    let mut next = Instant::now() + interval;
    loop {
        let wait = next.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() };
        let mut watched = vec![PollFd::new(&process, PollFlags::IN)];
        if let Some(oom) = &oom {
            watched.push(PollFd::from_borrowed_fd(oom.as_fd(), oom.poll_flags()));
        }
        match poll(&mut watched, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = watched.iter().map(|one| !one.revents().is_empty()).collect();
        if let (Some(oom), Some(true)) = (&oom, ready.get(1))
            && is_oom(oom, &cgroup)?
        {
            print(&Event { kind: "oom", id: container.id(), data: None })?;
        }
        if ready.first() == Some(&true) {
            return Ok(0);
        }
        if Instant::now() >= next {
            print_figures(container, &cgroup)?;
            next = Instant::now() + interval;
        }
    }
}

/// Version 1 gives notice when memory is out, before anything is killed for it, and when the group goes. Version 2 tells
/// of other events too, and counts.
fn is_oom(watch: &OomWatch, cgroup: &Cgroup) -> Result<bool, Failure> {
    let counted = watch.happened()?;
    Ok(counted || (cgroup.version() == Version::V1 && cgroup.exists()))
}

fn print_figures(container: &Container, cgroup: &Cgroup) -> Result<(), Failure> {
    let figures = Figures::of(container, &cgroup.stats()?, cgroup.version());
    print(&Event { kind: "stats", id: container.id(), data: Some(figures) })
}

fn print(event: &Event<'_>) -> Result<(), Failure> {
    let mut line = serde_json::to_string(event)?;
    line.push('\n');
    Ok(std::io::stdout().write_all(line.as_bytes())?)
}

/// The parser has checked that it is a length of time.
fn interval(text: &str) -> Result<Duration, Failure> {
    match oci::go::parse_duration(text).unwrap_or_default().try_into() {
        Ok(nanoseconds @ 1..) => Ok(Duration::from_nanos(nanoseconds)),
        _ => Err("duration interval must be greater than 0".into()),
    }
}
