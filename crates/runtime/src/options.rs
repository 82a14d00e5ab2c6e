//! What a caller says to make a container or to add a process to one, and what it gets back.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci::spec::{Process, Spec};

use crate::Container;

/// Where a process reads and writes.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own standard streams.
    Inherit,
    /// These, which become descriptors 0, 1 and 2.
    Streams {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new pseudo terminal of the container's own devpts; the caller gets its master side back.
    /// Needs `process.terminal` in the spec, and is needed by it.
    Terminal,
}

/// How to make a container.
#[derive(Debug)]
pub struct CreateOptions {
    /// Unique below `state_root`: letters, digits and `_+-.`.
    pub id: String,
    /// Absolute path of the bundle; relative paths of the spec start there.
    pub bundle: PathBuf,
    /// The configuration (of `bundle`, or made by the caller; the file itself is not read here).
    pub spec: Spec,
    /// Directory of all containers' state, e.g. `/run/gantry/runtime`. Made when missing.
    pub state_root: PathBuf,
    /// What the root filesystem is mounted from, in order, inside the container's own mount namespace; the first one
    /// is the root itself. Empty: the directory `spec.root.path` is used. Otherwise `spec.root.path` need not exist.
    pub rootfs: Vec<oci::Mount>,
    /// Standard streams.
    pub stdio: Stdio,
    /// Further descriptors, which become 3, 4, … in the container.
    pub extra_fds: Vec<OwnedFd>,
    /// `chroot` after moving the mount over `/`, for a host whose root is an initramfs, which cannot be pivoted away.
    pub no_pivot: bool,
    /// Leave the session keyring of the caller in place.
    pub no_new_keyring: bool,
    /// Do without a cgroup where the caller has no right to make one. `None`: unless it is root of the machine.
    pub rootless: Option<bool>,
}

/// A container whose first process waits to be started.
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub container: Container,
    /// Its first process: a child of the caller, who has to reap it (its end is told by SIGCHLD and by `pidfd`).
    pub pid: i32,
    /// The same, as a descriptor.
    pub pidfd: OwnedFd,
    /// Master side of the terminal, with [`Stdio::Terminal`].
    pub console: Option<OwnedFd>,
    /// What was asked for and could not be applied without being a reason to give up, one sentence each.
    pub warnings: Vec<String>,
}

/// How to add a process to a running container.
#[derive(Debug)]
pub struct ExecOptions {
    /// What to run. `capabilities: None` gives those of the container's own process.
    pub process: Process,
    /// Standard streams.
    pub stdio: Stdio,
    /// Further descriptors, which become 3, 4, … in the process.
    pub extra_fds: Vec<OwnedFd>,
    /// Existing cgroups below the container's, by controller; the empty name is all of them. None: the container's own.
    pub sub_cgroups: BTreeMap<String, PathBuf>,
    /// Go on although the container is paused; the process will stand still until it is resumed.
    pub ignore_paused: bool,
}

impl ExecOptions {
    /// With `process`, and defaults for the rest.
    #[must_use]
    pub fn new(process: Process, stdio: Stdio) -> Self {
        Self { process, stdio, extra_fds: Vec::new(), sub_cgroups: BTreeMap::new(), ignore_paused: false }
    }
}

/// A process that was added to a container; its program is being executed.
#[derive(Debug)]
pub struct ExecProcess {
    /// A child of the caller, who has to reap it.
    pub pid: i32,
    /// The same, as a descriptor.
    pub pidfd: OwnedFd,
    /// Master side of the terminal, with [`Stdio::Terminal`].
    pub console: Option<OwnedFd>,
    /// What was asked for and could not be applied.
    pub warnings: Vec<String>,
}
