//! `events`: figures at an interval and out-of-memory events, one JSON object on each line, in runc's form.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use oci::spec::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use sys::cgroup::{Cgroup, IoEntry, OomWatch, Stats, Version};

use super::{Context, Failure, Outcome};
use crate::Container;

pub(super) fn events(context: &Context) -> Outcome {
    let interval = interval(context.arguments.value("interval").unwrap_or("5s"))?;
    let container = Container::load(&context.root, context.arguments.word(0))?;
    if container.status()? == Status::Stopped {
        return Err(format!("container with id {} is not running", container.id()).into());
    }
    let cgroup = container.cgroup()?;
    if context.arguments.is_set("stats") {
        print(&container, "stats", stats(&cgroup.stats()?))?;
        return Ok(0);
    }
    let process = container.process()?.ok_or("container is not running")?;
    let oom = cgroup.watch_oom()?;
    let mut next = Instant::now();
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
            print(&container, "oom", Value::Null)?;
        }
        if ready.first() == Some(&true) {
            return Ok(0);
        }
        if Instant::now() >= next {
            print(&container, "stats", stats(&cgroup.stats()?))?;
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

fn print(container: &Container, kind: &str, data: Value) -> Result<(), Failure> {
    let mut event = json!({ "type": kind, "id": container.id() });
    if let (Some(object), false) = (event.as_object_mut(), data.is_null()) {
        object.insert("data".into(), data);
    }
    Ok(writeln!(std::io::stdout(), "{event}")?)
}

/// `5s`, `500ms`, `1m`.
fn interval(text: &str) -> Result<Duration, Failure> {
    let wrong = || Failure::from(format!("invalid interval {text:?}"));
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let interval = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(wrong()),
    };
    if interval.is_zero() { Err("duration interval must be greater than 0".into()) } else { Ok(interval) }
}

/// runc's `types.Stats`.
fn stats(stats: &Stats) -> Value {
    let memory = &stats.memory;
    let limit = memory.limit.unwrap_or(u64::MAX);
    let detail: BTreeMap<&String, u64> = memory.detail.iter().map(|(key, value)| (key, *value)).collect();
    let entries = |entries: &[IoEntry]| -> Vec<Value> {
        let entry = |e: &IoEntry| json!({"major": e.major, "minor": e.minor, "op": e.operation, "value": e.value});
        entries.iter().map(entry).collect()
    };
    json!({
        "cpu": {
            "usage": {
                "total": stats.cpu.total_ns,
                "percpu": stats.cpu.per_cpu_ns,
                "kernel": stats.cpu.kernel_ns,
                "user": stats.cpu.user_ns,
            },
            "throttling": {
                "periods": stats.cpu.periods,
                "throttledPeriods": stats.cpu.throttled_periods,
                "throttledTime": stats.cpu.throttled_ns,
            },
        },
        "memory": {
            "cache": memory.detail.get("cache").or_else(|| memory.detail.get("file")).copied().unwrap_or_default(),
            "usage": {
                "limit": limit,
                "usage": memory.usage,
                "max": memory.max_usage,
                "failcnt": memory.failures,
            },
            "raw": detail,
        },
        "pids": { "current": stats.pids.current, "limit": stats.pids.limit.unwrap_or_default() },
        "blkio": {
            "ioServiceBytesRecursive": entries(&stats.io.bytes),
            "ioServicedRecursive": entries(&stats.io.operations),
        },
    })
}
