//! Containers of an ordinary user: a real account, ids from its own map, what the kernel lets it do and what not.

use std::fs;
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{eventually, example, is_reference, is_v2, runtime};
use crate::terminal::{read_all, receive};
use crate::user::{GIVEN, User, output};

/// The map of the account's own id and of those that it was given.
fn map_all(user: &mut User) {
    let map = json!([
        {"containerID": 0, "hostID": user.id, "size": 1},
        {"containerID": 1, "hostID": user.given, "size": GIVEN}
    ]);
    user.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
}

#[track_caller]
fn refused(user: &User, words: &str) {
    let output = user.run();
    assert_ne!(output.code, 0, "{output:?}");
    assert!(is_reference() || output.stderr.contains(words), "{words}: {output:?}");
    assert!(!user.has_state());
}

#[test]
fn everything_is_its_own() {
    let mut user = User::new("rl");
    user.push("/linux/namespaces", json!({"type": "cgroup"}));
    user.script(
        "for n in pid net ipc uts mnt user cgroup; do readlink /proc/self/ns/$n; done; hostname; echo $$; id -u; id -g; \
         cat /proc/self/uid_map /proc/self/gid_map; cat /proc/self/setgroups; touch /data/new; stat -c '%u %g' /data/new; \
         ping -c 1 -W 2 127.0.0.1 >/dev/null && echo up; echo x > /dev/null && echo null; head -c 3 /dev/zero | wc -c; \
         touch /dev/shm/x && echo shm; chown 1 /data/new 2>/dev/null || echo unmapped; mount | grep -c mqueue",
    );
    let output = user.run();
    let lines = output.lines();
    for (name, inside) in ["pid", "net", "ipc", "uts", "mnt", "user", "cgroup"].iter().zip(&lines) {
        let outside = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(outside.to_str().unwrap(), *inside);
    }
    assert_eq!(lines[7..11], ["inside", "1", "0", "0"]);
    for line in &lines[11..13] {
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["0", &user.id.to_string(), "1"]);
    }
    assert_eq!(lines[13..], ["deny", "0 0", "up", "null", "3", "shm", "unmapped", "1"]);
    assert_eq!(fs::metadata(user.rootfs().join("data/new")).unwrap().uid(), user.id);
    assert!(!user.has_state());
}

#[test]
fn the_example_runs() {
    let mut user = User::new("rlspec");
    let bundle = user.own_directory("example");
    let written = output(user.bare_runtime().args(["spec", "--rootless", "--bundle"]).arg(&bundle));
    assert_eq!(written.code, 0, "{written:?}");
    let mut spec: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    let kinds: Vec<&str> =
        spec["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].as_str().unwrap()).collect();
    let expected: &[&str] = if is_v2() {
        &["pid", "ipc", "uts", "mount", "cgroup", "user"]
    } else {
        &["pid", "ipc", "uts", "mount", "user"]
    };
    assert_eq!(kinds, expected);
    let own = json!([{"containerID": 0, "hostID": user.id, "size": 1}]);
    assert_eq!((&spec["linux"]["uidMappings"], &spec["linux"]["gidMappings"]), (&own, &own));
    assert!(spec["linux"].get("resources").is_none());
    let sys = spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == "/sys").unwrap();
    let bound = json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
    assert_eq!(sys, &bound);
    assert!(!spec["mounts"].to_string().contains("gid="));
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] =
        json!(["/bin/sh", "-c", "id -u; touch /x 2>/dev/null || echo ro; ls /sys/class/net | wc -l"]);
    user.spec = spec;
    let links = fs::read_dir("/sys/class/net").unwrap().count().to_string();
    let run = user.run();
    assert_eq!(run.lines(), ["0", "ro", &links]);
    assert!(is_reference() || run.stderr.is_empty(), "{run:?}");
}

