//! `process`: of the container, or of an added one.

use std::collections::BTreeSet;

use oci::spec::{IoPriority, Process, Scheduler};

use super::{absolute, invalid, text};
use crate::error::Result;
use crate::numbers::{self, number_of};

/// The longest single string that execve(2) takes, with its end: `MAX_ARG_STRLEN`.
const MAX_STRING: usize = 32 * 4096;
/// More than this execve(2) never takes together, whatever the limit of the stack is: three quarters of `_STK_LIM`.
const MAX_STRINGS: usize = 6 << 20;
/// `NGROUPS_MAX`
const MAX_GROUPS: usize = 65_536;

/// Checks all of it.
pub(crate) fn process(process: &Process) -> Result<()> {
    absolute("process.cwd", &process.cwd)?;
    program(process)?;
    user(process)?;
    rlimits(process)?;
    if let Some(score) = process.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        return invalid("process.oomScoreAdj", format!("{score} is not between -1000 and 1000"));
    }
    process.scheduler.as_ref().map_or(Ok(()), scheduler)?;
    process.io_priority.as_ref().map_or(Ok(()), io_priority)?;
    if let Some(affinity) = &process.exec_cpu_affinity {
        for (name, list) in [("initial", &affinity.initial), ("final", &affinity.finally)] {
            let list = list.as_deref().unwrap_or_default();
            if !list.is_empty() && numbers::list(list).is_none() {
                return invalid(
                    format!("process.execCPUAffinity.{name}"),
                    format!("{list:?} is no list of processors"),
                );
            }
        }
    }
    let apparmor = process.apparmor_profile.as_deref().unwrap_or_default();
    text("process.apparmorProfile", apparmor)?;
    text("process.selinuxLabel", process.selinux_label.as_deref().unwrap_or_default())
}

fn program(process: &Process) -> Result<()> {
    if process.args.is_empty() {
        return invalid("process.args", "must not be empty");
    }
    let mut total = 0;
    for (list, words) in [("args", &process.args), ("env", &process.env)] {
        for (index, word) in words.iter().enumerate() {
            let field = || format!("process.{list}[{index}]");
            if word.contains('\0') {
                return invalid(field(), "contains a NUL byte");
            }
            if word.len() >= MAX_STRING {
                return invalid(field(), format!("has {} bytes, and the kernel takes {}", word.len(), MAX_STRING - 1));
            }
            if list == "env" && word.find('=').is_none_or(|at| at == 0) {
                return invalid(field(), format!("invalid environment variable {word:?}: it is no NAME=VALUE"));
            }
            total += word.len() + 1 + size_of::<usize>();
        }
    }
    if total > MAX_STRINGS {
        let limit = MAX_STRINGS >> 20;
        return invalid(
            "process.env",
            format!("with process.args it has {total} bytes, and the kernel takes {limit} MiB"),
        );
    }
    Ok(())
}

fn user(process: &Process) -> Result<()> {
    let user = &process.user;
    for (name, id) in [("uid", user.uid), ("gid", user.gid)] {
        if id == u32::MAX {
            return invalid(format!("process.user.{name}"), format!("{id} is no id"));
        }
    }
    if let Some(mask) = user.umask.filter(|mask| *mask > 0o777) {
        return invalid("process.user.umask", format!("{mask} is more than 511, which is 0777"));
    }
    let groups = &user.additional_gids;
    if groups.len() > MAX_GROUPS {
        return invalid(
            "process.user.additionalGids",
            format!("{} groups, and the kernel takes {MAX_GROUPS}", groups.len()),
        );
    }
    match groups.iter().position(|group| *group == u32::MAX) {
        Some(index) => invalid(format!("process.user.additionalGids[{index}]"), format!("{} is no id", u32::MAX)),
        None => Ok(()),
    }
}

fn rlimits(process: &Process) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (index, limit) in process.rlimits.iter().enumerate() {
        let field = || format!("process.rlimits[{index}]");
        let kind = &limit.kind;
        if sys::user::resource(kind).is_none() {
            return invalid(format!("{}.type", field()), format!("invalid rlimit type: {kind:?}"));
        }
        if !seen.insert(kind) {
            return invalid(format!("{}.type", field()), format!("{kind} is there twice"));
        }
        if limit.soft > limit.hard {
            return invalid(format!("{}.soft", field()), format!("the soft limit of {kind} is above the hard one"));
        }
    }
    Ok(())
}

/// What sched(7) says of the policies.
fn scheduler(scheduler: &Scheduler) -> Result<()> {
    let field = |name: &str| format!("process.scheduler.{name}");
    let policy = scheduler.policy.as_str();
    if policy.is_empty() {
        return invalid(field("policy"), "missing");
    }
    if number_of(numbers::SCHEDULER_POLICIES, policy).is_none() {
        return invalid(field("policy"), format!("unknown policy {policy:?}"));
    }
    if policy == "SCHED_ISO" {
        return invalid(field("policy"), "SCHED_ISO was never made part of Linux");
    }
    if let Some(index) = scheduler.flags.iter().position(|flag| number_of(numbers::SCHEDULER_FLAGS, flag).is_none()) {
        return invalid(field(&format!("flags[{index}]")), format!("unknown flag {:?}", scheduler.flags[index]));
    }
    if !(-20..=19).contains(&scheduler.nice) {
        return invalid(field("nice"), format!("{} is not between -20 and 19", scheduler.nice));
    }
    let realtime = ["SCHED_FIFO", "SCHED_RR"].contains(&policy);
    if realtime && !(1..=99).contains(&scheduler.priority) {
        return invalid(
            field("priority"),
            format!("{} is not between 1 and 99, as {policy} has it", scheduler.priority),
        );
    }
    if !realtime && scheduler.priority != 0 {
        return invalid(field("priority"), format!("{policy} has none, SCHED_FIFO and SCHED_RR have"));
    }
    let (runtime, deadline, period) = (scheduler.runtime, scheduler.deadline, scheduler.period);
    if policy != "SCHED_DEADLINE" {
        return match (runtime, deadline, period) {
            (0, 0, 0) => Ok(()),
            (1.., ..) => invalid(field("runtime"), "only SCHED_DEADLINE has one"),
            (0, 1.., _) => invalid(field("deadline"), "only SCHED_DEADLINE has one"),
            _ => invalid(field("period"), "only SCHED_DEADLINE has one"),
        };
    }
    // A period of zero is the deadline.
    if runtime == 0 || runtime > deadline || (period != 0 && deadline > period) {
        return invalid(field("runtime"), "SCHED_DEADLINE needs 0 < runtime <= deadline <= period");
    }
    Ok(())
}

fn io_priority(priority: &IoPriority) -> Result<()> {
    if priority.class.is_empty() {
        return invalid("process.ioPriority.class", "missing");
    }
    if number_of(numbers::IO_CLASSES, &priority.class).is_none() {
        return invalid("process.ioPriority.class", format!("unknown class {:?}", priority.class));
    }
    if !(0..=7).contains(&priority.priority) {
        return invalid("process.ioPriority.priority", format!("{} is not between 0 and 7", priority.priority));
    }
    Ok(())
}
