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
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sys::cgroup::{Cgroup, OomWatch};
use sys::signal::SignalFd;

/// How long output is read after a process ended, when somebody else still holds the other end.
const GRACE: Duration = Duration::from_secs(2);

/// How long a client that takes nothing is waited for after the container's end.
const LINGER: Duration = Duration::from_secs(60);

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

impl Config {
    fn cgroup(&self) -> Option<Cgroup> {
        let path = self.spec.linux.as_ref()?.cgroups_path.as_deref()?;
        Cgroup::open(Path::new(path)).ok()
    }
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
    buffer: Vec<u8>,
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
        buffer: vec![0; HEADER + CHUNK],
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
        let ended = self.main.iter().chain(self.execs.values()).filter(|s| !s.drained());
        let deadlines = ended.filter_map(|s| s.ended.map(|at| at + GRACE));
        deadlines.min().map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn handle(&mut self, token: Token, flags: PollFlags) -> Result<(), Error> {
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
            let own = self.config.spec.namespace("pid").is_some_and(|n| n.path.is_none());
            if !own && let Err(error) = container.kill(9, true) {
                eprintln!("gantry shim: cannot kill what the first process left behind: {error}");
            }
        }
    }

    /// Draw the consequences of what happened.
    fn settle(&mut self) {
        for session in self.main.iter_mut().chain(self.execs.values_mut()) {
            if session.ended.is_some_and(|at| at.elapsed() >= GRACE) && !session.drained() {
                session.abandon();
            }
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
        let done = |s: &Session| s.exit.is_some() && s.drained();
        if !self.finished && self.main.as_ref().is_some_and(done) && self.execs.values().all(done) {
            self.finish();
        }
        self.calls.retain(|c| !c.lost);
    }

    /// The container has ended and all was read: free what it occupied, write the record, tell everyone.
    fn finish(&mut self) {
        self.out_of_memory();
        let Some(session) = &mut self.main else { return };
        if let Some(log) = &mut session.log {
            log.finish();
        }
        let Some(mut exit) = session.exit.clone() else { return };
        if let Some(container) = self.container.take() {
            // The group is gone after the next call, and with it its counter.
            self.oom = None;
            let kills = self.config.cgroup().and_then(|c| c.oom_kills().ok());
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
