//! create, start, state, kill, delete, list, pause.

use crate::support::{Bundle, eventually, is_reference};
use std::fs;

#[test]
fn from_create_to_delete() {
    let mut bundle = Bundle::new("life");
    bundle.script("echo begun; exec sleep 1000");
    bundle.create();
    assert_eq!(bundle.status(), "created");
    assert_eq!(bundle.output(), "", "the program must not run before start");
    let pid = bundle.pid();
    assert!(fs::read_to_string(format!("/proc/{pid}/status")).is_ok());
    bundle.start();
    assert_eq!(bundle.status(), "running");
    eventually("the program runs", || bundle.output() == "begun\n");
    let output = bundle.call(&["delete", &bundle.id]);
    assert_ne!(output.code, 0, "a running container is not deleted");
    assert_eq!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0);
    bundle.wait_stopped();
    assert_eq!(bundle.state()["pid"], 0);
    assert_eq!(bundle.call(&["delete", &bundle.id]).code, 0);
    let output = bundle.call(&["state", &bundle.id]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("container does not exist"), "{output:?}");
    assert!(!bundle.cgroup("memory").exists());
}

#[test]
fn exit_codes() {
    let mut bundle = Bundle::new("code");
    assert_eq!(bundle.script("exit 42").run().code, 42);
    assert_eq!(bundle.script("kill -9 $$; sleep 5").run().code, 0, "pid 1 does not kill itself");
}

#[test]
fn an_id_is_used_once() {
    let mut bundle = Bundle::new("twice");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    let output = bundle.create_with(&["create", &bundle.id]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("container with given ID already exists"), "{output:?}");
    assert_eq!(bundle.status(), "created", "the first one is not touched");
}

#[test]
fn started_once() {
    let mut bundle = Bundle::new("start");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    assert_ne!(bundle.call(&["start", &bundle.id]).code, 0);
}

#[test]
fn kill_by_name_and_number() {
    for signal in ["TERM", "SIGTERM", "15"] {
        let mut bundle = Bundle::new("kill");
        bundle.script("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done");
        bundle.create();
        bundle.start();
        eventually("the trap is set", || bundle.output() == "ready\n");
        assert_eq!(bundle.call(&["kill", &bundle.id, signal]).code, 0);
        bundle.wait_stopped();
        assert_ne!(bundle.call(&["kill", &bundle.id, signal]).code, 0, "nobody is there any more");
    }
}

#[test]
fn pause_stops_and_resume_goes_on() {
    let mut bundle = Bundle::new("pause");
    bundle.script("i=0; while :; do i=$((i+1)); echo $i > /data/count; done");
    bundle.create();
    bundle.start();
    let count = bundle.rootfs().join("data/count");
    let read = || fs::read_to_string(&count).unwrap_or_default();
    eventually("it counts", || !read().is_empty());
    // runc 1.1 gives up when the freezer of version 1 takes its time.
    let pause = || bundle.call(&["pause", &bundle.id]).code == 0;
    if is_reference() {
        eventually("it is frozen", pause);
    } else {
        assert!(pause());
    }
    assert_eq!(bundle.status(), "paused");
    let before = fs::metadata(&count).unwrap().modified().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(fs::metadata(&count).unwrap().modified().unwrap(), before, "frozen");
    assert_eq!(bundle.call(&["resume", &bundle.id]).code, 0);
    assert_eq!(bundle.status(), "running");
    eventually("it counts on", || fs::metadata(&count).unwrap().modified().unwrap() != before);
    assert_ne!(bundle.call(&["resume", &bundle.id]).code, 0, "it is not paused");
    assert_eq!(bundle.call(&["pause", &bundle.id]).code, 0);
    assert_eq!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0);
    bundle.wait_stopped();
}

#[test]
fn list_and_ps() {
    let mut bundle = Bundle::new("list");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    assert_eq!(bundle.call(&["list", "-q"]).lines(), [bundle.id.as_str()]);
    let list = bundle.call(&["list", "--format", "json"]);
    let list: serde_json::Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!((&list[0]["id"], &list[0]["status"]), (&bundle.id.as_str().into(), &"running".into()));
    let table = bundle.call(&["list"]);
    assert!(table.lines()[0].starts_with("ID "), "{table:?}");
    let pids = bundle.call(&["ps", "--format", "json", &bundle.id]);
    assert_eq!(pids.stdout.trim(), format!("[{}]", bundle.pid()));
    assert!(bundle.call(&["ps", &bundle.id]).stdout.contains("sleep 1000"));
}

#[test]
fn the_pid_file_is_written() {
    let mut bundle = Bundle::new("pid");
    bundle.args(&["/bin/sleep", "1000"]);
    let path = bundle.directory.join("pid");
    let output = bundle.create_with(&["create", "--pid-file", path.to_str().unwrap(), &bundle.id]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(fs::read_to_string(path).unwrap(), bundle.pid().to_string());
}

#[test]
fn a_detached_run_goes_on() {
    let mut bundle = Bundle::new("detach");
    bundle.args(&["/bin/sleep", "1000"]);
    let output = bundle.create_with(&["run", "-d", &bundle.id]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(bundle.status(), "running");
    assert_eq!(bundle.call(&["delete", "--force", &bundle.id]).code, 0);
}

#[test]
fn delete_force_of_nothing_is_fine() {
    let bundle = Bundle::new("none");
    assert_eq!(bundle.call(&["delete", "--force", "no-such"]).code, 0);
    assert_ne!(bundle.call(&["delete", "no-such"]).code, 0);
}

#[test]
fn signals_reach_a_foreground_container() {
    use std::io::{BufRead, BufReader};
    let mut bundle = Bundle::new("forward");
    bundle.script("trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.05; done");
    bundle.write();
    let mut command = bundle.runtime();
    command.args(["run", &bundle.id]).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn annotations_are_in_the_state() {
    let mut bundle = Bundle::new("note");
    bundle.args(&["/bin/sleep", "1000"]).set("/annotations", serde_json::json!({"org.example": "yes"}));
    bundle.create();
    let state = bundle.state();
    assert_eq!(state["annotations"]["org.example"], "yes");
    assert_eq!(state["bundle"], bundle.directory.to_str().unwrap());
}
