//! The file with the engine's process id: says which engine runs, and keeps a second one from starting over it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the file could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidfileError {
    /// An engine that wrote it is alive.
    #[error(
        "failed to start daemon, ensure that no other engine is running or delete {path}: process with PID {pid} is still running"
    )]
    Running { path: PathBuf, pid: i32 },
    /// It cannot be read or written.
    #[error("cannot write the process id to {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// The file, removed when the engine ends.
#[derive(Debug)]
pub(crate) struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes this process's id, unless the process that the file names is a living engine.
    pub(crate) fn take(path: &Path) -> Result<Self, PidfileError> {
        let failed = |source| PidfileError::Write { path: path.to_owned(), source };
        if let Some(pid) = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok())
            && pid != rustix::process::getpid().as_raw_nonzero().get()
            && same_program(pid)
        {
            return Err(PidfileError::Running { path: path.to_owned(), pid });
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(path, std::process::id().to_string()).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a process lives and runs what we run. After a crash the number may long belong to something else.
fn same_program(pid: i32) -> bool {
    let name = |process: &str| std::fs::read_to_string(format!("/proc/{process}/comm")).ok();
    let theirs = name(&pid.to_string());
    theirs.is_some() && theirs == name("self")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_engine_s_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/gantry.pid");
        let first = Pidfile::take(&path).unwrap();
        std::fs::write(&path, "4194304999").unwrap();
        let second = Pidfile::take(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop((first, second));
        assert!(!path.exists());
    }
}
