//! Users, capabilities, limits, filters.

use crate::support::{Bundle, is_reference};
use serde_json::json;

fn status(bundle: &mut Bundle, fields: &str) -> Vec<String> {
    let output = bundle.script(&format!("grep -E '^({fields}):' /proc/self/status")).run();
    output.lines().iter().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_five_sets() {
    let mut bundle = Bundle::new("caps");
    bundle.set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
            "permitted": ["CAP_KILL", "CAP_CHOWN"],
            "inheritable": ["CAP_KILL"],
            "effective": ["CAP_KILL"],
            "ambient": ["CAP_KILL"]
        }),
    );
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let found = status(&mut bundle, "CapInh|CapPrm|CapEff|CapBnd|CapAmb");
    // A program without capabilities in its file keeps the ambient set alone, as another user.
    let (kill, bounding) = ("0000000000000020", "0000000000002021");
    assert_eq!(found, [kill, kill, kill, bounding, kill]);
}

#[test]
fn root_has_the_bounding_set() {
    let mut bundle = Bundle::new("rootcaps");
    let sets = json!(["CAP_KILL", "CAP_CHOWN"]);
    bundle.set("/process/capabilities", json!({"bounding": sets, "permitted": sets, "effective": sets}));
    assert_eq!(
        status(&mut bundle, "CapPrm|CapEff|CapBnd|CapAmb"),
        ["0000000000000021", "0000000000000021", "0000000000000021", "0000000000000000"]
    );
    bundle.script("touch /data/f; chown 5 /data/f && echo chown; mknod /data/n c 1 3 2>/dev/null || echo refused");
    assert_eq!(bundle.run().lines(), ["chown", "refused"]);
}

#[test]
fn an_unknown_capability_is_left_out_with_a_warning() {
    let mut bundle = Bundle::new("badcap");
    bundle.push("/process/capabilities/bounding", json!("CAP_NO_SUCH"));
    bundle.args(&["/bin/sleep", "1000"]);
    let output = bundle.create_with(&["create", &bundle.id]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("CAP_NO_SUCH"), "{output:?}");
}

#[test]
fn user_groups_and_umask() {
    let mut bundle = Bundle::new("ids");
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1001, "umask": 0o027, "additionalGids": [5, 6]}));
    bundle.script(
        "id -u; id -g; grep ^Groups: /proc/self/status; umask; echo $HOME; touch /tmp/x 2>/dev/null || echo denied",
    );
    let output = bundle.run();
    assert_eq!(output.lines(), ["1000", "1001", "Groups:\t5 6 ", "0027", "/home/user", "denied"]);
}

#[test]
fn streams_belong_to_the_user() {
    let mut bundle = Bundle::new("streams");
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(bundle.script("echo again > /dev/stdout").run().lines(), ["again"]);
}

#[test]
fn no_new_privileges() {
    let mut bundle = Bundle::new("nnp");
    assert_eq!(status(&mut bundle, "NoNewPrivs"), ["0"]);
    bundle.set("/process/noNewPrivileges", json!(true));
    assert_eq!(status(&mut bundle, "NoNewPrivs"), ["1"]);
}

#[test]
fn resource_limits() {
    let mut bundle = Bundle::new("rlimit");
    bundle.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
    );
    bundle.script("ulimit -Sn; ulimit -Hn; ulimit -c");
    assert_eq!(bundle.run().lines(), ["77", "99", "0"]);
}

#[test]
fn raising_a_hard_limit_without_the_right_is_an_error() {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nproc).maximum;
    let Some(hard) = hard else { return };
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let may = u64::from_str_radix(effective, 16).unwrap() >> 24 & 1 == 1;
    for user_namespace in [false, true] {
        let mut bundle = Bundle::new("raise");
        if user_namespace {
            // The right is the caller's, whatever the container's process may do.
            crate::namespaces::user_namespace(&mut bundle);
        }
        bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NPROC", "soft": hard, "hard": hard + 1}]));
        let output = bundle.run();
        if may {
            assert_eq!(output.code, 0, "{output:?}");
        } else {
            assert_ne!(output.code, 0);
            assert!(output.stderr.contains("error setting rlimit type 6"), "{output:?}");
            assert!(output.stderr.contains("operation not permitted"), "{output:?}");
        }
    }
}

#[test]
fn the_oom_score_is_raised_or_it_is_said() {
    let mut bundle = Bundle::new("oom");
    bundle.set("/process/oomScoreAdj", json!(321)).args(&["/bin/cat", "/proc/self/oom_score_adj"]);
    assert_eq!(bundle.run().lines(), ["321"]);
    if is_reference() {
        return;
    }
    // Without the right to lower it the container runs, and the log says what it runs without.
    bundle.set("/process/oomScoreAdj", json!(-999)).args(&["/bin/cat", "/proc/self/oom_score_adj"]);
    let output = bundle.run();
    assert!(output.lines() == ["-999"] || output.stderr.contains("oom_score_adj -999 was not applied"), "{output:?}");
}

