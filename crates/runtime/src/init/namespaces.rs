//! Into the cgroups and namespaces, in the order that permissions allow.

use std::os::fd::AsFd;

use rustix::io::Errno;
use sys::namespace::{self, Kinds};

use crate::channel::{Channel, Message};
use crate::error::Stage;
use crate::failure::{Context, Failure, Step, plain};
use crate::plan::{Joined, Plan};

/// Joins namespaces. Those of the first processes first try with the caller's rights; what is refused then is tried
/// again inside the joined user namespace, whose rights a caller without root has alone.
pub(crate) fn enter(joined: &[Joined]) -> Step {
    let (user, others): (Vec<&Joined>, Vec<&Joined>) = joined.iter().partition(|one| one.kind == Kinds::USER);
    let mut refused = Vec::new();
    for one in others {
        match namespace::enter(one.file.as_fd(), one.kind) {
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) && !user.is_empty() => {
                refused.push(one);
            }
            result => result.with_context(Stage::Namespaces, || format!("joining namespace {}", one.path))?,
        }
    }
    for one in user.into_iter().chain(refused) {
        namespace::enter(one.file.as_fd(), one.kind)
            .with_context(Stage::Namespaces, || format!("joining namespace {}", one.path))?;
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
    if plan.namespaces.changes_user() {
        become_root()?;
    }
    // Only now, so that the root of the new namespace is the cgroup that was just joined.
    if plan.namespaces.new.contains(Kinds::CGROUP) {
        namespace::unshare(Kinds::CGROUP).context(Stage::Namespaces, "unsharing the cgroup namespace")?;
    }
    if plan.namespaces.new.contains(Kinds::TIME) {
        new_clocks(plan)?;
    }
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
    sys::user::set_user(0).context(Stage::Namespaces, "becoming user 0 of the user namespace")?;
    // The change of user took the process's own /proc files away from it.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
        .context(Stage::Namespaces, "prctl(PR_SET_DUMPABLE)")
}

/// The offsets can be set only while nobody is in the namespace, so it is made first and entered then.
fn new_clocks(plan: &Plan) -> Step {
    namespace::unshare(Kinds::TIME).context(Stage::Namespaces, "unsharing the time namespace")?;
    let offsets = plan.spec.linux.iter().flat_map(|linux| &linux.time_offsets);
    let lines: String =
        offsets.map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs, offset.nanosecs)).collect();
    if !lines.is_empty() {
        std::fs::write("/proc/self/timens_offsets", lines).context(Stage::Namespaces, "setting time offsets")?;
    }
    let path = "/proc/self/ns/time_for_children";
    let file = std::fs::File::open(path).context(Stage::Namespaces, path)?;
    namespace::enter(file.as_fd(), Kinds::TIME).context(Stage::Namespaces, "entering the time namespace")
}
