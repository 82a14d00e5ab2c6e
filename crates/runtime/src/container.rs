//! A container as its callers handle it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::spec::{IntelRdt, Resources, Spec, State, Status};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use sys::cgroup::Cgroup;
use sys::pidfd;

use crate::error::{Error, Result};
use crate::options::{CreateOptions, Created, ExecOptions, ExecProcess};
use crate::plan::system;
use crate::rdt::Class;
use crate::record::{Files, Record};
use crate::{added, cgroups, config, conversation, create, hooks, limits, processes, validate};

/// How long a killed process may take to go.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A container that exists below a state directory.
///
/// The value is a handle: it reads the record when loaded and asks the kernel for everything that changes.
#[derive(Debug, Clone)]
pub struct Container {
    state_root: PathBuf,
    files: Files,
    record: Record,
    spec: Spec,
}

impl Container {
    pub(crate) fn new(state_root: PathBuf, files: Files, record: Record, spec: Spec) -> Self {
        Self { state_root, files, record, spec }
    }

    /// Makes a container. Returns when its first process waits to be started, with everything done that can fail:
    /// namespaces, mounts, limits, and the program looked up. After an error nothing is left behind.
    ///
    /// The caller must have one thread ([`Error::Threads`]): it is copied.
    pub fn create(options: CreateOptions) -> Result<Created> {
        create::create(options)
    }

    /// The configuration of a bundle, for [`CreateOptions::spec`].
    pub fn load_spec(bundle: &Path) -> Result<Spec> {
        config::load(bundle)
    }

    /// The container `id` below `state_root`.
    pub fn load(state_root: &Path, id: &str) -> Result<Self> {
        validate::id(id)?;
        let files = Files::new(state_root, id);
        let (record, spec) = files.read()?;
        Ok(Self { state_root: state_root.to_owned(), files, record, spec })
    }

