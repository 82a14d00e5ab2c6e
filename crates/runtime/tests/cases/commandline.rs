//! The command line itself: flags, their places and values, what is said about mistakes, and the log.

use crate::support::{Bundle, Output, is_reference};
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;

/// Flags of runc 1.1 by command; each is in the command's help.
const FLAGS: &[(&str, &[&str])] = &[
    (
        "checkpoint",
        &[
            "image-path",
            "work-path",
            "parent-path",
            "leave-running",
            "tcp-established",
            "ext-unix-sk",
            "shell-job",
            "lazy-pages",
            "status-fd",
            "page-server",
            "file-locks",
            "pre-dump",
            "manage-cgroups-mode",
            "empty-ns",
            "auto-dedup",
        ],
    ),
    ("create", &["bundle", "console-socket", "pid-file", "no-pivot", "no-new-keyring", "preserve-fds"]),
    ("delete", &["force"]),
    ("events", &["interval", "stats"]),
    (
        "exec",
        &[
            "console-socket",
            "cwd",
            "env",
            "tty",
            "user",
            "additional-gids",
            "process",
            "detach",
            "pid-file",
            "process-label",
            "apparmor",
            "no-new-privs",
            "cap",
            "preserve-fds",
            "cgroup",
            "ignore-paused",
        ],
    ),
    ("features", &[]),
    ("kill", &["all"]),
    ("list", &["format", "quiet"]),
    ("pause", &[]),
    ("ps", &["format"]),
    (
        "restore",
        &[
            "console-socket",
            "image-path",
            "work-path",
            "tcp-established",
            "ext-unix-sk",
            "shell-job",
            "file-locks",
            "manage-cgroups-mode",
            "bundle",
            "detach",
            "pid-file",
            "no-subreaper",
            "no-pivot",
            "empty-ns",
            "auto-dedup",
            "lazy-pages",
            "lsm-profile",
            "lsm-mount-context",
        ],
    ),
    ("resume", &[]),
    (
        "run",
        &[
            "bundle",
            "console-socket",
            "detach",
            "keep",
            "pid-file",
            "no-subreaper",
            "no-pivot",
            "no-new-keyring",
            "preserve-fds",
        ],
    ),
    ("spec", &["bundle", "rootless"]),
    ("start", &[]),
    ("state", &[]),
    (
        "update",
        &[
            "resources",
            "blkio-weight",
            "cpu-period",
            "cpu-quota",
            "cpu-share",
            "cpu-rt-period",
            "cpu-rt-runtime",
            "cpuset-cpus",
            "cpuset-mems",
            "memory",
            "memory-reservation",
            "memory-swap",
            "pids-limit",
            "l3-cache-schema",
            "mem-bw-schema",
        ],
    ),
];

#[test]
fn every_command_and_flag_is_in_the_help() {
    let bundle = Bundle::new("help");
    let all = bundle.call(&["--help"]);
    for flag in ["debug", "log", "log-format", "root", "criu", "systemd-cgroup", "rootless", "help", "version"] {
        assert!(all.stdout.contains(&format!("--{flag}")), "{flag}: {all:?}");
    }
    for (command, flags) in FLAGS {
        assert!(all.stdout.contains(&format!("\n   {command} ")), "{command}");
        let help = bundle.call(&[command, "--help"]);
        assert_eq!(help.code, 0, "{help:?}");
        assert!(flags.iter().all(|flag| help.stdout.contains(&format!("--{flag}"))), "{flags:?} {help:?}");
        assert_eq!(bundle.call(&["help", command]).stdout, help.stdout);
    }
}

