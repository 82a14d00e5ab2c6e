//! Rights, limits and what an image can put in the way of the runtime.

use super::attacker;
use crate::support::{Bundle, is_reference, rounds};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

/// CVE-2022-24769 and CVE-2022-29162: inheritable capabilities come back through files that have them.
#[test]
fn capabilities_are_not_inheritable() {
    let mut bundle = Bundle::new("rt-inh");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    let grep = ["/bin/grep", "-E", "^Cap(Inh|Amb):", "/proc/self/status"];
    let none = ["CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"];
    assert_eq!(bundle.exec(&grep).lines(), none);
    let mut all = vec!["exec", "--cap", "CAP_SYS_PTRACE", &bundle.id];
    all.extend(grep);
    assert_eq!(bundle.call(&all).lines(), none);
}

/// Limits of the container must not cut what the runtime writes and reads on the way.
#[test]
fn limits_hold_the_program_and_not_the_runtime() {
    let mut bundle = Bundle::new("rt-limits");
    bundle.set(
        "/process/rlimits",
        json!([
            {"type": "RLIMIT_FSIZE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}
        ]),
    );
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.script("echo $HOME; ulimit -n; ulimit -c; ulimit -f");
    assert_eq!(bundle.run().lines(), ["/home/user", "64", "0", "0"]);
    if !is_reference() {
        // No further descriptor at all. runc sets limits before it mounts.
        bundle.spec["process"]["rlimits"][2] = json!({"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3});
        bundle.script("echo $HOME");
        assert_eq!(bundle.run().lines(), ["/home/user"]);
    }
}

/// A neighbour with the same user id may lower the limits of a process on its way in, which then may fail. Nothing else
/// may come of it: no limit is raised, and the next one works.
#[test]
fn limits_that_a_neighbour_changes() {
    let mut bundle = Bundle::new("rt-prlimit");
    attacker::equip(&mut bundle, "limits", &[]);
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 512}]));
    attacker::start(&bundle);
    for _ in 0..rounds(40) {
        // A file that is cut, or a missing answer, would be a panic or a wait without end.
        let output = bundle.exec(&["/bin/true"]);
        // Without a descriptor for its own use a Go program ends with 2.
        let is_end = [0, 1, 126, 127, 255].contains(&output.code) || output.code == 2 && is_reference();
        assert!(is_end || output.code > 128, "{output:?}");
    }
    let found = attacker::stop(&bundle);
    assert_eq!(found["raised"], ["0"]);
    bundle.wait_stopped();
    assert_eq!(bundle.call(&["delete", &bundle.id]).code, 0);
}

#[test]
fn the_session_keyring_is_the_containers_own() {
    let mut bundle = Bundle::new("rt-keys");
    bundle.set("/linux/maskedPaths", json!([]));
    bundle.script(&format!("grep -c _ses.{} /proc/keys", bundle.id));
    let keys = fs::read_to_string("/proc/keys").is_ok();
    if keys {
        assert_ne!(bundle.run().lines(), ["0"]);
    }
}

/// The runtime reads the image's list of users for `HOME`.
#[test]
fn a_list_of_users_that_never_ends() {
    if is_reference() {
        // It waits for a fifo's writer.
        return;
    }
    for kind in ["fifo", "zero", "directory", "proc", "loop"] {
        let mut bundle = Bundle::new("rt-passwd");
        let path = bundle.rootfs().join("etc/passwd");
        fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        match kind {
            "fifo" => rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap(),
            "zero" => symlink("/dev/zero", &path).unwrap(),
            "directory" => fs::create_dir(&path).unwrap(),
            "proc" => symlink("/proc/kmsg", &path).unwrap(),
            _ => symlink("passwd", &path).unwrap(),
        }
        assert_eq!(bundle.script("echo $HOME").run().lines(), ["/"], "{kind}");
    }
}

/// CVE-2021-43784: lengths that do not fit where they are put.
#[test]
fn texts_of_any_length() {
    let long = "x".repeat(1 << 20);
    let cases: &[(&str, serde_json::Value)] = &[
        ("/linux/namespaces/0/path", json!(format!("/{long}"))),
        ("/hostname", json!(long)),
        ("/process/cwd", json!(format!("/{long}"))),
        ("/mounts/0/destination", json!(format!("/{long}"))),
        ("/mounts/0/destination", json!(format!("/{}", "\u{1}".repeat(1 << 16)))),
        ("/mounts/1/options", json!([format!("mode={long}")])),
        ("/process/args", json!([long])),
        ("/root/path", json!(long)),
        ("/linux/cgroupsPath", json!(format!("/gantry-test/{long}"))),
    ];
    for (pointer, value) in cases {
        let mut bundle = Bundle::new("rt-long");
        *bundle.spec.pointer_mut("/linux/namespaces/0").unwrap() = json!({"type": "pid"});
        let parent = pointer.rsplit_once('/').unwrap();
        match bundle.spec.pointer_mut(parent.0).unwrap() {
            serde_json::Value::Object(object) => drop(object.insert(parent.1.to_owned(), value.clone())),
            _ => *bundle.spec.pointer_mut(pointer).unwrap() = value.clone(),
        }
        let output = bundle.run();
        assert_ne!(output.code, 0, "{pointer}");
        assert!(!output.stderr.contains("panicked") && !output.stderr.is_empty(), "{pointer}: {}", output.stderr);
        assert!(is_reference() || !bundle.has_state(), "{pointer}");
        // The number of variables and their sum have the kernel's limit alone.
        assert!(!bundle.cgroup("memory").exists(), "{pointer}");
    }
}

/// A device of the host by a path that the container's owner can fill: what is bound must be that device.
#[test]
fn masked_paths_that_are_links_stay_inside() {
    let mut bundle = Bundle::new("rt-mask");
    let outside = bundle.directory.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "seen\n").unwrap();
    symlink(&outside, bundle.rootfs().join("etc/masked")).unwrap();
    symlink(format!("../../../../../../../..{}", outside.display()), bundle.rootfs().join("etc/up")).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/etc/masked", "/etc/up/file", "/etc/masked/file"]));
    bundle.set("/linux/readonlyPaths", json!(["/etc/up", "/etc/masked"]));
    assert_eq!(bundle.script("echo done").run().lines(), ["done"]);
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "seen\n");
    fs::write(outside.join("still"), "writable\n").unwrap();
}
