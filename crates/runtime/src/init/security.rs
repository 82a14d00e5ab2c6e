//! Giving up rights: label, filter, user and capabilities.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::procfs::Proc;
use sys::{capability, user};

use crate::channel::{Channel, Message};
use crate::error::Stage;
use crate::failure::{Context, Failure, Step};
use crate::plan::{Label, ProcessPlan};

/// Opens the file that takes the label, by the host's `/proc`: what the container has there may be anything.
pub(crate) fn open_label(label: Option<&Label>, proc: &Proc) -> Step<Option<OwnedFd>> {
    let Some(label) = label else { return Ok(None) };
    let open = |file: &str| proc.open_own(file, OFlags::WRONLY);
    // Kernels before 5.8 have one file for all modules.
    let opened = open(label.file).or_else(|_| open("attr/exec"));
    opened.map(Some).with_context(Stage::Security, || format!("opening {}", label.file))
}

/// Says what the program is to be labelled with.
pub(super) fn write_label(label: Option<&Label>, file: Option<OwnedFd>) -> Step {
    let (Some(label), Some(file)) = (label, file) else { return Ok(()) };
    sys::file::write_all(&file, label.value.as_bytes())
        .with_context(Stage::Security, || format!("unable to apply {} {:?}", label.kind, label.value))
}

/// Loads the filter on system calls.
pub(super) fn load_filter(plan: &ProcessPlan, channel: &Channel) -> Step {
    let Some(filter) = &plan.filter else { return Ok(()) };
    let listener = filter
        .program
        .load(filter.flags, filter.notify)
        .context(Stage::Security, "unable to init seccomp: error loading seccomp filter")?;
    if let Some(listener) = listener {
        channel
            .send(&Message::Notifications, Some(listener.as_fd()))
            .context(Stage::Security, "handing over the seccomp listener")?;
        channel.wait_for_answer().context(Stage::Security, "waiting for the seccomp agent")?;
    }
    Ok(())
}

/// Becomes the process's user, with its groups, umask and capabilities.
pub(super) fn change_user(plan: &ProcessPlan) -> Step {
    let wanted = &plan.process.user;
    let sets = &plan.capabilities;
    capability::limit_bounding(sets.bounding).context(Stage::Security, "unable to apply bounding set")?;
    capability::keep_over_user_change(true).context(Stage::Security, "unable to set keep caps")?;
    match user::set_groups(&wanted.additional_gids) {
        // In a user namespace whose map was written without privilege groups cannot be set, nor are there any.
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) && wanted.additional_gids.is_empty() => {
        }
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            let text = "process.user.additionalGids: the user namespace does not allow to set groups";
            return Err(Failure { errno: error.raw_os_error(), ..Failure::new(Stage::Security, text) });
        }
        result => result.context(Stage::Security, "setgroups")?,
    }
    user::set_group(wanted.gid).context(Stage::Security, "setgid")?;
    user::set_user(wanted.uid).context(Stage::Security, "setuid")?;
    capability::keep_over_user_change(false).context(Stage::Security, "unable to clear keep caps")?;
    capability::set(sets.effective, sets.permitted, sets.inheritable)
        .context(Stage::Security, "unable to apply caps")?;
    let ambient = sets.ambient.and(sets.permitted).and(sets.inheritable);
    capability::set_ambient(ambient).context(Stage::Security, "unable to apply ambient caps")?;
    let umask = wanted.umask.unwrap_or(0o022) & 0o777;
    rustix::process::umask(Mode::from_raw_mode(umask));
    Ok(())
}