#[test]
fn its_life_below_the_directory_of_the_session() {
    let mut user = User::new("rllife");
    user.script("trap 'exit 7' TERM; echo up; while true; do sleep 0.01; done").write();
    let call = |arguments: &[&str]| output(user.bare_runtime().args(arguments));
    let id = user.id_of_container();
    let log = fs::File::create(user.directory.join("output")).unwrap();
    let mut create = user.bare_runtime();
    create.args(["create", "--pid-file"]).arg(user.session.join("pid")).arg(&id);
    assert!(create.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap().success(), "{}", user.output());
    let state = |field: &str| {
        let output = call(&["state", &id]);
        serde_json::from_str::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))[field].clone()
    };
    assert_eq!(state("status"), "created");
    let pid = fs::read_to_string(user.session.join("pid")).unwrap();
    assert_eq!(state("pid").to_string(), pid);
    assert_eq!(call(&["start", &id]).code, 0);
    assert_eq!(state("status"), "running");
    eventually("it speaks", || user.output() == "up\n");
    let list = call(&["list"]);
    assert!(list.lines()[1].starts_with(&id) && list.lines()[1].ends_with("gantry-test"), "{list:?}");
    // What is sticky is not cleaned away where sessions keep their files.
    let kept = user.session.join(if is_reference() { "runc" } else { "gantry-runtime" });
    assert_eq!(fs::metadata(kept).unwrap().permissions().mode() & 0o7777, 0o1700);
    let exec = call(&[
        "exec",
        "--env",
        "A=b",
        &id,
        "/bin/sh",
        "-c",
        "id -u; echo $A; cat /proc/1/comm; readlink /proc/self/ns/user",
    ]);
    let namespace = fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_eq!(exec.lines(), ["0", "b", "sh", namespace.to_str().unwrap()]);
    assert_eq!(call(&["delete", &id]).code, 1, "it runs");
    assert_eq!(call(&["kill", &id, "TERM"]).code, 0);
    eventually("it ends", || state("status") == "stopped");
    assert_eq!(call(&["delete", &id]).code, 0);
    assert_eq!(call(&["list", "--quiet"]).lines(), Vec::<&str>::new());
}

#[test]
fn a_directory_for_the_state_has_to_be_known() {
    // runc falls back to a directory that the user cannot write to.
    if is_reference() {
        return;
    }
    let user = User::new("rlroot");
    let output = output(user.bare_runtime().env_remove("XDG_RUNTIME_DIR").arg("list"));
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("XDG_RUNTIME_DIR") && output.stderr.contains("--root"), "{output:?}");
    let features = crate::user::output(user.bare_runtime().env_remove("XDG_RUNTIME_DIR").arg("features"));
    assert_eq!(features.code, 0, "{features:?}");
}

#[test]
fn without_a_cgroup() {
    let mut user = User::new("rlnone");
    for set in ["bounding", "effective", "permitted"] {
        user.push(&format!("/process/capabilities/{set}"), json!("CAP_SYS_ADMIN"));
    }
    user.script("sleep 1000 & sleep 1000 & unshare -p -f sleep 1000 & echo up; wait");
    user.detach();
    eventually("it speaks", || user.output() == "up\n");
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{}/cgroup", user.pid())).unwrap(), own, "it is where its maker is");
    let id = user.id_of_container();
    for arguments in [&["pause", &id][..], &["update", "--pids-limit", "9", &id], &["events", "--stats", &id]] {
        let output = user.call(arguments);
        // runc shows zeros where it has no figures.
        assert!(output.code != 0 || (is_reference() && arguments[0] == "events"), "{output:?}");
        assert!(is_reference() || output.stderr.contains("has no cgroup"), "{output:?}");
    }
    let sleepers = || {
        let output = user.call(&["ps", "--format", "json", &id]);
        // `null` when there are none.
        let listed = serde_json::from_str::<Option<Vec<i32>>>(&output.stdout);
        listed.unwrap_or_else(|_| panic!("{output:?}")).unwrap_or_default()
    };
    // runc finds processes by their cgroup alone, and so here those of everybody.
    if is_reference() {
        return;
    }
    eventually("all are listed", || sleepers().len() == 5);
    let pids = sleepers();
    assert!(pids.contains(&user.pid()), "{pids:?}");
    assert_eq!(user.call(&["kill", "--all", &id, "KILL"]).code, 0);
    eventually("all are gone", || pids.iter().all(|pid| !sys::process::is_alive(*pid).unwrap()));
    user.wait_stopped();
    assert_eq!(sleepers(), Vec::<i32>::new());
    assert_eq!(user.call(&["delete", &id]).code, 0);
    assert!(!user.has_state());
}

