//! A real engine for one test: the built binary with folders, a socket and a network namespace of its own.
//!
//! The engine runs in a fresh network namespace, so its bridge, addresses and firewall rules meet those of no other
//! test and vanish with it. Everything else is removed in `Drop`, also when the test fails.

#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test program uses its own part")]

mod registry;
mod terminal;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub use registry::GantryRegistry;
pub use terminal::Terminal;

/// The program under test.
pub(crate) const GANTRY: &str = env!("CARGO_BIN_EXE_gantry");

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// An engine and everything it made.
pub struct Engine {
    folder: tempfile::TempDir,
    name: String,
    /// Holds the network namespace from the first start to the drop; its pid leads into it.
    anchor: Child,
    daemon: Option<Child>,
    extra: Vec<String>,
    /// A file system of limited size was mounted over the engine's data.
    small_disk: bool,
}

impl Engine {
    /// Start an engine with no image in it, and wait until it listens.
    pub fn start() -> Engine {
        Engine::start_with(&[])
    }

    /// The same with more flags for the daemon.
    pub fn start_with(extra: &[&str]) -> Engine {
        let mut engine = Engine::prepare(extra);
        engine.up();
        engine
    }

    /// An engine whose data is on a file system of so many bytes.
    pub fn start_on_small_disk(bytes: u64) -> Engine {
        let mut engine = Engine::prepare(&[]);
        fs::create_dir(engine.path("data")).expect("a folder");
        let size = std::ffi::CString::new(format!("size={bytes}")).expect("no zeros");
        rustix::mount::mount("tmpfs", engine.path("data"), "tmpfs", rustix::mount::MountFlags::empty(), Some(&*size))
            .expect("a small file system");
        engine.small_disk = true;
        engine.up();
        engine
    }

    fn prepare(extra: &[&str]) -> Engine {
        let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix("gantry-engine-").tempdir().expect("a folder for the engine");
        Engine {
            anchor: anchor(),
            daemon: None,
            extra: extra.iter().map(|e| (*e).to_owned()).collect(),
            name,
            folder,
            small_disk: false,
        }
    }

