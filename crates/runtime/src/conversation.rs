//! The caller's side while a process is made: answers what the process asks, until it is ready or gives up.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci::spec::{Linux, Rlimit, Spec, State, Status};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use serde_json::json;
use sys::clone::Child;
use sys::pidfd::{self, End};

use crate::channel::{Channel, Message, send_bytes};
use crate::error::{Error, Result};
use crate::plan::system;
use crate::rdt::Class;
use crate::{hooks, idmap, net_devices, rlimits};

/// A process on its way, and the one that introduces it, if any.
pub(crate) struct Conversation<'a> {
    pub(crate) channel: Channel,
    /// The process, or the one between until it has told who the process is.
    pub(crate) child: Child,
    /// `child` is the one between.
    pub(crate) introduced: bool,
    pub(crate) spec: &'a Spec,
    /// For hooks and the agent of system calls.
    pub(crate) state: State,
    pub(crate) warnings: Vec<String>,
    /// Of the process.
    pub(crate) oom_score_adj: Option<i32>,
    /// Of the process.
    pub(crate) rlimits: Vec<Rlimit>,
    /// The class of service that the process is put into.
    pub(crate) class: Option<&'a Class>,
}

/// A process that is ready.
pub(crate) struct Ready {
    pub(crate) child: Child,
    pub(crate) console: Option<OwnedFd>,
    pub(crate) warnings: Vec<String>,
}

