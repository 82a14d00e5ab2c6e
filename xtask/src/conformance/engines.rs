//! Real engines whose configured runtime is the one under test.

use std::process::Command;

use super::step::{Outcome, REFERENCE, Step, counted, machine};

/// What every script begins with.
const CHECKS: &str = include_str!("../../../crates/gantry/tests/clients/checks.sh");

/// dockerd with `--add-runtime`.
pub(super) fn dockerd(step: &Step<'_>) -> Result<Outcome, String> {
    engine_here(step, include_str!("dockerd.sh"))
}

/// containerd by `ctr run --runc-binary`.
pub(super) fn containerd(step: &Step<'_>) -> Result<Outcome, String> {
    engine_here(step, include_str!("containerd.sh"))
}

/// Images of other tools, and what those make of Gantry's.
pub(super) fn images(step: &Step<'_>) -> Result<Outcome, String> {
    engine_here(step, include_str!("images.sh"))
}

/// Clients of Gantry's registry.
pub(super) fn registry(step: &Step<'_>) -> Result<Outcome, String> {
    engine_here(step, include_str!("../../../crates/gantry/tests/clients/registry.sh"))
}

/// A script in the root with the peers, inside network, process and mount namespaces of its own.
fn engine_here(step: &Step<'_>, script: &str) -> Result<Outcome, String> {
    let work = step.world.folder.join(step.name);
    for folder in [work.join("empty"), work.join("here")] {
        std::fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    }
    let there = work.join("here/file");
    std::fs::write(&there, "there\n").map_err(|e| format!("writing {}: {e}", there.display()))?;
    let path = step.world.write(&format!("{}.sh", step.name), &format!("{CHECKS}{script}"))?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child", "--"]);
    command.arg(step.lab.join("peers")).arg("sh").arg(path);
    let runtime = if step.reference { REFERENCE.into() } else { step.world.runtime() };
    command.env("NAME", &step.world.name).env("WORK", &work).env("RUNTIME", runtime);
    command.env("GANTRY", step.world.folder.join("gantry")).env("IMAGE", step.world.folder.join("busybox.tar"));
    counted(step.world, step.name, command)
}

/// `podman --runtime` in the machine with cgroup v2, where Podman comes along as an archive of its packages' files.
pub(super) fn podman(step: &Step<'_>, rootless: bool) -> Result<Outcome, String> {
    let archive = step.world.folder.join("podman.tar");
    if !archive.exists() {
        let script = step.world.write("podman-pack.sh", include_str!("podman-pack.sh"))?;
        let mut command = Command::new(step.lab.join("peers"));
        command.env("WORK", &step.world.folder).arg("sh").arg(script);
        let status = command.status().map_err(|e| format!("cannot run {command:?}: {e}"))?;
        if !status.success() {
            return Err(format!("{command:?} failed ({status})"));
        }
    }
    step.world.write("podman.sh", &format!("{CHECKS}{}", include_str!("podman.sh")))?;
    step.world.write("podman-vm.sh", include_str!("podman-vm.sh"))?;
    let files = ["podman.tar", "podman.sh", "podman-vm.sh", "busybox.tar", "gantry-runtime"];
    let who = if rootless { "user" } else { "root" };
    let runtime = if step.reference { REFERENCE } else { "/in/gantry-runtime" };
    counted(step.world, step.name, machine(step, &files, &format!("sh ./podman-vm.sh {who} {runtime}")))
}
