//! Descriptors and working directories that lead out (CVE-2024-21626), and processes on their way in (CVE-2016-9962).

use super::attacker;
use crate::support::{Bundle, Output, is_reference, rounds};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

/// Calls the runtime with directories and files of the host open at 7, 8, 9 and 63, for every child to inherit.
fn call_with_open_files(bundle: &Bundle, arguments: &[&str]) -> Output {
    let runtime = bundle.runtime();
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", "exec 7</ 8</etc 9</etc/passwd 63</proc; exec \"$@\"", "sh"]);
    shell.arg(runtime.get_program()).args(runtime.get_args()).args(arguments);
    let output = shell.current_dir(&bundle.directory).stdin(Stdio::null()).output().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Climbs as far as it gets, and tells whether that is the container's root.
const CLIMB: &str = "cd -P ../../../../../../../../../../../.. 2>/dev/null; \
     [ \"$(stat -c %d:%i .)\" = \"$(stat -c %d:%i /)\" ] && echo inside || echo OUTSIDE";

#[track_caller]
fn assert_inside(output: &Output) {
    assert!(!output.stdout.contains("OUTSIDE"), "{output:?}");
    assert!(output.code != 0 || output.stdout.contains("inside"), "{output:?}");
}

#[test]
fn no_inherited_descriptor_is_seen() {
    let mut bundle = Bundle::new("fd-caller");
    bundle.args(&["/bin/ls", "/proc/self/fd"]);
    bundle.write();
    // `ls` has the directory itself open as the fourth.
    assert_eq!(call_with_open_files(&bundle, &["run", &bundle.id]).lines(), ["0", "1", "2", "3"]);
    let mut bundle = Bundle::new("fd-caller2");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    let output = call_with_open_files(&bundle, &["exec", &bundle.id, "/bin/ls", "/proc/self/fd"]);
    assert_eq!(output.lines(), ["0", "1", "2", "3"]);
}

#[test]
fn a_working_directory_by_descriptor_on_run() {
    let mut bundle = Bundle::new("fd-cwd");
    bundle.script(CLIMB);
    for number in 3..64 {
        for tail in ["", "/../../.."] {
            // The second form for a few, since the numbers matter for the first alone.
            if tail.is_empty() || number < 16 {
                bundle.set("/process/cwd", json!(format!("/proc/self/fd/{number}{tail}")));
                bundle.write();
                assert_inside(&call_with_open_files(&bundle, &["run", &bundle.id]));
            }
        }
    }
}

#[test]
fn a_working_directory_by_descriptor_on_exec() {
    let mut bundle = Bundle::new("fd-cwdx");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    for number in 3..64 {
        let cwd = format!("/proc/self/fd/{number}");
        let arguments = ["exec", "--cwd", &cwd, &bundle.id, "/bin/sh", "-c", CLIMB];
        assert_inside(&call_with_open_files(&bundle, &arguments));
    }
}

#[test]
fn a_working_directory_that_the_image_makes_a_link() {
    let mut bundle = Bundle::new("fd-link");
    bundle.set("/process/cwd", json!("/place/inside")).script(CLIMB);
    bundle.write();
    let link = bundle.rootfs().join("place");
    for number in 3..20 {
        let _ = fs::remove_file(&link);
        symlink(format!("/proc/self/fd/{number}/.."), &link).unwrap();
        assert_inside(&call_with_open_files(&bundle, &["run", &bundle.id]));
    }
    assert!(!fs::exists("/inside").unwrap(), "nothing is made on the host");
}

