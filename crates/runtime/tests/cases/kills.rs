//! The runtime is killed at random moments of everything that it does, some hundred times; whoever cleans up leaves nothing.
//!
//! How long a command takes is measured only to spread the moments over it.

use crate::support::{Bundle, eventually, is_reference, rounds};
use serde_json::json;
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A bundle with a runtime of a name of its own, by which every process of it is found that has not become something else.
struct Victim {
    bundle: Bundle,
    name: String,
}

impl Victim {
    fn new(kind: &str) -> Self {
        let mut bundle = Bundle::new(kind);
        bundle.args(&["/bin/sleep", "1000"]);
        // The kernel keeps fifteen letters.
        let name = format!("gk{}", bundle.id.rsplit_once("gt-").map_or("", |(_, id)| id));
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(15).collect();
        bundle.own_runtime(&name);
        bundle.write();
        Self { bundle, name }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bundle.runtime();
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// How long it takes, of a few tries the longest, with `between` after each.
    fn measure(&self, arguments: &[&str], mut between: impl FnMut()) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..3 {
            let begin = Instant::now();
            assert!(self.command(arguments).status().unwrap().success(), "{arguments:?}");
            longest = longest.max(begin.elapsed());
            between();
        }
        longest
    }

    /// Begins it, and kills it at some moment of `duration` or a little later.
    fn kill_within(&self, arguments: &[&str], duration: Duration) {
        let mut child = self.command(arguments).spawn().unwrap();
        std::thread::sleep(duration.mul_f64(random() * 1.2));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn delete(&self) {
        let output = self.bundle.call(&["delete", "--force", &self.bundle.id]);
        assert_eq!(output.code, 0, "{output:?}");
    }

    /// Processes on their way into the container, and programs that ended and that nobody waited for. With `inside`, all of
    /// its programs.
    fn processes(&self, inside: bool) -> Vec<String> {
        let is_ours = |directory: &Path| {
            let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
            match read("comm").trim() {
                name if name == self.name => true,
                "true" | "sleep" if read("cgroup").contains(&self.bundle.id) => {
                    inside || read("stat").rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"))
                }
                _ => false,
            }
        };
        let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let processes =
            entries.filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit()));
        processes.filter(|path| is_ours(path)).map(|path| path.display().to_string()).collect()
    }

    /// Nothing of it is anywhere.
    #[track_caller]
    fn assert_gone(&self) {
        eventually("no process is left", || self.processes(true).is_empty());
        let id = &self.bundle.id;
        for file in ["/proc/self/mountinfo", "/proc/1/mountinfo"] {
            assert!(!fs::read_to_string(file).unwrap_or_default().contains(id), "a mount is left");
        }
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
            let group = hierarchy.join("gantry-test").join(id);
            eventually("no cgroup is left", || !group.exists());
        }
        let files: Vec<_> = fs::read_dir(self.bundle.directory.join("state")).into_iter().flatten().flatten().collect();
        assert!(files.is_empty(), "{files:?}");
    }
}

/// Between 0 and 1.
fn random() -> f64 {
    let number = RandomState::new().build_hasher().finish() >> 32;
    number as f64 / f64::from(u32::MAX)
}

/// A container with all that takes several processes to make: users of its own, translated ids, hooks.
fn elaborate(victim: &mut Victim) {
    let source = victim.bundle.directory.join("source");
    fs::create_dir(&source).unwrap();
    fs::create_dir(victim.bundle.rootfs().join("mapped")).unwrap();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = &mut victim.bundle;
    bundle.push("/linux/namespaces", json!({"type": "user"})).push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map.clone());
    bundle.push(
        "/mounts",
        json!({"destination": "/mapped", "type": "bind", "source": source, "options": ["bind"], "uidMappings": map, "gidMappings": map}),
    );
    bundle.set("/hooks", json!({"createRuntime": [{"path": "/bin/true"}], "createContainer": [{"path": "/bin/true"}]}));
    bundle.write();
}

#[test]
fn at_any_moment_of_create() {
    if is_reference() {
        // It leaves its directory of state, half made.
        return;
    }
    for is_elaborate in [false, true] {
        let mut victim = Victim::new("kc");
        if is_elaborate {
            elaborate(&mut victim);
        }
        let create = ["create", &victim.bundle.id];
        let duration = victim.measure(&create, || victim.delete());
        for _ in 0..rounds(60) {
            victim.kill_within(&create, duration);
            victim.delete();
            victim.assert_gone();
        }
        victim.bundle.create();
        assert_eq!(victim.bundle.status(), "created", "the id can be used again");
        victim.bundle.start();
        victim.delete();
        victim.assert_gone();
    }
}

#[test]
fn at_any_moment_of_run() {
    if is_reference() {
        return;
    }
    let victim = Victim::new("kr");
    let id = &victim.bundle.id;
    let duration = victim.measure(&["run", "--detach", id], || victim.delete());
    for round in 0..rounds(50) {
        let arguments = if round % 2 == 0 { &["run", id][..] } else { &["run", "--detach", id] };
        victim.kill_within(arguments, duration);
        victim.delete();
        victim.assert_gone();
    }
}

#[test]
fn at_any_moment_of_exec() {
    if is_reference() {
        return;
    }
    let victim = Victim::new("kx");
    let id = &victim.bundle.id;
    victim.bundle.create();
    victim.bundle.start();
    let duration = victim.measure(&["exec", id, "/bin/true"], || {});
    for round in 0..rounds(50) {
        let program = if round % 2 == 0 { "/bin/true" } else { "/bin/sleep" };
        victim.kill_within(&["exec", id, program, "1000"], duration);
        // What had not become the program yet goes with the one who wanted it; nobody is left for others to wait for.
        eventually("no half-made process is left", || victim.processes(false).is_empty());
        assert_eq!(victim.bundle.status(), "running");
    }
    assert_eq!(victim.bundle.exec(&["/bin/true"]).code, 0);
    for _ in 0..5 {
        assert_eq!(victim.bundle.create_with(&["exec", "--detach", id, "/bin/true"]).code, 0);
    }
    eventually("no zombie is left", || victim.processes(false).is_empty());
    victim.delete();
    victim.assert_gone();
}

#[test]
fn at_any_moment_of_start_and_delete() {
    if is_reference() {
        return;
    }
    let victim = Victim::new("ks");
    let id = &victim.bundle.id;
    let start = {
        victim.bundle.create();
        let begin = Instant::now();
        victim.bundle.start();
        begin.elapsed()
    };
    let delete = {
        let begin = Instant::now();
        victim.delete();
        begin.elapsed()
    };
    for _ in 0..rounds(45) {
        victim.bundle.create();
        victim.kill_within(&["start", id], start);
        let status = victim.bundle.status();
        assert!(["created", "running"].contains(&status.as_str()), "{status}");
        if status == "created" {
            victim.bundle.start();
        }
        victim.kill_within(&["delete", "--force", id], delete);
        victim.delete();
        victim.assert_gone();
    }
}
