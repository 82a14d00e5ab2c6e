//! What is wrong is said in one sentence, and leaves nothing behind.

use crate::support::{Bundle, is_reference};
use serde_json::{Value, json};
use std::fs;

#[track_caller]
fn refused(bundle: &Bundle, words: &str) {
    let output = bundle.run();
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains(words), "{words:?} in {output:?}");
    assert!(!bundle.has_state(), "no state is left");
    assert!(!bundle.cgroup("memory").exists(), "no cgroup is left");
}

#[test]
fn programs() {
    let mut bundle = Bundle::new("prog");
    let cases = [
        ("no-such", "exec: \\\"no-such\\\": executable file not found in $PATH"),
        ("/no/such", "exec: \\\"/no/such\\\": stat /no/such: no such file or directory"),
        ("/etc", "exec: \\\"/etc\\\": is a directory"),
        ("/etc/passwd", "exec: \\\"/etc/passwd\\\": permission denied"),
    ];
    for (program, words) in cases {
        bundle.args(&[program]);
        refused(&bundle, words);
        refused(&bundle, "unable to start container process");
    }
}

#[test]
fn a_directory_that_the_user_may_not_enter_is_entered_for_it() {
    let mut bundle = Bundle::new("cwd");
    fs::create_dir(bundle.rootfs().join("locked")).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(bundle.rootfs().join("locked"), closed).unwrap();
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000})).set("/process/cwd", json!("/locked"));
    bundle.set("/process/capabilities", json!({}));
    assert_eq!(bundle.args(&["/bin/pwd"]).run().lines(), ["/locked"]);
    bundle.set("/process/cwd", json!("/etc/passwd"));
    refused(&bundle, "not a directory");
}

#[test]
fn mounts() {
    let mut bundle = Bundle::new("badmount");
    bundle.push(
        "/mounts",
        json!({"destination": "/data", "type": "bind", "source": "/no/such/source", "options": ["bind"]}),
    );
    refused(&bundle, "/no/such/source");
    let mut bundle = Bundle::new("badfs");
    bundle.push("/mounts", json!({"destination": "/data", "type": "nosuchfs", "source": "x", "options": []}));
    refused(&bundle, "no such device");
    let mut bundle = Bundle::new("badopt");
    bundle.push(
        "/mounts",
        json!({"destination": "/data", "type": "tmpfs", "source": "x", "options": ["nosuchoption=1"]}),
    );
    refused(&bundle, "invalid argument");
}

#[test]
fn configurations() {
    let cases: [(&str, Value, &str); 5] = [
        ("/process/args", json!([]), "args"),
        ("/process/cwd", json!("relative"), "absolute"),
        ("/process/rlimits", json!([{"type": "RLIMIT_NO", "soft": 1, "hard": 1}]), "rlimit"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NO"}), "SCMP_ACT_NO"),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "mount"}]), "duplicated ns"),
    ];
    for (pointer, value, words) in cases {
        let mut bundle = Bundle::new("badconf");
        bundle.set(pointer, value);
        refused(&bundle, words);
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    if is_reference() {
        return;
    }
    let cases: [(&str, Value, &str); 4] = [
        ("/linux/intelRdt", json!({"closID": "x"}), "intelRdt"),
        ("/linux/netDevices", json!({"eth9": {}}), "netDevices"),
        ("/process/apparmorProfile", json!("no-such-profile"), "apparmor"),
        ("/process/selinuxLabel", json!("system_u:x"), "selinux"),
    ];
    for (pointer, value, words) in cases {
        let mut bundle = Bundle::new("unsup");
        bundle.set(pointer, value);
        refused(&bundle, words);
    }
    let bundle = Bundle::new("unsupcli");
    for arguments in [&["checkpoint", "x"][..], &["restore", "x"], &["--systemd-cgroup", "list"]] {
        let output = bundle.call(arguments);
        assert_ne!(output.code, 0, "{arguments:?}");
        assert!(output.stderr.contains("not supported"), "{output:?}");
    }
}

#[test]
fn bundles_and_ids() {
    let bundle = Bundle::new("nobundle");
    let output = bundle.call(&["run", &bundle.id]);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("config.json"), "{output:?}");
    fs::write(bundle.directory.join("config.json"), "{").unwrap();
    assert_ne!(bundle.call(&["run", &bundle.id]).code, 0);
    bundle.write();
    for id in ["../x", "a/b", "", ".."] {
        let output = bundle.call(&["run", id]);
        assert_ne!(output.code, 0, "{id:?}");
        assert!(output.stderr.contains("invalid") || output.stderr.contains("empty"), "{output:?}");
    }
}

#[test]
fn the_log_has_the_last_error() {
    let mut bundle = Bundle::new("log");
    bundle.args(&["no-such"]).write();
    let log = bundle.directory.join("log.json");
    let output = bundle.call(&["--log", log.to_str().unwrap(), "--log-format", "json", "run", &bundle.id]);
    assert_ne!(output.code, 0);
    let text = fs::read_to_string(log).unwrap();
    let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("executable file not found in $PATH"), "{line}");
}

#[test]
fn a_format_that_cannot_be_executed_is_said_by_the_container() {
    let mut bundle = Bundle::new("format");
    fs::write(bundle.rootfs().join("bin/odd"), "\u{1}\u{2}\u{3}").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bundle.rootfs().join("bin/odd"), mode).unwrap();
    let output = bundle.args(&["/bin/odd"]).run();
    assert_ne!(output.code, 0);
    assert!(output.stderr.to_lowercase().contains("exec format error"), "{output:?}");
}