/// Links of what the first process has open. Root of the host sees more than any neighbour in the container.
fn open_files(pid: i32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    entries.map(|entry| fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_created_container_holds_nothing_of_the_host() {
    if is_reference() {
        // The Go runtime's own, and the state directory's fifo by O_PATH.
        return;
    }
    let mut bundle = Bundle::new("fd-created");
    let source = bundle.directory.join("volume");
    fs::create_dir(&source).unwrap();
    bundle.push("/mounts", json!({"destination": "/data", "type": "bind", "source": source, "options": ["bind"]}));
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.write();
    // A shell keeps its output, which the container inherits, from holding this test up.
    let script = format!("exec 7</ 8</etc; \"$@\" </dev/null >{0} 2>{0}", bundle.directory.join("out").display());
    let runtime = bundle.runtime();
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &script, "sh"]).arg(runtime.get_program()).args(runtime.get_args()).args(["create", &bundle.id]);
    assert!(shell.current_dir(&bundle.directory).status().unwrap().success());
    let fifo = bundle.directory.join("state").join(format!("{}@exec.fifo", bundle.id));
    let out = bundle.directory.join("out");
    let expected = [fifo.to_str().unwrap(), out.to_str().unwrap(), "/dev/null"].map(str::to_owned);
    let found = open_files(bundle.pid());
    assert_eq!(found, BTreeSet::from(expected));
    // Nor can a neighbour that shares its pid namespace look.
    let status = fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap();
    assert!(status.contains("\nSeccomp:"), "{status}");
    let owner = fs::metadata(format!("/proc/{}/fd", bundle.pid())).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
    let output = bundle.exec(&["/bin/sh", "-c", "readlink /proc/1/fd/* | wc -l; readlink /proc/1/exe || echo hidden"]);
    assert_eq!(output.lines(), ["0", "hidden"]);
}

#[test]
fn hooks_inherit_nothing() {
    let mut bundle = Bundle::new("fd-hooks");
    let list = |name: &str| {
        let script = bundle.directory.join(name);
        let target = bundle.directory.join(format!("{name}.txt"));
        fs::write(
            &script,
            format!("#!/bin/sh\nfor f in /proc/self/fd/*; do readlink $f; done > {}; true\n", target.display()),
        )
        .unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        (script, target)
    };
    let (runtime_hook, runtime_list) = list("runtime-hook");
    let (container_hook, container_list) = list("container-hook");
    fs::write(bundle.rootfs().join("bin/hook"), "#!/bin/sh\nls /proc/self/fd > /data/fds\n").unwrap();
    fs::set_permissions(bundle.rootfs().join("bin/hook"), fs::Permissions::from_mode(0o755)).unwrap();
    bundle.set(
        "/hooks",
        json!({
            "createRuntime": [{"path": runtime_hook}],
            "createContainer": [{"path": container_hook}],
            "startContainer": [{"path": "/bin/hook"}]
        }),
    );
    bundle.args(&["/bin/true"]);
    bundle.write();
    let output = call_with_open_files(&bundle, &["run", &bundle.id]);
    assert_eq!(output.code, 0, "{output:?}");
    for list in [runtime_list, container_list] {
        let text = fs::read_to_string(&list).unwrap();
        let foreign: Vec<_> = text.lines().filter(|line| ["/", "/etc", "/etc/passwd"].contains(line)).collect();
        assert!(foreign.is_empty(), "{}: {text}", list.display());
    }
    assert_eq!(fs::read_to_string(bundle.rootfs().join("data/fds")).unwrap().lines().count(), 4);
}

/// With and without a user namespace of its own, in which the attacker would be root over the runtime's process.
#[test]
fn a_process_on_its_way_in_shows_nothing() {
    for own_user in [false, true] {
        let mut bundle = Bundle::new("fd-race");
        attacker::equip(&mut bundle, "neighbours", &[]);
        if own_user {
            let rights =
                json!(["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_KILL"]);
            bundle.set("/process/capabilities", json!({"bounding": rights, "effective": rights, "permitted": rights}));
            bundle.push("/linux/namespaces", json!({"type": "user"}));
            for map in ["uidMappings", "gidMappings"] {
                let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
                bundle.set(&format!("/linux/{map}"), maps);
            }
            chown_all(&bundle, 100_000);
        }
        attacker::start(&bundle);
        for _ in 0..rounds(60) {
            assert_eq!(call_with_open_files(&bundle, &["exec", &bundle.id, "/bin/true"]).code, 0);
        }
        let found = attacker::stop(&bundle);
        assert!(!found.contains_key("secret"), "{:?}", found["secret"]);
        let seen: usize = found["seen"][0].parse().unwrap();
        assert!(seen > 1, "the attacker saw {seen} processes");
    }
}

fn chown_all(bundle: &Bundle, id: u32) {
    let mut waiting = vec![bundle.rootfs()];
    while let Some(path) = waiting.pop() {
        std::os::unix::fs::lchown(&path, Some(id), Some(id)).unwrap();
        if path.symlink_metadata().unwrap().is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
    }
    fs::set_permissions(&bundle.directory, fs::Permissions::from_mode(0o755)).unwrap();
}
