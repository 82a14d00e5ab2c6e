//! What each request does.

use super::Monitor;
use crate::call::Call;
use crate::log::Log;
use crate::protocol::{Attach, Exec, Failure, FailureKind, Request, Response, State, VERSION};
use crate::session::{Session, Streams, pipes, terminal};
use runtime::{Container, CreateOptions, ExecOptions, Stdio};
use rustix::event::PollFlags;
use std::os::fd::OwnedFd;

/// A refusal of a kind.
fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into() }
}

fn system(what: &str, error: &std::io::Error) -> Failure {
    failure(FailureKind::System, format!("cannot {what}: {error}"))
}

fn refused(error: &runtime::Error) -> Failure {
    let kind = match error {
        e if e.is_program_not_found() => FailureKind::ProgramNotFound,
        e if e.is_program_not_executable() => FailureKind::ProgramNotExecutable,
        runtime::Error::Status { .. } | runtime::Error::Exists(_) => FailureKind::Conflict,
        runtime::Error::Spec(_) | runtime::Error::InvalidId(_) => FailureKind::Invalid,
        runtime::Error::NotFound(_) => FailureKind::NotFound,
        _ => FailureKind::System,
    };
    failure(kind, error.to_string())
}

impl Monitor {
    /// A connection has something to say.
    pub(super) fn called(&mut self, index: usize, flags: PollFlags) {
        let Some(call) = self.calls.get_mut(index) else { return };
        call.ready(flags, &mut self.buffer);
        while let Some(request) = self.calls.get_mut(index).and_then(Call::next_request) {
            let request = match request {
                Ok(request) => request,
                Err(error) => {
                    let refusal = failure(FailureKind::Invalid, format!("not a request: {error}"));
                    self.answer(index, &Response::Failed(refusal));
                    continue;
                }
            };
            match request {
                Request::Attach(wants) => return self.attach(index, wants),
                Request::Exec(exec) => return self.exec(index, *exec),
                Request::Events => {
                    self.calls[index].events = true;
                    self.answer(index, &Response::Done);
                }
                other => {
                    let response = self.perform(other).unwrap_or_else(Response::Failed);
                    self.answer(index, &response);
                }
            }
        }
    }

    fn answer(&mut self, index: usize, response: &Response) {
        if let Some(call) = self.calls.get_mut(index) {
            call.send(response, &self.config.spool_dir);
        }
    }

    fn perform(&mut self, request: Request) -> Result<Response, Failure> {
        match request {
            Request::Create => return self.create(),
            Request::Start => {
                self.container()?.start().map_err(|e| refused(&e))?;
                self.started = true;
            }
            Request::Signal { exec: None, signal, all } => {
                self.container()?.kill(signal, all).map_err(|e| refused(&e))?;
            }
            Request::Signal { exec: Some(id), signal, .. } => self.signal_exec(&id, signal)?,
            Request::Resize { exec, rows, columns } => {
                let session = self.session(exec.as_deref())?;
                session.resize(rows, columns).map_err(|e| system("resize the terminal", &e))?;
            }
            Request::CloseStdin { exec } => self.session(exec.as_deref())?.close_input(),
            Request::Pause => {
                self.container()?.pause().map_err(|e| refused(&e))?;
                self.paused = true;
            }
            Request::Resume => {
                self.container()?.resume().map_err(|e| refused(&e))?;
                self.paused = false;
            }
            Request::Update { resources } => self.container()?.update(&resources).map_err(|e| refused(&e))?,
            Request::Processes => {
                return self.container()?.processes().map(Response::Processes).map_err(|e| refused(&e));
            }
            Request::State => return Ok(Response::State(self.state())),
            Request::Shutdown => self.shutdown()?,
            Request::Attach(_) | Request::Exec(_) | Request::Events => {
                return Err(failure(FailureKind::Invalid, "not possible on this connection"));
            }
        }
        Ok(Response::Done)
    }

    fn container(&mut self) -> Result<&mut Container, Failure> {
        self.container.as_mut().ok_or_else(|| failure(FailureKind::Conflict, "the container has not been created"))
    }

    fn session(&mut self, exec: Option<&str>) -> Result<&mut Session, Failure> {
        match exec {
            None => {
                self.main.as_mut().ok_or_else(|| failure(FailureKind::Conflict, "the container has not been created"))
            }
            Some(id) => {
                self.execs.get_mut(id).ok_or_else(|| failure(FailureKind::NotFound, format!("no such exec: {id}")))
            }
        }
    }