#[test]
fn without_a_cgroup_and_a_pid_namespace() {
    let mut user = User::new("rlhostpid");
    user.without_namespace("pid");
    // procfs of the host's pid namespace cannot be mounted by others.
    user.set("/mounts/0", json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}));
    user.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    user.script("sleep 1000 & (sleep 1000 &) ; while true; do sleep 0.01; done & echo up; wait");
    user.detach();
    eventually("it speaks", || user.output() == "up\n");
    if is_reference() {
        return;
    }
    // The first one, what it made, the one without a parent, and now and then one that has just been made.
    let pids = || {
        let output = user.call(&["ps", "--format", "json", &user.id_of_container()]);
        serde_json::from_str::<Vec<i32>>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    eventually("all are listed, that without a parent too", || pids().len() >= 4);
    assert_eq!(user.call(&["delete", "--force", &user.id_of_container()]).code, 0);
    eventually("all are gone", || user.processes().is_empty());
}

#[test]
fn a_limit_that_cannot_be_applied_is_refused() {
    let mut user = User::new("rllimit");
    user.set("/linux/resources/memory", json!({"limit": 20_000_000}));
    refused(&user, "linux.resources.memory");
    user.set("/linux/resources", json!({"pids": {"limit": 10}}));
    refused(&user, "linux.resources.pids");
    // No limit, in words.
    user.set(
        "/linux/resources",
        json!({"pids": {"limit": 0}, "cpu": {"shares": 0}, "devices": [{"allow": false, "access": "rwm"}]}),
    );
    let run = user.run();
    assert_eq!(run.code, 0, "{run:?}");
    assert!(is_reference() || run.stderr.contains("linux.resources.devices was not applied"), "{run:?}");
    let strict = output(user.runtime().args(["--rootless", "false", "run", &user.id_of_container()]));
    assert_ne!(strict.code, 0);
    assert!(strict.stderr.contains("ermission denied"), "{strict:?}");
    // Whoever says where the group is to be wants one.
    let path = format!("/gantry-test/{}", user.id_of_container());
    user.set("/linux/cgroupsPath", json!(path));
    user.set("/linux/resources", json!({}));
    refused(&user, "ermission denied");
}

