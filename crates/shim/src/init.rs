//! `gantry init -- PROGRAM ARG…`: the minimal init of `--init`, process 1 of a container.
//!
//! It starts the program as its child, hands on every signal that it gets, reaps what is left to it, and ends as the program
//! ends: with its exit code, or 128 and the number of the signal.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use sys::signal::SignalFd;

const SIGCHLD: i32 = 17;
/// What every signal is handed on but those that cannot be blocked, those of a crash of our own, and those of the terminal's job
/// control (the program is in the foreground, we are not).
const HANDED_ON: [i32; 16] = [1, 2, 3, 10, 12, 13, 14, 15, 18, 20, 23, 24, 25, 28, 29, 30];

/// The program, with its own name as the first argument.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let mut words = arguments.into_iter().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "--") {
        words.next();
    }
    let Some(program) = words.next() else {
        eprintln!("gantry init: PROGRAM is missing: gantry init -- PROGRAM [ARG...]");
        return ExitCode::from(2);
    };
    match run(&program, words.collect()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("gantry init: {}: {error}", program.display());
            // As a shell: 127 for a program that is not there, 126 for one that cannot be executed.
            ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
        }
    }
}

fn run(program: &OsString, arguments: Vec<OsString>) -> io::Result<u8> {
    // Before the child exists: its end must not be missed. The child starts with nothing blocked.
    let mut blocked = HANDED_ON.to_vec();
    blocked.push(SIGCHLD);
    // Writing to a terminal that is another's stops the writer unless these two are blocked.
    blocked.extend([21, 22]);
    let signals = SignalFd::new(&blocked)?;
    let child = Command::new(program).args(arguments).process_group(0).spawn()?;
    let pid = Pid::from_child(&child);
    // The program gets the terminal, if there is one.
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), pid);
    loop {
        match poll(&mut [PollFd::new(&signals, PollFlags::IN)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(number) = signals.next()? {
            if HANDED_ON.contains(&number) {
                // A program that has just ended needs no signal.
                let _ = sys::pidfd::send_signal_to(pid.as_raw_nonzero().get(), number);
            }
        }
        if let Some(code) = reap(pid)? {
            return Ok(code);
        }
    }
}

/// Reaps everything that has ended; the exit code when the program is among it.
fn reap(program: Pid) -> io::Result<Option<u8>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => {
                if let Some(code) = code(status) {
                    return Ok(Some(code));
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn code(status: WaitStatus) -> Option<u8> {
    if let Some(code) = status.exit_status() {
        return u8::try_from(code & 0xff).ok();
    }
    status.terminating_signal().and_then(|signal| u8::try_from(128 + signal).ok())
}