    fn create(&mut self) -> Result<Response, Failure> {
        if self.container.is_some() {
            return Err(failure(FailureKind::Conflict, "the container has been created already"));
        }
        let on_terminal = self.config.spec.process.as_ref().is_some_and(|p| p.terminal);
        let (streams, stdio) = self.streams(on_terminal, self.config.stdin_open, true, true)?;
        let log = self.config.log.as_ref().map(Log::open).transpose().map_err(|e| system("open the log", &e))?;
        let created = Container::create(CreateOptions {
            id: self.config.id.clone(),
            bundle: self.config.bundle.clone(),
            // Not needed here again: the container keeps its own, and a creation that fails is not tried again.
            spec: std::mem::take(&mut self.config.spec),
            state_root: self.config.state_root.clone(),
            rootfs: std::mem::take(&mut self.config.rootfs),
            stdio,
            extra_fds: Vec::new(),
            no_pivot: false,
            no_new_keyring: false,
            rootless: None,
        })
        .map_err(|e| refused(&e))?;
        let watch = created.container.cgroup().ok().and_then(|c| c.watch_oom().ok().flatten());
        self.oom = watch.map(|watch| (watch, 0));
        self.container = Some(created.container);
        let streams = with_console(streams, created.console)?;
        let mut session = Session::new(created.pid, on_terminal, streams).map_err(|e| system("use the streams", &e))?;
        session.stdin_once = self.config.stdin_once;
        session.log = log;
        self.main = Some(session);
        Ok(Response::Created { pid: created.pid, warnings: created.warnings })
    }

    fn streams(&self, on_terminal: bool, stdin: bool, stdout: bool, stderr: bool) -> Result<(Streams, Stdio), Failure> {
        if on_terminal {
            return Ok((Streams::default(), Stdio::Terminal));
        }
        let (ours, [stdin, stdout, stderr]) = pipes(stdin, stdout, stderr).map_err(|e| system("make pipes", &e))?;
        Ok((ours, Stdio::Streams { stdin, stdout, stderr }))
    }

    fn attach(&mut self, index: usize, wants: Attach) {
        if let Err(refusal) = self.session(None) {
            return self.answer(index, &Response::Failed(refusal));
        }
        let call = self.take(index, &Response::Done);
        if let (Some(mut call), Some(session)) = (call, self.main.as_mut()) {
            if wants.stdin {
                session.prefill(&call.leftover());
            }
            // A connection that cannot be used is one that its client lost.
            let _ = session.attach(call.connection, wants);
        }
    }

    fn exec(&mut self, index: usize, exec: Exec) {
        let Exec { id, process, streams: wants } = exec;
        let (response, session) = match self.start_exec(&id, process, wants) {
            Ok(session) => session,
            Err(refusal) => return self.answer(index, &Response::Failed(refusal)),
        };
        let call = self.take(index, &response);
        let mut session = session;
        if let Some(mut call) = call
            && (wants.stdin || wants.stdout || wants.stderr)
        {
            if wants.stdin {
                session.prefill(&call.leftover());
            }
            let _ = session.attach(call.connection, wants);
        }
        self.execs.insert(id, session);
    }

    fn start_exec(
        &mut self,
        id: &str,
        process: oci::spec::Process,
        wants: Attach,
    ) -> Result<(Response, Session), Failure> {
        if self.execs.contains_key(id) {
            return Err(failure(FailureKind::Conflict, format!("the exec {id} runs already")));
        }
        let on_terminal = process.terminal;
        let (streams, stdio) = self.streams(on_terminal, wants.stdin, wants.stdout, wants.stderr)?;
        let started = self.container()?.exec(ExecOptions::new(process, stdio)).map_err(|e| refused(&e))?;
        let streams = with_console(streams, started.console)?;
        let mut session = Session::new(started.pid, on_terminal, streams).map_err(|e| system("use the streams", &e))?;
        session.stdin_once = true;
        Ok((Response::Created { pid: started.pid, warnings: started.warnings }, session))
    }

    /// Answer, and take the connection out of the calls to become something else.
    fn take(&mut self, index: usize, response: &Response) -> Option<Call> {
        self.answer(index, response);
        // A connection in the place of the removed one would be served twice in this round otherwise; positions are
        // kept until the end of the round by putting a lost one there.
        let call = self.calls.get_mut(index)?;
        let (spare, _) = std::os::unix::net::UnixStream::pair().ok()?;
        let mut lost = Call::new(spare).ok()?;
        lost.lost = true;
        Some(std::mem::replace(call, lost))
    }

    fn signal_exec(&mut self, id: &str, signal: i32) -> Result<(), Failure> {
        let session = self.session(Some(id))?;
        if session.exit.is_some() {
            return Err(failure(FailureKind::Conflict, format!("the exec {id} has ended")));
        }
        // The process is our child and not yet reaped, so the pid is its own.
        sys::pidfd::send_signal_to(session.pid, signal).map_err(|e| system("send the signal", &e))
    }

    /// Kill what was made. The loop then goes the way of every end; without a container there is nothing to wait for.
    fn shutdown(&mut self) -> Result<(), Failure> {
        match &self.container {
            Some(container) => container.kill(9, true).map_err(|e| refused(&e)),
            None => {
                self.abandoned = true;
                Ok(())
            }
        }
    }

    fn state(&self) -> State {
        State {
            version: VERSION,
            shim_pid: rustix::process::getpid().as_raw_nonzero().get(),
            pid: self.main.as_ref().map(|s| s.pid),
            started: self.started,
            paused: self.paused,
            exit: self.main.as_ref().and_then(|s| s.exit.clone()),
            execs: self.execs.iter().filter(|(_, s)| s.exit.is_none()).map(|(id, _)| id.clone()).collect(),
        }
    }
}

fn with_console(streams: Streams, console: Option<OwnedFd>) -> Result<Streams, Failure> {
    match console {
        Some(master) => terminal(master).map_err(|e| system("use the terminal", &e)),
        None => Ok(streams),
    }
}
