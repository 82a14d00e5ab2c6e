//! Fields of the configuration that no other case is about, each seen from inside.

use crate::support::{Bundle, eventually, is_reference};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A veth cable with both ends here; one end gone is the other gone too.
struct Cable {
    name: String,
    peer: String,
}

impl Cable {
    fn new(letter: char) -> Self {
        let name = format!("gt{letter}{}", std::process::id());
        let peer = format!("{name}p");
        ip(&format!("link add {name} type veth peer name {peer}"));
        Self { name, peer }
    }

    /// By `/proc`: `/sys` may be that of another network namespace than the tests'.
    fn is_here(&self) -> bool {
        let devices = fs::read_to_string("/proc/self/net/dev").unwrap();
        devices.lines().any(|line| line.trim_start().starts_with(&format!("{}:", self.name)))
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.peer]).output();
    }
}

#[test]
fn network_devices_move_with_their_addresses() {
    // runc 1.1 does not know the field.
    if is_reference() {
        return;
    }
    let cable = Cable::new('a');
    ip(&format!("address add 10.217.93.1/24 dev {}", cable.name));
    ip(&format!("-6 address add fd5a:93::1/64 dev {} nodad", cable.name));
    let mut bundle = Bundle::new("netdev");
    bundle.set("/linux/netDevices", json!({cable.name.clone(): {"name": "wan%d"}}));
    bundle.script("ls /sys/class/net; ip -o addr show dev wan0; ip link show wan0; exec sleep 1000");
    bundle.create();
    assert!(!cable.is_here(), "it is in the container before it is started");
    bundle.start();
    eventually("all is shown", || bundle.output().contains("link/ether"));
    let output = bundle.output();
    assert!(output.lines().any(|line| line == "wan0") && output.contains("inet 10.217.93.1/24"), "{output}");
    assert!(output.contains("inet6 fd5a:93::1/64") && output.contains(",UP"), "{output}");
}

#[test]
fn a_network_device_stays_when_it_cannot_move() {
    if is_reference() {
        return;
    }
    let (first, second) = (Cable::new('b'), Cable::new('c'));
    let mut holder = Bundle::new("netdev-a");
    holder.set("/linux/netDevices", json!({first.name.clone(): {"name": "eth0"}})).args(&["/bin/sleep", "1000"]);
    holder.create();
    let mut bundle = Bundle::new("netdev-b");
    bundle.join("network", &format!("/proc/{}/ns/net", holder.pid()));
    bundle.set("/linux/netDevices", json!({second.name.clone(): {"name": "eth0"}}));
    let output = bundle.run();
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("linux.netDevices") && output.stderr.contains("already"), "{output:?}");
    assert!(second.is_here() && !bundle.has_state());
    // Under a free name it goes into the namespace that is joined, also beside a new user namespace.
    bundle.set("/linux/netDevices", json!({second.name.clone(): {"name": "eth1"}}));
    bundle.script("ls /sys/class/net /proc/self/net/dev_snmp6 2>/dev/null");
    assert!(bundle.run().lines().contains(&"eth1"));
    // Into a namespace that is the host's own there is no way.
    bundle.without_namespace("network");
    let output = bundle.run();
    assert!(output.stderr.contains("linux.netDevices"), "{output:?}");
}

#[test]
fn memory_comes_from_the_nodes_that_are_named() {
    if is_reference() || fs::metadata("/proc/self/numa_maps").is_err() {
        return;
    }
    let mut bundle = Bundle::new("numa");
    bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}));
    bundle.script("grep -c 'bind=static:0' /proc/self/numa_maps; exec sleep 1000");
    bundle.create();
    bundle.start();
    eventually("it speaks", || !bundle.output().is_empty());
    assert_ne!(bundle.output().trim(), "0");
    let added = bundle.exec(&["/bin/sh", "-c", "grep -c 'bind=static:0' /proc/self/numa_maps"]);
    assert_ne!(added.lines(), ["0"], "an added process has the same policy");
    let mut bundle = Bundle::new("nonuma");
    bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "900"}));
    let output = bundle.run();
    assert!(output.code == 1 && output.stderr.contains("linux.memoryPolicy: MPOL_BIND"), "{output:?}");
}