impl Conversation<'_> {
    /// Talks until the process is ready. After an error it is gone, and reaped.
    pub(crate) fn hold(mut self) -> Result<Ready> {
        let mut console = None;
        let result = self.talk(&mut console);
        match result {
            Ok(()) => Ok(Ready { child: self.child, console, warnings: self.warnings }),
            Err(error) => {
                let _ = pidfd::send_signal(self.child.pidfd.as_fd(), Signal::KILL.as_raw());
                let end = pidfd::reap(self.child.pidfd.as_fd());
                Err(match error {
                    Error::InitDied(_) => Error::InitDied(describe(end.ok())),
                    other => other,
                })
            }
        }
    }

    fn talk(&mut self, console: &mut Option<OwnedFd>) -> Result<()> {
        if !self.introduced {
            self.admit()?;
        }
        loop {
            let received = self.channel.receive().map_err(|error| system("listening to the new process", error))?;
            let Some((message, descriptor)) = received else { return Err(Error::InitDied(String::new())) };
            match message {
                Message::MapIds => {
                    let (uids, gids) =
                        self.linux().map(|l| (l.uid_mappings.clone(), l.gid_mappings.clone())).unwrap_or_default();
                    idmap::write_maps(self.child.pid, &uids, &gids)?;
                    self.answer()?;
                }
                Message::NetDevices => {
                    if let Some(linux) = self.linux() {
                        net_devices::move_to(&linux.net_devices, self.child.pid)?;
                    }
                    self.answer()?;
                }
                Message::Hooks => {
                    self.state.pid = Some(self.child.pid);
                    if let Some(all) = &self.spec.hooks {
                        hooks::run("prestart", &all.prestart, &self.state)?;
                        hooks::run("createRuntime", &all.create_runtime, &self.state)?;
                    }
                    self.answer()?;
                }
                Message::Limits => {
                    rlimits::set(rustix::process::Pid::from_raw(self.child.pid), &self.rlimits)?;
                    self.answer()?;
                }
                Message::Terminal => *console = descriptor,
                Message::Notifications => {
                    self.notify_agent(descriptor)?;
                    self.answer()?;
                }
                Message::Warning(text) => self.warnings.push(text),
                Message::Child(pid) => {
                    self.meet(pid)?;
                    self.answer()?;
                }
                Message::Ready => return Ok(()),
                Message::Failed { stage, message, errno } => return Err(Error::Start { stage, message, errno }),
            }
        }
    }

    fn linux(&self) -> Option<&Linux> {
        self.spec.linux.as_ref()
    }

    fn answer(&self) -> Result<()> {
        self.channel.answer().map_err(|error| system("answering the new process", error))
    }

    /// The process between has made the real one, which is a child of this process too, and ends.
    fn meet(&mut self, pid: i32) -> Result<()> {
        let pidfd = pidfd::open(pid).map_err(|error| system("pidfd_open", error))?;
        let between = std::mem::replace(&mut self.child, Child { pid, pidfd });
        pidfd::reap(between.pidfd.as_fd()).map_err(|error| system("waiting for the process between", error))?;
        self.compare_id_maps()?;
        self.admit()
    }

    /// Maps beside the path of a user namespace are a contradiction, unless they say what that namespace has: engines
    /// write both.
    fn compare_id_maps(&self) -> Result<()> {
        let Some(linux) = self.linux() else { return Ok(()) };
        let joins =
            self.spec.namespace("user").and_then(|user| user.path.as_deref()).is_some_and(|path| !path.is_empty());
        for (file, map) in [("uid", &linux.uid_mappings), ("gid", &linux.gid_mappings)] {
            if !joins || map.is_empty() {
                continue;
            }
            let path = format!("/proc/{}/{file}_map", self.child.pid);
            let text = std::fs::read_to_string(&path).map_err(|error| system(path, error))?;
            let number = |word: &str| word.parse::<u32>().unwrap_or_default();
            let mut has: Vec<Vec<u32>> =
                text.lines().map(|line| line.split_whitespace().map(number).collect()).collect();
            let mut wanted: Vec<Vec<u32>> =
                map.iter().map(|range| vec![range.container_id, range.host_id, range.size]).collect();
            has.sort_unstable();
            wanted.sort_unstable();
            if has != wanted {
                return Err(Error::Spec(format!(
                    "linux.{file}Mappings: not those of the user namespace that is joined by path"
                )));
            }
        }
        Ok(())
    }

    /// What the caller does to the process as soon as it knows it.
    fn admit(&mut self) -> Result<()> {
        self.adjust_oom_score();
        self.class.map_or(Ok(()), |class| class.add(self.child.pid))
    }

    /// The caller does it, since the process may have lost the right to by its user namespace. Lowering it needs
    /// `CAP_SYS_RESOURCE`, which is no reason to give up, and none to keep silent.
    fn adjust_oom_score(&mut self) {
        let Some(score) = self.oom_score_adj else { return };
        let path = format!("/proc/{}/oom_score_adj", self.child.pid);
        if let Err(error) = std::fs::write(&path, score.to_string()) {
            let current = std::fs::read_to_string(&path).unwrap_or_default();
            if current.trim() != score.to_string() {
                let text = crate::failure::plain(&error);
                self.warnings.push(format!("oom_score_adj {score} was not applied: {text}"));
            }
        }
    }

    /// Sends the descriptor of system call notifications to the agent that the filter names, with the state of the
    /// container (runtime specification, config-linux.md#containerprocessstate).
    fn notify_agent(&self, descriptor: Option<OwnedFd>) -> Result<()> {
        let seccomp = self.linux().and_then(|linux| linux.seccomp.as_ref());
        let (Some(descriptor), Some(path)) = (descriptor, seccomp.and_then(|s| s.listener_path.as_deref())) else {
            return Err(Error::Spec("linux.seccomp.listenerPath: missing".into()));
        };
        let mut state = self.state.clone();
        state.pid = Some(self.child.pid);
        let message = json!({
            "ociVersion": oci::spec::VERSION,
            "fds": ["seccompFd"],
            "pid": self.child.pid,
            "metadata": seccomp.and_then(|s| s.listener_metadata.as_deref()).unwrap_or_default(),
            "state": state,
        });
        send_to(Path::new(path), message.to_string().as_bytes(), &descriptor)
            .map_err(|error| system(format!("sending the seccomp listener to {path}"), error))
    }
}

/// Sends one message with a descriptor to a listening socket.
pub(crate) fn send_to(path: &Path, message: &[u8], descriptor: &OwnedFd) -> std::io::Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    send_bytes(socket.as_fd(), message, Some(descriptor.as_fd()))
}

fn describe(end: Option<End>) -> String {
    match end {
        Some(End::Exited(code)) => format!("exit status {code}"),
        Some(End::Signaled(9)) => "signal: killed (is its memory limit too low?)".into(),
        Some(End::Signaled(signal)) => format!("signal {signal}"),
        None => "it cannot be waited for".into(),
    }
}

/// The state of a container that is being made.
pub(crate) fn creating(id: &str, bundle: &Path, spec: &Spec) -> State {
    State {
        oci_version: oci::spec::VERSION.to_owned(),
        id: id.to_owned(),
        status: Status::Creating,
        pid: None,
        bundle: bundle.to_string_lossy().into_owned(),
        annotations: spec.annotations.clone(),
        other: Default::default(),
    }
}

/// A clone that is refused because of other threads has an error of its own.
pub(crate) fn clone_error(error: std::io::Error) -> Error {
    if error.raw_os_error() == Some(rustix::io::Errno::DEADLK.raw_os_error()) {
        return Error::Threads(sys::clone::threads().unwrap_or_default());
    }
    system("clone", error)
}