#[test]
fn mistakes() {
    let bundle = Bundle::new("mistake");
    let cases: &[(&[&str], i32, &str, &str)] = &[
        (&["frob"], 3, "No help topic for 'frob'", ""),
        (&["help", "frob"], 3, "No help topic for 'frob'", ""),
        (&["--frob", "list"], 1, "flag provided but not defined: -frob", "Incorrect Usage. flag provided"),
        (&["run", "--frob", "x"], 1, "flag provided but not defined: -frob", "Incorrect Usage: flag provided"),
        (&["run"], 1, "\\\"run\\\" requires exactly 1 argument(s)", "Incorrect Usage.\n"),
        (&["run", "a", "b"], 1, "\\\"run\\\" requires exactly 1 argument(s)", "Incorrect Usage.\n"),
        (&["kill"], 1, "\\\"kill\\\" requires a minimum of 1 argument(s)", "Incorrect Usage.\n"),
        (&["kill", "a", "b", "c"], 1, "\\\"kill\\\" requires a maximum of 2 argument(s)", "Incorrect Usage.\n"),
        (&["list", "a"], 1, "\\\"list\\\" requires exactly 0 argument(s)", "Incorrect Usage.\n"),
        (&["run", "--pid-file"], 1, "flag needs an argument: -pid-file", "Incorrect Usage: flag needs"),
        (
            &["run", "--preserve-fds", "x", "a"],
            1,
            "invalid value \\\"x\\\" for flag -preserve-fds",
            "Incorrect Usage: ",
        ),
        (&["run", "--detach=perhaps", "a"], 1, "invalid boolean value \\\"perhaps\\\"", "Incorrect Usage: "),
        (&["events", "--interval", "5", "a"], 1, "invalid value \\\"5\\\" for flag -interval", "Incorrect Usage: "),
        (&["list", "--format", "xml"], 1, "invalid format option", ""),
        (&["--log-format", "xml", "list"], 1, "invalid log-format: xml", ""),
        (&["state", "nobody"], 1, "container does not exist", ""),
        (&["exec", "nobody", "true"], 255, "exec failed: container does not exist", ""),
        (&["state", ""], 1, "container id cannot be empty", ""),
        (&["delete", ""], 1, "container id cannot be empty", ""),
    ];
    for (arguments, code, message, heading) in cases {
        let output = bundle.call(arguments);
        assert_eq!(output.code, *code, "{arguments:?} {output:?}");
        assert!(output.stderr.contains(message), "{message} in {output:?}");
        assert!(output.stdout.starts_with(heading), "{heading} in {output:?}");
        assert_eq!(output.stdout.contains("NAME:"), !heading.is_empty(), "{output:?}");
    }
}

#[test]
fn flags_stand_before_and_after_the_container() {
    let mut bundle = Bundle::new("after");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    assert_eq!(bundle.call(&["kill", &bundle.id, "0", "--all"]).code, 0);
    assert_eq!(bundle.call(&["update", &bundle.id, "-pids-limit=77"]).code, 0);
    assert_eq!(fs::read_to_string(bundle.cgroup("pids").join("pids.max")).unwrap(), "77\n");
    assert_eq!(bundle.call(&["list", "-q=true"]).lines(), [bundle.id.as_str()]);
    assert_eq!(bundle.call(&["delete", &bundle.id, "--force"]).code, 0);
    assert!(!bundle.has_state());
}

#[test]
fn the_log_has_mistakes_too() {
    let bundle = Bundle::new("logs");
    let log = bundle.directory.join("log");
    let path = log.to_str().unwrap();
    let last = || fs::read_to_string(&log).unwrap().lines().last().unwrap_or_default().to_owned();
    let output = bundle.call(&["--log", path, "--log-format", "json", "run", "--frob", "x"]);
    assert_eq!(output.code, 1);
    let line: Value = serde_json::from_str(&last()).unwrap();
    assert_eq!(line["msg"], "flag provided but not defined: -frob");
    assert_eq!(line["level"], "error");
    let output = bundle.call(&["--log", path, "state", "nobody"]);
    assert!(output.stderr.starts_with("container does not exist"), "a person sees it as well: {output:?}");
    assert!(last().contains("level=error msg=\"container does not exist"), "{}", last());
    assert_eq!(bundle.call(&["--log", "/no/such/file", "list"]).code, 1);
}

#[test]
fn debugging_is_logged() {
    let mut bundle = Bundle::new("debug");
    let log = bundle.directory.join("log");
    bundle.args(&["/bin/true"]).write();
    let output = bundle.call(&["--debug", "--log", log.to_str().unwrap(), "run", &bundle.id]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(fs::read_to_string(log).unwrap().contains("level=debug"));
}

#[test]
fn what_comes_later_is_refused_by_name() {
    if is_reference() {
        return;
    }
    let bundle = Bundle::new("later");
    let cases: &[&[&str]] = &[
        &["checkpoint", "--image-path", "/x", "--leave-running", "--status-fd", "4", "a"],
        &["restore", "--image-path", "/x", "-d", "--bundle", "/b", "--empty-ns", "network", "a"],
        &["--criu", "/usr/sbin/criu", "list"],
        &["--systemd-cgroup", "list"],
    ];
    for arguments in cases {
        let output = bundle.call(arguments);
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains("comes with a later version") || output.stderr.contains("come with a later"));
        assert_eq!(output.stdout, "");
    }
}

