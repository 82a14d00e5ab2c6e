//! Limits, by version 1 or 2, whichever the host has.

use crate::support::{Bundle, eventually, is_reference, is_v2};
use serde_json::json;
use std::fs;

fn read(bundle: &Bundle, controller: &str, v1: &str, v2: &str) -> String {
    let file = if is_v2() { v2 } else { v1 };
    let path = bundle.cgroup(controller).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn running(bundle: &mut Bundle) {
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
}

#[test]
fn limits_are_in_force() {
    let mut bundle = Bundle::new("limits");
    bundle.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    bundle.set("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000, "shares": 512}));
    bundle.set("/linux/resources/pids", json!({"limit": 33}));
    running(&mut bundle);
    assert_eq!(read(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(read(&bundle, "pids", "pids.max", "pids.max"), "33");
    if is_v2() {
        assert_eq!(read(&bundle, "cpu", "", "cpu.max"), "50000 100000");
    } else {
        assert_eq!(read(&bundle, "cpu", "cpu.cfs_quota_us", ""), "50000");
        assert_eq!(read(&bundle, "cpu", "cpu.shares", ""), "512");
    }
    let pid = bundle.pid().to_string();
    for controller in ["memory", "cpu", "pids", "devices", "freezer"] {
        assert_eq!(read(&bundle, controller, "cgroup.procs", "cgroup.procs"), pid, "{controller}");
    }
}

#[test]
fn update_changes_them() {
    let mut bundle = Bundle::new("update");
    bundle.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    running(&mut bundle);
    let output = bundle.call(&[
        "update",
        "--memory",
        "33554432",
        "--pids-limit",
        "7",
        "--cpu-quota",
        "20000",
        "--cpu-period",
        "100000",
        &bundle.id,
    ]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(read(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), "33554432");
    assert_eq!(read(&bundle, "pids", "pids.max", "pids.max"), "7");
    let path = bundle.directory.join("resources.json");
    fs::write(&path, json!({"pids": {"limit": 9}}).to_string()).unwrap();
    assert_eq!(bundle.call(&["update", "-r", path.to_str().unwrap(), &bundle.id]).code, 0);
    assert_eq!(read(&bundle, "pids", "pids.max", "pids.max"), "9");
    assert_eq!(read(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), "33554432", "the rest stays");
}

#[test]
fn devices_that_are_not_allowed_cannot_be_opened() {
    let mut bundle = Bundle::new("devs");
    bundle.push(
        "/linux/resources/devices",
        json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}),
    );
    bundle.script(
        // In the container's own tmpfs: the directory of the bundle may lie on a mount without devices.
        "mknod /dev/fuse c 10 229 && mknod /dev/mem c 1 1; \
         dd if=/dev/fuse count=0 2>/dev/null && echo read; (echo x > /dev/fuse) 2>/dev/null || echo no-write; \
         dd if=/dev/mem count=0 2>/dev/null || echo no-mem; echo x > /dev/null && echo null",
    );
    assert_eq!(bundle.run().lines(), ["read", "no-write", "no-mem", "null"]);
}

#[test]
fn too_many_processes() {
    let mut bundle = Bundle::new("pids");
    bundle.set("/linux/resources/pids", json!({"limit": 4}));
    let output = bundle.script("for i in 1 2 3 4 5 6; do sleep 1 & done; wait; echo end").run();
    assert!(output.code != 0 || output.stderr.to_lowercase().contains("fork"), "{output:?}");
}

#[test]
fn out_of_memory_is_an_event() {
    use std::io::{BufRead, BufReader};
    let mut bundle = Bundle::new("oomev");
    bundle.set("/linux/resources/memory", json!({"limit": 33_554_432, "swap": 33_554_432}));
    bundle.script("while [ ! -e /data/go ]; do sleep 0.05; done; x=$(dd if=/dev/zero bs=1M count=128 2>/dev/null | tr '\\0' 'a'); sleep 1000");
    bundle.create();
    bundle.start();
    let mut command = bundle.runtime();
    command.args(["events", "--interval", "100ms", &bundle.id]).stdout(std::process::Stdio::piped());
    let mut events = command.spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let first: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["type"], "stats");
    assert!(first["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    fs::write(bundle.rootfs().join("data/go"), "").unwrap();
    let oom = lines.map_while(Result::ok).any(|line| line.contains("\"oom\""));
    let _ = events.kill();
    let _ = events.wait();
    assert!(oom, "an event tells about it");
}

#[test]
fn delete_kills_what_is_left_in_the_hosts_pid_namespace() {
    let mut bundle = Bundle::new("hostpid");
    bundle.without_namespace("pid");
    bundle.script("sleep 3000 & echo $!; exec sleep 2000");
    bundle.create();
    bundle.start();
    eventually("both run", || bundle.output().lines().count() == 1);
    let other = bundle.output().trim().to_owned();
    assert_eq!(bundle.call(&["delete", "--force", &bundle.id]).code, 0);
    eventually("nothing of it lives", || {
        fs::read_to_string(format!("/proc/{other}/status")).is_ok_and(|text| text.contains("State:\tZ"))
            || !fs::exists(format!("/proc/{other}")).unwrap()
    });
    // runc 1.1 gives up the group when its processes take a moment to end.
    assert!(is_reference() || !bundle.cgroup("memory").exists());
}