#[test]
fn more_ids_by_the_helpers() {
    let mut user = User::new("rlids");
    map_all(&mut user);
    user.set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 8]}));
    user.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 100}]));
    fs::set_permissions(user.rootfs().join("data"), fs::Permissions::from_mode(0o777)).unwrap();
    user.script(
        "id -u; id -g; id -G; cat /proc/self/uid_map; cat /proc/self/setgroups; touch /data/new; exec sleep 1000",
    );
    if is_reference() {
        // runc 1.1 sets no groups for users.
        user.set("/process/user/additionalGids", json!([]));
    }
    user.detach();
    eventually("it speaks", || user.rootfs().join("data/new").exists());
    let text = user.output();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((&lines[0], &lines[1]), (&vec!["1000"], &vec!["1001"]), "{text}");
    assert!(is_reference() || lines[2] == ["1001", "7", "8"], "{text}");
    let (own, given, count) = (user.id.to_string(), user.given.to_string(), GIVEN.to_string());
    assert_eq!(lines[3..5], [vec!["0", &own, "1"], vec!["1", &given, &count]]);
    assert_eq!(lines[5], ["allow"]);
    let new = fs::metadata(user.rootfs().join("data/new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (user.given + 999, user.given + 1000));
    // The owner is let in, to every user of the container.
    let exec = user.exec(&["/bin/sh", "-c", "id -u; echo x >> /data/new && echo written; ulimit -Hn"]);
    assert_eq!(exec.lines(), ["1000", "written", "100"]);
    let exec = user.call(&["exec", "--user", "0:0", &user.id_of_container(), "/bin/id", "-u"]);
    assert_eq!(exec.lines(), ["0"]);
    // And so is root, also one without CAP_SYS_RESOURCE, which runc needs to set limits of a process of other ids.
    if !is_reference() {
        assert_eq!(user.deref().exec(&["/bin/id", "-u"]).lines(), ["1000"]);
        let ps = user.call(&["ps", "--format", "json", &user.id_of_container()]);
        assert_eq!(serde_json::from_str::<Vec<i32>>(&ps.stdout).unwrap(), [user.pid()]);
    }
    assert_eq!(user.call(&["delete", "--force", &user.id_of_container()]).code, 0);
}

#[test]
fn maps_that_are_not_the_users_are_refused() {
    let mut user = User::new("rlmaps");
    let foreign = |user: &User| json!([{"containerID": 0, "hostID": user.id, "size": 1}, {"containerID": 1, "hostID": 500_000, "size": 10}]);
    let map = foreign(&user);
    user.set("/linux/uidMappings", map);
    refused(&user, "linux.uidMappings: newuidmap refuses");
    let mut user = User::new("rlmapg");
    let map = foreign(&user);
    user.set("/linux/gidMappings", map);
    refused(&user, "linux.gidMappings: newgidmap refuses");
    let mut user = User::new("rlmap0");
    user.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    refused(&user, "linux.uidMappings: newuidmap refuses");
    let mut user = User::new("rlmapm");
    map_all(&mut user);
    user.before = "mount --bind /dev/null \"$(command -v newuidmap)\"".into();
    refused(&user, "linux.uidMappings: only the own id");
    let mut user = User::new("rlmapn");
    user.without_namespace("user").set("/linux/uidMappings", json!([])).set("/linux/gidMappings", json!([]));
    refused(&user, "rootless container requires user namespaces");
}

#[test]
fn ids_that_are_not_mapped_are_refused_by_name() {
    let mut user = User::new("rlunmapped");
    user.set("/process/user", json!({"uid": 5, "gid": 0}));
    refused(&user, "process.user.uid: 5 is not mapped");
    user.set("/process/user", json!({"uid": 0, "gid": 6}));
    refused(&user, "process.user.gid: 6 is not mapped");
    user.set("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": [7]}));
    refused(&user, "process.user.additionalGids: 7 is not mapped");
    user.set("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": [0]}));
    refused(&user, "process.user.additionalGids");
    user.set("/process/user", json!({"uid": 0, "gid": 0}));
    user.push("/mounts/2/options", json!("gid=5"));
    refused(&user, "gid=5");
}

