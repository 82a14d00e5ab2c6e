//! A bundle in a directory of its own, and the runtime to run it with.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The lines of standard output, after checking that all went well.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<&str> {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout.lines().collect()
    }
}

pub(crate) struct Bundle {
    pub(crate) directory: PathBuf,
    pub(crate) id: String,
    pub(crate) spec: Value,
    /// A copy of the runtime that nobody else executes.
    program: Option<PathBuf>,
}

const APPLETS: &[&str] = &[
    "sh", "cat", "ls", "id", "hostname", "sleep", "true", "echo", "stat", "mount", "touch", "mkdir", "mknod", "chown",
    "ip", "readlink", "grep", "dmesg", "ping", "stty", "tty", "test", "umount", "env", "pwd", "wc", "kill", "head",
    "dd", "date", "tr", "seq", "rm", "cut", "ps", "su", "chmod", "ln", "unshare", "printf",
];

impl Bundle {
    /// A root filesystem with busybox, and a configuration with all namespaces and Docker's rights.
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert_eq!(rustix::process::geteuid().as_raw(), 0, "these tests need root");
        let id = format!("gt-{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&id);
        let root = directory.join("rootfs");
        for name in ["bin", "etc", "proc", "dev", "sys", "tmp", "root", "data"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        copy_program(busybox.expect("the package busybox-static is installed").as_ref(), &root.join("bin/busybox"));
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
            .unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        let spec = spec(&id);
        Self { directory, id, spec, program: None }
    }

    /// Copies the runtime's program, for cases that try to write to it: what is being executed cannot be written to anyway.
    /// None for the reference, which may be in another root.
    pub(crate) fn own_runtime(&mut self, name: &str) -> Option<PathBuf> {
        if is_reference() {
            return None;
        }
        let original = PathBuf::from(runtime().get_program());
        let copy = self.directory.join(name);
        copy_program(&original, &copy);
        self.program = Some(copy.clone());
        Some(copy)
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// Sets what a JSON pointer leads to, making objects on the way.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let mut place = &mut self.spec;
        for part in pointer.split('/').skip(1) {
            place = match part.parse::<usize>() {
                Ok(index) if place.is_array() => &mut place[index],
                _ => &mut place[part],
            };
        }
        *place = value;
        self
    }

    pub(crate) fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        match self.spec.pointer_mut(pointer) {
            Some(list) => list.as_array_mut().unwrap().push(value),
            None => drop(self.set(pointer, json!([value]))),
        }
        self
    }

    pub(crate) fn args(&mut self, args: &[&str]) -> &mut Self {
        self.set("/process/args", json!(args))
    }

    pub(crate) fn script(&mut self, text: &str) -> &mut Self {
        self.args(&["/bin/sh", "-c", text])
    }

