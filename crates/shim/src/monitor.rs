//! The shim's one loop: it waits for everything at once, and nothing that it does waits for long.
//!
//! ```text
//!  engine's requests ─► requests.rs ──► runtime
//!  child's end ───────► exit of a session ─► its output drained ─► (container) record, clean-up, event
//!  output, input ─────► session.rs
//! ```

mod requests;

use crate::call::Call;
use crate::exit;
use crate::protocol::{Config, Event, Exit};
use crate::session::{CHUNK, HEADER, Session, Source};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, WaitStatus};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sys::cgroup::OomWatch;
use sys::signal::SignalFd;

/// How long a client that takes nothing is waited for after the container's end.
const LINGER: Duration = Duration::from_secs(60);

/// How long nothing happens before memory is given back that the next burst of work would need again.
const WARM: Duration = Duration::from_secs(1);

const SIGCHLD: i32 = 17;
const SIGTERM: i32 = 15;
const SIGINT: i32 = 2;
const SIGHUP: i32 = 1;

/// Why a shim cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Config { path: PathBuf, source: io::Error },
    #[error("cannot listen on {}: {source}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
}

/// For `map_err`: what was being done.
fn during<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::System { what, source: source.into() }
}

/// Everything that the shim knows.
struct Monitor {
    config: Config,
    /// Gone once the container has ended, so that the next shim of the container can listen.
    listener: Option<UnixListener>,
    signals: SignalFd,
    calls: Vec<Call>,
    container: Option<runtime::Container>,
    main: Option<Session>,
    execs: BTreeMap<String, Session>,
    started: bool,
    paused: bool,
    /// The container's end was told; what remains is to serve slow clients.
    finished: bool,
    /// The engine gave up before the start.
    abandoned: bool,
    /// Tells of processes killed for want of memory, with how many are known of.
    oom: Option<(OomWatch, u64)>,
    /// Empty while nothing happens.
    buffer: Vec<u8>,
    /// Something happened since memory was given back.
    warm: bool,
    /// Something happened since the pages of the program were.
    mapped: Cell<bool>,
}

/// What a descriptor in the poll set belongs to.
enum Token {
    Listener,
    Oom,
    Signals,
    Call(usize),
    Session(Option<String>, Source),
}

