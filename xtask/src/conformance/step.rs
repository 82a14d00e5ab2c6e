//! One step: something to run, its output in a file, and how many checks passed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::engines;

/// How a step ended.
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) passed: usize,
    pub(super) failed: usize,
}

/// What a step is given.
pub(super) struct Step<'a> {
    pub(super) name: &'a str,
    pub(super) lab: &'a Path,
    pub(super) world: &'a World,
    /// Engines are to use the lab's runc.
    pub(super) reference: bool,
}

/// runc in the lab's root and in its machine.
pub(super) const REFERENCE: &str = "/usr/bin/runc";

type Body = fn(&Step<'_>) -> Result<Outcome, String>;

/// In the order in which they say most: the reference before Gantry's runtime, cases before engines.
pub(super) const ALL: &[(&str, Body)] = &[
    ("cases-reference", |step| {
        let mut command = Command::new(step.lab.join("peers"));
        command.args(["env", "GANTRY_TEST_RUNTIME=runc"]).arg(step.world.folder.join("cases"));
        counted(step.world, step.name, command)
    }),
    ("cases", |step| cases_here(step.world, step.name, &step.world.folder.join("cases"), &step.world.words())),
    // What the reference does a hundred times takes an hour there.
    ("cases-vm-reference", |step| cases_in_machine(step, "runc", 20)),
    ("cases-vm", |step| cases_in_machine(step, "'/in/gantry runtime'", 100)),
    ("dockerd", engines::dockerd),
    ("containerd", engines::containerd),
    ("images", engines::images),
    ("registry", engines::registry),
    ("podman", |step| engines::podman(step, false)),
    ("podman-rootless", |step| engines::podman(step, true)),
];

/// Where everything of one run is. It lies in `/tmp`, which the root with the peers shares.
pub(super) struct World {
    pub(super) folder: PathBuf,
    /// Of control groups, namespaces of engines and the like.
    pub(super) name: String,
    keep: bool,
}

impl World {
    pub(super) fn new(keep: bool) -> Result<Self, String> {
        let name = format!("gantry-conformance-{}", std::process::id());
        let folder = Path::new("/tmp").join(&name);
        fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        Ok(Self { folder, name, keep })
    }

    /// The runtime under test in the words of its command line. The cases give the program names of their own, so that
    /// its name cannot say what it is to be.
    pub(super) fn words(&self) -> String {
        format!("{} runtime", self.folder.join("gantry").display())
    }

    /// The same as one word, for engines: under the name by which the binary knows what to be.
    pub(super) fn runtime(&self) -> PathBuf {
        self.folder.join("gantry-runtime")
    }

    /// Copies what the steps run.
    pub(super) fn install(&self, programs: &[(&Path, &str)]) -> Result<(), String> {
        programs.iter().try_for_each(|(path, name)| self.bring(path, name))?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        self.bring(Path::new(busybox.ok_or("the package busybox-static is not installed")?), "busybox")
    }

    pub(super) fn bring(&self, from: &Path, name: &str) -> Result<(), String> {
        let to = self.folder.join(name);
        fs::copy(from, &to).map(drop).map_err(|e| format!("copying {} to {}: {e}", from.display(), to.display()))
    }

    /// A file of this run.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|e| format!("writing {}: {e}", path.display()))?;
        Ok(path)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.keep {
            println!("kept: {}", self.folder.display());
        } else if let Err(e) = fs::remove_dir_all(&self.folder) {
            eprintln!("xtask: cannot remove {}: {e}", self.folder.display());
        }
        crate::suite::remove_groups_called(&self.name);
    }
}

/// The cases on a runtime of this machine.
pub(super) fn cases_here(world: &World, name: &str, program: &Path, runtime: &str) -> Result<Outcome, String> {
    let mut command = Command::new(program);
    command.env("GANTRY_TEST_RUNTIME", runtime);
    counted(world, name, command)
}

/// The cases on a runtime of the machine with cgroup v2, two at a time since it is slow. Its `/tmp` allows no devices,
/// which a root file system needs. What is repeated is done so many percent of the times.
fn cases_in_machine(step: &Step<'_>, runtime: &str, rounds: u32) -> Result<Outcome, String> {
    let variables =
        format!("TMPDIR=/var/tmp GANTRY_TEST_SYSTEMD_ROOT=/ GANTRY_TEST_ROUNDS={rounds} GANTRY_TEST_RUNTIME={runtime}");
    let script = format!("chmod 755 /in /in/*; cp busybox /usr/bin/; {variables} ./cases --test-threads 2");
    counted(step.world, step.name, machine(step, &["cases", "layers", "busybox", "gantry"], &script))
}

/// A command for the machine with cgroup v2, with files of this run in its `/in`.
pub(super) fn machine(step: &Step<'_>, files: &[&str], script: &str) -> Command {
    let mut command = Command::new(step.lab.join("vm"));
    command.args(["--timeout", "3000"]);
    for file in files {
        command.arg("--in").arg(step.world.folder.join(file));
    }
    command.args(["--", script]);
    command
}

/// Runs it with its output in a file, and counts what passed by the last line that tells. What failed is shown.
pub(super) fn counted(world: &World, name: &str, mut command: Command) -> Result<Outcome, String> {
    let log = world.folder.join(format!("{name}.log"));
    let file = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let copy = file.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
    command.env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stdout(file).stderr(copy);
    let status = command.status().map_err(|e| format!("cannot run {command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let count = |word: &str| {
        let line = text.lines().rfind(|line| line.contains(" passed; "))?;
        let before = line.split(word).next()?;
        before.split_whitespace().next_back()?.parse::<usize>().ok()
    };
    let (passed, mut failed) = (count(" passed;").unwrap_or_default(), count(" failed").unwrap_or_default());
    if !status.success() {
        failed = failed.max(1);
        text.lines()
            .filter(|line| !line.starts_with("ok ") && !line.ends_with("... ok"))
            .for_each(|l| println!("    {l}"));
    }
    println!("    {passed} passed, {failed} failed");
    Ok(Outcome { name: name.to_owned(), passed, failed })
}