    /// Start the daemon again, after `kill` or `stop`.
    pub fn up(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).expect("the engine's log");
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let mut command = self.inside(GANTRY);
        command
            .args(["daemon", "--debug", "--data-root"])
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"));
        command.arg("--pidfile").arg(self.path("pid")).arg("--host").arg(self.host());
        command.arg("--cgroup-parent").arg(self.cgroup()).args(&self.extra);
        // The engine writes a line to this descriptor once it listens, and the end of the file means that it died.
        command.env("GANTRY_READY_FD", "1").stdout(writer).stderr(log).stdin(Stdio::null());
        self.daemon = Some(command.spawn().expect("the daemon starts"));
        drop(command);
        let mut line = String::new();
        BufReader::new(fs::File::from(reader)).read_line(&mut line).expect("the daemon's word");
        assert_eq!(line, "ready\n", "the daemon did not start:\n{}", self.log());
    }

    /// End the daemon without a chance to clean up.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a running daemon");
        daemon.kill().expect("kill");
        daemon.wait().expect("wait");
    }

    /// End the daemon as an init system does, and return how it ended.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        let mut daemon = self.daemon.take().expect("a running daemon");
        terminate(&daemon);
        daemon.wait().expect("wait")
    }

    /// A path in the folder of this engine.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The daemon's socket, as `DOCKER_HOST` wants it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path("sock").display())
    }

    /// What the daemon wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn cgroup(&self) -> String {
        format!("/{}", cgroup(&self.name))
    }

    /// A command that runs in the engine's network namespace.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.anchor.id())).arg("--").arg(program);
        command
    }

    /// The unmodified docker command line, speaking to this engine.
    pub fn docker(&self, arguments: &[&str]) -> Output {
        self.client("docker", arguments)
    }

    /// Gantry's own command line.
    pub fn gantry(&self, arguments: &[&str]) -> Output {
        self.client(GANTRY, arguments)
    }

    fn client(&self, program: &str, arguments: &[&str]) -> Output {
        self.client_command(program).args(arguments).stdin(Stdio::null()).output().expect("a client")
    }

    /// A client of this engine, to be given arguments.
    pub fn client_command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", self.path("client"));
        command
    }

    /// What a docker command prints; it must succeed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {}\n{stderr}\n{}", output.status, tail(&self.log()));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The exit code and the error text of a docker command that must fail.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.docker(arguments);
        assert!(!output.status.success(), "docker {arguments:?} should fail");
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    }

    /// `docker inspect` of one thing, as JSON.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> serde_json::Value {
        let text = self.ok(&["inspect", name]);
        let mut found: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        found.pop().expect("one thing")
    }

    /// Import an image `busybox` with every applet, made of the host's static busybox.
    pub fn import_busybox(&self) {
        let tar = self.path("busybox.tar");
        busybox(&self.path("busybox-root"), &tar);
        self.ok(&["import", "--change", "CMD [\"sh\"]", &tar.display().to_string(), "busybox:latest"]);
    }

    /// Serve the reference registry on a loopback port of the engine's network namespace.
    pub fn registry(&self) -> Registry {
        self.registry_with("")
    }

    /// The same with more of its configuration.
    pub fn registry_with(&self, more: &str) -> Registry {
        let configuration = self.path("registry.yml");
        let folder = self.path("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:5000'}}\n{more}",
            folder.display()
        );
        fs::write(&configuration, text).expect("the registry's configuration");
        let log = fs::File::create(self.path("registry.log")).expect("the registry's log");
        let mut command = self.inside("docker-registry");
        command.arg("serve").arg(configuration).stdout(log.try_clone().expect("a copy")).stderr(log);
        let registry = Registry { process: command.spawn().expect("docker-registry starts") };
        // It has no way to say that it listens; the kernel's table of sockets is asked, a bounded number of times.
        for _ in 0..200 {
            let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.anchor.id())).unwrap_or_default();
            if table.contains("0100007F:1388 00000000:0000 0A") {
                return registry;
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        panic!("docker-registry does not listen");
    }

    /// What containers left behind. The kernel takes network namespaces down in its own time and tells nobody, so
    /// something that remains is looked at again for a while.
    pub fn leftovers(&self) -> Vec<String> {
        for _ in 0..200 {
            if self.remains().is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        self.remains()
    }

    fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["data/containers", "data/snapshots", "exec/containers"] {
            let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
            found.extend(entries.map(|e| format!("{folder}/{}", e.file_name().to_string_lossy())));
        }
        let own = self.folder.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        found.extend(mounts.lines().filter(|l| l.contains(&own)).map(|l| format!("mount {l}")));
        let links = self.inside("ip").args(["-br", "link", "show", "type", "veth"]).output().expect("ip");
        found.extend(String::from_utf8_lossy(&links.stdout).lines().map(|l| format!("link {l}")));
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = hierarchy.path().join(self.cgroup().trim_start_matches('/'));
            let inner = fs::read_dir(&group).into_iter().flatten().flatten().filter(|e| e.path().is_dir());
            found.extend(inner.map(|e| format!("cgroup {}", e.path().display())));
        }
        found
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the engine's log ends with:\n{}", tail(&self.log()));
        }
        if self.daemon.is_none() {
            self.up();
        }
        let ids = self.docker(&["ps", "-aq", "--no-trunc"]).stdout;
        let ids = String::from_utf8_lossy(&ids).into_owned();
        let mut remove = vec!["rm", "-f", "-v"];
        remove.extend(ids.split_whitespace());
        if remove.len() > 3 {
            self.docker(&remove);
        }
        if self.daemon.is_some() {
            self.stop();
        }
        if self.small_disk {
            let _ = rustix::mount::unmount(self.path("data"), rustix::mount::UnmountFlags::DETACH);
        }
        self.anchor.kill().expect("kill the anchor");
        self.anchor.wait().expect("wait for the anchor");
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Most hierarchies have no such group.
            let _ = fs::remove_dir(hierarchy.path().join(self.cgroup().trim_start_matches('/')));
        }
    }
}

/// The reference registry; it ends with the value.
pub struct Registry {
    process: Child,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The control group of one test, below the one that is removed after all tests, if there is one.
pub fn cgroup(name: &str) -> String {
    match std::env::var("GANTRY_TEST_CGROUP") {
        Ok(parent) => format!("{parent}/{name}"),
        Err(_) => format!("gantry-test-{name}"),
    }
}

/// A process that does nothing in a network namespace of its own, with the loopback up.
fn anchor() -> Child {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "PATH=$PATH:/sbin:/usr/sbin; ip link set lo up && echo up && exec cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
    let mut word = [0; 3];
    child.stdout.as_mut().expect("its output").read_exact(&mut word).expect("its word");
    child
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
}

/// The end of a log, for messages.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// A root file system of the static busybox with all its applets, as a tar archive.
pub fn busybox(root: &Path, tar: &Path) {
    for folder in ["bin", "etc", "root", "proc", "sys", "dev", "tmp", "var/run", "usr/bin", "home"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    let host = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let host = host.expect("busybox-static is installed");
    fs::copy(host, root.join("bin/busybox")).expect("a copy of busybox");
    let applets = Command::new(host).arg("--list").output().expect("busybox");
    for applet in String::from_utf8_lossy(&applets.stdout).split_whitespace().filter(|a| *a != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
        .expect("passwd");
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").expect("group");
    let status = Command::new("tar").arg("-C").arg(root).args(["--numeric-owner", "-cf"]).arg(tar).arg(".").status();
    assert!(status.expect("tar").success());
}