#[test]
fn an_overlay_of_the_configuration() {
    let mut user = User::new("rloverlay");
    let (lower, upper, work) = (user.own_directory("lower"), user.own_directory("upper"), user.own_directory("work"));
    fs::write(lower.join("old"), "old\n").unwrap();
    fs::create_dir(lower.join("dir")).unwrap();
    fs::write(lower.join("dir/below"), "below\n").unwrap();
    user.own(&lower);
    let option = |key: &str, path: &Path| format!("{key}={}", path.display());
    let options =
        [option("lowerdir", &lower), option("upperdir", &upper), option("workdir", &work), "userxattr".into()];
    user.push("/mounts", json!({"destination": "/data", "type": "overlay", "source": "overlay", "options": options}));
    user.script("cat /data/old; rm /data/old; rm -r /data/dir && mkdir /data/dir; touch /data/dir/new; ls /data/dir; [ -e /data/old ] || echo gone");
    assert_eq!(user.run().lines(), ["old", "new", "gone"]);
    assert!(lower.join("old").exists() && upper.join("dir/new").exists());
    assert_eq!(fs::metadata(upper.join("dir/new")).unwrap().uid(), user.id);
    // Many layers, whose paths are longer together than one option can be.
    let many: Vec<_> = (0..9).map(|n| user.own_directory(&format!("a-layer-with-a-name-of-some-length-{n}"))).collect();
    many.iter().enumerate().for_each(|(n, layer)| fs::write(layer.join(format!("f{n}")), "").unwrap());
    let all = many.iter().chain([&lower]).map(|layer| layer.to_str().unwrap()).collect::<Vec<_>>().join(":");
    assert!(all.len() > 255);
    let before = user.spec["mounts"].as_array_mut().unwrap().pop().unwrap();
    let options = [format!("lowerdir={all}"), "userxattr".into()];
    user.push("/mounts", json!({"destination": "/data", "type": "overlay", "source": "overlay", "options": options}));
    assert_eq!(user.script("ls /data | tr '\\n' ' '").run().lines(), ["dir f0 f1 f2 f3 f4 f5 f6 f7 f8 old "]);
    *user.spec["mounts"].as_array_mut().unwrap().last_mut().unwrap() = before;
    // Again, and the directory that took another's place still hides it.
    user.script("ls /data/dir; ls /data");
    assert_eq!(user.run().lines(), ["new", "dir"]);
}

#[test]
fn layers_of_the_library() {
    if is_reference() {
        return;
    }
    let mut user = User::new("rllayers");
    let (upper, work) = (user.own_directory("upper"), user.own_directory("work"));
    let middle = user.own_directory("middle");
    fs::write(middle.join("added"), "added\n").unwrap();
    user.own(&middle);
    user.set("/root/path", json!("nothing-is-here"));
    user.script("cat /added; rm /added; rm -r /data; mkdir /data; touch /data/new; id -u; grep ' / / ' /proc/self/mountinfo | grep -c overlay");
    user.write();
    let option = |key: &str, path: &Path| format!("{key}={}", path.display());
    let layers = user.public(&example("layers"));
    let mut command = user.command(&layers);
    command.arg(user.state_root()).arg(&user.directory).arg(user.id_of_container());
    command.args([option("lowerdir+", &middle), option("lowerdir+", &user.rootfs())]);
    command.args([option("upperdir", &upper), option("workdir", &work), "userxattr".into()]);
    assert_eq!(output(&mut command).lines(), ["added", "0", "1"]);
    assert!(middle.join("added").exists() && upper.join("data/new").exists());
    assert!(!user.has_state());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&user.id_of_container()), "{mounts}");
}