fn filter() -> serde_json::Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"}
        ]
    })
}

#[test]
fn a_filter_on_system_calls() {
    for no_new_privileges in [false, true] {
        let mut bundle = Bundle::new("seccomp");
        bundle.set("/linux/seccomp", filter()).set("/process/noNewPrivileges", json!(no_new_privileges));
        bundle.script("grep ^Seccomp: /proc/self/status; mkdir /data/x; chmod 777 /data; touch /data/y && echo other");
        let output = bundle.run();
        assert_eq!(output.lines(), ["Seccomp:\t2", "other"]);
        assert!(output.stderr.contains("Function not implemented"), "{output:?}");
        assert!(output.stderr.contains("Operation not permitted"), "{output:?}");
    }
}

/// As one that was written down years ago: what has come to the kernel since is forbidden, also to the runtime's process.
#[test]
fn a_filter_that_knows_no_new_calls() {
    let later = [
        "close_range",
        "openat2",
        "faccessat2",
        "statx",
        "clone3",
        "pidfd_open",
        "pidfd_send_signal",
        "mount_setattr",
        "open_tree",
        "move_mount",
        "execveat",
        "rseq",
    ];
    for no_new_privileges in [false, true] {
        let mut bundle = Bundle::new("oldfilter");
        bundle.set("/process/noNewPrivileges", json!(no_new_privileges)).set(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": later, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
            }),
        );
        assert_eq!(bundle.script("echo run").run().lines(), ["run"]);
        bundle.args(&["/bin/sleep", "1000"]);
        bundle.create();
        bundle.start();
        assert_eq!(bundle.exec(&["/bin/echo", "exec"]).lines(), ["exec"]);
    }
}

#[test]
fn a_filter_that_kills() {
    let mut bundle = Bundle::new("sigsys");
    let mut filter = filter();
    filter["syscalls"][0]["action"] = json!("SCMP_ACT_KILL_PROCESS");
    bundle.set("/linux/seccomp", filter);
    assert_eq!(bundle.script("mkdir /data/x; echo $?").run().lines(), ["159"]);
}

#[test]
fn no_descriptor_leaks() {
    let mut bundle = Bundle::new("fds");
    // `ls` has the directory itself open as the fourth.
    assert_eq!(bundle.args(&["/bin/ls", "/proc/self/fd"]).run().lines(), ["0", "1", "2", "3"]);
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    assert_eq!(bundle.exec(&["/bin/ls", "/proc/self/fd"]).lines(), ["0", "1", "2", "3"]);
    let count = || std::fs::read_dir(format!("/proc/{}/fd", bundle.pid())).unwrap().count();
    crate::support::eventually("the program has three descriptors", || count() == 3);
}

#[test]
fn environment_and_directory() {
    let mut bundle = Bundle::new("env");
    bundle
        .set("/process/env", json!(["PATH=/bin", "A=b c", "HOME=/elsewhere"]))
        .set("/process/cwd", json!("/made/by/it"));
    bundle.script("echo $A; echo $HOME; pwd");
    assert_eq!(bundle.run().lines(), ["b c", "/elsewhere", "/made/by/it"]);
}

#[test]
fn scheduling_and_personality() {
    let mut bundle = Bundle::new("sched");
    bundle.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
    bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    if is_reference() {
        return;
    }
    // Field 19 of stat is the niceness, 41 the policy; 3 is SCHED_BATCH.
    bundle.script("set -- $(cat /proc/self/stat); echo ${19} ${41}");
    assert_eq!(bundle.run().lines(), ["5 3"]);
}

#[test]
fn an_agent_is_asked_about_system_calls() {
    let mut bundle = Bundle::new("notify");
    let path = bundle.directory.join("agent");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "listenerPath": path,
            "listenerMetadata": "words",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]
        }),
    );
    bundle.args(&["/bin/sleep", "1000"]);
    let agent = std::thread::spawn(move || {
        use std::io::Read;
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    bundle.create();
    let message: serde_json::Value = serde_json::from_str(&agent.join().unwrap()).unwrap();
    assert_eq!((&message["fds"], &message["metadata"]), (&json!(["seccompFd"]), &json!("words")));
    assert_eq!(message["pid"], bundle.pid());
    assert_eq!(message["state"]["id"], bundle.id.as_str());
}