/// Serve the container that `shim.json` in the run directory describes, until it has ended.
pub(crate) fn run(run_dir: &Path) -> Result<(), Error> {
    let path = run_dir.join(crate::CONFIG);
    let text = fs::read(&path).map_err(|source| Error::Config { path: path.clone(), source })?;
    let config: Config = serde_json::from_slice(&text).map_err(|e| Error::Config { path, source: e.into() })?;
    drop(text);
    rustix::process::setsid().map_err(during("make a session"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(during("adopt orphans"))?;
    // Signals to the shim must not cost the container its streams: they are read and dropped.
    let signals = SignalFd::new(&[SIGCHLD, SIGTERM, SIGINT, SIGHUP]).map_err(during("block signals"))?;
    let listener = listen(&config.socket_path)?;
    let born_with = first_connection().map_err(during("take over the first connection"))?;
    let mut monitor = Monitor {
        config,
        listener: Some(listener),
        signals,
        calls: vec![Call::new(born_with).map_err(during("use the first connection"))?],
        container: None,
        main: None,
        execs: BTreeMap::new(),
        started: false,
        paused: false,
        finished: false,
        abandoned: false,
        oom: None,
        buffer: Vec::new(),
        warm: true,
        mapped: Cell::new(true),
    };
    let outcome = monitor.serve();
    monitor.stop_listening();
    outcome
}

fn listen(path: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Listen { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Standard input is the connection to the engine that started the shim; children must not get it.
fn first_connection() -> io::Result<UnixStream> {
    let connection: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let null = fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(connection.into())
}

impl Monitor {
    fn serve(&mut self) -> Result<(), Error> {
        while !self.over() {
            let ready = self.wait()?;
            if ready.is_empty() && self.finished {
                // Nobody took anything for as long as a client is waited for.
                return Ok(());
            }
            if ready.is_empty() && self.warm {
                self.rest();
            }
            for (token, flags) in ready {
                self.handle(token, flags)?;
            }
            self.settle();
        }
        Ok(())
    }

    fn over(&self) -> bool {
        let owes = || self.main.iter().chain(self.execs.values()).any(Session::owes);
        self.abandoned || self.finished && !owes() || self.main.is_none() && self.calls.is_empty()
    }

    /// Wait until something can be done, or until the time for waiting is over.
    fn wait(&self) -> Result<Vec<(Token, PollFlags)>, Error> {
        let mut tokens = vec![Token::Signals];
        let mut set = vec![PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)];
        if let Some(listener) = &self.listener {
            tokens.push(Token::Listener);
            set.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        if let Some((watch, _)) = &self.oom {
            tokens.push(Token::Oom);
            let flags = watch.poll_flags();
            set.push(PollFd::from_borrowed_fd(watch.as_fd(), flags));
        }
        for (index, call) in self.calls.iter().enumerate() {
            tokens.push(Token::Call(index));
            set.push(PollFd::from_borrowed_fd(call.connection.as_fd(), call.interest()));
        }
        let execs = self.execs.iter().map(|(id, session)| (Some(id), session));
        for (id, session) in self.main.iter().map(|s| (None, s)).chain(execs) {
            for (source, fd, flags) in session.sources() {
                tokens.push(Token::Session(id.cloned(), source));
                set.push(PollFd::from_borrowed_fd(fd, flags));
            }
        }
        let timeout = self
            .patience()
            .map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) });
        if !self.warm && self.mapped.replace(false) {
            // As the last thing before a long wait: what is called after it is mapped again.
            sys::process::unmap_program();
        }
        match poll(&mut set, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(e) => return Err(during("wait for events")(e)),
        }
        let flags: Vec<PollFlags> = set.iter().map(PollFd::revents).collect();
        Ok(tokens.into_iter().zip(flags).filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// How long to wait at most.
    fn patience(&self) -> Option<Duration> {
        if self.finished {
            return Some(LINGER);
        }
        let deadlines = self.main.iter().chain(self.execs.values()).filter_map(Session::deadline);
        let left = deadlines.min().map(|at| at.saturating_duration_since(Instant::now()));
        if self.warm { Some(left.map_or(WARM, |left| left.min(WARM))) } else { left }
    }

    /// Give memory back: most containers are idle most of the time.
    fn rest(&mut self) {
        self.buffer = Vec::new();
        self.main.iter_mut().chain(self.execs.values_mut()).for_each(Session::rest);
        self.calls.iter_mut().for_each(Call::rest);
        sys::process::trim_heap();
        self.warm = false;
    }

    fn handle(&mut self, token: Token, flags: PollFlags) -> Result<(), Error> {
        self.warm = true;
        self.mapped.set(true);
        if self.buffer.is_empty() {
            self.buffer = vec![0; HEADER + CHUNK];
        }
        match token {
            Token::Signals => self.signalled().map_err(during("read signals"))?,
            Token::Listener => self.accept(),
            Token::Oom => self.out_of_memory(),
            Token::Call(index) => self.called(index, flags),
            Token::Session(id, source) => {
                let session = match &id {
                    None => self.main.as_mut(),
                    Some(id) => self.execs.get_mut(id),
                };
                if let Some(session) = session {
                    session.ready(source, flags, &mut self.buffer, &self.config.spool_dir);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        // A client that left before it was accepted is no matter of ours.
        while let Ok((connection, _)) = listener.accept() {
            self.calls.extend(Call::new(connection).ok());
        }
    }

    fn signalled(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.next()? {
            if signal == SIGCHLD {
                self.reap()?;
            }
        }
        Ok(())
    }

    /// Learn of every child that ended; those that are nobody's were orphans of the container.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid.as_raw_nonzero().get(), status),
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn ended(&mut self, pid: i32, status: WaitStatus) {
        self.main.iter_mut().filter_map(|s| s.log.as_mut()).for_each(|log| log.child_ended(pid));
        let execs = self.execs.iter_mut().map(|(id, s)| (Some(id.clone()), s));
        let mut all = self.main.iter_mut().map(|s| (None, s)).chain(execs);
        let Some((exec, session)) = all.find(|(_, s)| s.pid == pid && s.exit.is_none()) else { return };
        let main = exec.is_none();
        let signal = status.terminating_signal();
        let code = status.exit_status().or_else(|| signal.map(|s| 128 + s)).unwrap_or(255);
        session.exit = Some(Exit { exec, code, signal, oom: false, at: Timestamp::now() });
        session.ended = Some(Instant::now());
        if main && let Some(container) = &self.container {
            // In a process namespace of its own the kernel has done this already.
            let own = container.spec().namespace("pid").is_some_and(|n| n.path.is_none());
            if !own && let Err(error) = container.kill(9, true) {
                eprintln!("gantry shim: cannot kill what the first process left behind: {error}");
            }
        }
    }

    /// Draw the consequences of what happened.
    fn settle(&mut self) {
        for session in self.main.iter_mut().chain(self.execs.values_mut()) {
            session.settle();
        }
        let mut events = Vec::new();
        for session in self.execs.values_mut().filter(|s| !s.told && s.drained()) {
            if let Some(exit) = &session.exit {
                events.push(Event::Exited(exit.clone()));
                session.told = true;
            }
        }
        for event in events {
            self.tell(&event);
        }
        for session in self.main.iter_mut().chain(self.execs.values_mut()) {
            session.tidy();
        }
        self.execs.retain(|_, s| !s.told || s.connected());
        let done = |s: &Session| s.exit.is_some() && s.drained() && s.logged();
        if !self.finished && self.main.as_ref().is_some_and(done) && self.execs.values().all(done) {
            self.finish();
        }
        self.calls.retain(|c| !c.lost);
    }

    /// The container has ended and all was read: free what it occupied, write the record, tell everyone.
    fn finish(&mut self) {
        self.out_of_memory();
        let Some(session) = &mut self.main else { return };
        let Some(mut exit) = session.exit.clone() else { return };
        if let Some(container) = self.container.take() {
            // The group is gone after the next call, and with it its counter.
            self.oom = None;
            let kills = container.cgroup().ok().and_then(|c| c.oom_kills().ok());
            exit.oom = kills.is_some_and(|kills| kills > 0);
            match container.delete(true) {
                Ok(warnings) => warnings.iter().for_each(|warning| eprintln!("gantry shim: {warning}")),
                Err(error) => eprintln!("gantry shim: cannot remove what is left of the container: {error}"),
            }
        }
        // A container that was never started has no end to record.
        if self.started
            && let Err(error) = exit::write(&self.config.exit_path, &exit)
        {
            eprintln!("gantry shim: cannot write {}: {error}", self.config.exit_path.display());
        }
        session.exit = Some(exit.clone());
        self.stop_listening();
        self.tell(&Event::Exited(exit));
        self.calls.clear();
        self.finished = true;
    }

    /// One event for each process that was killed; a notice may stand for several, or for a limit that was only reached.
    fn out_of_memory(&mut self) {
        let Some((watch, known)) = &mut self.oom else { return };
        let kills = watch.acknowledge().unwrap_or(*known);
        let new = kills.saturating_sub(*known);
        *known = kills.max(*known);
        for _ in 0..new {
            self.tell(&Event::Oom);
        }
    }

    fn tell(&mut self, event: &Event) {
        for call in self.calls.iter_mut().filter(|c| c.events) {
            call.send(event, &self.config.spool_dir);
        }
    }

    fn stop_listening(&mut self) {
        if self.listener.take().is_some() {
            // It may have been removed with the whole run directory.
            let _ = fs::remove_file(&self.config.socket_path);
        }
    }
}
