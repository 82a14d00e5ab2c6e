//! What is kept of a container between two calls.
//!
//! ```text
//! <state_root>/<id>@state.json    a line with the configuration, then lines with the Record, of which the last counts
//! <state_root>/<id>@exec.fifo     made first, there until the container is started
//! <state_root>/<id>@notify/       the socket by which the container says that it is ready, when somebody waits for that
//! ```
//!
//! There is no directory for each container, since removing one makes some file systems wait for the disk, and one file for
//! everything: where many containers are made at once, what takes longest in this directory is to make files and to
//! rename them. So a record that changes is written behind the old one. `@` is in no id, so names cannot be mistaken. The
//! state is there while either file is.
//!
//! **Readers and killed writers.** The file appears with its first record, and is replaced when limits are updated, by
//! rename: what a reader finds is whole. A line is written by one call and counts when its end is there, so that a reader
//! finds the old record or the new one.
//!
//! **A loss of power.** Nothing is forced onto a disk: the state directory is below `/run`, which is a tmpfs nearly
//! everywhere, and where it is not, waiting for the disk at each creation would cost more than the creation. Nothing in it
//! matters after a restart of the machine anyway, since the container has ended with it. What has to hold is that remains
//! do no harm, and these are told without trust in their content:
//!
//! * a record that names another boot of the machine is a stopped container, whatever process has its number now;
//! * a file that is empty or torn can only come from a loss of power. Listing leaves it out and says so, everything else
//!   is [`Error::Damaged`], and forced deletion removes all that may belong to it;
//! * both give way when the id is used for a new container.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci::spec::Spec;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sys::file::Durability;

use crate::error::{Error, Result};
use crate::rdt::Class;

/// What is known of a container besides its configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The container's id.
    pub(crate) id: String,
    /// The first process; 0 while it is being made.
    pub(crate) pid: i32,
    /// The boot of the machine that it was made in.
    #[serde(default)]
    pub(crate) boot: String,
    /// When that process began, in clock ticks since boot: tells it from a later one with the same number.
    pub(crate) start_time: u64,
    /// Absolute path.
    pub(crate) bundle: PathBuf,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// Path of its cgroup below the hierarchies; none without own limits.
    pub(crate) cgroup: Option<PathBuf>,
    /// Its class of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<Class>,
    /// User id of whoever made it.
    pub(crate) owner: u32,
    /// Path of its root filesystem on the host, when it has one there.
    pub(crate) rootfs: PathBuf,
}

/// The files of one container.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    root: PathBuf,
    id: String,
}

const STATE: &str = "@state.json";
const FIFO: &str = "@exec.fifo";
const NOTIFY: &str = "@notify";

impl Files {
    /// Of `id` below `root`, whether they exist or not.
    pub(crate) fn new(root: &Path, id: &str) -> Self {
        Self { root: root.to_owned(), id: id.to_owned() }
    }

