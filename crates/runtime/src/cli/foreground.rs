//! Standing in for a process of a container until it ends: signals go to it, its terminal to ours.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::WaitOptions;
use rustix::termios::Termios;
use sys::clone::Child;
use sys::pidfd::End;
use sys::signal::SignalFd;
use sys::{pidfd, pty};

use super::notify::Listening;
use super::{Failure, Outcome};

const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;
const SIGURG: i32 = 23;

/// What is held back of input for a program that does not read; then ours is not read either.
const MAX_PENDING: usize = 64 << 10;

/// Caught signals.
pub(super) struct Foreground {
    signals: SignalFd,
    /// Orphans of the container become children of this process, when it has no pid namespace with a parent of its own
    /// for them.
    subreaper: bool,
}

impl Foreground {
    /// Catches every signal that can be passed on.
    pub(super) fn prepare(subreaper: bool) -> std::io::Result<Self> {
        if subreaper {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        // Not KILL and STOP, which cannot be caught, nor what the kernel sends for a program's own mistakes, PIPE, and
        // what stops background jobs.
        let skipped = [4, 5, 6, 7, 8, 9, 11, 13, 19, 20, 21, 22, 31];
        let caught: Vec<i32> = (1..=31).filter(|signal| !skipped.contains(signal)).collect();
        Ok(Self { signals: SignalFd::new(&caught)?, subreaper })
    }

    /// Passes everything on until the process ends; its exit code.
    pub(super) fn follow(&self, child: &Child, console: Option<OwnedFd>, ready: Option<&Listening>) -> Outcome {
        let terminal = console.map(Terminal::new).transpose()?;
        let end = self.pass_on(child, terminal, ready)?;
        Ok(u8::try_from(end.code()).unwrap_or(u8::MAX))
    }

    fn pass_on(
        &self,
        child: &Child,
        mut terminal: Option<Terminal>,
        ready: Option<&Listening>,
    ) -> Result<End, Failure> {
        let process = &child.pidfd;
        let mut ended = None;
        loop {
            let drained = terminal.as_ref().is_none_or(|terminal| terminal.output_closed);
            if let (Some(end), true) = (ended, drained) {
                return Ok(end);
            }
            let mut watched = vec![
                PollFd::new(process, if ended.is_some() { PollFlags::empty() } else { PollFlags::IN }),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            watched.extend(ready.map(|ready| PollFd::new(ready, PollFlags::IN)));
            let place = watched.len();
            if let Some(terminal) = &terminal {
                terminal.watch(&mut watched);
            }
            match poll(&mut watched, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let flags: Vec<PollFlags> = watched.iter().map(PollFd::revents).collect();
            drop(watched);
            let is_ready = |index: usize| flags.get(index).is_some_and(|flags| !flags.is_empty());
            if is_ready(1) {
                self.send_signals(process, terminal.as_ref())?;
            }
            // This process is the one to watch: it ends with the container, and with its exit code. A manager that is gone
            // is no reason to leave the container alone.
            if let Some(ready) = ready {
                let _ = ready.pass_on(rustix::process::getpid().as_raw_nonzero().get());
            }
            if let Some(terminal) = &mut terminal {
                terminal.copy(flags.get(place).copied(), flags.get(place + 1).copied())?;
            }
            if ended.is_none() && (is_ready(0) || (self.subreaper && is_ready(1))) {
                ended = self.reap(child)?;
            }
            if ended.is_some() {
                // What others of the container still hold open is not waited for.
                if let Some(terminal) = &mut terminal {
                    terminal.drain()?;
                }
            }
        }
    }

    /// How the child ended, if it did; with it go orphans that ended.
    fn reap(&self, child: &Child) -> std::io::Result<Option<End>> {
        if self.subreaper { reap_all(child.pid) } else { pidfd::reap(child.pidfd.as_fd()).map(Some) }
    }

    fn send_signals(&self, process: &OwnedFd, terminal: Option<&Terminal>) -> std::io::Result<()> {
        while let Some(signal) = self.signals.next()? {
            match signal {
                SIGCHLD | SIGURG => {}
                SIGWINCH => {
                    if let Some(terminal) = terminal {
                        terminal.resize();
                    }
                }
                signal => match pidfd::send_signal(process.as_fd(), signal) {
                    Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => return Err(error),
                    _ => {}
                },
            }
        }
        Ok(())
    }
}

/// Reaps every child that ended; how the one with this number did, if it is among them.
fn reap_all(pid: i32) -> std::io::Result<Option<End>> {
    let mut end = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((child, status))) if child.as_raw_nonzero().get() == pid => {
                end = Some(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => End::Exited(code),
                    (None, signal) => End::Signaled(signal.unwrap_or_default()),
                });
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(end),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The container's terminal between our standard streams.
struct Terminal {
    master: OwnedFd,
    /// Of our own terminal, if it is one.
    before: Option<Termios>,
    /// Input that the container's terminal did not take yet.
    pending: VecDeque<u8>,
    input_closed: bool,
    output_closed: bool,
}

impl Terminal {
    fn new(master: OwnedFd) -> std::io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        let stdin = rustix::stdio::stdin();
        let before = if rustix::termios::isatty(stdin) { Some(pty::make_raw(stdin)?) } else { None };
        let terminal = Self { master, before, pending: VecDeque::new(), input_closed: false, output_closed: false };
        terminal.resize();
        Ok(terminal)
    }

    /// The container's terminal has the size of ours.
    fn resize(&self) {
        if let Ok((rows, columns)) = pty::size(rustix::stdio::stdin()) {
            let _ = pty::resize(self.master.as_fd(), rows, columns);
        }
    }

    /// The last two places of what is polled.
    fn watch<'a>(&'a self, watched: &mut Vec<PollFd<'a>>) {
        let mut flags = PollFlags::empty();
        if !self.output_closed {
            flags |= PollFlags::IN;
        }
        if !self.pending.is_empty() {
            flags |= PollFlags::OUT;
        }
        watched.push(PollFd::new(&self.master, flags));
        if !self.input_closed && self.pending.len() < MAX_PENDING {
            watched.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
    }

    fn copy(&mut self, master: Option<PollFlags>, stdin: Option<PollFlags>) -> std::io::Result<()> {
        if stdin.is_some_and(|flags| !flags.is_empty()) {
            let mut buffer = [0; 4096];
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(0) | Err(Errno::IO) => {
                    self.input_closed = true;
                    // What a terminal sends for the end of input.
                    self.pending.push_back(4);
                }
                Ok(length) => self.pending.extend(buffer.get(..length).unwrap_or_default()),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.write_pending();
        if master.is_some_and(|flags| flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)) {
            self.read_once()?;
        }
        Ok(())
    }

    fn write_pending(&mut self) {
        let (first, _) = self.pending.as_slices();
        if first.is_empty() {
            return;
        }
        match rustix::io::write(&self.master, first) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.pending.clear(),
        }
    }

    /// Whether there was something.
    fn read_once(&mut self) -> std::io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(&self.master, &mut buffer) {
            // EIO: nobody has the other side open any more.
            Ok(0) | Err(Errno::IO) => self.output_closed = true,
            Ok(length) => {
                let mut rest = buffer.get(..length).unwrap_or_default();
                while !rest.is_empty() {
                    match rustix::io::write(rustix::stdio::stdout(), rest) {
                        Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                        Err(Errno::INTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                return Ok(true);
            }
            Err(Errno::INTR) => return Ok(true),
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(false)
    }

    fn drain(&mut self) -> std::io::Result<()> {
        while self.read_once()? {}
        self.output_closed = true;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = pty::restore(rustix::stdio::stdin(), before);
        }
    }
}