    pub(crate) fn without_namespace(&mut self, kind: &str) -> &mut Self {
        let namespaces = self.spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != kind);
        self
    }

    /// Joins this namespace instead of making one.
    pub(crate) fn join(&mut self, kind: &str, path: &str) -> &mut Self {
        self.without_namespace(kind).push("/linux/namespaces", json!({"type": kind, "path": path}))
    }

    /// The runtime with the state directory of this bundle.
    pub(crate) fn runtime(&self) -> Command {
        let mut command = runtime();
        if let Some(program) = &self.program {
            let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            command = Command::new(program);
            command.args(arguments);
        }
        command.arg("--root").arg(self.directory.join("state")).current_dir(&self.directory);
        command
    }

    pub(crate) fn write(&self) {
        fs::write(self.directory.join("config.json"), self.spec.to_string()).unwrap();
    }

    /// Runs a command of the runtime to its end. What it leaves behind must not hold its output open.
    pub(crate) fn call(&self, arguments: &[&str]) -> Output {
        let output = self.runtime().args(arguments).stdin(Stdio::null()).output().unwrap();
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// `run` in the foreground.
    pub(crate) fn run(&self) -> Output {
        self.write();
        self.call(&["run", &self.id])
    }

    /// `create`, with the container's output in a file.
    pub(crate) fn create_with(&self, arguments: &[&str]) -> Output {
        self.write();
        let log = self.directory.join("output");
        let file = || fs::File::options().create(true).append(true).open(&log).unwrap();
        let before = fs::metadata(&log).map_or(0, |m| m.len());
        let mut command = self.runtime();
        command.args(arguments).stdin(Stdio::null()).stdout(file()).stderr(file());
        let code = command.status().unwrap().code().unwrap_or(-1);
        let text = fs::read_to_string(&log).unwrap();
        Output { code, stdout: String::new(), stderr: text.get(before as usize..).unwrap_or_default().into() }
    }

    #[track_caller]
    pub(crate) fn create(&self) {
        let output = self.create_with(&["create", &self.id]);
        assert_eq!(output.code, 0, "{output:?}");
    }

    #[track_caller]
    pub(crate) fn start(&self) {
        let output = self.call(&["start", &self.id]);
        assert_eq!(output.code, 0, "{output:?}");
    }

    /// Whether anything is kept of the container, by the names that runtimes give to it.
    pub(crate) fn has_state(&self) -> bool {
        let entries = fs::read_dir(self.directory.join("state")).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().contains(&self.id))
    }

    /// What the container wrote so far.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.directory.join("output")).unwrap()
    }

    pub(crate) fn state(&self) -> Value {
        let output = self.call(&["state", &self.id]);
        serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().unwrap() as i32
    }

    /// Waits until the container is stopped.
    #[track_caller]
    pub(crate) fn wait_stopped(&self) {
        eventually("the container stops", || self.status() == "stopped");
    }

    pub(crate) fn exec(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["exec", &self.id];
        all.extend(arguments);
        self.call(&all)
    }

    /// The container's directory in the hierarchy of a controller, or the one of v2.
    pub(crate) fn cgroup(&self, controller: &str) -> PathBuf {
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let base = if v1.is_dir() { v1 } else { PathBuf::from("/sys/fs/cgroup") };
        base.join("gantry-test").join(&self.id)
    }
}

/// Copies a program that is executed soon. By another process: what this one has open for writing, the children of other
/// threads have too for a moment, and such a file cannot be executed.
pub(crate) fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

/// Whether the host has cgroup v2 alone.
pub(crate) fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The runtime under test.
pub(crate) fn runtime() -> Command {
    if let Ok(words) = std::env::var("GANTRY_TEST_RUNTIME") {
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        return command;
    }
    Command::new(example("runc"))
}

/// A program of this crate's examples: beside this one, when both were copied, or where cargo puts it.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let found = [test.with_file_name(name), built].into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("the example {name} is missing: cargo test without --test builds it"))
}

/// Whether the reference runs these cases, for the few where it is known to differ. Whatever its file is called, runc
/// says which version of Go it was built with.
pub(crate) fn is_reference() -> bool {
    static REFERENCE: OnceLock<bool> = OnceLock::new();
    *REFERENCE.get_or_init(|| {
        let version = runtime().arg("--version").output().unwrap().stdout;
        let version = String::from_utf8_lossy(&version);
        version.starts_with("runc version ") && version.contains("\ngo: ")
    })
}

/// How often something is tried that works or fails by chance: `count` times, or the part of it that
/// `$GANTRY_TEST_ROUNDS` gives in percent, for machines that are emulated.
pub(crate) fn rounds(count: u32) -> u32 {
    let percent = std::env::var("GANTRY_TEST_ROUNDS").map_or(100, |text| text.parse().expect("a number of percent"));
    (count * percent / 100).max(1)
}

/// Waits for what another process is about to do.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", &self.id]);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A configuration with all namespaces and Docker's rights.
fn spec(id: &str) -> Value {
    let capabilities = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE"
    ]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities}
        },
        "root": {"path": "rootfs"},
        "hostname": "inside",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}
        ],
        "linux": {
            "cgroupsPath": format!("/gantry-test/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/no-such"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
