//! The container's first process, from the clone to the execution of its program.
//!
//! Nothing here returns to the caller's code: [`first`] and [`added`] end with the program, or with an exit code.

mod cgroup_mount;
mod copy_up;
mod devices;
mod mounts;
mod namespaces;
mod process;
mod program;
mod protect;
mod rootfs;
mod security;
mod terminal;

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use sys::clone;

use crate::channel::{Channel, Message};
use crate::error::Stage;
use crate::failure::{Context, Failure, Step};
use crate::hooks;
use crate::plan::{Plan, ProcessPlan};
use program::Program;

pub(crate) use namespaces::{become_root, enter as enter_namespaces};
pub(crate) use process::pin;
pub(crate) use security::open_label;

/// The first process. `fifo` is the container's `exec.fifo`, open for reading.
pub(crate) fn first(plan: &mut Plan, channel: Channel, fifo: OwnedFd) -> i32 {
    follow_caller(true);
    if plan.waits_for_introduction && channel.wait_for_answer().is_err() {
        return 1;
    }
    if plan.spec.hooks.is_some() {
        // The number by which the host knows this process, read while /proc is the host's.
        let number = rustix::fs::readlink("/proc/self", Vec::new()).ok();
        plan.hook_state.pid = number.and_then(|number| number.to_str().ok()?.parse().ok());
    }
    let program = match prepare(plan, &channel, &fifo) {
        Ok(program) => program,
        Err(failure) => {
            failure.report(&channel);
            return 1;
        }
    };
    follow_caller(false);
    // The caller may end now; what happens next is between this process and whoever starts it.
    if channel.send(&Message::Ready, None).is_err() {
        return 1;
    }
    drop(channel);
    if wait_to_be_started(&fifo).is_err() {
        return 1;
    }
    drop(fifo);
    let mut state = plan.hook_state.clone();
    state.status = oci::spec::Status::Created;
    if let Some(hooks) = &plan.spec.hooks
        && let Err(error) = hooks::run("startContainer", &hooks.start_container, &state)
    {
        return program::complain(&error.to_string(), 1);
    }
    program.execute(&plan.process.extra_fds)
}

/// A process that is added to a running container; it is in the container's namespaces already.
pub(crate) fn added(plan: &ProcessPlan, channel: Channel) -> i32 {
    follow_caller(true);
    if channel.wait_for_answer().is_err() {
        return 1;
    }
    let prepared = (|| {
        clone::close_all_but(&plan.descriptors(&channel)).context(Stage::Namespaces, "close_range")?;
        process::begin(plan)?;
        terminal::connect(plan, None, &channel)?;
        finish(plan, &channel)
    })();
    let program = match prepared {
        Ok(program) => program,
        Err(failure) => {
            failure.report(&channel);
            return 1;
        }
    };
    follow_caller(false);
    if channel.send(&Message::Ready, None).is_err() {
        return 1;
    }
    drop(channel);
    program.execute(&plan.extra_fds)
}

fn prepare(plan: &mut Plan, channel: &Channel, fifo: &OwnedFd) -> Step<Program> {
    namespaces::settle(plan, channel)?;
    plan.process.label_file = security::open_label(plan.process.label.as_ref())?;
    // What the caller has open is none of the container's business, and neither is this process.
    clone::close_all_but(&plan.descriptors(channel, fifo)).context(Stage::Namespaces, "close_range")?;
    process::begin(&plan.process)?;
    process::settings(plan)?;
    let root = rootfs::build(plan, channel)?;
    rootfs::pivot(plan, &root)?;
    terminal::connect(&plan.process, Some(&root), channel)?;
    protect::apply(plan, &root)?;
    rootfs::finish(plan, &root)?;
    drop(root);
    finish(&plan.process, channel)
}

/// What the first process and an added one have in common: from privileged to the program's own rights.
fn finish(plan: &ProcessPlan, channel: &Channel) -> Step<Program> {
    process::schedule(plan)?;
    process::limits(&plan.process)?;
    terminal::own_streams(&plan.process)?;
    // Without no_new_privs only a privileged process can load a filter; with it, it is loaded as late as possible.
    if !plan.process.no_new_privileges {
        security::load_filter(plan, channel)?;
    }
    security::write_label(plan.label.as_ref(), plan.label_file.as_ref())?;
    // First with the rights of root, since the image may keep the user out of a directory that it is to begin in.
    let entered = process::enter_directory(&plan.process).is_ok();
    security::change_user(plan)?;
    if !entered {
        process::enter_directory(&plan.process)?;
    }
    let program = Program::find(&plan.process)?;
    if plan.process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).context(Stage::Security, "set no_new_privs")?;
        security::load_filter(plan, channel)?;
    }
    Ok(program)
}

/// A half-made process ends with the one that makes it: both have both ends of the channel, so its end would not show.
fn follow_caller(follow: bool) {
    let _ = rustix::process::set_parent_process_death_signal(follow.then_some(rustix::process::Signal::KILL));
}

/// Blocks until somebody writes a byte; when the state directory goes without that, until killed.
fn wait_to_be_started(fifo: &OwnedFd) -> std::io::Result<()> {
    // poll does not report the absence of writers before the first one came, a blocking read would return at once.
    loop {
        match poll(&mut [PollFd::new(fifo, PollFlags::IN)], None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match rustix::io::read(fifo, &mut [0; 1]) {
            Ok(1) => return Ok(()),
            // A writer came and went without a byte: `start` was killed in the middle. Another may come.
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A hook inside the container failed.
fn hook_failure(error: &crate::Error) -> Failure {
    Failure::new(Stage::Hooks, error.to_string())
}
