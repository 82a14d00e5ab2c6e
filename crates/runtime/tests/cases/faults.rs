//! The runtime is killed in the middle; whoever cleans up leaves nothing.

use crate::support::{Bundle, eventually};
use serde_json::json;
use std::fs;

fn processes_of(bundle: &Bundle) -> usize {
    fs::read_to_string(bundle.cgroup("pids").join("cgroup.procs")).map_or(0, |text| text.lines().count())
}

#[test]
fn a_killed_first_process_is_stopped() {
    let mut bundle = Bundle::new("kill9init");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    let pid = rustix::process::Pid::from_raw(bundle.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    bundle.wait_stopped();
    let output = bundle.call(&["start", &bundle.id]);
    assert_ne!(output.code, 0, "{output:?}");
    assert_eq!(bundle.call(&["delete", &bundle.id]).code, 0);
}

#[test]
fn a_reused_number_is_not_the_container() {
    if crate::support::is_reference() {
        return;
    }
    let mut bundle = Bundle::new("reuse");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    assert_eq!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0);
    bundle.wait_stopped();
    // As if the number had gone to this process.
    let path = bundle.directory.join("state").join(format!("{}@state.json", bundle.id));
    change_record(&path, &json!({"pid": std::process::id()}));
    assert_eq!(bundle.status(), "stopped");
    assert_ne!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0, "this process lives on");
}

#[test]
fn many_at_once() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut bundle = Bundle::new("many");
                assert_eq!(bundle.script("echo $$").run().lines(), ["1"]);
            });
        }
    });
}

const ANOTHER_BOOT: &str = "00000000-0000-0000-0000-000000000000";

/// Writes a record that has other fields, behind those that are there.
pub(crate) fn change_record(state: &std::path::Path, fields: &serde_json::Value) {
    let text = fs::read_to_string(state).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    for (name, value) in fields.as_object().unwrap() {
        record[name] = value.clone();
    }
    fs::write(state, format!("{text}{record}\n")).unwrap();
}

/// What a loss of power may leave of a file: nothing, or its beginning.
fn tear(path: &std::path::Path, kept: usize) {
    let text = fs::read(path).unwrap();
    fs::write(path, &text[..kept.min(text.len())]).unwrap();
}

#[test]
fn torn_state_does_no_harm() {
    // These files are not runc's.
    if crate::support::is_reference() {
        return;
    }
    // Of the configuration nothing or a part, then of the records.
    for (lines, kept) in [(0, 0), (0, 40), (1, 0), (1, 40)] {
        let mut bundle = Bundle::new("torn");
        bundle.args(&["/bin/sleep", "1000"]);
        if lines == 0 {
            // Nothing says where the group is then, but for the id.
            bundle.spec["linux"].as_object_mut().unwrap().remove("cgroupsPath");
        }
        bundle.create();
        let pid = rustix::process::Pid::from_raw(bundle.pid()).unwrap();
        let path = bundle.directory.join("state").join(format!("{}@state.json", bundle.id));
        let whole: usize = fs::read_to_string(&path).unwrap().lines().take(lines).map(|line| line.len() + 1).sum();
        tear(&path, whole + kept);
        let list = bundle.call(&["list", "--quiet"]);
        assert!(list.code == 0 && list.stdout.is_empty(), "{list:?}");
        assert!(list.stderr.contains("level=warning") && list.stderr.contains("damaged"), "{list:?}");
        for command in [&["state"][..], &["start"], &["kill"], &["delete"], &["exec"]] {
            let mut words = command.to_vec();
            words.push(&bundle.id);
            if command == ["exec"] {
                words.push("/bin/true");
            }
            let output = bundle.call(&words);
            assert_ne!(output.code, 0, "{words:?}");
            assert!(output.stderr.contains("is damaged, as after a loss of power"), "{words:?}: {output:?}");
        }
        let output = bundle.call(&["delete", "--force", &bundle.id]);
        assert_eq!(output.code, 0, "{output:?}");
        assert!(!bundle.has_state(), "{lines} {kept}");
        eventually("no process and no cgroup is left", || {
            rustix::process::test_kill_process(pid).is_err() && !bundle.cgroup("memory").exists()
        });
    }
}

#[test]
fn nothing_left_but_the_default_cgroup_to_look_for() {
    if crate::support::is_reference() {
        return;
    }
    let mut bundle = Bundle::new("tornboth");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.spec["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    bundle.create();
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    let path = groups.lines().find_map(|line| line.split(':').nth(2).filter(|path| path.contains(&bundle.id)));
    let path = path.expect("it has a group of its own").trim_start_matches('/').to_owned();
    let base = if crate::support::is_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
    let group = std::path::Path::new(base).join(path);
    assert!(group.exists(), "{}", group.display());
    tear(&bundle.directory.join("state").join(format!("{}@state.json", bundle.id)), 0);
    assert_eq!(bundle.call(&["delete", "--force", &bundle.id]).code, 0);
    eventually("no cgroup is left", || !group.exists());
    assert!(!bundle.has_state());
}

#[test]
fn a_container_of_an_earlier_boot_is_stopped_and_gives_way() {
    if crate::support::is_reference() {
        return;
    }
    let mut bundle = Bundle::new("reboot");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    let pid = rustix::process::Pid::from_raw(bundle.pid()).unwrap();
    // As if the machine had been started again, and the numbers of this process had come to another's by chance.
    let path = bundle.directory.join("state").join(format!("{}@state.json", bundle.id));
    change_record(&path, &json!({"boot": ANOTHER_BOOT}));
    assert_eq!(bundle.status(), "stopped");
    assert_ne!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0);
    assert_ne!(bundle.call(&["start", &bundle.id]).code, 0);
    rustix::process::test_kill_process(pid).expect("nobody touched it");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("its group is empty", || processes_of(&bundle) == 0);
    // The id is free, also for one that was being made when the power went, or whose record is torn.
    bundle.create();
    assert_eq!(bundle.status(), "created");
    for torn in [false, true] {
        assert_eq!(bundle.call(&["kill", &bundle.id, "KILL"]).code, 0);
        bundle.wait_stopped();
        change_record(&path, &json!({"boot": ANOTHER_BOOT, "pid": 0}));
        if torn {
            tear(&path, 17);
        } else {
            assert_eq!(bundle.status(), "stopped");
        }
        bundle.create();
        assert_eq!(bundle.status(), "created");
    }
    // Within one boot an id is used once.
    let output = bundle.create_with(&["create", &bundle.id]);
    assert!(output.code != 0 && output.stderr.contains("already exists"), "{output:?}");
}
