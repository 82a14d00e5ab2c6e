//! Control groups: one type over version 1, version 2, and hosts that mount both.
//!
//! A [`Cgroup`] is a path below the mount points of the hierarchies, the same path in each:
//!
//! ```text
//! v1      /sys/fs/cgroup/{memory,cpu,pids,…}/gantry/<id>     limits
//! hybrid  /sys/fs/cgroup/unified/gantry/<id>                 besides: freeze, kill and 'empty' events of v2's core
//! v2      /sys/fs/cgroup/gantry/<id>                         everything
//! ```
//!
//! A process enters by cloning into [`Cgroup::directory`] (v2), by writing itself with a [`Joiner`] (v1: a single
//! thread that moves itself needs no lock on all of the system's thread groups, which costs milliseconds), or is put
//! in by somebody else with [`Cgroup::attach`].

mod devices;
mod files;
mod hierarchy;
mod oom;
mod resources;
mod stats;
mod v1;
mod v2;

pub use hierarchy::{Controller, Hierarchies};
pub use oom::OomWatch;
pub use resources::{Access, BlockIo, Cpu, DeviceKind, DeviceRule, Memory, Network, Resources, Throttle};
pub use stats::{
    CpuStats, CpusetStats, HugepageStats, IoEntry, IoStats, MemoryCounter, MemoryStats, PidsStats, Pressure, RdmaEntry,
    RdmaStats, Stall, Stats,
};

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// Which version carries the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller, perhaps with an empty v2 hierarchy besides.
    V1,
    /// One hierarchy for all.
    V2,
}

/// What failed, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host mounts none.
    #[error("no cgroup hierarchy is mounted")]
    NoHierarchy,
    /// A path with `..`, or the root itself.
    #[error("{0:?} is no path of a cgroup")]
    Path(PathBuf),
    /// A file could not be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("writing {value:?} to {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// A directory could not be made.
    #[error("creating cgroup {path}: {source}")]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory could not be removed.
    #[error("removing cgroup {path}: {source}")]
    Remove {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A new container's group has processes already.
    #[error("cgroup {path} is in use: {count} process(es) found")]
    InUse {
        /// The group.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// A limit needs a controller that is not there.
    #[error("{limit} needs the {controller} controller, which cgroup {path} does not have")]
    Controller {
        /// The limit that was asked for.
        limit: &'static str,
        /// The controller.
        controller: &'static str,
        /// The group.
        path: PathBuf,
    },
    /// A limit that this version of control groups does not know.
    #[error("{0}")]
    Unsupported(String),
    /// A value that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The memory limit is below what is in use.
    #[error("unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")]
    MemoryInUse {
        /// Bytes asked for.
        limit: i64,
        /// Bytes in use.
        usage: u64,
        /// Bytes that were once in use.
        peak: u64,
    },
    /// Inner group of cgroup v2 with processes of its own.
    #[error("cgroup {0} has processes of its own, so its children cannot have limits")]
    InternalProcesses(PathBuf),
    /// The device program could not be loaded or attached.
    #[error("{operation} the device program of cgroup {path}: {source}")]
    DeviceProgram {
        /// What was being done.
        operation: &'static str,
        /// The group.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not come to rest in time.
    #[error("cgroup {path} did not become {state} in time")]
    Timeout {
        /// The group.
        path: PathBuf,
        /// `frozen`, `empty`.
        state: &'static str,
    },
}

impl Error {
    /// Whether the caller lacks the right to do it: ids, capabilities, or hierarchies that are mounted read-only.
    pub fn is_permission(&self) -> bool {
        let (Self::Read { source, .. }
        | Self::Write { source, .. }
        | Self::Create { source, .. }
        | Self::Remove { source, .. }
        | Self::DeviceProgram { source, .. }) = self
        else {
            return false;
        };
        matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EROFS))
    }
}

/// The result of an operation on a group.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How long freezing and emptying may take: the kernel acts at once unless a process hangs in a device.
const REST_TIMEOUT: Duration = Duration::from_secs(10);

/// A control group: the same path in all hierarchies of the host. The value is a handle; dropping it removes nothing.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: PathBuf,
    group: Group,
}

#[derive(Debug, Clone)]
enum Group {
    V1(v1::Group),
    V2(v2::Group),
}

impl Cgroup {
    /// Makes the group and those above it, with what children need delegated down to it. `path` is absolute, from the
    /// root of the hierarchies: `/gantry/<id>`. A group that exists already is taken over if it is empty; of what was
    /// made, nothing is left after an error.
    pub fn create(path: &Path) -> Result<Self> {
        let group = Self::open(path)?;
        let made = match &group.group {
            Group::V1(v1) => v1.create(),
            Group::V2(v2) => v2.create(),
        };
        made.inspect_err(|_| {
            // Whatever the creation failed with is the better message.
            let _ = group.remove_directories();
        })?;
        Ok(group)
    }