#[test]
fn id_mapped_mounts() {
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("idmap");
    let source = bundle.directory.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    std::os::unix::fs::chown(source.join("file"), Some(1000), Some(1000)).unwrap();
    let mount = |options: Value| json!({"destination": "/data", "type": "bind", "source": source, "options": options});
    // Maps of its own: what belongs to 1000 on the disk belongs to 5 inside.
    let mut mapped = mount(json!(["bind", "idmap"]));
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 1000, "hostID": 5, "size": 1}]);
    mapped["uidMappings"] = map.clone();
    mapped["gidMappings"] = map;
    bundle.push("/mounts", mapped.clone());
    bundle.script("stat -c %u:%g /data/file; touch /data/new; chown 5:5 /data/new");
    assert_eq!(bundle.run().lines(), ["5:5"]);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(source.join("new")).unwrap()), 1000);
    // The container's own: 1000 on the disk is 1000 inside, though the container's 1000 is another user of the host.
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    fs::set_permissions(&bundle.directory, PermissionsExt::from_mode(0o755)).unwrap();
    for options in [json!(["bind", "idmap"]), json!(["rbind", "ridmap"])] {
        bundle.spec["mounts"].as_array_mut().unwrap().pop();
        bundle.push("/mounts", mount(options)).script("stat -c %u:%g /data/file");
        assert_eq!(bundle.run().lines(), ["1000:1000"]);
    }
}

#[test]
fn a_mount_is_changed_by_a_later_entry() {
    // runc 1.1 treats a remount as another mount of the source.
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("remount");
    let source = bundle.directory.join("source");
    fs::create_dir(&source).unwrap();
    bundle.push("/mounts", json!({"destination": "/data", "type": "bind", "source": source, "options": ["bind"]}));
    bundle.push(
        "/mounts",
        json!({"destination": "/data", "type": "none", "options": ["remount", "bind", "ro", "noexec"]}),
    );
    bundle.push("/mounts", json!({"destination": "/dev/shm", "options": ["remount", "size=128k", "nosuid"]}));
    bundle.script("grep -E ' (/data|/dev/shm) ' /proc/self/mounts; touch /data/x 2>/dev/null || echo refused");
    let output = bundle.run();
    let lines = output.lines();
    let has = |words: &[&str]| lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&[" /dev/shm ", "size=128k"]) && has(&[" /data ", " ro,", "noexec"]), "{lines:?}");
    assert_eq!(lines[2], "refused");
    bundle.push("/mounts", json!({"destination": "/etc", "options": ["remount", "ro"]}));
    let output = bundle.run();
    assert!(output.code == 1 && output.stderr.contains("nothing is mounted there"), "{output:?}");
}

#[test]
fn options_of_file_systems() {
    let mut bundle = Bundle::new("fsopts");
    let options = ["silent", "loud", "iversion", "mand", "nomand", "lazytime", "sync", "dirsync", "async", "size=64k"];
    bundle.push("/mounts", json!({"destination": "/data", "type": "tmpfs", "source": "x", "options": options}));
    let output = bundle.script("grep ' /data ' /proc/self/mounts").run();
    let line = output.lines()[0].to_owned();
    assert!(line.contains("dirsync") && line.contains("lazytime") && line.contains("size=64k"), "{line}");
    assert!(!line.contains(",sync") && !line.contains(" sync") && !line.contains(",mand"), "{line}");
}

#[test]
fn a_file_in_the_place_of_a_device_is_an_error() {
    // runc takes whatever is there.
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("baddev");
    bundle.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    let device = json!({"path": "/dev/thing", "type": "c", "major": 1, "minor": 3});
    bundle.push("/linux/devices", device.clone());
    fs::write(bundle.rootfs().join("dev/thing"), "").unwrap();
    let output = bundle.run();
    assert!(output.code == 1 && output.stderr.contains("/dev/thing"), "{output:?}");
    fs::remove_file(bundle.rootfs().join("dev/thing")).unwrap();
    assert_eq!(bundle.run().code, 0);
    assert_eq!(bundle.run().code, 0, "the device of the first run is the same one");
}

