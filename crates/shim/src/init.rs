//! The first process of a container that was started with `--init`: it starts the program, passes signals on, and
//! reaps what the program leaves behind.
//!
//! A program that runs as the first process of its namespace has two duties that most programs do not know of: the
//! kernel drops signals that it has no handler for, and orphans become its children. This process takes both.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, wait};
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use sys::signal::SignalFd;

const SIGCHLD: i32 = 17;
/// Those that the kernel raises for a fault of this process itself, and the two that cannot be blocked.
const NOT_PASSED_ON: &[i32] = &[4, 5, 7, 8, 9, 11, 19, 31];

/// `gantry init -- PROGRAM ARGUMENTS…`; the exit code is the program's, or 128 and the number of the signal that ended it.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let mut rest = arguments.into_iter().skip(1).peekable();
    if rest.peek().is_some_and(|a| a == "--") {
        rest.next();
    }
    let command: Vec<CString> = rest.filter_map(|a| CString::new(a.into_vec()).ok()).collect();
    if command.is_empty() {
        eprintln!("init: no program was given; usage: init -- PROGRAM [ARGUMENTS]");
        return ExitCode::from(2);
    }
    match run(&command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("init: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &[CString]) -> io::Result<u8> {
    let passed: Vec<i32> = (1..=64).filter(|n| !NOT_PASSED_ON.contains(n) && !(32..34).contains(n)).collect();
    let signals = SignalFd::new(&passed)?;
    let program = sys::clone::spawn(&sys::clone::Options::default(), || {
        own_group();
        sys::clone::reset_signals();
        let error = execute(command);
        eprintln!("init: cannot execute {}: {error}", command[0].to_string_lossy());
        if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    })?;
    loop {
        wait_readable(&signals)?;
        while let Some(signal) = signals.next()? {
            if signal != SIGCHLD {
                // One that ended meanwhile is reaped below.
                let _ = sys::pidfd::send_signal_to(program.pid, signal);
                continue;
            }
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                if pid.as_raw_nonzero().get() == program.pid {
                    let signalled = || status.terminating_signal().map(|s| 128 + s);
                    let code = status.exit_status().or_else(signalled).unwrap_or(255);
                    return Ok(u8::try_from(code).unwrap_or(u8::MAX));
                }
            }
        }
    }
}

/// Make a process group that has the terminal, if there is one: keys like ^C then reach the program and its children,
/// and this process passes nothing on twice. Signals are still blocked here, so the kernel lets a background group do it.
fn own_group() {
    let made = rustix::process::setpgid(None, None);
    if made.is_ok() && rustix::termios::isatty(rustix::stdio::stdin()) {
        // Without a controlling terminal there is none to take.
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpgrp());
    }
}

fn wait_readable(signals: &SignalFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(signals, PollFlags::IN)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Look the program up as execvp(3) does.
fn execute(command: &[CString]) -> io::Error {
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.into_vec(), value.into_vec()].join(&b'=')).ok())
        .collect();
    let program = &command[0];
    if program.as_bytes().contains(&b'/') {
        return sys::clone::execute(program, command, &environment);
    }
    let path = std::env::var_os("PATH")
        .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for folder in std::env::split_paths(&path) {
        let full = folder.into_os_string().into_vec();
        let Ok(full) = CString::new([&full[..], program.as_bytes()].join(&b'/')) else { continue };
        let error = sys::clone::execute(&full, command, &environment);
        if error.kind() != io::ErrorKind::NotFound {
            last = error;
        }
    }
    last
}
