//! Proof by other engines: the runtime's cases on any runtime, and real engines whose configured runtime is Gantry's.
//!
//! ```text
//!             this machine                         the machine with cgroup v2
//! cases       the reference, Gantry's runtime      the reference, Gantry's runtime
//! dockerd     containers, networks, a build        –
//! containerd  tasks                                –
//! images      layers and archives of other tools   –
//! registry    clients of Gantry's registry         –
//! Podman      –                                    as root, as an ordinary user
//! ```
//! The cases hold for the reference first: what fails there is wrong. Engines are driven by the scripts beside this file (that
//! of the clients is one of the tests of `gantry`, which has older ones),
//! each inside namespaces of its own, so that what an engine leaves ends with it. Everything that needs a real peer is
//! found in a lab, a directory with two programs: `peers COMMAND…` runs a command in a root file system with dockerd,
//! containerd, Podman and runc, with this machine's `/tmp` and `/run`; `vm [--timeout S] [--in PATH]… -- COMMAND` runs one
//! as root in a machine with systemd, runc and cgroup v2 alone, where the paths are in `/in`.

mod engines;
mod step;

use std::path::{Path, PathBuf};
use std::process::Command;

use step::{Outcome, Step, World};

/// Which runtimes, and where the peers are.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run the cases on this runtime alone (a program and its first arguments)
    #[arg(long, value_name = "WORDS", conflicts_with_all = ["lab", "gantry"])]
    runtime: Option<String>,
    /// The directory with the programs `peers` and `vm`
    #[arg(long, value_name = "DIR")]
    lab: Option<PathBuf>,
    /// The `gantry` under test; one that is built for release otherwise
    #[arg(long, value_name = "PATH")]
    gantry: Option<PathBuf>,
    /// The archive of a busybox root file system that engines import; `images busybox` of the lab says where it is
    #[arg(long, value_name = "TAR", requires = "lab")]
    image: Option<PathBuf>,
    /// Drive the engines with the lab's runc, which shows whether the scripts hold
    #[arg(long, requires = "lab")]
    reference: bool,
    /// Keep everything that was written, and say where
    #[arg(long)]
    keep: bool,
    /// Steps by name, all otherwise: cases-reference, cases, cases-vm-reference, cases-vm, dockerd, containerd, images,
    /// registry, podman, podman-rootless
    #[arg(requires = "lab")]
    steps: Vec<String>,
}

/// Runs the steps and prints a table; an error when one failed.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let cases = cases()?;
    let world = World::new(options.keep)?;
    if let Some(words) = &options.runtime {
        return finish(&[step::cases_here(&world, "cases", &cases, words)?]);
    }
    let gantry = match &options.gantry {
        Some(path) => std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()))?,
        None => release()?,
    };
    world.install(&[(&gantry, "gantry"), (&gantry, "gantry-runtime"), (&cases, "cases"), (&layers()?, "layers")])?;
    let Some(lab) = &options.lab else {
        return finish(&[step::cases_here(&world, "cases", &cases, &world.words())?]);
    };
    let lab = std::path::absolute(lab).map_err(|e| format!("{}: {e}", lab.display()))?;
    let image = match &options.image {
        Some(path) => path.clone(),
        None => image(&lab)?,
    };
    world.bring(&image, "busybox.tar")?;
    let known: Vec<&str> = step::ALL.iter().map(|(name, _)| *name).collect();
    if let Some(wrong) = options.steps.iter().find(|wanted| !known.contains(&wanted.as_str())) {
        return Err(format!("there is no step {wrong:?}; there are {}", known.join(", ")));
    }
    let mut outcomes = Vec::new();
    for (name, body) in step::ALL {
        if options.steps.is_empty() || options.steps.iter().any(|wanted| wanted == name) {
            println!("{name} …");
            outcomes.push(body(&Step { name, lab: &lab, world: &world, reference: options.reference })?);
        }
    }
    finish(&outcomes)
}

fn finish(outcomes: &[Outcome]) -> Result<(), String> {
    println!("\n| step | passed | failed |\n|---|---|---|");
    outcomes.iter().for_each(|outcome| println!("| {} | {} | {} |", outcome.name, outcome.passed, outcome.failed));
    let failed: Vec<&str> =
        outcomes.iter().filter(|o| o.failed > 0 || o.passed == 0).map(|o| o.name.as_str()).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("{} failed", failed.join(", "))) }
}

/// The program of the runtime's cases.
fn cases() -> Result<PathBuf, String> {
    let arguments = ["test", "--package", "runtime", "--test", "cases", "--no-run", "--message-format", "json"];
    artifact(&arguments, "cases")
}

/// The program by which a case reaches the runtime's library.
fn layers() -> Result<PathBuf, String> {
    artifact(&["build", "--package", "runtime", "--example", "layers", "--message-format", "json"], "layers")
}

/// The product, as it is released.
fn release() -> Result<PathBuf, String> {
    artifact(&["build", "--release", "--package", "gantry", "--message-format", "json"], "gantry")
}

/// Builds, and finds the executable of the target with this name in what cargo says.
fn artifact(arguments: &[&str], name: &str) -> Result<PathBuf, String> {
    println!("cargo {}", arguments.join(" "));
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(crate::repository()).stderr(std::process::Stdio::inherit());
    let output = command.output().map_err(|e| format!("cannot run cargo: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo {} failed", arguments.join(" ")));
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let named = messages.filter(|message| message["target"]["name"] == name);
    let mut executables = named.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    executables.next().ok_or_else(|| format!("cargo built no program {name}"))
}

fn image(lab: &Path) -> Result<PathBuf, String> {
    let program = lab.join("images");
    let output = Command::new(&program).arg("busybox").output().map_err(|e| format!("{}: {e}", program.display()))?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if path.is_empty() {
        Err(format!("{} busybox names no file; --image does", program.display()))
    } else {
        Ok(path.into())
    }
}
