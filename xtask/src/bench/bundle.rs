//! The bundle that both runtimes run, and a runtime with its state beside it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

/// A folder with three bundles, which differ in their program.
pub(crate) struct Bundle {
    folder: PathBuf,
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
        let bundle = Self { folder };
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
        for (program, args) in [
            (Program::True, json!(["/bin/true"])),
            (Program::Stays, json!(["/bin/sh", "-c", "echo ready; exec sleep 100000"])),
        ] {
            config["process"]["args"] = args;
            let place = bundle.of(program);
            std::fs::create_dir_all(&place).map_err(failed)?;
            std::fs::write(place.join("config.json"), config.to_string()).map_err(failed)?;
        }
        Ok(bundle)
    }

    pub(crate) fn of(&self, program: Program) -> PathBuf {
        self.folder.join(format!("{program:?}").to_lowercase())
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("xtask: cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// A runtime with a state directory of its own.
pub(crate) struct Runtime<'a> {
    words: String,
    bundle: &'a Bundle,
    name: &'static str,
    count: AtomicU64,
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

    /// An id that was never used.
    pub(crate) fn id(&self) -> String {
        format!("gantry-bench-{}-{}-{}", std::process::id(), self.name, self.count.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = words(&self.words);
        command.arg("--root").arg(self.bundle.folder.join(self.name)).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, and says how many milliseconds that took.
    pub(crate) fn timed(&self, arguments: &[&str]) -> Result<f64, String> {
        let complaints =
            self.bundle.folder.join(format!("{}-{}", self.name, self.count.fetch_add(1, Ordering::Relaxed)));
        let file = std::fs::File::create(&complaints).map_err(|error| error.to_string())?;
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(file);
        let begin = Instant::now();
        let status = command.status().map_err(|error| format!("cannot run {}: {error}", self.words))?;
        let elapsed = begin.elapsed().as_secs_f64() * 1000.0;
        if status.success() {
            let _ = std::fs::remove_file(&complaints);
            return Ok(elapsed);
        }
        let text = std::fs::read_to_string(&complaints).unwrap_or_default();
        Err(format!("{} {}: {status}: {}", self.words, arguments.join(" "), text.trim()))
    }

    /// `run`, `create` or the like with the bundle of a program.
    pub(crate) fn with_bundle(&self, verb: &str, program: Program, id: &str) -> Result<f64, String> {
        self.timed(&[verb, "--bundle", &self.bundle.of(program).to_string_lossy(), id])
    }

    /// `create` and `start`.
    pub(crate) fn create_and_start(&self, id: &str) -> Result<f64, String> {
        Ok(self.with_bundle("create", Program::Stays, id)? + self.timed(&["start", id])?)
    }

    /// `run` that stays in the foreground, with its output to be read.
    pub(crate) fn foreground(&self, id: &str) -> Result<Child, String> {
        let bundle = self.bundle.of(Program::Stays);
        let mut command = self.command(&["run", "--bundle", &bundle.to_string_lossy(), id]);
        command.stdout(Stdio::piped()).spawn().map_err(|error| format!("cannot run {}: {error}", self.words))
    }

    /// Removes containers, a few at a time.
    pub(crate) fn delete(&self, ids: &[String]) -> Result<(), String> {
        std::thread::scope(|scope| {
            let workers: Vec<_> = ids
                .chunks(ids.len().div_ceil(4).max(1))
                .map(|part| {
                    scope.spawn(|| part.iter().try_for_each(|id| self.timed(&["delete", "--force", id]).map(drop)))
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("a thread panicked".into())))
        })
    }
}