#[test]
fn bind_mounts_with_the_rights_of_the_user() {
    let mut user = User::new("rlbind");
    let own = user.own_directory("own");
    fs::write(own.join("file"), "seen\n").unwrap();
    let closed = user.directory.join("closed");
    fs::create_dir(&closed).unwrap();
    fs::create_dir(closed.join("inner")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    user.push("/mounts", json!({"destination": "/own", "type": "bind", "source": own, "options": ["rbind", "ro"]}));
    user.push(
        "/mounts",
        json!({"destination": "/file", "type": "bind", "source": own.join("file"), "options": ["bind"]}),
    );
    user.script("cat /own/file /file; touch /own/new 2>/dev/null || echo ro");
    assert_eq!(user.run().lines(), ["seen", "seen", "ro"]);
    let inner = closed.join("inner");
    user.push("/mounts", json!({"destination": "/closed", "type": "bind", "source": inner, "options": ["rbind"]}));
    refused(&user, "closed/inner");
    user.spec["mounts"].as_array_mut().unwrap().pop();
    let map = json!([{"containerID": 0, "hostID": user.id, "size": 1}]);
    user.push("/mounts", json!({"destination": "/map", "type": "bind", "source": own, "options": ["rbind", "idmap"], "uidMappings": map, "gidMappings": map}));
    if !is_reference() {
        refused(&user, "id-mapped");
    }
}

#[test]
fn devices_are_the_hosts() {
    let mut user = User::new("rldev");
    user.set("/linux/devices", json!([{"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600}]));
    if !is_reference() {
        // runc binds these too, from a path that is there by chance.
        user.push("/linux/devices", json!({"path": "/dev/pipe", "type": "p", "fileMode": 0o640}));
    }
    user.script("stat -c '%F %a %u' /dev/full; [ ! -e /dev/pipe ] || stat -c '%F %a %u' /dev/pipe");
    let run = user.run();
    let lines = run.lines();
    // Permissions and owner are those of the host's file, whose owner is not known inside.
    assert_eq!(lines[0], "character special file 666 65534");
    assert!(is_reference() || lines[1] == "fifo 640 0", "{run:?}");
    user.push("/linux/devices", json!({"path": "/dev/no-such", "type": "c", "major": 1, "minor": 3}));
    refused(&user, "/dev/no-such");
}

#[test]
fn file_systems_of_namespaces_that_are_the_hosts() {
    let mut user = User::new("rlsysfs");
    user.without_namespace("network");
    refused(&user, "needs a new network namespace");
    let mut user = User::new("rlprocfs");
    user.without_namespace("pid");
    refused(&user, "needs a new pid namespace");
}

#[test]
fn what_needs_rights_over_the_machine() {
    let mut user = User::new("rlrights");
    user.set("/process/oomScoreAdj", json!(500));
    user.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 100}]));
    user.script("cat /proc/self/oom_score_adj; ulimit -Hn; ulimit -Sn");
    assert_eq!(user.run().lines(), ["500", "100", "64"]);
    user.set("/process/oomScoreAdj", json!(-1000));
    // runc 1.1 gives up where the score cannot be applied.
    if !is_reference() {
        let output = user.run();
        assert_eq!(output.code, 0, "{output:?}");
        assert!(output.stderr.contains("oom_score_adj -1000 was not applied"), "{output:?}");
    }
    user.set("/process/oomScoreAdj", json!(500));
    user.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 1_000_000_000}]));
    refused(&user, "RLIMIT_NOFILE");
}

#[test]
fn root_of_a_users_own_namespace() {
    let mut user = User::new("rlnested");
    // As in `unshare --map-root-user`: root, whose mounts are another's.
    user.set("/linux/uidMappings/0/hostID", json!(0)).set("/linux/gidMappings/0/hostID", json!(0));
    user.script("id -u; cat /proc/self/uid_map; touch /data/nested").write();
    let mut command = user.runtime_within(&["unshare", "--map-root-user"]);
    let run = output(command.args(["run", &user.id_of_container()]));
    // Its state is where that of the user is.
    assert!(user.session.join(if is_reference() { "runc" } else { "gantry-runtime" }).is_dir());
    assert_eq!(run.lines()[0], "0");
    assert_eq!(run.lines()[1].split_whitespace().collect::<Vec<_>>(), ["0", "0", "1"]);
    assert_eq!(fs::metadata(user.rootfs().join("data/nested")).unwrap().uid(), user.id);
}

#[test]
fn a_machine_without_user_namespaces_for_users() {
    let mut user = User::new("rlmax");
    user.set("/linux/uidMappings/0/hostID", json!(0)).set("/linux/gidMappings/0/hostID", json!(0));
    user.write();
    let none = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let mut command = user.runtime_within(&["unshare", "--map-root-user", "sh", "-c", none, "sh"]);
    let run = output(command.arg("--root").arg(user.state_root()).args(["run", &user.id_of_container()]));
    assert_ne!(run.code, 0);
    assert!(is_reference() || run.stderr.contains("linux.namespaces: this machine does not let"), "{run:?}");
    assert!(!user.has_state());
}

