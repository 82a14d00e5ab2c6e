//! One command for everything: install what the tests need, check, build, test, clean up.
//!
//! The tests are privileged: they make containers, bridges, firewall rules and mounts. To leave the
//! machine as it was even when a test is killed, all of them run inside process, mount and network
//! namespaces of their own. When the first process of that little world ends, the kernel takes down
//! every process, mount, link and rule that it held; what is left to remove by hand is one folder
//! and the control groups under one name.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs that the tests call, and the Debian packages that bring them.
const PROGRAMS: &[(&str, &str)] = &[
    ("buildah", "buildah"),
    ("busybox", "busybox-static"),
    ("curl", "curl"),
    ("docker-registry", "docker-registry"),
    ("docker", "docker-cli"),
    ("dockerd", "docker.io"),
    ("ip", "iproute2"),
    ("mkfs.xfs", "xfsprogs"),
    ("newuidmap", "uidmap"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("podman", "podman"),
    ("skopeo", "skopeo"),
    ("unshare", "util-linux"),
];

/// Programs that the tests call and Debian does not have: the packages of the Python index that bring them.
const PYTHON: &[(&str, &str)] = &[("moto_server", "moto[server]")];

/// What to run, and how much of it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out rustfmt, clippy and tidy
    #[arg(long)]
    no_checks: bool,
    /// Pass these on to the test programs, e.g. a part of a test's name
    #[arg(last = true)]
    filter: Vec<String>,
}

/// Everything that CI runs.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    if !is_root()? {
        return Err("the tests make containers and need root; run this command as root".into());
    }
    install()?;
    let root = crate::repository();
    install_python(&root)?;
    if !options.no_checks {
        cargo(&root, &["fmt", "--all", "--check"])?;
        cargo(&root, &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
        crate::tidy::run()?;
    }
    // What needs the outside world (crates, the compiler's own locks) happens before the walls go up.
    cargo(&root, &["build", "--workspace", "--quiet"])?;
    cargo(&root, &["test", "--workspace", "--no-run", "--quiet"])?;
    let world = World::new()?;
    world.tests(&root, &options.filter)
}

fn is_root() -> Result<bool, String> {
    let status =
        std::fs::read_to_string("/proc/self/status").map_err(|e| format!("cannot read /proc/self/status: {e}"))?;
    let effective = status.lines().find_map(|l| l.strip_prefix("Uid:")).and_then(|l| l.split_whitespace().nth(1));
    Ok(effective == Some("0"))
}

/// Install the packages of programs that are missing; a machine that has them all needs no network.
fn install() -> Result<(), String> {
    let missing: Vec<&str> = PROGRAMS.iter().filter(|(p, _)| !on_path(p)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { install_packages(&missing) }
}

fn install_packages(missing: &[&str]) -> Result<(), String> {
    println!("installing {}", missing.join(" "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        run_command(command.args(["-q", "-y"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update"])?;
    let mut arguments = vec!["install", "--no-install-recommends"];
    arguments.extend(missing);
    let _quiet = Quiet::new()?;
    apt(&arguments)
}

/// A package may start its server on installation, and dockerd changes the firewall of the whole machine. The tests start
/// their own in namespaces, so as long as this lives Debian starts none (invoke-rc.d(8)).
struct Quiet {
    is_ours: bool,
}

impl Quiet {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<Self, String> {
        use std::os::unix::fs::PermissionsExt;
        // Whoever has one already has decided.
        let is_ours = !Path::new(Self::POLICY).exists();
        if is_ours {
            std::fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n")
                .and_then(|()| std::fs::set_permissions(Self::POLICY, std::fs::Permissions::from_mode(0o755)))
                .map_err(|error| format!("writing {}: {error}", Self::POLICY))?;
        }
        Ok(Self { is_ours })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = std::fs::remove_file(Self::POLICY);
        }
    }
}

/// Install Python's packages into a folder below `target`, where the tests look after PATH.
fn install_python(root: &Path) -> Result<(), String> {
    let folder = root.join("target/python");
    let missing: Vec<&str> =
        PYTHON.iter().filter(|(p, _)| !on_path(p) && !folder.join("bin").join(p).is_file()).map(|(_, p)| *p).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // Debian's Python makes folders for packages only with this package.
    let has_venv = Command::new("python3").args(["-c", "import ensurepip"]).output().is_ok_and(|o| o.status.success());
    if !has_venv {
        install_packages(&["python3-venv"])?;
    }
    println!("installing {}", missing.join(" "));
    run_command(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run_command(Command::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(&missing))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).any(|folder| folder.join(program).is_file())
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<(), String> {
    println!("cargo {}", arguments.join(" "));
    run_command(Command::new(env!("CARGO")).args(arguments).current_dir(root))
}

fn run_command(command: &mut Command) -> Result<(), String> {
    let name = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status().map_err(|e| format!("cannot run {name}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} failed ({status})")) }
}

/// The namespaces, folder and control group that one run of the tests lives in.
struct World {
    /// Everything that tests write; they find it as TMPDIR.
    folder: PathBuf,
    /// The name below which engines of the tests make their control groups.
    cgroup: String,
}

impl World {
    fn new() -> Result<Self, String> {
        let name = format!("gantry-test-{}", std::process::id());
        let folder = Path::new("/var/tmp").join(&name);
        std::fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        Ok(World { folder, cgroup: name })
    }

    /// Run all tests inside. `--kill-child` and the PID namespace end whatever a test left running.
    fn tests(&self, root: &Path, filter: &[String]) -> Result<(), String> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
        command.args(["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && \"$@\"; exit $?", "tests"]);
        command.arg(env!("CARGO")).args(["test", "--workspace", "--offline", "--no-fail-fast", "--"]).args(filter);
        command.current_dir(root).env("TMPDIR", &self.folder).env("GANTRY_TEST_CGROUP", &self.cgroup);
        run_command(&mut command)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("xtask: cannot remove {}: {e}", self.folder.display());
        }
        remove_groups_called(&self.cgroup);
        // The parent of the groups of the runtime's cases, which remove their own. It stays as long as another run is going on.
        for hierarchy in hierarchies() {
            let _ = std::fs::remove_dir(hierarchy.join("gantry-test"));
        }
    }
}

/// Remove the control groups with this name at the root of every hierarchy.
pub(crate) fn remove_groups_called(name: &str) {
    for hierarchy in hierarchies() {
        remove_groups(&hierarchy.join(name));
    }
}

/// Roots of the control group hierarchies: the unified one, or one for each controller.
fn hierarchies() -> Vec<PathBuf> {
    let top = PathBuf::from("/sys/fs/cgroup");
    let inner = std::fs::read_dir(&top).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir());
    inner.chain([top.clone()]).collect()
}

/// Remove a control group and those below it, innermost first; the kernel refuses those in use.
fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    // A missing group is the usual case: most tests make none in most hierarchies.
    let _ = std::fs::remove_dir(group);
}