#[test]
fn lists_of_nothing() {
    let bundle = Bundle::new("nothing");
    let columns = |output: &Output| output.lines()[0].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    fs::create_dir_all(bundle.directory.join("state")).unwrap();
    let table = bundle.call(&["list"]);
    assert_eq!(columns(&table), ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(bundle.call(&["list", "--format", "json"]).stdout, "null\n");
    assert_eq!(bundle.call(&["list", "--quiet"]).stdout, "");
    if !is_reference() {
        // As runc since 1.2: a typing error in --root is not an empty list.
        fs::remove_dir(bundle.directory.join("state")).unwrap();
        assert_eq!(bundle.call(&["list"]).code, 1);
    }
}

#[test]
fn state_and_list_have_the_same_fields() {
    let mut bundle = Bundle::new("fields");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    let state = bundle.state();
    let list: Value = serde_json::from_str(&bundle.call(&["list", "-f", "json"]).stdout).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&state), keys(&list[0]));
    for key in ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"] {
        assert!(state.get(key).is_some(), "{key}");
    }
    assert_eq!(state["rootfs"], bundle.rootfs().to_str().unwrap());
    assert_eq!((&state["owner"], &list[0]["owner"]), (&json!(""), &json!("root")));
}

#[test]
fn an_example_to_begin_with_runs() {
    let bundle = Bundle::new("example");
    let directory = bundle.directory.to_str().unwrap();
    assert_eq!(bundle.call(&["spec", "--bundle", directory]).code, 0);
    let output = bundle.call(&["spec", "-b", directory]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("config.json exists. Remove it first"), "{output:?}");
    assert_eq!(bundle.call(&["spec", "--bundle", "/no/such/directory"]).code, 1);
    let path = bundle.directory.join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/bin/echo", "it runs"]);
    spec["linux"]["cgroupsPath"] = json!(format!("/gantry-test/{}", bundle.id));
    fs::write(&path, spec.to_string()).unwrap();
    assert_eq!(bundle.call(&["run", &bundle.id]).lines(), ["it runs"]);
}

#[test]
fn features_are_those_of_the_specification() {
    let bundle = Bundle::new("features");
    let output = bundle.call(&["features"]);
    let features: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        assert!(features["hooks"].as_array().unwrap().contains(&json!(hook)), "{hook}");
    }
    for option in ["bind", "rbind", "ro", "rro", "nosuid", "private", "rslave"] {
        assert!(features["mountOptions"].as_array().unwrap().contains(&json!(option)), "{option}");
    }
    let linux = &features["linux"];
    for namespace in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(linux["namespaces"].as_array().unwrap().contains(&json!(namespace)), "{namespace}");
    }
    assert!(linux["capabilities"].as_array().unwrap().contains(&json!("CAP_SYS_ADMIN")));
    assert_eq!((&linux["cgroup"]["v1"], &linux["cgroup"]["v2"]), (&json!(true), &json!(true)));
    assert_eq!(linux["seccomp"]["enabled"], true);
    assert_eq!(linux["apparmor"]["enabled"], true);
}

#[test]
fn a_version() {
    let bundle = Bundle::new("version");
    for flag in ["--version", "-v"] {
        let output = bundle.call(&[flag]);
        let lines = output.lines();
        assert!(lines[0].contains(" version "), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("spec: 1.")), "{lines:?}");
    }
}

#[test]
fn limits_from_standard_input() {
    let mut bundle = Bundle::new("stdin");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    let mut command = bundle.runtime();
    command.args(["update", "--resources", "-", &bundle.id]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), br#"{"pids": {"limit": 23}}"#).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_to_string(bundle.cgroup("pids").join("pids.max")).unwrap(), "23\n");
    let output = bundle.call(&["update", "-r", "/no/such/file", &bundle.id]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("open /no/such/file: no such file or directory"), "{output:?}");
}
