//! The bundle that both runtimes run, and a runtime with its state beside it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

/// A root file system and a configuration, of which each container gets its own copy with its own control group, as an
/// engine gives it.
pub(crate) struct Bundle {
    folder: PathBuf,
    config: Value,
}

/// The program of a bundle.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    /// Ends at once.
    True,
    /// Says `ready` and stays.
    Stays,
}

impl Bundle {
    /// A root file system with busybox, and the configuration that `writer spec` writes.
    pub(crate) fn new(busybox: &Path, writer: &str) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("gantry-bench-{}", std::process::id()));
        let mut bundle = Self { folder, config: Value::Null };
        let failed = |error: std::io::Error| format!("cannot make {}: {error}", bundle.folder.display());
        let rootfs = bundle.folder.join("rootfs");
        for name in ["bin", "proc", "dev", "sys", "tmp"] {
            std::fs::create_dir_all(rootfs.join(name)).map_err(failed)?;
        }
        std::fs::copy(busybox, rootfs.join("bin/busybox")).map_err(|e| format!("{}: {e}", busybox.display()))?;
        for applet in ["true", "sh", "sleep"] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).map_err(failed)?;
        }
        let written = words(writer).arg("spec").current_dir(&bundle.folder).status();
        written.map_err(|error| format!("cannot run {writer}: {error}"))?;
        let text = std::fs::read(bundle.folder.join("config.json")).map_err(failed)?;
        let mut config: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        config["process"]["terminal"] = json!(false);
        config["root"]["path"] = json!(rootfs);
        bundle.config = config;
        Ok(bundle)
    }

    /// The name of this run, and of the group that all of its containers are in.
    fn name(&self) -> &str {
        self.folder.file_name().and_then(|name| name.to_str()).unwrap_or("gantry-bench")
    }

    /// Writes the bundle of one container.
    fn write(&self, program: Program, id: &str) -> Result<PathBuf, String> {
        let mut config = self.config.clone();
        config["process"]["args"] = match program {
            Program::True => json!(["/bin/true"]),
            Program::Stays => json!(["/bin/sh", "-c", "echo ready; exec sleep 100000"]),
        };
        config["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", self.name()));
        let place = self.folder.join("bundles").join(id);
        let written = std::fs::create_dir_all(&place)
            .and_then(|()| std::fs::write(place.join("config.json"), config.to_string()));
        written.map(|()| place.clone()).map_err(|error| format!("cannot write {}: {error}", place.display()))
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("xtask: cannot remove {}: {error}", self.folder.display());
        }
        crate::suite::remove_groups_called(self.name());
    }
}

/// A runtime with a state directory of its own.
pub(crate) struct Runtime<'a> {
    words: String,
    bundle: &'a Bundle,
    name: &'static str,
    count: AtomicU64,
}

/// A container that can be made.
pub(crate) struct Prepared {
    pub(crate) id: String,
    pub(crate) bundle: String,
}

fn words(text: &str) -> Command {
    let mut words = text.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

impl<'a> Runtime<'a> {
    pub(crate) fn new(words: &str, bundle: &'a Bundle, name: &'static str) -> Self {
        Self { words: words.to_owned(), bundle, name, count: AtomicU64::new(0) }
    }

    fn id(&self) -> String {
        format!("gantry-bench-{}-{}-{}", std::process::id(), self.name, self.count.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = words(&self.words);
        command.arg("--root").arg(self.bundle.folder.join(self.name)).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, and says how many milliseconds that took.
    pub(crate) fn timed(&self, arguments: &[&str]) -> Result<f64, String> {
        // One file for all: what is measured is not to be how fast files are made.
        let complaints = self.bundle.folder.join(format!("{}-complaints", self.name));
        let file = std::fs::File::options().create(true).append(true).open(&complaints).map_err(|e| e.to_string())?;
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(file);
        let begin = Instant::now();
        let status = command.status().map_err(|error| format!("cannot run {}: {error}", self.words))?;
        let elapsed = begin.elapsed().as_secs_f64() * 1000.0;
        if status.success() {
            return Ok(elapsed);
        }
        let text = std::fs::read_to_string(&complaints).unwrap_or_default();
        Err(format!("{} {}: {status}: {}", self.words, arguments.join(" "), text.lines().last().unwrap_or_default()))
    }

    /// An id that was never used, and the bundle of a container with that name.
    pub(crate) fn prepare(&self, program: Program) -> Result<Prepared, String> {
        let id = self.id();
        let bundle = self.bundle.write(program, &id)?.to_string_lossy().into_owned();
        Ok(Prepared { id, bundle })
    }

    /// `run`, `create` or the like.
    pub(crate) fn with_bundle(&self, verb: &str, container: &Prepared) -> Result<f64, String> {
        self.timed(&[verb, "--bundle", &container.bundle, &container.id])
    }

    /// `create` and `start`.
    pub(crate) fn create_and_start(&self, container: &Prepared) -> Result<f64, String> {
        Ok(self.with_bundle("create", container)? + self.timed(&["start", &container.id])?)
    }

    /// `run` that stays in the foreground, with its output to be read.
    pub(crate) fn foreground(&self, container: &Prepared) -> Result<Child, String> {
        let mut command = self.command(&["run", "--bundle", &container.bundle, &container.id]);
        command.stdout(Stdio::piped()).spawn().map_err(|error| format!("cannot run {}: {error}", self.words))
    }

    /// Removes containers, a few at a time.
    pub(crate) fn delete(&self, containers: &[Prepared]) -> Result<(), String> {
        std::thread::scope(|scope| {
            let delete = |container: &Prepared| self.timed(&["delete", "--force", &container.id]).map(drop);
            let parts = containers.chunks(containers.len().div_ceil(4).max(1));
            let workers: Vec<_> = parts.map(|part| scope.spawn(move || part.iter().try_for_each(delete))).collect();
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("a thread panicked".into())))
        })
    }
}