#[test]
fn a_container_in_the_users_own_namespace() {
    let mut user = User::new("rlinside");
    // As engines without root do it: in their own user and mount namespaces, with containers that have no user namespace.
    user.without_namespace("user").set("/linux/uidMappings", json!([])).set("/linux/gidMappings", json!([]));
    user.script("id -u; touch /data/inside; echo x > /dev/null && echo null; ls /sys/class/net").write();
    let mut command = user.runtime_within(&["unshare", "--map-root-user", "--mount"]);
    command.arg("--root").arg(user.state_root()).args(["run", &user.id_of_container()]);
    assert_eq!(output(&mut command).lines(), ["0", "null", "lo"]);
    assert_eq!(fs::metadata(user.rootfs().join("data/inside")).unwrap().uid(), user.id);
}

#[test]
fn the_users_own_program_is_out_of_reach() {
    if is_reference() {
        return;
    }
    let mut user = User::new("rlsealed");
    let program = user.own_directory("programs").join("runc");
    crate::support::copy_program(runtime().get_program().as_ref(), &program);
    user.own(&program);
    let size = fs::metadata(&program).unwrap().len();
    // The program of this process is the runtime's, until it is executed: whoever opens it may keep it.
    fs::create_dir(user.rootfs().join("evil")).unwrap();
    std::os::unix::fs::symlink("/proc/self/exe", user.rootfs().join("evil/program")).unwrap();
    user.own(&user.rootfs().join("evil"));
    user.script("exec sleep 1000").write();
    let state = user.state_root();
    let call = |arguments: &[&str]| output(user.command(&program).arg("--root").arg(&state).args(arguments));
    let log = fs::File::create(user.directory.join("output")).unwrap();
    let id = user.id_of_container();
    let mut create = user.command(&program);
    create.arg("--root").arg(&state).args(["create", &id]).stdout(log.try_clone().unwrap()).stderr(log);
    assert!(create.status().unwrap().success(), "{}", user.output());
    // It waits to be started, and is the runtime's program still.
    let file = format!("/proc/{}/exe", user.pid());
    let held = fs::File::open(&file).unwrap();
    assert_eq!(held.metadata().unwrap().ino(), fs::metadata(&program).unwrap().ino());
    let read_only = rustix::fs::fstatvfs(&held).unwrap().f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    assert!(read_only, "it was executed from a mount that cannot be written to");
    let output = call(&["exec", &id, "/bin/sh", "-c", "kill -0 1 && echo runs"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(call(&["delete", "--force", &id]).code, 0);
    assert_eq!(fs::metadata(&program).unwrap().len(), size);
}

#[test]
fn killed_at_any_moment_of_create() {
    if is_reference() {
        return;
    }
    let mut user = User::new("rlkill9");
    map_all(&mut user);
    user.set("/process/user", json!({"uid": 1000, "gid": 1000})).args(&["/bin/sleep", "1000"]);
    user.write();
    let id = user.id_of_container();
    for round in 0..40_u64 {
        let mut command = user.runtime();
        command.args(["create", &id]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(round * 1000));
        child.kill().unwrap();
        child.wait().unwrap();
        let output = user.call(&["delete", "--force", &id]);
        assert_eq!(output.code, 0, "{output:?}");
        assert!(!user.has_state());
        eventually("no process is left", || user.processes().is_empty());
    }
    user.detach();
    assert_eq!(user.status(), "running", "the id can be used again");
}

#[test]
fn a_process_that_nobody_knows_ends_with_the_state() {
    if is_reference() {
        return;
    }
    let mut user = User::new("rlunknown");
    user.args(&["/bin/sleep", "1000"]).write();
    let id = user.id_of_container();
    let log = fs::File::create(user.directory.join("output")).unwrap();
    let mut create = user.runtime();
    create.args(["create", &id]).stdout(log.try_clone().unwrap()).stderr(log);
    assert!(create.status().unwrap().success(), "{}", user.output());
    assert_eq!(user.processes().len(), 1);
    // As if its maker had been killed between the last word of the process and the record.
    let path = user.state_root().join(format!("{id}@state.json"));
    crate::faults::change_record(&path, &json!({"pid": 0}));
    assert_eq!(user.call(&["delete", "--force", &id]).code, 0);
    eventually("no process is left", || user.processes().is_empty());
}

#[test]
fn namespaces_of_another_container() {
    let mut first = User::new("rlpod-a");
    first.args(&["/bin/sleep", "1000"]);
    first.detach();
    let pid = first.pid();
    let names = [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    // Of the same account, as the other containers of a pod are.
    first.set("/hostname", json!(""));
    // runc 1.1 wants to be told the maps of a namespace that it joins.
    if !is_reference() {
        first.set("/linux/uidMappings", json!([])).set("/linux/gidMappings", json!([]));
    }
    for (kind, name) in names {
        first.join(kind, &format!("/proc/{pid}/ns/{name}"));
    }
    first.script("for n in user net ipc uts; do readlink /proc/self/ns/$n; done; hostname; id -u; echo $$").write();
    let second = format!("{}-second", first.id_of_container());
    let run = output(first.runtime().args(["run", &second]));
    let lines = run.lines();
    for ((_, name), inside) in names.iter().zip(&lines) {
        assert_eq!(fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().to_str().unwrap(), *inside, "{name}");
    }
    assert_eq!(lines[4..], ["inside", "0", "1"]);
    // Without that of users the others are not the account's.
    first.without_namespace("user").push("/linux/namespaces", json!({"type": "user"}));
    let own = json!([{"containerID": 0, "hostID": first.id, "size": 1}]);
    first.set("/linux/uidMappings", own.clone()).set("/linux/gidMappings", own);
    first.write();
    let run = output(first.runtime().args(["run", &second]));
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("peration not permitted"), "{run:?}");
}

#[test]
fn a_terminal() {
    let mut user = User::new("rltty");
    let socket = user.session.join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    user.own(&socket);
    user.set("/process/terminal", json!(true));
    user.script("tty; echo to > /dev/tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; read x; echo got $x").write();
    let id = user.id_of_container();
    let create = user.call(&["create", "--console-socket", socket.to_str().unwrap(), &id]);
    assert_eq!(create.code, 0, "{create:?}");
    let master = receive(&listener);
    assert_eq!(user.call(&["start", &id]).code, 0);
    fs::File::from(master.try_clone().unwrap()).write_all(b"line\n").unwrap();
    let text = read_all(master);
    let lines: Vec<&str> = text.lines().filter(|line| *line != "line").collect();
    assert_eq!(lines, ["/dev/pts/0", "to", "all", "got line"]);
}

#[test]
fn clocks_parameters_and_hooks() {
    let mut user = User::new("rlhooks");
    let hook = |name: &str| {
        let text = format!("id -u > {}/{name}; cat >> {0}/{name}", user.session.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", text]}])
    };
    let hooks =
        json!({"createRuntime": hook("runtime"), "createContainer": hook("container"), "poststop": hook("stop")});
    user.set("/hooks", hooks);
    user.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "net.ipv4.ip_default_ttl": "33"}));
    if !is_reference() {
        // runc 1.1 knows no namespace of clocks.
        user.push("/linux/namespaces", json!({"type": "time"}));
        user.set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}}));
    }
    user.script("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_default_ttl; cut -d. -f1 /proc/uptime");
    let run = user.run();
    let lines = run.lines();
    assert_eq!(lines[..2], ["1", "33"]);
    assert!(is_reference() || lines[2].parse::<u64>().unwrap() > 1_000_000, "{run:?}");
    let told = |name: &str| fs::read_to_string(user.session.join(name)).unwrap();
    let (id, own) = (user.id_of_container(), format!("{}\n", user.id));
    for (name, first) in [("runtime", own.as_str()), ("container", "0\n"), ("stop", own.as_str())] {
        assert!(told(name).starts_with(first) && told(name).contains(&id), "{name}: {}", told(name));
    }
}
