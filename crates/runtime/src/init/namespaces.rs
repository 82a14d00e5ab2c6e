//! Into the cgroups and namespaces, in the order that permissions allow.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use sys::namespace::{self, Kinds};

use super::process::hide;
use super::security::open_label;
use crate::channel::{Channel, Message};
use crate::error::Stage;
use crate::failure::{Context, Failure, Step, plain};
use crate::plan::{Joined, Plan};

/// Joins namespaces. Those of the first processes first try with the caller's rights; what is refused then is tried
/// again inside the joined user namespace, whose rights a caller without root has alone.
///
/// Whoever is in them already sees this process, or the one that it makes, from then on; so it closes what it does not
/// need, and hides, before it goes there.
pub(crate) fn enter(plan: &Plan, channel: &Channel, fifo: &OwnedFd) -> Step {
    let joined = &plan.namespaces.joined;
    let kept = plan.descriptors(channel, fifo).into_iter().chain(joined.iter().map(|one| one.file.as_fd()));
    sys::clone::close_all_but(&kept.collect::<Vec<_>>()).context(Stage::Namespaces, "close_range")?;
    if plan.hides_at_once {
        hide()?;
    }
    let (user, others): (Vec<&Joined>, Vec<&Joined>) = joined.iter().partition(|one| one.kind == Kinds::USER);
    let mut refused = Vec::new();
    for one in others {
        match namespace::enter(one.file.as_fd(), one.kind) {
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) && !user.is_empty() => {
                refused.push(one);
            }
            result => result.with_context(Stage::Namespaces, || format!("joining the namespace of {}", one.field))?,
        }
    }
    for one in user.into_iter().chain(refused) {
        namespace::enter(one.file.as_fd(), one.kind)
            .with_context(Stage::Namespaces, || format!("joining the namespace of {}", one.field))?;
    }
    Ok(())
}

/// Everything that could not be part of the clone.
pub(super) fn settle(plan: &mut Plan, channel: &Channel) -> Step {
    if let Some(joiner) = plan.process.joiner.take() {
        joiner.join().map_err(|error| Failure::new(Stage::Namespaces, format!("joining the cgroup: {error}")))?;
    }
    if plan.namespaces.new.contains(Kinds::USER) {
        channel.send(&Message::MapIds, None).context(Stage::Namespaces, "asking for id maps")?;
        channel.wait_for_answer().context(Stage::Namespaces, "waiting for id maps")?;
    }
    // Only now, so that the root of the new namespace is the cgroup that was just joined.
    if plan.namespaces.new.contains(Kinds::CGROUP) {
        namespace::unshare(Kinds::CGROUP).context(Stage::Namespaces, "unsharing the cgroup namespace")?;
    }
    own_files(plan)?;
    if plan.namespaces.changes_user() {
        become_root()?;
    }
    if plan.spec.linux.as_ref().is_some_and(|linux| !linux.net_devices.is_empty()) {
        channel.send(&Message::NetDevices, None).context(Stage::Namespaces, "asking for network devices")?;
        channel.wait_for_answer().context(Stage::Namespaces, "waiting for network devices")?;
    }
    Ok(())
}

/// What goes through files of the process in `/proc`, which belong to the user that it still is.
fn own_files(plan: &mut Plan) -> Step {
    if !plan.namespaces.new.contains(Kinds::TIME) && plan.process.label.is_none() {
        return Ok(());
    }
    if !plan.hides_at_once {
        // Joining a user namespace may have taken them away.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
            .context(Stage::Namespaces, "prctl(PR_SET_DUMPABLE)")?;
    }
    if plan.namespaces.new.contains(Kinds::TIME) {
        new_clocks(plan)?;
    }
    plan.process.label_file = open_label(plan.process.label.as_ref(), &plan.proc)?;
    Ok(())
}

/// Root of the user namespace, with none of the groups from outside.
pub(crate) fn become_root() -> Step {
    // An unprivileged map forbids setgroups; then there is nothing to drop that could be dropped.
    match sys::user::set_groups(&[]) {
        Err(error) if error.raw_os_error() != Some(Errno::PERM.raw_os_error()) => {
            return Err(Failure::new(Stage::Namespaces, format!("setgroups: {}", plain(&error))));
        }
        _ => {}
    }
    sys::user::set_group(0).context(Stage::Namespaces, "becoming group 0 of the user namespace")?;
    sys::user::set_user(0).context(Stage::Namespaces, "becoming user 0 of the user namespace")
}

/// The offsets can be set only while nobody is in the namespace, so it is made first and entered then.
fn new_clocks(plan: &Plan) -> Step {
    namespace::unshare(Kinds::TIME).context(Stage::Namespaces, "unsharing the time namespace")?;
    let offsets = plan.spec.linux.iter().flat_map(|linux| &linux.time_offsets);
    let lines: String =
        offsets.map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs, offset.nanosecs)).collect();
    if !lines.is_empty() {
        plan.proc
            .open_own("timens_offsets", OFlags::WRONLY)
            .and_then(|file| sys::file::write_all(&file, lines.as_bytes()))
            .context(Stage::Namespaces, "setting time offsets")?;
    }
    let name = "time_for_children";
    let file = plan.proc.open_own_namespace(name).context(Stage::Namespaces, name)?;
    namespace::enter(file.as_fd(), Kinds::TIME).context(Stage::Namespaces, "entering the time namespace")
}