    /// All containers below `state_root`, by id; one that goes meanwhile is left out. A directory that does not exist
    /// has none. Remains of a loss of power are left out too, with a warning each.
    pub fn list(state_root: &Path, warnings: &mut Vec<String>) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for id in Files::ids(state_root)? {
            match Self::load(state_root, &id) {
                Err(Error::NotFound(_) | Error::InvalidId(_)) => {}
                Err(error @ Error::Damaged { .. }) => warnings.push(error.to_string()),
                container => found.push(container?),
            }
        }
        Ok(found)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Process id of its first process as the caller sees it, whether it still lives or not; 0 while being created.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.record.pid
    }

    /// Absolute path of its bundle.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.record.bundle
    }

    /// When it was made, RFC 3339.
    #[must_use]
    pub fn created(&self) -> &str {
        &self.record.created
    }

    /// Path of its root filesystem on the host; empty when it is mounted by the runtime.
    #[must_use]
    pub fn rootfs(&self) -> &Path {
        &self.record.rootfs
    }

    /// User id of whoever made it.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.record.owner
    }

    /// Its configuration, with the resources of later updates.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its cgroup, for figures and events; [`Error::NoCgroup`] when its maker had no right to make one.
    pub fn cgroup(&self) -> Result<Cgroup> {
        self.cgroup_if_any()?.ok_or_else(|| Error::NoCgroup(self.record.id.clone()))
    }

    pub(crate) fn cgroup_if_any(&self) -> Result<Option<Cgroup>> {
        self.record.cgroup.as_deref().map(cgroups::open).transpose()
    }

    /// Its class of cache and memory bandwidth.
    pub(crate) fn class(&self) -> Option<&Class> {
        self.record.class.as_ref()
    }

    /// Its first process, if that still lives.
    pub fn process(&self) -> Result<Option<OwnedFd>> {
        let pid = self.record.pid;
        if pid == 0 || !self.record.is_of_this_boot() {
            return Ok(None);
        }
        let process = match pidfd::open(pid) {
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return Ok(None),
            result => result.map_err(|error| system("pidfd_open", error))?,
        };
        // The number may be another process's by now, and a zombie is over.
        let same = sys::process::start_time(pid).ok().flatten() == Some(self.record.start_time);
        Ok((same && sys::process::is_alive(pid).unwrap_or(false)).then_some(process))
    }

    /// Where in its life it is now.
    pub fn status(&self) -> Result<Status> {
        if self.record.pid == 0 && self.record.is_of_this_boot() {
            return Ok(Status::Creating);
        }
        if self.process()?.is_none() {
            return Ok(Status::Stopped);
        }
        if self.cgroup_if_any()?.is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false)) {
            return Ok(Status::Paused);
        }
        Ok(if self.files.is_waited_at() { Status::Created } else { Status::Running })
    }

    /// The state in the words of the specification.
    pub fn state(&self) -> Result<State> {
        let status = self.status()?;
        let mut state = conversation::creating(&self.record.id, &self.record.bundle, &self.spec);
        state.status = status;
        state.pid = Some(if status == Status::Stopped { 0 } else { self.record.pid });
        Ok(state)
    }

    fn refuse<T>(&self, operation: &'static str, status: Status) -> Result<T> {
        Err(Error::Status { operation, id: self.record.id.clone(), status })
    }

    /// Lets the first process execute the program, then runs the `poststart` hooks; the container is killed when one
    /// fails.
    pub fn start(&self) -> Result<()> {
        match self.status()? {
            Status::Created => {}
            status => return self.refuse("start", status),
        }
        let path = self.files.fifo();
        let failed = |errno: Errno| match errno {
            // Nobody reads: the process ended meanwhile.
            Errno::NXIO | Errno::PIPE => {
                Error::Status { operation: "start", id: self.record.id.clone(), status: Status::Stopped }
            }
            Errno::NOENT => Error::Status { operation: "start", id: self.record.id.clone(), status: Status::Running },
            errno => system("opening exec.fifo", errno),
        };
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed)?;
        // Of two callers at once one starts it and the other is told that it runs.
        rustix::fs::fcntl_lock(&fifo, FlockOperation::LockExclusive).map_err(failed)?;
        let unlinked = rustix::fs::fstat(&fifo).is_ok_and(|stat| stat.st_nlink == 0);
        if unlinked {
            return self.refuse("start", Status::Running);
        }
        rustix::io::write(&fifo, b"0").map_err(failed)?;
        rustix::fs::unlink(&path).map_err(failed)?;
        drop(fifo);
        let Some(all) = &self.spec.hooks else { return Ok(()) };
        let mut state = conversation::creating(&self.record.id, &self.record.bundle, &self.spec);
        state.status = Status::Running;
        state.pid = Some(self.record.pid);
        hooks::run("poststart", &all.poststart, &state).inspect_err(|_| {
            let _ = self.kill(Signal::KILL.as_raw(), true);
        })
    }

    /// Sends a signal to the first process, or to all processes of its cgroup.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        let process = self.process()?;
        if all && let Some(cgroup) = self.cgroup_if_any()? {
            if process.is_none() && !cgroup.exists() {
                return Ok(());
            }
            let sent = if signal == Signal::KILL.as_raw() { cgroup.kill() } else { cgroup.signal(signal) };
            return sent.map_err(cgroups::failed);
        }
        if all && process.is_some() {
            return processes::signal(self.record.pid, &self.spec, signal);
        }
        let Some(process) = process else { return self.refuse("kill", Status::Stopped) };
        match pidfd::send_signal(process.as_fd(), signal) {
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
                return self.refuse("kill", Status::Stopped);
            }
            result => result.map_err(|error| system(format!("sending signal {signal}"), error))?,
        }
        if signal == Signal::KILL.as_raw() {
            // The freezer of cgroup v1 keeps a killed process from ending.
            self.thaw_if_frozen()?;
        }
        Ok(())
    }

    fn thaw_if_frozen(&self) -> Result<()> {
        match self.cgroup_if_any()? {
            Some(cgroup) if cgroup.is_frozen().unwrap_or(false) => cgroup.thaw().map_err(cgroups::failed),
            _ => Ok(()),
        }
    }

    /// Removes what is left of a stopped container: cgroup, state; then runs the `poststop` hooks, whose failures are
    /// warnings. One that was never started is killed, with `force` one that runs too.
    pub fn delete(self, force: bool) -> Result<Vec<String>> {
        let status = self.status()?;
        if !force && !matches!(status, Status::Stopped | Status::Created) {
            return self.refuse("delete", status);
        }
        let cgroup = self.cgroup_if_any()?;
        if let Some(process) = self.process()? {
            if self.record.cgroup.is_none() {
                // Those that do not end with the first one, since they do not share a pid namespace of their own.
                processes::signal(self.record.pid, &self.spec, Signal::KILL.as_raw())?;
            }
            let _ = pidfd::send_signal(process.as_fd(), Signal::KILL.as_raw());
            empty(cgroup.as_ref())?;
            let timeout_ms = u64::try_from(END_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
            pidfd::wait_for_end(process.as_fd(), Some(timeout_ms)).map_err(|error| system("waiting", error))?;
        } else {
            empty(cgroup.as_ref())?;
        }
        if let Some(cgroup) = cgroup {
            cgroup.delete().map_err(cgroups::failed)?;
        }
        self.remove_class();
        self.files.remove(force)?;
        let Some(all) = &self.spec.hooks else { return Ok(Vec::new()) };
        let mut state = conversation::creating(&self.record.id, &self.record.bundle, &self.spec);
        state.status = Status::Stopped;
        state.pid = Some(0);
        Ok(hooks::run_all("poststop", &all.poststop, &state))
    }

    /// A maker that was killed may not have come to write down the class that it made.
    fn remove_class(&self) {
        let rdt = self.spec.linux.as_ref().and_then(|linux| linux.intel_rdt.as_ref());
        match (&self.record.class, rdt) {
            (Some(class), _) => class.remove(),
            (None, Some(rdt)) if self.record.pid == 0 => Class::remove_remains(rdt, &self.record.id),
            _ => {}
        }
    }

    /// Removes what is left below `state_root` of a container whose record cannot be read, because its maker was
    /// killed before it was written or the machine lost power: files, and the cgroup with all in it. True when there
    /// was something.
    pub fn remove_leftovers(state_root: &Path, id: &str) -> Result<bool> {
        validate::id(id)?;
        let files = Files::new(state_root, id);
        if !files.exist() {
            return files.remove(true);
        }
        // One of the two may be whole. Without both it was most likely the default.
        let place = match files.read_record() {
            Ok(record) => record.cgroup,
            Err(_) => {
                let linux = files.read_spec().ok().and_then(|spec| spec.linux).unwrap_or_default();
                cgroups::place(&linux, id, cgroups::is_rootless(None))?
            }
        };
        let cgroup = place.as_deref().map(cgroups::open).transpose()?.filter(Cgroup::exists);
        empty(cgroup.as_ref())?;
        if let Some(cgroup) = cgroup {
            cgroup.delete().map_err(cgroups::failed)?;
        }
        files.remove(true)
    }

    /// Freezes all processes.
    pub fn pause(&self) -> Result<()> {
        match self.status()? {
            Status::Running | Status::Created => self.cgroup()?.freeze().map_err(cgroups::failed),
            status => self.refuse("pause", status),
        }
    }

    /// Thaws them.
    pub fn resume(&self) -> Result<()> {
        match self.status()? {
            Status::Paused => self.cgroup()?.thaw().map_err(cgroups::failed),
            status => self.refuse("resume", status),
        }
    }

    /// Adds a process. Returns when its program is about to be executed, with everything done that can fail.
    pub fn exec(&self, options: ExecOptions) -> Result<ExecProcess> {
        match self.status()? {
            Status::Running | Status::Created => {}
            Status::Paused if options.ignore_paused => {}
            status => return self.refuse("exec", status),
        }
        let Some(process) = self.process()? else { return self.refuse("exec", Status::Stopped) };
        added::add(self, process, options)
    }

    /// Process ids of all its processes, as the caller sees them.
    pub fn processes(&self) -> Result<Vec<i32>> {
        match self.cgroup_if_any()? {
            Some(cgroup) => cgroup.processes().map_err(cgroups::failed),
            None if self.process()?.is_none() => Ok(Vec::new()),
            None => processes::of(self.record.pid, &self.spec),
        }
    }

    /// Changes limits: fields that are present replace those in force, and are remembered.
    pub fn update(&mut self, resources: &Resources) -> Result<()> {
        if self.status()? == Status::Stopped {
            return self.refuse("update", Status::Stopped);
        }
        let converted = limits::update(resources)?;
        let cgroup = self.cgroup()?;
        if let Err(error) = cgroup.apply(&converted) {
            // What was changed before one of them failed is changed back, as far as it was ever set.
            if let Some(Ok(before)) = self.spec.linux.as_ref().and_then(|l| l.resources.as_ref()).map(limits::update) {
                let _ = cgroup.apply(&before);
            }
            return Err(cgroups::failed(error));
        }
        let linux = self.spec.linux.get_or_insert_with(Default::default);
        limits::merge(linux.resources.get_or_insert_with(Default::default), resources)?;
        self.files.write(&self.record, &self.spec)
    }

    /// Changes the share of cache and memory bandwidth: schemata that are present replace those in force. A container
    /// without a class gets one of its own, with all its processes.
    pub fn update_rdt(&mut self, rdt: &IntelRdt) -> Result<()> {
        validate::intel_rdt(rdt)?;
        if self.status()? == Status::Stopped {
            return self.refuse("update", Status::Stopped);
        }
        match &self.record.class {
            Some(class) => class.update(rdt)?,
            None => {
                let class = Class::create(rdt, &self.record.id)?;
                let moved = self.processes().and_then(|all| all.into_iter().try_for_each(|pid| class.add(pid)));
                if let Err(error) = moved {
                    class.remove();
                    return Err(error);
                }
                self.record.class = Some(class);
            }
        }
        let kept = self.spec.linux.get_or_insert_with(Default::default).intel_rdt.get_or_insert_with(Default::default);
        kept.l3_cache_schema = rdt.l3_cache_schema.clone().or(kept.l3_cache_schema.take());
        kept.mem_bw_schema = rdt.mem_bw_schema.clone().or(kept.mem_bw_schema.take());
        self.files.write(&self.record, &self.spec)
    }

    /// Directory that all containers' state is in.
    #[must_use]
    pub fn state_root(&self) -> &Path {
        &self.state_root
    }
}

/// Kills whatever is in the cgroup: the first process of a container that was never recorded, what it left behind in the
/// host's pid namespace, what `exec` added.
fn empty(cgroup: Option<&Cgroup>) -> Result<()> {
    let Some(cgroup) = cgroup else { return Ok(()) };
    if !cgroup.exists() || cgroup.processes().map_err(cgroups::failed)?.is_empty() {
        return Ok(());
    }
    cgroup.kill().map_err(cgroups::failed)?;
    if cgroup.is_frozen().unwrap_or(false) {
        cgroup.thaw().map_err(cgroups::failed)?;
    }
    Ok(())
}
