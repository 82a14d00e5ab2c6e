//! The runtime is killed in the middle; whoever cleans up leaves nothing.

use crate::support::{Bundle, eventually};
use serde_json::json;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

fn processes_of(bundle: &Bundle) -> usize {
    fs::read_to_string(bundle.cgroup("pids").join("cgroup.procs")).map_or(0, |text| text.lines().count())
}

#[test]
fn killed_at_any_moment_of_create() {
    if crate::support::is_reference() {
        return;
    }
    let mut bundle = Bundle::new("kill9");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.write();
    for round in 0..40_u64 {
        let mut command = bundle.runtime();
        command.args(["create", &bundle.id]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(round * 500));
        child.kill().unwrap();
        child.wait().unwrap();
        let output = bundle.call(&["delete", "--force", &bundle.id]);
        assert_eq!(output.code, 0, "{output:?}");
        eventually("no process is left", || processes_of(&bundle) == 0);
        assert!(!bundle.has_state());
        eventually("no cgroup is left", || !bundle.cgroup("memory").exists());
    }
    bundle.create();
    assert_eq!(bundle.status(), "created", "the id can be used again");
}

#[test]
fn a_killed_first_process_is_stopped() {
    let mut bundle = Bundle::new("kill9init");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    let pid = rustix::process::Pid::from_raw(bundle.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    bundle.wait_stopped();
    let output = bundle.call(&["start", &bundle.id]);
    assert_ne!(output.code, 0, "{output:?}");
    assert_eq!(bundle.call(&["delete", &bundle.id]).code, 0);
}

#[test]
fn a_reused_number_is_not_the_container() {
    if crate::support::is_reference() {
        return;
    }
    let mut bundle = Bundle::new("reuse");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    assert_eq!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0);
    bundle.wait_stopped();
    // As if the number had gone to this process.
    let path = bundle.directory.join("state").join(format!("{}@state.json", bundle.id));
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["pid"] = json!(std::process::id());
    fs::write(&path, record.to_string()).unwrap();
    assert_eq!(bundle.status(), "stopped");
    assert_ne!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0, "this process lives on");
}

#[test]
fn many_at_once() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut bundle = Bundle::new("many");
                assert_eq!(bundle.script("echo $$").run().lines(), ["1"]);
            });
        }
    });
}

#[test]
fn the_binary_cannot_be_overwritten_from_inside() {
    if crate::support::is_reference() {
        return;
    }
    let mut bundle = Bundle::new("exe");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    // The first process is still the runtime; its file is seen through its own, read-only mount.
    let exe = format!("/proc/{}/exe", bundle.pid());
    let read_only = |path: &str| {
        let flags = rustix::fs::statvfs(path).unwrap().f_flag;
        flags.contains(rustix::fs::StatVfsMountFlags::RDONLY)
    };
    assert!(read_only(&exe));
    bundle.start();
    eventually("the program runs", || !read_only(&exe));
}
