//! Hooks: which, where, when, with what on their input.

use crate::support::{Bundle, eventually, is_reference};
use serde_json::{Value, json};
use std::fs;

/// A hook that notes its name, the state that it read and which network namespace it is in.
fn note(bundle: &Bundle, name: &str) -> Value {
    let log = bundle.directory.join("log");
    let script = format!("echo {name} $(readlink /proc/self/ns/mnt) $(cat) >> {}", log.display());
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
}

#[test]
fn six_kinds_in_order() {
    // runc 1.1 runs poststart at the end of `create`.
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("hooks");
    let mut hooks = json!({});
    for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        hooks[name] = note(&bundle, name);
    }
    // Inside there is only what the image has.
    hooks["startContainer"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat > /data/inside"], "env": ["PATH=/bin"]}]);
    bundle.set("/hooks", hooks).args(&["/bin/sleep", "1000"]);
    bundle.create();
    let log = || fs::read_to_string(bundle.directory.join("log")).unwrap();
    let names = || log().lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(), ["prestart", "createRuntime", "createContainer"]);
    let pid = bundle.pid();
    let outside = fs::read_link("/proc/self/ns/mnt").unwrap();
    for line in log().lines() {
        let mut words = line.splitn(3, ' ');
        let (name, namespace) = (words.next().unwrap(), words.next().unwrap());
        let state: Value = serde_json::from_str(words.next().unwrap()).unwrap();
        // In the container's pid namespace the first process is number 1.
        let number = if name == "createContainer" { 1 } else { pid };
        assert_eq!((&state["id"], &state["pid"]), (&json!(bundle.id), &json!(number)), "{name}");
        assert_eq!(state["status"], "creating", "{name}");
        assert_eq!(namespace == outside.to_str().unwrap(), name != "createContainer", "{name}");
    }
    assert!(!bundle.rootfs().join("data/inside").exists());
    bundle.start();
    let inside = bundle.rootfs().join("data/inside");
    eventually("startContainer ran", || fs::read_to_string(&inside).is_ok_and(|text| !text.is_empty()));
    assert_eq!(names()[3..], ["poststart"]);
    assert_eq!(bundle.call(&["delete", "--force", &bundle.id]).code, 0);
    assert_eq!(names()[4..], ["poststop"]);
}

#[test]
fn a_failing_hook_ends_the_creation() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = Bundle::new("badhook");
        bundle.set("/hooks", json!({kind: [{"path": "/bin/sh", "args": ["sh", "-c", "echo reason >&2; exit 3"]}]}));
        let output = bundle.run();
        assert_ne!(output.code, 0);
        assert!(output.stderr.contains("hook") && output.stderr.contains("reason"), "{output:?}");
        assert_ne!(bundle.call(&["state", &bundle.id]).code, 0, "nothing is left");
        assert!(!bundle.cgroup("memory").exists());
    }
}

#[test]
fn a_hook_that_takes_too_long_is_killed() {
    let mut bundle = Bundle::new("slowhook");
    bundle.set("/hooks", json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]}));
    let begun = std::time::Instant::now();
    let output = bundle.run();
    assert_ne!(output.code, 0);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    let words = if is_reference() { "hook" } else { "timeout of 1 s" };
    assert!(output.stderr.contains(words), "{output:?}");
}
