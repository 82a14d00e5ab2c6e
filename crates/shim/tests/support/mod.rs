//! A container of busybox with a shim of its own, and a runner of tests that can also be the shim.

use oci::spec::Spec;
use serde_json::{Value, json};
use shim::client::{self, Client, Spawned};
use shim::{Attach, Config, Event, Exit, LogConfig, Request};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The shim must be a program with one thread, so this test program is that program when it is called so.
pub(crate) fn run(tests: &[(&str, fn())]) -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|a| a == "shim") {
        return shim::main(arguments[1..].to_vec());
    }
    let words: Vec<String> = arguments[1..].iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let filters: Vec<&String> = words.iter().filter(|w| !w.starts_with("--")).collect();
    let mut failed = 0;
    for (name, test) in tests {
        if !filters.is_empty() && !filters.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += u32::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Long enough for a loaded machine, short enough for a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that one container needs, gone with the test.
pub(crate) struct Scratch {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) config: Config,
    cgroup: String,
}

impl Scratch {
    /// For this command, without a terminal.
    pub(crate) fn new(command: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("shim-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::Builder::new().prefix("gantry-shim-").tempdir().unwrap();
        let root = directory.path();
        busybox(&root.join("rootfs"));
        let cgroup = format!("/{id}");
        let config = Config {
            spec: spec(command, &cgroup),
            id,
            bundle: root.to_owned(),
            state_root: root.join("state"),
            rootfs: Vec::new(),
            stdin_open: false,
            stdin_once: false,
            log: Some(LogConfig {
                path: root.join("log"),
                max_size: None,
                max_file: 1,
                attributes: None,
                buffer: None,
            }),
            socket_path: root.join("shim.sock"),
            exit_path: root.join("exit.json"),
            spool_dir: root.to_owned(),
        };
        Self { directory, config, cgroup }
    }

    pub(crate) fn shell(script: &str) -> Self {
        Self::new(&["/bin/sh", "-c", script])
    }

    pub(crate) fn with_terminal(mut self) -> Self {
        if let Some(process) = &mut self.config.spec.process {
            process.terminal = true;
        }
        self
    }

    pub(crate) fn with_stdin(mut self, once: bool) -> Self {
        (self.config.stdin_open, self.config.stdin_once) = (true, once);
        self
    }

    /// A shim with the container in it, not started.
    pub(crate) fn create(&self) -> Running<'_> {
        let mut running = self.spawn();
        running.pid = running.client.create().unwrap().0;
        running
    }

    pub(crate) fn spawn(&self) -> Running<'_> {
        let program = std::env::current_exe().unwrap();
        let Spawned { client, process } = client::spawn(&program, self.directory.path(), &self.config).unwrap();
        Running { scratch: self, client, process, pid: 0 }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Text of a log, the streams apart: `stdout`, `stderr`.
    pub(crate) fn logged(&self, stream: &str) -> String {
        let text = std::fs::read_to_string(self.path("log")).unwrap();
        let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        entries.filter(|e| e["stream"] == stream).map(|e| e["log"].as_str().unwrap().to_owned()).collect()
    }

    /// What must not be left behind.
    pub(crate) fn assert_clean(&self) {
        let group = sys::cgroup::Cgroup::open(Path::new(&self.cgroup)).unwrap();
        let left: Vec<_> = group.directories().into_iter().filter(|d| d.exists()).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!self.config.socket_path.exists());
        let states = std::fs::read_dir(&self.config.state_root).map_or(0, Iterator::count);
        assert_eq!(states, 0);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(group) = sys::cgroup::Cgroup::open(Path::new(&self.cgroup)) {
            let _ = group.kill();
            let _ = group.delete();
        }
    }
}

/// A shim that runs.
pub(crate) struct Running<'a> {
    pub(crate) scratch: &'a Scratch,
    pub(crate) client: Client,
    pub(crate) process: Child,
    pub(crate) pid: i32,
}

impl Running<'_> {
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.scratch.config.socket_path).unwrap()
    }

    pub(crate) fn start(&mut self) {
        self.client.run(&Request::Start).unwrap();
    }

    pub(crate) fn attach(&self, stdin: bool) -> Stream {
        let mut client = self.connect();
        client.attach(Attach { stdin, stdout: true, stderr: true }).unwrap();
        Stream::new(client)
    }

    pub(crate) fn events(&self) -> Events {
        let mut client = self.connect();
        client.subscribe().unwrap();
        Events(client)
    }

    /// Waits for the end of the container and of the shim.
    pub(crate) fn finish(mut self, events: &mut Events) -> Exit {
        let exit = events.exit();
        let record = std::fs::read(&self.scratch.config.exit_path).unwrap();
        assert_eq!(serde_json::from_slice::<Exit>(&record).unwrap(), exit);
        self.scratch.assert_clean();
        drop(self.client);
        assert!(self.process.wait().unwrap().success());
        exit
    }
}

pub(crate) struct Events(Client);

impl Events {
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.0.next_event().unwrap()
    }

    /// The end of the container's own process; what comes before is passed over.
    pub(crate) fn exit(&mut self) -> Exit {
        loop {
            match self.next().expect("the shim ended without a word") {
                Event::Exited(exit) if exit.exec.is_none() => return exit,
                _ => {}
            }
        }
    }

    /// The end of an exec.
    pub(crate) fn exec_exit(&mut self, id: &str) -> Exit {
        loop {
            match self.next().expect("the shim ended without a word") {
                Event::Exited(exit) if exit.exec.as_deref() == Some(id) => return exit,
                _ => {}
            }
        }
    }
}

/// The streams of a process.
pub(crate) struct Stream {
    early: Vec<u8>,
    pub(crate) stream: UnixStream,
}

impl Stream {
    pub(crate) fn new(client: Client) -> Self {
        let (early, stream) = client.into_stream();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { early, stream }
    }

    /// Everything to the end, as it comes.
    pub(crate) fn raw(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.early);
        self.stream.read_to_end(&mut all).unwrap();
        all
    }

    /// Everything to the end, taken apart: standard output, standard error.
    pub(crate) fn frames(&mut self) -> (String, String) {
        let raw = self.raw();
        let (mut out, mut err, mut rest) = (Vec::new(), Vec::new(), &raw[..]);
        while let Some((header, tail)) = rest.split_first_chunk::<8>() {
            let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
            let target = if header[0] == 1 { &mut out } else { &mut err };
            target.extend_from_slice(&tail[..length]);
            rest = &tail[length..];
        }
        assert!(rest.is_empty());
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    /// Reads until the text has come.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let mut seen = std::mem::take(&mut self.early);
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "ended before {text:?} with {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }
}

fn busybox(root: &Path) {
    for directory in ["bin", "proc", "dev", "tmp", "etc"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    // By another process: what this one has open for writing, children of other threads have too for a moment, and such a
    // file cannot be executed.
    let copied = std::process::Command::new("cp").arg("/bin/busybox").arg(root.join("bin/busybox")).status();
    assert!(copied.unwrap().success(), "the package busybox-static is needed");
    for applet in ["sh", "cat", "echo", "sleep", "stty", "head", "tr", "kill", "ps", "id", "seq"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
}

fn spec(command: &[&str], cgroup: &str) -> Spec {
    let devices = json!([
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 438},
    ]);
    let spec = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": command,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
            "devices": devices,
        },
    });
    serde_json::from_value(spec).unwrap()
}
