//! What `run`, `kill`, `delete`, `ps` and `exec` do with processes, flag by flag.

use crate::support::{Bundle, eventually, is_reference, is_v2};
use serde_json::json;
use std::fs;
use std::process::Stdio;

fn sleeping(name: &str) -> Bundle {
    let mut bundle = Bundle::new(name);
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    let name = format!("/proc/{}/comm", bundle.pid());
    eventually("the program runs", || fs::read_to_string(&name).unwrap() == "sleep\n");
    bundle
}

#[test]
fn signals_by_name_and_number() {
    let bundle = sleeping("signals");
    assert_eq!(bundle.call(&["kill", &bundle.id, "0"]).code, 0, "whether it is there");
    for wrong in ["BAD", "TERM+1", "100", "-9"] {
        assert_eq!(bundle.call(&["kill", &bundle.id, wrong]).code, 1, "{wrong}");
    }
    let output = bundle.call(&["kill", &bundle.id, "BAD"]);
    assert!(output.stderr.contains("unknown signal \\\"BAD\\\""), "{output:?}");
    for signal in ["CONT", "SIGCONT", "sigcont", "18", "WINCH", "urg"] {
        assert_eq!(bundle.call(&["kill", &bundle.id, signal]).code, 0, "{signal}");
    }
    assert_eq!(bundle.status(), "running");
}

#[test]
fn real_time_signals() {
    // runc knows the numbers alone.
    let names: &[&str] =
        if is_reference() { &["37", "64"] } else { &["37", "64", "RTMIN+3", "sigrtmax-1", "SIGRTMIN"] };
    for signal in names {
        let mut bundle = Bundle::new("rt");
        // Without a pid namespace of its own they have their effect, which is an end.
        bundle.without_namespace("pid").script("echo up; exec sleep 1000");
        bundle.create();
        bundle.start();
        // Before that it is runc's own process, which catches every signal.
        eventually("the program runs", || bundle.output().contains("up"));
        assert_eq!(bundle.call(&["kill", &bundle.id, signal]).code, 0, "{signal}");
        bundle.wait_stopped();
    }
}

#[test]
fn a_signal_to_all() {
    let mut bundle = Bundle::new("killall");
    bundle.script("trap 'echo one' USR1; (trap 'echo two' USR1; echo up; while :; do sleep 0.05; done) & echo up; while :; do sleep 0.05; done");
    bundle.create();
    bundle.start();
    eventually("both traps are set", || bundle.output().matches("up").count() == 2);
    assert_eq!(bundle.call(&["kill", "--all", &bundle.id, "STOP"]).code, 0);
    assert_eq!(bundle.call(&["kill", "-a", &bundle.id, "CONT"]).code, 0);
    assert_eq!(bundle.call(&["kill", "--all", &bundle.id, "KILL"]).code, 0);
    bundle.wait_stopped();
    assert_eq!(bundle.call(&["kill", "--all", &bundle.id, "KILL"]).code, 0, "there is nobody to be missed");
    let output = bundle.call(&["kill", &bundle.id, "KILL"]);
    assert!(output.code == 1 && output.stderr.contains("container not running"), "{output:?}");
}

#[test]
fn sentences_about_states() {
    let mut bundle = Bundle::new("sentence");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    let said = |arguments: &[&str], words: &str| {
        let mut all = arguments.to_vec();
        all.insert(1, &bundle.id);
        let output = bundle.call(&all);
        assert_ne!(output.code, 0, "{all:?}");
        assert!(output.stderr.contains(words), "{words} in {output:?}");
    };
    bundle.start();
    said(&["start"], "cannot start an already running container");
    said(&["resume"], "container not paused");
    said(&["delete"], "that is not stopped: running");
    said(&["exec"], "process args cannot be empty");
    assert_eq!(bundle.call(&["pause", &bundle.id]).code, 0);
    said(&["pause"], "container not running");
    said(&["exec", "/bin/true"], "cannot exec in a paused container (use --ignore-paused to override)");
    said(&["delete"], "that is not stopped: paused");
    assert_eq!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0);
    bundle.wait_stopped();
    said(&["start"], "cannot start a container that has stopped");
    said(&["pause"], "container not running");
    said(&["resume"], "container not paused");
    said(&["exec", "/bin/true"], "cannot exec in a stopped container");
    said(&["update", "--memory", "64m"], "container not running");
    said(&["events", "--stats"], "is not running");
    let table = bundle.call(&["ps", &bundle.id]);
    assert_eq!(table.lines().len(), 1, "{table:?}");
}

