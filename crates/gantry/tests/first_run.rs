//! The first minute on a machine that has never seen Gantry: no engine, no image, nothing installed.

use std::process::{Command, Stdio};

const GANTRY: &str = env!("CARGO_BIN_EXE_gantry");

/// Run a script where the folders of the default engine are empty, and where every process and link ends with it.
fn on_a_fresh_machine(script: &str) -> String {
    let prepare = "set -e; export PATH=$PATH:/sbin:/usr/sbin; ip link set lo up; \
                   for d in /run /var/lib /var/log; do mount -t tmpfs tmpfs $d; done; gantry() { \"$GANTRY\" \"$@\"; }; ";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
    command.arg(format!("{prepare}{script}")).env("GANTRY", GANTRY).env_remove("DOCKER_HOST");
    let output = command.stdin(Stdio::null()).output().expect("unshare");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {}\n{text}\n{errors}", output.status);
    text.into_owned()
}

#[test]
fn hello_starts_an_engine_and_says_what_it_sees() {
    let text = on_a_fresh_machine(
        "gantry run --memory 64m --hostname first hello; gantry ps -aq | wc -l; gantry ps -aq | xargs \"$GANTRY\" rm >/dev/null",
    );
    for words in ["PID 1", "first", "eth0 172.", "limited to 64 MiB", "shared with the host", "gantry run -it"] {
        assert!(text.contains(words), "{words} is missing in:\n{text}");
    }
    assert!(text.ends_with("\n1\n"), "the second command found another engine:\n{text}");
    // Control groups are the machine's own. An engine of the machine that has containers keeps its group, since the kernel
    // removes none that is in use.
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join("gantry"));
    }
    let _ = std::fs::remove_dir("/sys/fs/cgroup/gantry");
}

#[test]
fn the_second_command_finds_the_same_engine() {
    let script = "gantry info --format '{{.ID}}' >/run/one; gantry info --format '{{.ID}}' >/run/two; cmp /run/one /run/two; cat /run/one";
    assert!(!on_a_fresh_machine(script).trim().is_empty());
}

/// A program without an interpreter needs no library of the host.
#[test]
fn the_binary_is_static() {
    let bytes = std::fs::read(GANTRY).expect("the binary");
    let word = |at: usize, length: usize| bytes[at..at + length].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let (table, size, count) = (word(32, 8) as usize, word(54, 2) as usize, word(56, 2) as usize);
    let kinds: Vec<u64> = (0..count).map(|n| word(table + n * size, 4)).collect();
    const INTERPRETER: u64 = 3;
    assert!(!kinds.is_empty() && !kinds.contains(&INTERPRETER), "program headers {kinds:?}");
}

#[test]
fn only_root_starts_an_engine() {
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", GANTRY, "-H", "unix:///nowhere.sock", "ps"])
        .env("DOCKER_CONFIG", "/nowhere")
        .output()
        .expect("setpriv");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    assert!(text.contains("Cannot connect to the Docker daemon at unix:///nowhere.sock"), "{text}");
}