    /// Makes a group of version 2 below one that has processes of its own, so that no controller can be handed down to
    /// it: it holds its processes together, and can be frozen and killed.
    pub fn create_without_controllers(path: &Path) -> Result<Self> {
        let group = Self::open(path)?;
        if let Group::V2(v2) = &group.group {
            v2.make()?;
        }
        Ok(group)
    }

    /// A handle on a group, whether it exists or not.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_in(&Hierarchies::detect()?, path)
    }

    /// The same, with hierarchies that were looked up before.
    pub fn open_in(hierarchies: &Hierarchies, path: &Path) -> Result<Self> {
        let normal = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
        if !path.is_absolute() || !path.components().all(normal) || path.components().count() < 2 {
            return Err(Error::Path(path.to_owned()));
        }
        let relative = path.strip_prefix("/").unwrap_or(path);
        let group = match hierarchies.version() {
            Version::V1 => Group::V1(v1::Group::new(hierarchies, relative)),
            Version::V2 => Group::V2(v2::Group::new(hierarchies.unified().unwrap_or(Path::new("/")), relative)),
        };
        Ok(Self { path: path.to_owned(), group })
    }

    /// The group in which these controllers are those of groups below this one, by paths from here; the empty name is
    /// all of them, and the only one that version 2 knows. The groups must exist.
    pub fn below(&self, places: &BTreeMap<String, PathBuf>) -> Result<Self> {
        let mut below = self.clone();
        for (controller, path) in places {
            let relative = path.strip_prefix("/").unwrap_or(path);
            if !relative.components().all(|component| matches!(component, Component::Normal(_) | Component::CurDir)) {
                return Err(Error::Invalid(format!("{} is not a sub cgroup path", path.display())));
            }
            let known = match &mut below.group {
                Group::V1(v1) => v1.descend(controller, relative),
                Group::V2(v2) if controller.is_empty() => v2.descend(relative),
                Group::V2(_) => false,
            };
            if !known {
                return Err(Error::Invalid(format!("unknown controller {controller} of a sub cgroup")));
            }
            if controller.is_empty() {
                below.path.push(relative);
            }
        }
        match below.directories().into_iter().find(|directory| !directory.is_dir()) {
            Some(missing) => Err(Error::Invalid(format!("{} does not exist", missing.display()))),
            None => Ok(below),
        }
    }

    /// The path, from the root of the hierarchies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which version carries the limits.
    pub fn version(&self) -> Version {
        match self.group {
            Group::V1(_) => Version::V1,
            Group::V2(_) => Version::V2,
        }
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.main_directory().is_some_and(Path::is_dir)
    }

    /// Puts limits in force; absent ones stay as they are. Those that were set before one failed stay set.
    pub fn apply(&self, resources: &Resources) -> Result<()> {
        match &self.group {
            Group::V1(v1) => v1.apply(resources),
            Group::V2(v2) => v2.apply(resources),
        }
    }

    /// The directory of the v2 hierarchy, for CLONE_INTO_CGROUP; `None` on a host with v1 alone. On a v1 host a
    /// process still has to enter the other hierarchies with a [`Joiner`].
    pub fn directory(&self) -> Result<Option<OwnedFd>> {
        let Some(path) = self.unified_directory() else { return Ok(None) };
        files::open_directory(path).map(Some)
    }

    /// Opens what a process needs to write itself in, so that it can do so after its root or its user changed.
    /// `cloned_into` says that it begins its life in [`Cgroup::directory`] already.
    pub fn joiner(&self, cloned_into: bool) -> Result<Joiner> {
        let mut files = Vec::new();
        match &self.group {
            Group::V1(v1) => {
                for directory in v1.limit_directories() {
                    files.push(files::open_for_writing(&directory.join("tasks"))?);
                }
                if let Some(unified) = v1.unified_directory().filter(|_| !cloned_into) {
                    files.push(files::open_for_writing(&unified.join("cgroup.procs"))?);
                }
            }
            Group::V2(v2) if !cloned_into => files.push(files::open_for_writing(&v2.directory().join("cgroup.procs"))?),
            Group::V2(_) => {}
        }
        Ok(Joiner { files })
    }

    /// Puts a process, with all its threads, into the group.
    pub fn attach(&self, pid: i32) -> Result<()> {
        for directory in self.directories() {
            files::write(&directory.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Stops all processes, of the groups below too, until [`Cgroup::thaw`]; returns when they stand still.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// Whether they were stopped; not for a group that is gone.
    pub fn is_frozen(&self) -> Result<bool> {
        match (self.unified_directory(), &self.group) {
            (Some(unified), _) => v2::is_frozen(unified),
            (None, Group::V1(v1)) => v1.is_frozen(),
            (None, Group::V2(_)) => Ok(false),
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        match (self.unified_directory(), &self.group) {
            (Some(unified), _) => v2::set_frozen(unified, frozen, REST_TIMEOUT),
            (None, Group::V1(v1)) => v1.set_frozen(frozen, REST_TIMEOUT),
            (None, Group::V2(_)) => Ok(()),
        }
    }

    /// Ids of all processes, of the groups below too. Empty for a group that is gone.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        if let Some(directory) = self.main_directory() {
            files::collect_processes(directory, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Sends SIGKILL to all processes, of the groups below too, those that are being forked not excepted.
    pub fn kill(&self) -> Result<()> {
        if let Some(kill) = self.unified_directory().map(|d| d.join("cgroup.kill")).filter(|p| p.exists()) {
            return files::write(&kill, "1");
        }
        // Without cgroup.kill (before Linux 5.14) the group is frozen, so that nothing forks away meanwhile.
        self.freeze()?;
        let signalled = self.signal(rustix::process::Signal::KILL.as_raw());
        self.thaw()?;
        signalled
    }

    /// Sends a signal to each process; one that ended meanwhile is no error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        for pid in self.processes()? {
            crate::pidfd::send_signal_to(pid, signal)
                .or_else(|e| if e.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(e) })
                .map_err(|source| Error::Write {
                    path: self.path.clone(),
                    value: format!("signal {signal}"),
                    source,
                })?;
        }
        Ok(())
    }

    /// Waits until no process is left; `false` when the time ran out.
    pub fn wait_empty(&self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        match self.unified_directory() {
            Some(unified) => v2::wait_event(unified, "populated", false, deadline),
            None => files::wait_processes(|| self.processes(), deadline),
        }
    }

    /// Removes the group with those below it, once its last process has ended (it must have been killed or be about
    /// to end). A group that is gone is no error.
    pub fn delete(&self) -> Result<()> {
        match self.remove_directories() {
            Err(Error::Remove { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {}
            other => return other,
        }
        if !self.wait_empty(REST_TIMEOUT)? {
            return Err(Error::Timeout { path: self.path.clone(), state: "empty" });
        }
        self.remove_directories()
    }

    /// Figures of what is used. Controllers that are missing leave zeros.
    pub fn stats(&self) -> Result<Stats> {
        match &self.group {
            Group::V1(v1) => v1.stats(),
            Group::V2(v2) => v2.stats(),
        }
    }

    /// A descriptor that tells when the group runs out of memory; `None` without the memory controller.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        match &self.group {
            Group::V1(v1) => v1.watch_oom(),
            Group::V2(v2) => v2.watch_oom(),
        }
    }

    /// How many of its processes were killed for lack of memory.
    pub fn oom_kills(&self) -> Result<u64> {
        match &self.group {
            Group::V1(v1) => v1.oom_kills(),
            Group::V2(v2) => v2.oom_kills(),
        }
    }

    /// Its directory in every hierarchy.
    pub fn directories(&self) -> Vec<&Path> {
        match &self.group {
            Group::V1(v1) => v1.limit_directories().chain(v1.unified_directory()).collect(),
            Group::V2(v2) => vec![v2.directory()],
        }
    }

    fn unified_directory(&self) -> Option<&Path> {
        match &self.group {
            Group::V1(v1) => v1.unified_directory(),
            Group::V2(v2) => Some(v2.directory()),
        }
    }

    /// The one directory that says which processes are in it.
    fn main_directory(&self) -> Option<&Path> {
        self.unified_directory().or_else(|| self.directories().first().copied())
    }

    fn remove_directories(&self) -> Result<()> {
        // A failure in one hierarchy must not leave the others behind.
        let results: Vec<_> = self.directories().into_iter().map(files::remove_tree).collect();
        results.into_iter().collect()
    }
}

/// The group of version 2 that this process is in, from the root of its cgroup namespace; `None` where that cannot be
/// said (no such hierarchy, or a group that lies outside of the namespace).
pub fn own() -> Option<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = Path::new(text.lines().find_map(|line| line.strip_prefix("0::"))?);
    let normal = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
    (path.is_absolute() && path.components().all(normal)).then(|| path.to_owned())
}

/// What a process needs to enter a group by itself.
#[derive(Debug)]
pub struct Joiner {
    files: Vec<(PathBuf, OwnedFd)>,
}

impl Joiner {
    /// What it needs to stay open.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(|(_, file)| file.as_fd())
    }

    /// Moves the calling process, which must have one thread alone, into the group.
    pub fn join(&self) -> Result<()> {
        for (path, file) in &self.files {
            // 0 is the caller, in whatever pid namespace it is.
            rustix::io::retry_on_intr(|| rustix::io::write(file, b"0")).map_err(|source| Error::Write {
                path: path.clone(),
                value: "0".into(),
                source: source.into(),
            })?;
        }
        Ok(())
    }
}

/// `cpu.weight` for these shares, as runc 1.1 converts: 2..262144 onto 1..10000, linear. 0 stays 0 (unset).
///
/// Later versions of 1.3 and newer ones use a curve that takes the defaults of both sides to each other, 1024 to 100,
/// where this one takes 1024 to 39. What counts is the relation between containers of one host, and those of Docker are
/// weighed by this one where runc is the one of this comparison.
pub fn shares_to_weight(shares: u64) -> u64 {
    if shares == 0 { 0 } else { 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142 }
}

#[cfg(test)]
mod tests;