#[test]
fn deletion_by_force_in_every_state() {
    for state in ["created", "running", "paused", "stopped"] {
        let mut bundle = Bundle::new("force");
        bundle.args(&["/bin/sleep", "1000"]);
        bundle.create();
        let pid = bundle.pid();
        if state != "created" {
            bundle.start();
        }
        match state {
            "paused" => assert_eq!(bundle.call(&["pause", &bundle.id]).code, 0),
            "stopped" => assert_eq!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0),
            _ => {}
        }
        if state == "stopped" {
            bundle.wait_stopped();
        }
        let output = bundle.call(&["delete", "-f", &bundle.id]);
        assert_eq!(output.code, 0, "{state} {output:?}");
        assert!(!bundle.has_state() && !bundle.cgroup("memory").exists(), "{state}");
        eventually("its process is gone", || !sys::process::is_alive(pid).unwrap());
    }
}

#[test]
fn kept_after_its_end() {
    let mut bundle = Bundle::new("keep");
    bundle.script("exit 3").write();
    assert_eq!(bundle.call(&["run", "--keep", &bundle.id]).code, 3);
    assert_eq!(bundle.status(), "stopped");
    assert_eq!(bundle.call(&["delete", &bundle.id]).code, 0);
    assert_eq!(bundle.call(&["run", &bundle.id]).code, 3);
    assert!(!bundle.has_state(), "without the flag it goes with its process");
}

#[test]
fn orphans_of_a_container_in_the_hosts_pid_namespace() {
    for (flag, expected) in [("--no-subreaper", false), ("--no-new-keyring", true)] {
        let mut bundle = Bundle::new("orphan");
        bundle.without_namespace("pid");
        bundle.script("(sleep 1000 & echo $!); while :; do sleep 0.05; done").write();
        let mut command = bundle.runtime();
        let errors = fs::File::create(bundle.directory.join("errors")).unwrap();
        command.args(["run", flag, &bundle.id]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut run = command.spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(run.stdout.take().unwrap()));
        let orphan: i32 = lines.next().unwrap().unwrap().parse().unwrap();
        let parent = || {
            let status = fs::read_to_string(format!("/proc/{orphan}/status")).unwrap();
            status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned()
        };
        let processes = || fs::read_to_string(bundle.cgroup("memory").join("cgroup.procs")).unwrap();
        eventually("its parent has ended", || !processes().lines().any(|pid| pid == parent()));
        assert_eq!(parent() == run.id().to_string(), expected, "{flag}");
        sys::pidfd::send_signal_to(orphan, 9).unwrap();
        eventually("it is reaped", || !fs::exists(format!("/proc/{orphan}")).unwrap());
        assert_eq!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0);
        let code = run.wait().unwrap().code();
        assert_eq!(code, Some(137), "{}", fs::read_to_string(bundle.directory.join("errors")).unwrap());
    }
}