#[test]
fn devices_of_all_kinds() {
    let mut bundle = Bundle::new("devkinds");
    bundle.push("/linux/devices", json!({"path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 7, "gid": 8}));
    bundle.push(
        "/linux/devices",
        json!({"path": "/dev/loop", "type": "b", "major": 7, "minor": 9, "fileMode": 0o060_600}),
    );
    bundle.push("/linux/devices", json!({"path": "/dev/deep/er", "type": "u", "major": 1, "minor": 5}));
    bundle.script("stat -c '%F %a %u:%g %t:%T' /dev/pipe /dev/loop /dev/deep/er");
    let output = bundle.run();
    let lines = output.lines();
    assert!(lines[0].starts_with("fifo 640 7:8"), "{lines:?}");
    assert!(lines[1].starts_with("block special file 600 0:0 7:9"), "{lines:?}");
    assert!(lines[2].starts_with("character special file 666 0:0 1:5"), "{lines:?}");
}

#[test]
fn processors_of_an_added_process() {
    if is_reference() || std::thread::available_parallelism().unwrap().get() < 2 {
        return;
    }
    let mut bundle = Bundle::new("affinity");
    bundle.set("/process/execCPUAffinity", json!({"initial": "0", "final": "1"}));
    bundle.script("grep Cpus_allowed_list /proc/self/status; exec sleep 1000");
    bundle.create();
    bundle.start();
    eventually("it speaks", || !bundle.output().is_empty());
    assert_ne!(bundle.output().split_whitespace().last(), Some("1"), "not applied to the first process");
    let list = |bundle: &Bundle| bundle.exec(&["grep", "Cpus_allowed_list", "/proc/self/status"]).lines()[0].to_owned();
    assert!(list(&bundle).ends_with("\t1"));
    let process = |affinity: Value| json!({"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "env": ["PATH=/bin"], "cwd": "/", "execCPUAffinity": affinity});
    let file = bundle.directory.join("process.json");
    for (affinity, end) in [(json!({"initial": "0"}), "\t0"), (json!({"final": "0"}), "\t0")] {
        fs::write(&file, process(affinity).to_string()).unwrap();
        let output = bundle.call(&["exec", "--process", file.to_str().unwrap(), &bundle.id]);
        assert!(output.lines()[0].ends_with(end), "{output:?}");
    }
    fs::write(&file, process(json!({"final": "4000"})).to_string()).unwrap();
    let output = bundle.call(&["exec", "--process", file.to_str().unwrap(), &bundle.id]);
    assert!(output.code == 255 && output.stderr.contains("process.execCPUAffinity"), "{output:?}");
}

#[test]
fn a_deadline_scheduler() {
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("deadline");
    let scheduler = json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 30_000_000, "period": 30_000_000, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    bundle.set("/process/scheduler", scheduler).args(&["/bin/cat", "/proc/self/stat"]);
    let output = bundle.run();
    // Field 41 is the policy; 6 is SCHED_DEADLINE.
    assert_eq!(output.lines()[0].split(' ').nth(40), Some("6"), "{output:?}");
}

#[test]
fn an_execution_domain() {
    // runc 1.1 does not know the field.
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("persona");
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    assert_eq!(bundle.script("cat /proc/self/personality").run().lines(), ["00000008"]);
}

#[test]
fn conditions_on_the_same_argument_are_alternatives() {
    let mut bundle = Bundle::new("or");
    let is = |signal: u32| json!({"index": 1, "value": signal, "op": "SCMP_CMP_EQ"});
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "args": [is(10), is(12)]}]
        }),
    );
    bundle.script("trap '' USR1 USR2 HUP; for s in 10 12 1; do kill -$s $$ 2>/dev/null; echo $?; done");
    assert_eq!(bundle.run().lines(), ["1", "1", "0"]);
}

#[test]
fn the_hooks_after_the_end_run_whatever_happened() {
    let mut bundle = Bundle::new("poststop");
    let log = bundle.directory.join("log");
    let hook = |script: String| json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]});
    let note = |word: &str| hook(format!("cat > /dev/null; echo {word} >> {}", log.display()));
    // A creation that fails ends the life that it began.
    bundle.set("/hooks", json!({"createRuntime": [hook("exit 3".into())], "poststop": [note("ended")]}));
    let output = bundle.run();
    assert_ne!(output.code, 0, "{output:?}");
    assert_eq!(fs::read_to_string(&log).unwrap_or_default(), "ended\n");
    // runc 1.1 stops at the first of these that fails.
    if is_reference() {
        return;
    }
    bundle.set("/hooks", json!({"poststop": [hook("echo why; exit 4".into()), note("second")]}));
    let output = bundle.run();
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("level=warning") && output.stderr.contains("poststop hook #0"), "{output:?}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "ended\nsecond\n");
}

