//! A container as its callers handle it.

use std::path::{Path, PathBuf};

use oci::spec::{Resources, Spec, State, Status};

use crate::{CreateOptions, Created, Error, ExecOptions, ExecProcess, Result};

/// A container that exists below a state directory.
///
/// The value is a handle: it reads `state.json` when loaded and asks the kernel for everything that changes.
#[derive(Debug, Clone)]
pub struct Container {
    id: String,
    state_root: PathBuf,
    spec: Spec,
    bundle: PathBuf,
    pid: i32,
}

impl Container {
    /// Makes a container. Returns when its first process waits to be started, with everything done that can fail:
    /// namespaces, mounts, limits, and the program looked up. After an error nothing is left behind.
    pub fn create(options: CreateOptions) -> Result<Created> {
        Err(Error::InvalidId(options.id))
    }

    /// The container `id` below `state_root`.
    pub fn load(state_root: &Path, id: &str) -> Result<Self> {
        let _ = state_root;
        Err(Error::NotFound(id.to_owned()))
    }

    /// All containers below `state_root`, by id. A directory that does not exist has none.
    pub fn list(state_root: &Path) -> Result<Vec<Self>> {
        let _ = state_root;
        Ok(Vec::new())
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Process id of its first process as the caller sees it, whether it still lives or not; 0 while being created.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Absolute path of its bundle.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Its configuration, with the resources of later updates.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Where in its life it is now.
    pub fn status(&self) -> Result<Status> {
        Err(Error::NotFound(self.id.clone()))
    }

    /// The state in the words of the specification.
    pub fn state(&self) -> Result<State> {
        Err(Error::NotFound(self.id.clone()))
    }

    /// Lets the first process execute the program, then runs the `poststart` hooks.
    pub fn start(&self) -> Result<()> {
        Err(Error::NotFound(self.id.clone()))
    }

    /// Sends a signal to the first process, or to all processes of its cgroup.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        let _ = (signal, all);
        Err(Error::NotFound(self.id.clone()))
    }

    /// Removes what is left of a stopped container: cgroup, state; then runs the `poststop` hooks.
    /// `force` kills whatever still runs, and takes a container that does not exist as deleted.
    pub fn delete(self, force: bool) -> Result<()> {
        let _ = (force, self.state_root);
        Err(Error::NotFound(self.id))
    }

    /// Freezes all processes.
    pub fn pause(&self) -> Result<()> {
        Err(Error::NotFound(self.id.clone()))
    }

    /// Thaws them.
    pub fn resume(&self) -> Result<()> {
        Err(Error::NotFound(self.id.clone()))
    }

    /// Adds a process. Returns when its program is about to be executed, with everything done that can fail.
    pub fn exec(&self, options: ExecOptions) -> Result<ExecProcess> {
        drop(options);
        Err(Error::NotFound(self.id.clone()))
    }

    /// Process ids of all its processes, as the caller sees them.
    pub fn processes(&self) -> Result<Vec<i32>> {
        Err(Error::NotFound(self.id.clone()))
    }

    /// Changes limits: fields that are present replace those in force, and are remembered.
    pub fn update(&mut self, resources: &Resources) -> Result<()> {
        let _ = resources;
        Err(Error::NotFound(self.id.clone()))
    }
}
