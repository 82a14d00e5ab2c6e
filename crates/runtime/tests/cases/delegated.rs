//! Cgroups of an ordinary user: a group of version 2 that was left to the account, as a session of systemd does it.
//!
//! Version 1 leaves nothing to users, and what their containers do then is in [`crate::rootless`].

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{eventually, is_reference, is_v2};
use crate::user::{User, output};

/// A group with the account's processes in one below it.
struct Delegated {
    user: User,
    group: Group,
}

/// Ends with what is in it.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        eventually("the group is empty", || {
            fs::read_to_string(self.0.join("cgroup.events")).is_ok_and(|text| text.contains("populated 0"))
        });
        remove(&self.0);
    }
}

fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

impl Delegated {
    /// `whole`: the group above that of the account's processes is the account's too.
    fn new(name: &str, whole: bool) -> Self {
        let mut user = User::new(name);
        let root = Path::new("/sys/fs/cgroup");
        fs::write(root.join("cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
        let group = Group(root.join(format!("gantry-test-{}", user.id_of_container())));
        let leaf = group.0.join("session");
        fs::create_dir(&group.0).unwrap();
        fs::create_dir(&leaf).unwrap();
        for directory in [&group.0, &leaf].into_iter().skip(usize::from(!whole)) {
            let files = ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"];
            files.iter().for_each(|file| chown(directory.join(file), Some(user.id), Some(user.id)).unwrap());
        }
        user.before = format!("echo $$ > {}/cgroup.procs", leaf.display());
        user.push("/linux/namespaces", json!({"type": "cgroup"}));
        Self { user, group }
    }

    /// The container's, beside that of the session.
    fn container(&self) -> PathBuf {
        self.group.0.join(self.user.id_of_container())
    }

    fn read(&self, file: &str) -> String {
        let path = self.container().join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }
}

#[test]
fn limits_are_in_force() {
    if !is_v2() {
        return;
    }
    let mut it = Delegated::new("rlg", true);
    it.user.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    it.user.set("/linux/resources/pids", json!({"limit": 12}));
    it.user.set("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000}));
    it.user.push("/linux/resources/devices", json!({"allow": false, "access": "rwm"}));
    it.user.push("/mounts", json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}));
    it.user.script(
        "cat /proc/self/cgroup /sys/fs/cgroup/pids.max; (i=0; while [ $i -lt 20 ]; do sleep 1000 & i=$((i+1)); done) 2>/dev/null; exec sleep 1000",
    );
    it.user.detach();
    assert_eq!((it.read("memory.max"), it.read("pids.max")), ("67108864".into(), "12".into()));
    assert_eq!(it.read("cpu.max"), "50000 100000");
    eventually("the limit of processes is reached", || it.read("pids.events") != "max 0");
    let text = it.user.output();
    assert!(text.ends_with("0::/\n12\n") || text.contains("0::/\n12\n"), "{text}");
    assert!(is_reference() || text.contains("linux.resources.devices was not applied"), "{text}");
    assert!(it.read("cgroup.procs").lines().any(|line| line == it.user.pid().to_string()));
}

#[test]
fn its_life() {
    if !is_v2() {
        return;
    }
    let mut it = Delegated::new("rlglife", true);
    it.user.script("sleep 1000 & exec sleep 1000");
    it.user.detach();
    let id = it.user.id_of_container();
    let state = || serde_json::from_str::<Value>(&it.user.call(&["state", &id]).stdout).unwrap()["status"].clone();
    assert_eq!(it.user.call(&["pause", &id]).code, 0);
    assert_eq!((state(), it.read("cgroup.freeze")), (json!("paused"), "1".into()));
    assert_eq!(it.user.call(&["resume", &id]).code, 0);
    assert_eq!((state(), it.read("cgroup.freeze")), (json!("running"), "0".into()));
    let update = it.user.call(&["update", "--memory", "33554432", "--pids-limit", "77", &id]);
    assert_eq!(update.code, 0, "{update:?}");
    assert_eq!((it.read("memory.max"), it.read("pids.max")), ("33554432".into(), "77".into()));
    let events = it.user.call(&["events", "--stats", &id]);
    let events: Value = serde_json::from_str(events.lines()[0]).unwrap();
    assert_eq!((&events["data"]["pids"]["current"], &events["data"]["pids"]["limit"]), (&json!(2), &json!(77)));
    let exec = it.user.exec(&["/bin/cat", "/proc/self/cgroup"]);
    assert_eq!(exec.lines(), ["0::/"], "an added process is in the same group");
    assert!(exec.stderr.is_empty(), "{exec:?}");
    let ps = it.user.call(&["ps", "--format", "json", &id]);
    assert_eq!(serde_json::from_str::<Vec<i32>>(&ps.stdout).unwrap().len(), 2);
    assert_eq!(it.user.call(&["kill", "--all", &id, "KILL"]).code, 0);
    eventually("it ends", || state() == "stopped");
    assert_eq!(it.user.call(&["delete", &id]).code, 0);
    assert!(!it.container().exists() && !it.user.has_state());
}

#[test]
fn a_process_from_elsewhere() {
    // runc does not say that the process is not limited.
    if !is_v2() || is_reference() {
        return;
    }
    let mut it = Delegated::new("rlgelse", true);
    it.user.args(&["/bin/sleep", "1000"]);
    it.user.detach();
    it.user.before = String::new();
    let exec = it.user.exec(&["/bin/echo", "runs"]);
    assert_eq!(exec.lines(), ["runs"]);
    assert!(exec.stderr.contains("outside of cgroup"), "{exec:?}");
}

#[test]
fn paths() {
    if !is_v2() {
        return;
    }
    let mut it = Delegated::new("rlgpath", true);
    it.user.set("/linux/resources/pids", json!({"limit": 12}));
    it.user.set("/linux/cgroupsPath", json!("some/where")).args(&["/bin/sleep", "1000"]);
    it.user.detach();
    assert_eq!(fs::read_to_string(it.group.0.join("some/where/pids.max")).unwrap(), "12\n");
    assert_eq!(it.user.call(&["delete", "--force", &it.user.id_of_container()]).code, 0);
    let inside = Path::new("/").join(it.group.0.strip_prefix("/sys/fs/cgroup").unwrap()).join("absolute");
    it.user.set("/linux/cgroupsPath", json!(inside)).script("cat /proc/self/cgroup");
    assert_eq!(it.user.run().lines(), ["0::/"]);
    assert!(!it.group.0.join("absolute").exists());
    it.user.set("/linux/cgroupsPath", json!("/elsewhere"));
    let run = it.user.run();
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("ermission denied"), "{run:?}");
    assert!(!it.user.has_state());
}