#[test]
fn hooks_know_where_in_its_life_the_container_is() {
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("hookstate");
    let log = bundle.directory.join("log");
    let note = |file: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo $0 $KEY $(cat) >> {file}"), "zeroth"], "env": ["KEY=value", "PATH=/usr/bin:/bin"]}]);
    let outside = log.to_str().unwrap();
    bundle.set(
        "/hooks",
        json!({
            "prestart": note(outside), "createRuntime": note(outside), "createContainer": note(outside),
            "startContainer": note("/data/log"), "poststart": note(outside), "poststop": note(outside),
        }),
    );
    bundle.set("/annotations", json!({"org.example.key": "words"})).args(&["/bin/sleep", "1000"]);
    bundle.create();
    let pid = bundle.pid();
    bundle.start();
    let inside = bundle.rootfs().join("data/log");
    eventually("startContainer ran", || fs::read_to_string(&inside).is_ok_and(|text| text.ends_with('\n')));
    assert_eq!(bundle.call(&["delete", "--force", &bundle.id]).code, 0);
    let text = fs::read_to_string(&log).unwrap() + &fs::read_to_string(&inside).unwrap();
    let states: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line.strip_prefix("zeroth value ").expect(line)).unwrap())
        .collect();
    let of = |key: &str| states.iter().map(|state| state[key].clone()).collect::<Vec<_>>();
    let status = ["creating", "creating", "creating", "running", "stopped", "created"];
    assert_eq!(of("status"), status.map(|word| json!(word)));
    // Inside, the first process has the number 1.
    assert_eq!(of("pid"), [json!(pid), json!(pid), json!(1), json!(pid), json!(0), json!(1)]);
    for state in &states {
        assert_eq!(state["id"], bundle.id.as_str());
        assert_eq!(state["bundle"], bundle.directory.to_str().unwrap());
        assert_eq!(state["annotations"]["org.example.key"], "words");
        assert!(state["ociVersion"].is_string());
    }
}

/// A process that holds a namespace.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn all_the_other_kinds_are_joined_by_path() {
    // runc 1.1 does not know time namespaces.
    if is_reference() {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let mut first = Bundle::new("joinall-a");
    for kind in ["user", "cgroup", "time"] {
        first.push("/linux/namespaces", json!({"type": kind}));
    }
    first.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    first.set("/linux/timeOffsets", json!({"monotonic": {"secs": 86_400}, "boottime": {"secs": 86_400}}));
    fs::set_permissions(&first.directory, PermissionsExt::from_mode(0o755)).unwrap();
    first.args(&["/bin/sleep", "1000"]);
    first.create();
    first.start();
    let pid = first.pid();
    let mut second = Bundle::new("joinall-b");
    fs::set_permissions(&second.directory, PermissionsExt::from_mode(0o755)).unwrap();
    let kinds = [
        ("user", "user"),
        ("cgroup", "cgroup"),
        ("time", "time"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
    ];
    for (kind, name) in kinds {
        second.join(kind, &format!("/proc/{pid}/ns/{name}"));
    }
    second.set("/hostname", json!(""));
    second.script("for n in user cgroup time net ipc uts pid; do readlink /proc/self/ns/$n; done; cat /proc/uptime");
    let output = second.run();
    let lines = output.lines();
    for ((_, name), inside) in kinds.iter().zip(&lines) {
        let joined = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(joined.to_str().unwrap(), *inside, "{name}");
    }
    let uptime: f64 = lines[7].split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 86_400.0, "{uptime}");
    // A file that is a namespace of another kind.
    second.join("ipc", &format!("/proc/{pid}/ns/uts"));
    let output = second.run();
    assert!(output.code == 1 && output.stderr.contains("linux.namespaces["), "{output:?}");
}

#[test]
fn a_mount_namespace_is_joined_by_path() {
    let mut holder = Command::new("unshare");
    holder.args(["--mount", "--propagation", "private", "sleep", "1000"]);
    let holder = Holder(holder.spawn().expect("util-linux is installed"));
    let path = format!("/proc/{}/ns/mnt", holder.0.id());
    eventually("it has one of its own", || {
        fs::read_link(&path).is_ok_and(|theirs| theirs != fs::read_link("/proc/self/ns/mnt").unwrap())
    });
    let expected = fs::read_link(&path).unwrap();
    let mut bundle = Bundle::new("joinmnt");
    bundle.join("mount", &path).script("readlink /proc/self/ns/mnt; ls -d /data");
    let output = bundle.run();
    assert_eq!(output.lines(), [expected.to_str().unwrap(), "/data"]);
}

#[test]
fn without_a_mount_namespace_there_is_no_container() {
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("nomnt");
    bundle.without_namespace("mount");
    let output = bundle.run();
    assert!(output.code == 1 && output.stderr.contains("linux.namespaces: a container without"), "{output:?}");
}
