//! Real clients of Gantry's registry, each against each: a script with one line for each check.
//!
//! It runs in process, mount and network namespaces of its own, with a dockerd, a Gantry and two registries in them.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::GANTRY;

const SCRIPT: &str = concat!(include_str!("clients/checks.sh"), include_str!("clients/registry.sh"));

/// Removes a control group and those in it, in every hierarchy; processes are in none of them any more.
fn remove_groups(group: &str) {
    fn remove(folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
            remove(&entry.path());
        }
        // Most hierarchies have no such group.
        let _ = fs::remove_dir(folder);
    }
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    hierarchies.chain(["/sys/fs/cgroup".into()]).for_each(|hierarchy| remove(&hierarchy.join(group)));
}

#[test]
fn what_one_client_pushes_all_others_pull() {
    let folder = tempfile::Builder::new().prefix("gantry-clients-").tempdir().expect("a folder");
    let [work, script, image] = ["work", "script", "busybox.tar"].map(|name| folder.path().join(name));
    fs::create_dir(&work).expect("a folder");
    fs::write(&script, SCRIPT).expect("the script");
    support::busybox(&folder.path().join("rootfs"), &image);
    let name = format!("gantry-clients-{}", std::process::id());
    let group = support::cgroup(&name);
    let output = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child", "--", "sh"])
        .arg(&script)
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
        .envs([("NAME", &name), ("CGROUP", &group)])
        .envs([("WORK", work.as_path()), ("IMAGE", &image), ("GANTRY", Path::new(GANTRY))])
        .output()
        .expect("unshare");
    remove_groups(&group);
    let seen = String::from_utf8_lossy(&output.stdout);
    let bad: Vec<&str> = seen.lines().filter(|line| !line.starts_with("ok ")).collect();
    let log = |name: &str| fs::read_to_string(work.join(name)).unwrap_or_default();
    assert!(
        output.status.success(),
        "{}\n{}\n{}\n{}",
        bad.join("\n"),
        log("dockerd.log"),
        log("own.log"),
        String::from_utf8_lossy(&output.stderr)
    );
}