#[test]
fn columns_of_ps() {
    let bundle = sleeping("pscolumns");
    let pid = bundle.pid().to_string();
    let table = |options: &[&str]| {
        let mut all = vec!["ps", &bundle.id];
        all.extend(options);
        let output = bundle.call(&all);
        let rows: Vec<Vec<String>> =
            output.lines().iter().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        assert_eq!(rows.len(), 2, "{output:?}");
        rows
    };
    let full = table(&[]);
    assert_eq!(full[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!((full[1][0].as_str(), &full[1][1], full[1][5].as_str()), ("root", &pid, "?"));
    assert_eq!(full[1][7..], ["/bin/sleep", "1000"]);
    // The share of the processor has changed meanwhile.
    assert_eq!(table(&["-e", "-f"])[0], full[0]);
    assert_eq!(table(&["-e", "-f"])[1][7..], full[1][7..]);
    let wide = table(&["aux"]);
    assert_eq!(wide[0], ["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"]);
    // These tests may run with another priority, which the container inherits.
    let nice = rustix::process::getpriority_process(None).unwrap();
    let state = ["S<s", "Ss", "SNs"][(nice.signum() + 1) as usize];
    assert_eq!((&wide[1][1], wide[1][7].as_str()), (&pid, state));
    assert_eq!(table(&["-eo", "pid,comm"]), [["PID", "COMMAND"], [&pid, "sleep"]]);
    assert_eq!(table(&["-o", "user,pid,nlwp,ni"])[1], ["root", &pid, "1", &nice.to_string()]);
    assert_eq!(table(&["-ej"])[0], ["PID", "PGID", "SID", "TTY", "TIME", "CMD"]);
    assert_eq!(table(&["-ely"])[0][..3], ["S", "UID", "PID"]);
    let failed = |options: &[&str], words: &str| {
        let mut all = vec!["ps", &bundle.id];
        all.extend(options);
        let output = bundle.call(&all);
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains(words), "{output:?}");
    };
    failed(&["-o", "comm"], "couldn't find PID field in ps output");
    failed(&["--zork"], "error");
    failed(&["-o", "pid,zork"], "unknown user-defined format specifier");
    if !is_reference() {
        failed(&["-ef", "--forest"], "--forest");
    }
}

#[test]
fn an_added_process_in_a_group_below() {
    let mut bundle = sleeping("subgroup");
    let controllers: &[&str] = if is_v2() { &[""] } else { &["cpu", "memory", "pids"] };
    let below = |controller: &str| bundle.cgroup(controller).join("below");
    if is_v2() {
        fs::create_dir(below("")).unwrap();
    } else {
        controllers.iter().for_each(|controller| fs::create_dir(below(controller)).unwrap());
    }
    let groups = |arguments: &[&str]| {
        let mut all = vec!["exec"];
        all.extend(arguments);
        all.extend([&bundle.id, "/bin/cat", "/proc/self/cgroup"]);
        let output = bundle.call(&all);
        let lines: Vec<String> = output.lines().iter().map(|line| (*line).to_owned()).collect();
        lines
    };
    let ends = |lines: &[String], controller: &str| {
        let line = lines.iter().find(|line| line.split(':').nth(1).unwrap().split(',').any(|name| name == controller));
        line.unwrap().ends_with("/below")
    };
    if is_v2() {
        assert!(ends(&groups(&["--cgroup", "below"]), ""));
        assert!(ends(&groups(&["--cgroup", "/below"]), ""));
    } else {
        let lines = groups(&["--cgroup", "cpu,memory:below"]);
        assert!(ends(&lines, "cpu") && ends(&lines, "memory") && !ends(&lines, "pids"), "{lines:?}");
        let lines = groups(&["--cgroup", "pids:/below", "--cgroup", "cpu:below"]);
        assert!(ends(&lines, "cpu") && ends(&lines, "pids") && !ends(&lines, "memory"), "{lines:?}");
    }
    for wrong in [&["a:b:c"][..], &["below", "other"], &["no-such"], &["zork:below"], &["../other"]] {
        let mut all = vec!["exec"];
        all.extend(wrong.iter().flat_map(|value| ["--cgroup", value]));
        all.extend([&bundle.id, "/bin/true"]);
        let output = bundle.call(&all);
        assert_eq!(output.code, 255, "{wrong:?} {output:?}");
    }
    bundle.set("/done", json!(true));
}

#[test]
fn rights_that_flags_give_to_an_added_process() {
    let mut bundle = Bundle::new("execcap");
    bundle.set(
        "/process/capabilities",
        json!({"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}),
    );
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    let status = |arguments: &[&str]| {
        let mut all = vec!["exec"];
        all.extend(arguments);
        all.extend([&bundle.id, "/bin/grep", "-E", "^(CapEff|CapBnd|CapPrm|NoNewPrivs):", "/proc/self/status"]);
        bundle.call(&all).lines().join(" ").replace('\t', " ")
    };
    let kill = "0000000000000020";
    let both = "0000000000002020";
    assert_eq!(status(&[]), format!("CapPrm: {kill} CapEff: {kill} CapBnd: {kill} NoNewPrivs: 0"));
    assert_eq!(
        status(&["--cap", "CAP_NET_RAW"]),
        format!("CapPrm: {both} CapEff: {both} CapBnd: {both} NoNewPrivs: 0")
    );
    assert_eq!(status(&["--no-new-privs"]), format!("CapPrm: {kill} CapEff: {kill} CapBnd: {kill} NoNewPrivs: 1"));
    let output = bundle.call(&["exec", "--user", "abc", &bundle.id, "/bin/true"]);
    assert_eq!(output.code, 255, "{output:?}");
    let output = bundle.call(&["exec", "-g", "-5", &bundle.id, "/bin/true"]);
    assert_eq!(output.code, 255, "{output:?}");
}

#[test]
fn without_pivoting() {
    let mut bundle = Bundle::new("nopivot");
    bundle.script("ls / | tr '\\n' ' '; ls /proc/1/root/ | wc -l; grep -c . /proc/self/mounts").write();
    let inside = bundle.call(&["run", "--no-pivot", &bundle.id]);
    let lines = inside.lines();
    assert_eq!(lines[0], "bin data dev etc proc root sys tmp 8", "{inside:?}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn the_session_keyring() {
    for (flags, own) in [(&["run"][..], true), (&["run", "--no-new-keyring"], false)] {
        let mut bundle = Bundle::new("keyring");
        bundle.set("/linux/maskedPaths", json!([])).args(&["/bin/cat", "/proc/keys"]).write();
        let output = bundle.call(&[flags, &[&bundle.id]].concat());
        assert_eq!(output.code, 0, "{output:?}");
        // Keys of other cases are seen too.
        assert_eq!(output.stdout.contains(&format!("_ses.{}:", bundle.id)), own, "{output:?}");
    }
}

#[test]
fn files_with_the_number() {
    let bundle = sleeping("pidfiles");
    let path = bundle.directory.join("exec.pid");
    let output = bundle.create_with(&["exec", "-d", "--pid-file", "exec.pid", &bundle.id, "/bin/sleep", "2000"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(fs::read_to_string(&path).unwrap().parse::<i32>().unwrap() > 1);
    let mut other = Bundle::new("pidfile");
    other.args(&["/bin/sleep", "1000"]).write();
    let path = bundle.directory.join("run.pid");
    let output = other.create_with(&["run", "-d", "--pid-file", path.to_str().unwrap(), &other.id]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), other.pid().to_string());
    assert_eq!(other.call(&["delete", "--force", &other.id]).code, 0);
    let output = other.create_with(&["create", "--pid-file", "/no/such/directory/pid", &other.id]);
    assert_ne!(output.code, 0);
    assert!(!other.has_state(), "what cannot be told of is not left");
}

#[test]
fn a_console_socket_is_for_a_terminal() {
    let mut bundle = Bundle::new("consock");
    bundle.args(&["/bin/true"]).write();
    for arguments in [["run", "--console-socket"], ["create", "--console-socket"]] {
        let mut all = arguments.to_vec();
        all.extend(["/no/such/socket", &bundle.id]);
        let output = bundle.create_with(&all);
        assert_eq!(output.code, 1);
        assert!(output.stderr.contains("cannot use console socket"), "{output:?}");
    }
}