#[test]
fn a_group_that_is_the_processes_own() {
    // runc makes no group there.
    if !is_v2() || is_reference() {
        return;
    }
    let mut it = Delegated::new("rlgown", false);
    it.user.args(&["/bin/sleep", "1000"]);
    it.user.detach();
    let id = it.user.id_of_container();
    let made = it.group.0.join("session").join(&id);
    assert_eq!(fs::read_to_string(made.join("cgroup.procs")).unwrap().trim(), it.user.pid().to_string());
    assert_eq!(it.user.call(&["pause", &id]).code, 0);
    assert_eq!(it.user.status(), "paused");
    assert_eq!(it.user.call(&["delete", "--force", &id]).code, 0);
    assert!(!made.exists());
    it.user.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    let run = it.user.run();
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("memory controller"), "{run:?}");
    assert!(!made.exists() && !it.user.has_state());
}

#[test]
fn root_can_be_told_to_do_without() {
    // Everything that root may do it does, whether it is told to bear a refusal or not.
    let mut user = User::new("rlgroot");
    user.without_namespace("user").set("/linux/uidMappings", json!([])).set("/linux/gidMappings", json!([]));
    let path = format!("/gantry-test/{}", user.id_of_container());
    user.set("/linux/cgroupsPath", json!(path)).set("/linux/resources/pids", json!({"limit": 9}));
    user.args(&["/bin/true"]).write();
    for word in ["auto", "true", "false"] {
        let run = output(user.deref().runtime().args(["--rootless", word, "run", &user.id_of_container()]));
        assert_eq!(run.code, 0, "{word}: {run:?}");
    }
    let run = output(user.deref().runtime().args(["--rootless", "perhaps", "run", &user.id_of_container()]));
    assert_ne!(run.code, 0);
    assert!(is_reference() || run.stderr.contains("--rootless"), "{run:?}");
}
