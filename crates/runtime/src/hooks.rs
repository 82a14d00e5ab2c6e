//! Hooks: programs of the caller, with the container's state on their standard input.
//!
//! They are the only programs that the runtime executes beside the container's own, because the configuration asks.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use oci::spec::{Hook, State};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use sys::clone;

use crate::error::{Error, Result};

/// More of a hook's output is not kept for the message.
const MAX_OUTPUT: usize = 8 << 10;

/// Runs hooks one after the other; the first that fails ends it.
pub(crate) fn run(kind: &'static str, hooks: &[Hook], state: &State) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state).unwrap_or_default();
    for (index, hook) in hooks.iter().enumerate() {
        execute(hook, &state).map_err(|message| Error::Hook { kind, index, message })?;
    }
    Ok(())
}

/// Runs all hooks, whatever becomes of each; the failures are sentences.
pub(crate) fn run_all(kind: &'static str, hooks: &[Hook], state: &State) -> Vec<String> {
    let state = serde_json::to_vec(state).unwrap_or_default();
    let failed = hooks.iter().enumerate().filter_map(|(index, hook)| {
        let message = execute(hook, &state).err()?;
        Some(Error::Hook { kind, index, message }.to_string())
    });
    failed.collect()
}

/// One program, by fork and execve, with `state` on its standard input; a failure is a sentence.
pub(crate) fn execute(hook: &Hook, state: &[u8]) -> std::result::Result<(), String> {
    let c_string = |text: &str| CString::new(text).map_err(|_| format!("{text:?} has a NUL byte"));
    let path = c_string(&hook.path)?;
    let strings =
        |texts: &[String]| texts.iter().map(|text| c_string(text)).collect::<std::result::Result<Vec<_>, _>>();
    let mut arguments = strings(&hook.args)?;
    if arguments.is_empty() {
        arguments.push(path.clone());
    }
    let environment = strings(&hook.env)?;
    let io = |errno: Errno| errno.to_string();
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (stdin, to_stdin) = rustix::pipe::pipe_with(flags).map_err(io)?;
    let (from_output, output) = rustix::pipe::pipe_with(flags).map_err(io)?;
    let deadline =
        hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
    let child = clone::spawn(&clone::Options::default(), || {
        sys::clone::reset_signals();
        if clone::place_descriptors(&[stdin.as_fd(), output.as_fd(), output.as_fd()]).is_err() {
            return 126;
        }
        let _ = clone::close_on_exec_from(3);
        let error = clone::execute(&path, &arguments, &environment);
        let message = format!("{}: {}", hook.path, crate::failure::plain(&error));
        let _ = rustix::io::write(rustix::stdio::stderr(), message.as_bytes());
        127
    })
    .map_err(|error| error.to_string())?;
    drop(stdin);
    drop(output);
    let output = converse(to_stdin, state, &from_output, deadline);
    let ended = remaining_ms(deadline).map_or_else(
        || sys::pidfd::wait_for_end(child.pidfd.as_fd(), None),
        |ms| sys::pidfd::wait_for_end(child.pidfd.as_fd(), Some(ms)),
    );
    let in_time = ended.unwrap_or(false);
    if !in_time {
        let _ = sys::pidfd::send_signal(child.pidfd.as_fd(), Signal::KILL.as_raw());
    }
    let end = sys::pidfd::reap(child.pidfd.as_fd()).map_err(|error| error.to_string())?;
    if !in_time {
        return Err(format!("{} ran past its timeout of {} s", hook.path, hook.timeout.unwrap_or_default()));
    }
    match end {
        sys::pidfd::End::Exited(0) => Ok(()),
        sys::pidfd::End::Exited(code) => Err(format!("exit status {code}, stdout and stderr: {output}")),
        sys::pidfd::End::Signaled(signal) => Err(format!("signal {signal}, stdout and stderr: {output}")),
    }
}

fn remaining_ms(deadline: Option<Instant>) -> Option<u64> {
    deadline.map(|deadline| {
        u64::try_from(deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX)
    })
}

/// Gives the state and takes the output, as far as each can go on, until the last holder of the output's other end is gone
/// or the time is over. A hook that does not read its input is no error (SIGPIPE is ignored by every Rust program).
fn converse(to_stdin: OwnedFd, mut state: &[u8], from: &OwnedFd, deadline: Option<Instant>) -> String {
    // Annotations may make the state longer than a pipe is.
    let _ = rustix::fs::fcntl_setfl(&to_stdin, rustix::fs::OFlags::NONBLOCK);
    let mut to_stdin = Some(to_stdin);
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let timeout = remaining_ms(deadline).map(|ms| Timespec {
            tv_sec: (ms / 1000).try_into().unwrap_or(i64::MAX),
            tv_nsec: ((ms % 1000) * 1_000_000) as _,
        });
        let mut awaited = vec![PollFd::new(from, PollFlags::IN)];
        awaited.extend(to_stdin.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        match poll(&mut awaited, timeout.as_ref()) {
            Ok(0) => break,
            Err(Errno::INTR) => continue,
            Err(_) => break,
            Ok(_) => {}
        }
        let can_write = awaited.get(1).is_some_and(|pipe| !pipe.revents().is_empty());
        let can_read = awaited.first().is_some_and(|pipe| !pipe.revents().is_empty());
        drop(awaited);
        if can_write && let Some(pipe) = &to_stdin {
            match rustix::io::write(pipe, state) {
                Ok(length) => state = state.get(length..).unwrap_or_default(),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => state = &[],
            }
            if state.is_empty() {
                // Its end is what a hook reads until.
                to_stdin = None;
            }
        }
        if can_read {
            match rustix::io::read(from, &mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    let room = MAX_OUTPUT.saturating_sub(kept.len()).min(length);
                    kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
                }
            }
        }
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}
