//! What is kept of a container between two calls.
//!
//! ```text
//! <state_root>/<id>/config.json   the configuration; replaced when limits are updated
//! <state_root>/<id>/state.json    Record; replaced as a whole
//! <state_root>/<id>/exec.fifo     there until the container is started
//! <state_root>/<id>/lock          held while the container is made or deleted
//! ```

use std::io;
use std::path::{Path, PathBuf};

use oci::spec::Spec;
use serde::{Deserialize, Serialize};
use sys::file::Durability;

use crate::error::{Error, Result};

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The container's id.
    pub(crate) id: String,
    /// The first process; 0 while it is being made.
    pub(crate) pid: i32,
    /// When that process began, in clock ticks since boot: tells it from a later one with the same number.
    pub(crate) start_time: u64,
    /// Absolute path.
    pub(crate) bundle: PathBuf,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// Path of its cgroup below the hierarchies; none without own limits.
    pub(crate) cgroup: Option<PathBuf>,
    /// User id of whoever made it.
    pub(crate) owner: u32,
    /// Path of its root filesystem on the host, when it has one there.
    pub(crate) rootfs: PathBuf,
}

/// The directory of one container.
#[derive(Debug, Clone)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Of `id` below `root`, whether it exists or not.
    pub(crate) fn new(root: &Path, id: &str) -> Self {
        Self(root.join(id))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn fifo(&self) -> PathBuf {
        self.0.join("exec.fifo")
    }

    fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// Makes it, with `exec.fifo`. An existing one is [`Error::Exists`].
    pub(crate) fn create(&self, id: &str) -> Result<()> {
        if let Some(parent) = self.0.parent() {
            std::fs::create_dir_all(parent).map_err(|source| failed("creating", parent, source))?;
        }
        match rustix::fs::mkdir(&self.0, rustix::fs::Mode::from_raw_mode(0o711)) {
            Err(rustix::io::Errno::EXIST) => return Err(Error::Exists(id.to_owned())),
            Err(errno) => return Err(failed("creating", &self.0, errno.into())),
            Ok(()) => {}
        }
        let fifo = self.fifo();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .map_err(|errno| failed("creating", &fifo, errno.into()))
    }

    /// Removes it with everything in it; gone already is as good.
    pub(crate) fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.0) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("removing", &self.0, source)),
            _ => Ok(()),
        }
    }

    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        write(&self.state(), record)
    }

    pub(crate) fn read_record(&self, id: &str) -> Result<Record> {
        read(&self.state(), id)
    }

    pub(crate) fn write_spec(&self, spec: &Spec) -> Result<()> {
        write(&self.config(), spec)
    }

    pub(crate) fn read_spec(&self, id: &str) -> Result<Spec> {
        read(&self.config(), id)
    }
}

/// A crash of the machine takes the container with it, so only crashes of processes matter here.
fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    serde_json::to_vec(value)
        .map_err(io::Error::from)
        .and_then(|bytes| sys::file::replace(path, &bytes, 0o600, Durability::Process))
        .map_err(|source| failed("writing", path, source))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path, id: &str) -> Result<T> {
    match std::fs::read(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Err(Error::NotFound(id.to_owned())),
        Err(source) => Err(failed("reading", path, source)),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed("reading", path, error.into())),
    }
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::State { operation, path: path.to_owned(), source }
}
