//! Processes added to a running container.

use crate::support::{Bundle, eventually};
use serde_json::json;
use std::fs;

fn running(name: &str) -> Bundle {
    let mut bundle = Bundle::new(name);
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    bundle
}

#[test]
fn it_is_inside() {
    let bundle = running("exec");
    let pid = bundle.pid();
    // With runc 1.1 `start` may return before the program runs.
    eventually("the program runs", || {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
    });
    let output = bundle.exec(&[
        "/bin/sh",
        "-c",
        "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done; hostname; cat /proc/1/comm",
    ]);
    let lines = output.lines();
    for (name, inside) in ["pid", "net", "ipc", "uts", "mnt", "cgroup"].iter().zip(&lines) {
        assert_eq!(fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().to_str().unwrap(), *inside);
    }
    assert_eq!(lines[6..], ["inside", "sleep"]);
    assert_eq!(bundle.exec(&["/bin/sh", "-c", "exit 9"]).code, 9);
    assert_eq!(bundle.exec(&["/bin/sh", "-c", "kill -9 $$"]).code, 137);
}

#[test]
fn it_is_in_the_cgroup_and_has_its_rights() {
    let bundle = running("execrights");
    let grep = ["/bin/grep", "-E", "^(CapEff|NoNewPrivs|Seccomp):", "/proc/self/status"];
    let first = fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap();
    let output = bundle.exec(&grep);
    for line in output.lines() {
        assert!(first.contains(line), "{line} in {first}");
    }
    let other = bundle.exec(&["/bin/sh", "-c", "cat /proc/self/cgroup /proc/1/cgroup"]);
    let lines = other.lines();
    let (mine, firsts) = lines.split_at(lines.len() / 2);
    assert_eq!(mine, firsts);
}

#[test]
fn options() {
    let bundle = running("execopt");
    let script = "id -u; id -g; grep ^Groups: /proc/self/status; echo $A$B; pwd; grep ^NoNew /proc/self/status";
    let arguments = [
        "exec",
        "-u",
        "1000:7",
        "-g",
        "8",
        "-e",
        "A=1",
        "-e",
        "B=2",
        "--cwd",
        "/tmp",
        "--no-new-privs",
        &bundle.id,
        "/bin/sh",
        "-c",
        script,
    ];
    assert_eq!(bundle.call(&arguments).lines(), ["1000", "7", "Groups:\t8 ", "12", "/tmp", "NoNewPrivs:\t1"]);
}

#[test]
fn from_a_file() {
    let bundle = running("execfile");
    let process = json!({"user": {"uid": 5, "gid": 5}, "args": ["/bin/sh", "-c", "id -u; echo $X"], "env": ["PATH=/bin", "X=y"], "cwd": "/"});
    let path = bundle.directory.join("process.json");
    fs::write(&path, process.to_string()).unwrap();
    assert_eq!(bundle.call(&["exec", "--process", path.to_str().unwrap(), &bundle.id]).lines(), ["5", "y"]);
}

#[test]
fn detached() {
    let bundle = running("execd");
    let path = bundle.directory.join("exec.pid");
    let output =
        bundle.create_with(&["exec", "-d", "--pid-file", path.to_str().unwrap(), &bundle.id, "/bin/sleep", "2000"]);
    assert_eq!(output.code, 0, "{output:?}");
    let pid = fs::read_to_string(&path).unwrap();
    eventually("it runs", || {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|text| text.starts_with(b"/bin/sleep"))
    });
    let pids = bundle.call(&["ps", "-f", "json", &bundle.id]);
    assert!(pids.stdout.contains(&pid), "{pids:?}");
}

#[test]
fn programs_that_cannot_be_executed() {
    let bundle = running("execbad");
    let error = |program: &str| {
        let output = bundle.exec(&[program]);
        assert_eq!(output.code, 255, "{output:?}");
        output.stderr
    };
    assert!(error("no-such").contains("exec: \\\"no-such\\\": executable file not found in $PATH"));
    assert!(error("/no/such").contains("exec: \\\"/no/such\\\": stat /no/such: no such file or directory"));
    assert!(error("/etc").contains("exec: \\\"/etc\\\": is a directory"));
    assert!(error("/etc/passwd").contains("exec: \\\"/etc/passwd\\\": permission denied"));
}

#[test]
fn not_in_a_paused_or_stopped_container() {
    let bundle = running("execpause");
    assert_eq!(bundle.call(&["pause", &bundle.id]).code, 0);
    assert_eq!(bundle.exec(&["/bin/true"]).code, 255);
    assert_eq!(bundle.call(&["resume", &bundle.id]).code, 0);
    assert_eq!(bundle.exec(&["/bin/true"]).code, 0);
    assert_eq!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0);
    bundle.wait_stopped();
    let output = bundle.exec(&["/bin/true"]);
    assert_eq!(output.code, 255);
    assert!(output.stderr.contains("cannot exec in a stopped container"), "{output:?}");
}

#[test]
fn further_descriptors() {
    let mut bundle = Bundle::new("fds3");
    bundle.args(&["/bin/sh", "-c", "cat <&3; ls /proc/self/fd | wc -l"]);
    bundle.write();
    let extra = bundle.directory.join("extra");
    fs::write(&extra, "from outside\n").unwrap();
    let runtime = bundle.runtime();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "exec 3<\"$0\"; exec \"$@\""]).arg(&extra).arg(runtime.get_program()).args(runtime.get_args());
    let output =
        shell.args(["run", "--preserve-fds", "1", &bundle.id]).current_dir(&bundle.directory).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "from outside\n5\n", "{output:?}");
}

#[test]
fn into_a_container_that_divides_its_cgroup() {
    if !crate::support::is_v2() {
        return;
    }
    // As systemd does: the first process moves down, and gives the group below limits.
    let mut bundle = Bundle::new("divide");
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle
        .push("/mounts", json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": []}));
    bundle.script(
        "cd /sys/fs/cgroup; mkdir init.scope; echo 1 > init.scope/cgroup.procs; echo +pids > cgroup.subtree_control; \
         echo done; exec sleep 1000",
    );
    bundle.create();
    bundle.start();
    eventually("it is divided", || bundle.output() == "done\n");
    let output = bundle.exec(&["/bin/cat", "/proc/self/cgroup"]);
    assert_eq!(output.lines(), ["0::/init.scope"]);
}