    /// Ids of all containers below `root` that have a record.
    pub(crate) fn ids(root: &Path) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(root) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| failed("reading", root, source))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(|source| failed("reading", root, source))?.file_name();
            ids.extend(name.to_str().and_then(|name| name.strip_suffix(STATE)).map(str::to_owned));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(format!("{}{name}", self.id))
    }

    pub(crate) fn fifo(&self) -> PathBuf {
        self.path(FIFO)
    }

    /// Directory of the socket for `$NOTIFY_SOCKET`.
    pub(crate) fn notify(&self) -> PathBuf {
        self.path(NOTIFY)
    }

    /// Opens `exec.fifo` for the first process, with a lock that is held as long as the descriptor is: whoever starts the
    /// container may be killed before it could remove the file, so that the file alone says nothing.
    pub(crate) fn wait_at_fifo(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = rustix::fs::open(self.fifo(), flags, Mode::empty())?;
        rustix::fs::flock(&fifo, FlockOperation::LockShared)?;
        Ok(fifo)
    }

    /// Whether the first process waits at `exec.fifo` to be started. It is opened for reading, since a writer that comes
    /// and goes would wake the process.
    pub(crate) fn is_waited_at(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(fifo) = rustix::fs::open(self.fifo(), flags, Mode::empty()) else { return false };
        rustix::fs::flock(&fifo, FlockOperation::NonBlockingLockExclusive).is_err()
    }

    /// Makes `exec.fifo`, and the directory of all containers. An id that is in use is [`Error::Exists`].
    pub(crate) fn create(&self) -> Result<()> {
        std::fs::create_dir_all(&self.root).map_err(|source| failed("creating", &self.root, source))?;
        let fifo = self.fifo();
        let mode = Mode::from_raw_mode(0o600);
        let make = || rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0);
        if rustix::fs::access(self.path(STATE), rustix::fs::Access::EXISTS).is_ok() && self.is_of_the_past() {
            self.remove(true)?;
        }
        match make() {
            Err(rustix::io::Errno::EXIST) => return Err(Error::Exists(self.id.clone())),
            Err(errno) => return Err(failed("creating", &fifo, errno.into())),
            Ok(()) => {}
        }
        // A started container has no fifo any more, but a record.
        if rustix::fs::access(self.path(STATE), rustix::fs::Access::EXISTS).is_ok() {
            let _ = rustix::fs::unlink(&fifo);
            return Err(Error::Exists(self.id.clone()));
        }
        Ok(())
    }

    /// Whether there is either.
    pub(crate) fn exist(&self) -> bool {
        [FIFO, STATE].iter().any(|name| rustix::fs::access(self.path(name), rustix::fs::Access::EXISTS).is_ok())
    }

    /// Whether the record is a remain of an earlier boot of the machine: by what it says, or because it is torn.
    fn is_of_the_past(&self) -> bool {
        match self.read_record() {
            Ok(record) => !record.is_of_this_boot(),
            Err(error) => matches!(error, Error::Damaged { .. }),
        }
    }

    /// Removes them, the record last; true when there was something. With `thorough`, also what a process that was killed
    /// while it wrote one of them left beside it.
    pub(crate) fn remove(&self, thorough: bool) -> Result<bool> {
        let mut found = false;
        if thorough {
            let prefix = format!(".{}@", self.id);
            for entry in std::fs::read_dir(&self.root).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    found |= rustix::fs::unlink(entry.path()).is_ok();
                }
            }
        }
        match std::fs::remove_dir_all(self.notify()) {
            Ok(()) => found = true,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed("removing", &self.notify(), source)),
        }
        // A process that nobody knows, since its maker was killed before it could write its number down, waits at the other
        // end, and sees this one come and go.
        let end = rustix::fs::open(self.fifo(), OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        for name in [FIFO, STATE] {
            let path = self.path(name);
            match rustix::fs::unlink(&path) {
                Ok(()) => found = true,
                Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(failed("removing", &path, errno.into())),
            }
        }
        drop(end);
        Ok(found)
    }

    /// Makes the file, or replaces it as a whole.
    pub(crate) fn write(&self, record: &Record, spec: &Spec) -> Result<()> {
        let path = self.path(STATE);
        let lines = line(spec).and_then(|first| Ok([first, line(record)?].concat()));
        lines
            .and_then(|lines| sys::file::replace(&path, &lines, 0o600, Durability::Volatile))
            .map_err(|source| failed("writing", &path, source))
    }

    /// Writes a record that counts from now on.
    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.path(STATE);
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        let written =
            line(record).and_then(|line| sys::file::write_all(&rustix::fs::open(&path, flags, Mode::empty())?, &line));
        written.map_err(|source| failed("writing", &path, source))
    }

    /// Record and configuration.
    pub(crate) fn read(&self) -> Result<(Record, Spec)> {
        let text = self.text()?;
        Ok((self.record(&text)?, self.spec(&text)?))
    }

    /// The record, if need be from a file whose configuration is torn.
    pub(crate) fn read_record(&self) -> Result<Record> {
        self.record(&self.text()?)
    }

    /// The configuration, if need be from a file whose record is torn.
    pub(crate) fn read_spec(&self) -> Result<Spec> {
        self.spec(&self.text()?)
    }

    fn text(&self) -> Result<Vec<u8>> {
        let path = self.path(STATE);
        match std::fs::read(&path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => Err(Error::NotFound(self.id.clone())),
            text => text.map_err(|source| failed("reading", &path, source)),
        }
    }

    fn spec(&self, text: &[u8]) -> Result<Spec> {
        self.parse(lines(text).next(), "the configuration")
    }

    fn record(&self, text: &[u8]) -> Result<Record> {
        self.parse(lines(text).skip(1).last(), "the record")
    }

    fn parse<T: DeserializeOwned>(&self, line: Option<&[u8]>, what: &str) -> Result<T> {
        let damaged = |reason: String| Error::Damaged { id: self.id.clone(), path: self.path(STATE), reason };
        let line = line.ok_or_else(|| damaged(format!("{what} is missing")))?;
        serde_json::from_slice(line).map_err(|error| damaged(format!("{what}: {error}")))
    }
}

/// A value as a line.
fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// All lines that have an end.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
}

impl Record {
    /// Whether the machine has not been started again since it was made.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.boot == current_boot()
    }
}

/// The kernel's name for this boot; empty where it does not say.
pub(crate) fn current_boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::State { operation, path: path.to_owned(), source }
}
