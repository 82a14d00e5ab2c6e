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
mod schedule;
mod security;
mod terminal;

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use sys::clone;

use crate::channel::{Channel, Message};
use crate::error::Stage;
use crate::failure::{Context, Failure, Step};
use crate::hooks;
use crate::plan::{Plan, ProcessPlan};
use program::Program;

pub(crate) use namespaces::{become_root, enter as enter_namespaces};
pub(crate) use process::hide;
pub(crate) use schedule::pin;
pub(crate) use security::open_label;

/// The first process. `fifo` is the container's `exec.fifo`, open for reading.
pub(crate) fn first(plan: Plan, channel: Channel, fifo: OwnedFd) -> i32 {
    // Descriptors are closed by number here, behind the back of what owns them; so nothing may be dropped.
    let mut plan = ManuallyDrop::new(plan);
    live(&mut plan, channel, fifo)
}

fn live(plan: &mut Plan, channel: Channel, fifo: OwnedFd) -> i32 {
    follow_caller(true);
    // What the caller has open is none of the container's business, and neither is this process. Without the other end
    // of the channel the end of the caller shows.
    if shut(plan, &channel, &fifo).is_err() || plan.waits_for_introduction && channel.wait_for_answer().is_err() {
        return 1;
    }
    // Hooks in the container's namespaces get the number that is valid there (runtime.md, State).
    plan.hook_state.pid = Some(rustix::process::getpid().as_raw_nonzero().get());
    let program = match prepare(plan, &channel, &fifo) {
        Ok(program) => program,
        Err(failure) => {
            failure.report(&channel);
            return 1;
        }
    };
    follow_caller(false);
    if plan.open_to_owner {
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable);
    }
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

/// Leaves open what is still needed, and hides, if that is possible yet.
fn shut(plan: &Plan, channel: &Channel, fifo: &OwnedFd) -> Step {
    clone::close_all_but(&plan.descriptors(channel, fifo)).context(Stage::Namespaces, "close_range")?;
    if plan.hides_at_once { hide() } else { Ok(()) }
}

/// A process that is added to a running container; it is in the container's namespaces already.
pub(crate) fn added(plan: ProcessPlan, channel: Channel) -> i32 {
    let mut plan = ManuallyDrop::new(plan);
    live_beside(&mut plan, channel)
}

fn live_beside(plan: &mut ProcessPlan, channel: Channel) -> i32 {
    follow_caller(true);
    let closed = clone::close_all_but(&plan.descriptors(&channel));
    if closed.is_err() || channel.wait_for_answer().is_err() {
        return 1;
    }
    let prepared = (|| {
        process::begin(plan)?;
        terminal::connect(plan, None, &channel)?;
        finish(plan, true, &channel, None)
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
    process::begin(&plan.process)?;
    process::settings(plan)?;
    let root = rootfs::build(plan, channel)?;
    rootfs::pivot(plan, &root)?;
    terminal::connect(&plan.process, Some(&root), channel)?;
    protect::apply(plan, &root)?;
    rootfs::finish(plan, &root)?;
    drop(root);
    finish(&mut plan.process, false, channel, Some(fifo))
}

/// What the first process and an added one have in common: from privileged to the program's own rights.
fn finish(plan: &mut ProcessPlan, added: bool, channel: &Channel, fifo: Option<&OwnedFd>) -> Step<Program> {
    schedule::apply(plan, added)?;
    // Before the limits, which may allow no further descriptor.
    let environment = program::environment(&plan.process);
    process::limits(plan, channel)?;
    terminal::own_streams(&plan.process)?;
    close_rest(plan, channel, fifo)?;
    // Without no_new_privs only a privileged process can load a filter; with it, it is loaded as late as possible.
    if !plan.process.no_new_privileges {
        security::load_filter(plan, channel)?;
    }
    security::write_label(plan.label.as_ref(), plan.label_file.take())?;
    // First with the rights of root, since the image may keep the user out of a directory that it is to begin in.
    let entered = process::enter_directory(&plan.process).is_ok();
    security::change_user(plan)?;
    if !entered {
        process::enter_directory(&plan.process)?;
    }
    let program = Program::find(&plan.process, &environment)?;
    if plan.process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).context(Stage::Security, "set no_new_privs")?;
        security::load_filter(plan, channel)?;
    }
    Ok(program)
}

/// Mounts and streams are in their places. The process may wait for long until it is started, beside others that look for
/// what it has open; and a filter may forbid to close what is left.
fn close_rest(plan: &ProcessPlan, channel: &Channel, fifo: Option<&OwnedFd>) -> Step {
    let kept = plan.extra_fds.iter().chain(&plan.label_file).chain(fifo).map(AsFd::as_fd).chain([channel.as_fd()]);
    clone::close_all_but(&kept.collect::<Vec<_>>()).context(Stage::Program, "close_range")?;
    clone::close_on_exec_from(3).context(Stage::Program, "close_range")
}

/// A half-made process ends with the one that makes it: both have both ends of the channel, so its end would not show.
fn follow_caller(follow: bool) {
    let _ = rustix::process::set_parent_process_death_signal(follow.then_some(rustix::process::Signal::KILL));
}

/// Blocks until somebody writes a byte; fails when the container is deleted without that.
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
            // The container was deleted by somebody who did not know of this process.
            Ok(0) if rustix::fs::fstat(fifo)?.st_nlink == 0 => return Err(rustix::io::Errno::NOENT.into()),
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
