//! Configurations that are wrong: one sentence that begins with the field, exit code 1, and nothing left behind.
//!
//! runc names few fields and takes some of these, so the reference is not held to them.

use crate::support::{Bundle, Output, eventually, is_reference};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// What is changed, to what (`null` takes it out), and how the sentence begins.
type Case = (&'static str, Value, &'static str);

#[track_caller]
fn refused(bundle: &Bundle, output: &Output, field: &str) {
    assert_eq!(output.code, 1, "{field}: {output:?}");
    let said = output.stderr.replace("\\\"", "\"");
    assert_eq!(said.trim().lines().count(), 1, "one sentence: {output:?}");
    assert!(said.contains(&format!("invalid config: {field}: ")), "{field:?} in {said}");
    nothing_is_left(bundle, field);
}

#[track_caller]
fn nothing_is_left(bundle: &Bundle, what: &str) {
    assert!(!bundle.has_state(), "{what}: state is left");
    for controller in ["memory", "pids", "devices", "unified"] {
        assert!(!bundle.cgroup(controller).exists(), "{what}: a cgroup is left");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&bundle.id), "{what}: a mount is left");
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        assert!(!command.contains(&bundle.id), "{what}: a process is left: {command}");
    }
}

fn check(cases: &[Case]) {
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("badfield");
    let good = bundle.spec.clone();
    for (pointer, value, field) in cases {
        bundle.spec = good.clone();
        bundle.set(pointer, value.clone());
        if value.is_null() {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            bundle.spec.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        }
        refused(&bundle, &bundle.run(), field);
    }
    // The bundle itself is good: the refusals were about the fields.
    bundle.spec = good;
    assert_eq!(bundle.run().code, 0);
}

#[test]
fn against_the_schema() {
    check(&[
        ("/ociVersion", json!(null), "ociVersion"),
        ("/ociVersion", json!(1), "ociVersion"),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("1"), "ociVersion"),
        ("/process", json!(null), "process"),
        ("/process", json!([]), "process"),
        ("/process/args", json!("true"), "process.args"),
        ("/process/args", json!(["a", 1]), "process.args[1]"),
        ("/process/terminal", json!("yes"), "process.terminal"),
        ("/process/user", json!("root"), "process.user"),
        ("/process/user/uid", json!(-1), "process.user.uid"),
        ("/process/user/gid", json!("0"), "process.user.gid"),
        ("/process/user/umask", json!(1.5), "process.user.umask"),
        ("/process/user/additionalGids", json!([1, "2"]), "process.user.additionalGids[1]"),
        ("/process/consoleSize", json!({"height": -1, "width": 1}), "process.consoleSize.height"),
        ("/process/capabilities/bounding", json!({}), "process.capabilities.bounding"),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": "1", "hard": 1}]), "process.rlimits[0].soft"),
        ("/process/oomScoreAdj", json!("0"), "process.oomScoreAdj"),
        ("/root", json!("rootfs"), "root"),
        ("/root", json!(null), "root.path"),
        ("/root/path", json!(7), "root.path"),
        ("/root/readonly", json!("true"), "root.readonly"),
        ("/hostname", json!(["x"]), "hostname"),
        ("/mounts", json!({}), "mounts"),
        ("/mounts", json!([{"destination": "/a", "type": "tmpfs", "options": "ro"}]), "mounts[0].options"),
        ("/hooks", json!({"prestart": {}}), "hooks.prestart"),
        ("/hooks", json!({"poststop": [{"path": "/x", "timeout": "1"}]}), "hooks.poststop[0].timeout"),
        ("/annotations", json!({"key": 1}), "annotations.key"),
        ("/linux", json!(null), "linux"),
        ("/linux/namespaces", json!([{"type": 1}]), "linux.namespaces[0].type"),
        ("/linux/namespaces", json!([{}]), "linux.namespaces[0].type"),
        ("/linux/uidMappings", json!([{"containerID": "0"}]), "linux.uidMappings[0].containerID"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": "1"}]), "linux.devices[0].major"),
        ("/linux/devices", json!([{"type": "c", "major": 1, "minor": 1}]), "linux.devices[0].path"),
        ("/linux/devices", json!([{"path": "/dev/x", "major": 1, "minor": 1}]), "linux.devices[0].type"),
        ("/linux/sysctl", json!({"net.ipv4.ip_forward": 1}), "linux.sysctl.net.ipv4.ip_forward"),
        ("/linux/resources/memory", json!({"limit": "1g"}), "linux.resources.memory.limit"),
        ("/linux/resources/cpu", json!({"shares": -1}), "linux.resources.cpu.shares"),
        ("/linux/resources/cpu", json!({"cpus": 1}), "linux.resources.cpu.cpus"),
        ("/linux/resources/pids", json!({"limit": "max"}), "linux.resources.pids.limit"),
        ("/linux/resources/blockIO", json!({"weight": 70_000}), "linux.resources.blockIO.weight"),
        (
            "/linux/resources/blockIO",
            json!({"throttleReadIOPSDevice": [{"major": 1, "minor": 1, "rate": -1}]}),
            "linux.resources.blockIO.throttleReadIOPSDevice[0].rate",
        ),
        ("/linux/resources/devices", json!([{"allow": "no"}]), "linux.resources.devices[0].allow"),
        ("/linux/seccomp", json!({}), "linux.seccomp.defaultAction"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}), "linux.seccomp.syscalls"),
        ("/linux/maskedPaths", json!("/proc/kcore"), "linux.maskedPaths"),
        ("/linux/timeOffsets", json!({"boottime": {"secs": "1"}}), "linux.timeOffsets.boottime.secs"),
        ("/linux/intelRdt", json!({"closID": 1}), "linux.intelRdt.closID"),
        ("/linux/netDevices", json!({"eth0": {"name": 1}}), "linux.netDevices.eth0.name"),
        ("/linux/memoryPolicy", json!({"mode": 1}), "linux.memoryPolicy.mode"),
    ]);
}

#[test]
fn impossible_processes() {
    check(&[
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!(["/bin/true", "a\u{0}b"]), "process.args[1]"),
        ("/process/args", json!(["/bin/true", "x".repeat(140_000)]), "process.args[1]"),
        ("/process/env", json!(["PATH=/bin", "NOVALUE"]), "process.env[1]"),
        ("/process/env", json!(["=x"]), "process.env[0]"),
        ("/process/env", json!(vec![format!("A={}", "x".repeat(100_000)); 70]), "process.env"),
        ("/process/cwd", json!(""), "process.cwd"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/user", json!({"uid": 4_294_967_295_u32, "gid": 0}), "process.user.uid"),
        ("/process/user/umask", json!(512), "process.user.umask"),
        ("/process/user/additionalGids", json!([5, 4_294_967_295_u32]), "process.user.additionalGids[1]"),
        ("/process/rlimits", json!([{"type": "RLIMIT_NO", "soft": 1, "hard": 1}]), "process.rlimits[0].type"),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]), "process.rlimits[0].soft"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}]),
            "process.rlimits[1].type",
        ),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj"),
        ("/process/scheduler", json!({}), "process.scheduler.policy"),
        ("/process/scheduler", json!({"policy": "SCHED_NONE"}), "process.scheduler.policy"),
        ("/process/scheduler", json!({"policy": "SCHED_ISO"}), "process.scheduler.policy"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 20}), "process.scheduler.nice"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "priority": 1}), "process.scheduler.priority"),
        ("/process/scheduler", json!({"policy": "SCHED_FIFO"}), "process.scheduler.priority"),
        ("/process/scheduler", json!({"policy": "SCHED_BATCH", "period": 1}), "process.scheduler.period"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "flags": ["X"]}), "process.scheduler.flags[0]"),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "runtime": 9, "deadline": 5, "period": 5}),
            "process.scheduler.runtime",
        ),
        ("/process/ioPriority", json!({"priority": 1}), "process.ioPriority.class"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_XX"}), "process.ioPriority.class"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8}), "process.ioPriority.priority"),
        ("/process/execCPUAffinity", json!({"initial": "a"}), "process.execCPUAffinity.initial"),
        ("/process/execCPUAffinity", json!({"final": "3-1"}), "process.execCPUAffinity.final"),
    ]);
}

#[test]
fn contradictions() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    let mounts = |mount: Value| json!([mount]);
    check(&[
        ("/hostname", json!("h".repeat(65)), "hostname"),
        ("/domainname", json!("d".repeat(65)), "domainname"),
        ("/annotations", json!({"": "x"}), "annotations"),
        ("/hooks", json!({"createRuntime": [{"args": ["x"]}]}), "hooks.createRuntime[0].path"),
        ("/hooks", json!({"createRuntime": [{"path": "bin/x"}]}), "hooks.createRuntime[0].path"),
        ("/hooks", json!({"poststart": [{"path": "/bin/x", "timeout": 0}]}), "hooks.poststart[0].timeout"),
        ("/mounts", mounts(json!({"type": "tmpfs"})), "mounts[0].destination"),
        ("/mounts", mounts(json!({"destination": "/data"})), "mounts[0].type"),
        ("/mounts", mounts(json!({"destination": "/data", "type": "bind"})), "mounts[0].source"),
        (
            "/mounts",
            mounts(json!({"destination": "/data", "source": "/etc", "options": ["bind", "size=1"]})),
            "mounts[0].options",
        ),
        (
            "/mounts",
            mounts(json!({"destination": "/data", "type": "proc", "options": ["tmpcopyup"]})),
            "mounts[0].options",
        ),
        (
            "/mounts",
            mounts(json!({"destination": "/data", "type": "tmpfs", "options": ["idmap"]})),
            "mounts[0].options",
        ),
        (
            "/mounts",
            mounts(json!({"destination": "/data", "source": "/etc", "options": ["bind", "idmap"]})),
            "mounts[0].uidMappings",
        ),
        (
            "/mounts",
            mounts(json!({"destination": "/data", "source": "/etc", "options": ["bind"], "uidMappings": map})),
            "mounts[0].gidMappings",
        ),
        (
            "/mounts",
            mounts(json!({"destination": "/data", "source": "/etc", "options": ["bind", "sync"]})),
            "mounts[0].options",
        ),
    ]);
}

#[test]
fn contradictions_of_linux() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    let namespaces = |more: Value| {
        let mut all = json!([{"type": "mount"}, {"type": "pid"}, {"type": "uts"}]);
        all.as_array_mut().unwrap().push(more);
        all
    };
    check(&[
        ("/linux/namespaces", json!([{"type": "pid"}]), "linux.namespaces"),
        ("/linux/namespaces", namespaces(json!({"type": "disk"})), "linux.namespaces[3].type"),
        ("/linux/namespaces", namespaces(json!({"type": "pid"})), "linux.namespaces[3].type"),
        ("/linux/namespaces", namespaces(json!({"type": "ipc", "path": "ns"})), "linux.namespaces[3].path"),
        ("/linux/namespaces", namespaces(json!({"type": "ipc", "path": "/no/such"})), "linux.namespaces[3].path"),
        ("/linux/namespaces", namespaces(json!({"type": "user"})), "linux.uidMappings"),
        ("/linux/uidMappings", map.clone(), "linux.uidMappings"),
        ("/linux/timeOffsets", json!({"boottime": {"secs": 1}}), "linux.timeOffsets"),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
        ("/linux/maskedPaths", json!(["proc"]), "linux.maskedPaths[0]"),
        ("/linux/readonlyPaths", json!(["/a", "b"]), "linux.readonlyPaths[1]"),
        ("/linux/cgroupsPath", json!("/a/../../b"), "linux.cgroupsPath"),
        ("/linux/sysctl", json!({"vm.swappiness": "1"}), "linux.sysctl[\"vm.swappiness\"]"),
        ("/linux/sysctl", json!({"kernel.hostname": "x"}), "linux.sysctl[\"kernel.hostname\"]"),
        ("/linux/sysctl", json!({"user.max_user_namespaces": "1"}), "linux.sysctl[\"user.max_user_namespaces\"]"),
        ("/linux/sysctl", json!({"net/../vm/swappiness": "1"}), "linux.sysctl[\"net/../vm/swappiness\"]"),
        ("/linux/devices", json!([{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]), "linux.devices[0].path"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "d"}]), "linux.devices[0].type"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "b", "major": 1}]), "linux.devices[0].minor"),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "b", "major": 5000, "minor": 1}]),
            "linux.devices[0].major",
        ),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "p", "fileMode": 65_536}]), "linux.devices[0].fileMode"),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "p"}, {"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]),
            "linux.devices[1].path",
        ),
    ]);
}

#[test]
fn maps_of_ids() {
    if is_reference() {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    let overlapping = json!([map[0], {"containerID": 9, "hostID": 200_000, "size": 1}]);
    let mut bundle = Bundle::new("badmap");
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    bundle.set("/linux/uidMappings", overlapping).set("/linux/gidMappings", map.clone());
    refused(&bundle, &bundle.run(), "linux.uidMappings[1].containerID");
    bundle.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1}]));
    refused(&bundle, &bundle.run(), "linux.uidMappings[0].size");
    bundle.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 4_294_967_295_u32, "size": 2}]));
    refused(&bundle, &bundle.run(), "linux.uidMappings[0].hostID");
    bundle.set("/linux/uidMappings", map).without_namespace("uts").set("/hostname", json!("x"));
    refused(&bundle, &bundle.run(), "hostname");
}

#[test]
fn limits_and_filters() {
    let allow = |more: Value| {
        let mut filter = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        filter.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        filter
    };
    let rule = |rule: Value| allow(json!({"syscalls": [rule]}));
    check(&[
        ("/linux/resources/memory", json!({"limit": -2}), "linux.resources.memory.limit"),
        ("/linux/resources/memory", json!({"limit": 1 << 30, "swap": 1 << 29}), "linux.resources.memory.swap"),
        ("/linux/resources/memory", json!({"swappiness": 101}), "linux.resources.memory.swappiness"),
        ("/linux/resources/memory", json!({"kernel": 1 << 30}), "linux.resources.memory.kernel"),
        ("/linux/resources/memory", json!({"useHierarchy": false}), "linux.resources.memory.useHierarchy"),
        ("/linux/resources/cpu", json!({"cpus": "two"}), "linux.resources.cpu.cpus"),
        ("/linux/resources/cpu", json!({"mems": "1-0"}), "linux.resources.cpu.mems"),
        ("/linux/resources/cpu", json!({"idle": 2}), "linux.resources.cpu.idle"),
        ("/linux/resources/devices", json!([{"allow": true, "type": "d"}]), "linux.resources.devices[0].type"),
        ("/linux/resources/devices", json!([{"allow": true, "access": "x"}]), "linux.resources.devices[0].access"),
        ("/linux/resources/devices", json!([{"allow": true, "major": -2}]), "linux.resources.devices[0].major"),
        ("/linux/resources/blockIO", json!({"weight": 9}), "linux.resources.blockIO.weight"),
        (
            "/linux/resources/blockIO",
            json!({"weightDevice": [{"major": -1, "minor": 0, "weight": 10}]}),
            "linux.resources.blockIO.weightDevice[0].major",
        ),
        (
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "2M", "limit": 0}]),
            "linux.resources.hugepageLimits[0].pageSize",
        ),
        ("/linux/resources/unified", json!({"../x.y": "1"}), "linux.resources.unified[\"../x.y\"]"),
        ("/linux/resources/rdma", json!({"": {"hcaHandles": 1}}), "linux.resources.rdma[\"\"]"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NO"}), "linux.seccomp.defaultAction"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "linux.seccomp.defaultAction"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}),
            "linux.seccomp.defaultAction",
        ),
        ("/linux/seccomp", allow(json!({"architectures": ["SCMP_ARCH_Z80"]})), "linux.seccomp.architectures[0]"),
        ("/linux/seccomp", allow(json!({"flags": ["SECCOMP_FILTER_FLAG_X"]})), "linux.seccomp.flags[0]"),
        ("/linux/seccomp", allow(json!({"listenerPath": "sock"})), "linux.seccomp.listenerPath"),
        ("/linux/seccomp", rule(json!({"action": "SCMP_ACT_KILL"})), "linux.seccomp.syscalls[0].names"),
        ("/linux/seccomp", rule(json!({"names": ["read"]})), "linux.seccomp.syscalls[0].action"),
        ("/linux/seccomp", rule(json!({"names": ["x"], "action": "X"})), "linux.seccomp.syscalls[0].action"),
        ("/linux/seccomp", rule(json!({"names": ["kill"], "action": "SCMP_ACT_NOTIFY"})), "linux.seccomp.listenerPath"),
        (
            "/linux/seccomp",
            rule(
                json!({"names": ["kill"], "action": "SCMP_ACT_KILL", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}),
            ),
            "linux.seccomp.syscalls[0].args[0].index",
        ),
        (
            "/linux/seccomp",
            rule(json!({"names": ["kill"], "action": "SCMP_ACT_KILL", "args": [{"index": 1, "value": 1, "op": "EQ"}]})),
            "linux.seccomp.syscalls[0].args[0].op",
        ),
    ]);
}

#[test]
fn what_the_kernel_lacks() {
    let has = |path: &str| fs::metadata(path).is_ok();
    let mut cases: Vec<Case> = vec![
        ("/linux/netDevices", json!({"nosuch0": {}}), "linux.netDevices[\"nosuch0\"]"),
        ("/linux/netDevices", json!({"a/b": {}}), "linux.netDevices[\"a/b\"]"),
        ("/linux/netDevices", json!({"eth0": {"name": "lo"}}), "linux.netDevices[\"eth0\"].name"),
        ("/linux/netDevices", json!({"a": {"name": "x"}, "b": {"name": "x"}}), "linux.netDevices[\"b\"].name"),
        ("/linux/netDevices", json!({"a": {"name": "x%s"}}), "linux.netDevices[\"a\"].name"),
        ("/linux/intelRdt", json!({"closID": "a/b"}), "linux.intelRdt.closID"),
        ("/linux/intelRdt", json!({"memBwSchema": "L3:0=1"}), "linux.intelRdt.memBwSchema"),
        ("/linux/intelRdt", json!({"schemata": ["a\nb"]}), "linux.intelRdt.schemata[0]"),
        ("/linux/personality", json!({"domain": "SOLARIS"}), "linux.personality.domain"),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]}), "linux.personality.flags"),
        ("/linux/memoryPolicy", json!({}), "linux.memoryPolicy.mode"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}), "linux.memoryPolicy.nodes"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_LOCAL", "nodes": "0"}), "linux.memoryPolicy.nodes"),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["X"]}),
            "linux.memoryPolicy.flags[0]",
        ),
        ("/root/path", json!("/no/such/root"), "root.path"),
        ("/root/path", json!("config.json"), "root.path"),
    ];
    if !has("/sys/fs/resctrl/schemata") {
        cases.push(("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt"));
    }
    if !has("/sys/fs/selinux/enforce") {
        cases.push(("/linux/mountLabel", json!("system_u:object_r:x:s0"), "linux.mountLabel"));
        cases.push(("/process/selinuxLabel", json!("system_u:system_r:x:s0"), "process.selinuxLabel"));
    }
    if !has("/sys/module/apparmor/parameters/enabled") {
        cases.push(("/process/apparmorProfile", json!("profile"), "process.apparmorProfile"));
    }
    check(&cases);
}

#[test]
fn texts_that_are_no_configuration() {
    if is_reference() {
        return;
    }
    let bundle = Bundle::new("badtext");
    for (text, words) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "expected struct Spec"),
        ("{\"ociVersion\": \"1.0.0\",}", "trailing comma"),
        ("{\"hostname\": \"a\", \"hostname\": \"b\"}", "duplicate field"),
        ("\u{feff}{}", "expected value"),
    ] {
        fs::write(bundle.directory.join("config.json"), text).unwrap();
        let output = bundle.call(&["create", &bundle.id]);
        assert_eq!(output.code, 1, "{text}: {output:?}");
        assert!(output.stderr.contains(words), "{text}: {output:?}");
        nothing_is_left(&bundle, text);
    }
    // Deeper than a parser without a limit would have stack for.
    fs::write(bundle.directory.join("config.json"), "{\"x\":".repeat(200_000)).unwrap();
    let output = bundle.call(&["create", &bundle.id]);
    assert!(output.code == 1 && output.stderr.contains("recursion limit"), "{output:?}");
    nothing_is_left(&bundle, "depth");
}

#[test]
fn what_is_added_is_checked_too() {
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("badexec");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    let file = bundle.directory.join("process.json");
    for (process, field) in [
        (json!({"args": ["/bin/true"], "cwd": "/", "user": {"uid": "0"}}), "process.user.uid"),
        (json!({"args": ["/bin/true"], "cwd": "x"}), "process.cwd"),
        (json!({"args": [], "cwd": "/"}), "process.args"),
    ] {
        fs::write(&file, process.to_string()).unwrap();
        let output = bundle.call(&["exec", "--process", file.to_str().unwrap(), &bundle.id]);
        assert_eq!(output.code, 255, "{output:?}");
        assert!(output.stderr.contains(field), "{field} in {output:?}");
    }
    fs::write(&file, json!({"memory": {"limit": "x"}}).to_string()).unwrap();
    let output = bundle.call(&["update", "-r", file.to_str().unwrap(), &bundle.id]);
    assert!(output.code == 1 && output.stderr.contains("memory.limit: invalid type"), "{output:?}");
}

#[test]
fn large_ones_work() {
    let mut bundle = Bundle::new("large");
    // 10 MB of annotations, 10,000 variables, 1,000 mounts, and a hook that gets the annotations.
    let many: serde_json::Map<String, Value> =
        (0..1000).map(|n| (format!("key.{n}"), json!("v".repeat(10_000)))).collect();
    let environment: Vec<String> =
        [String::from("PATH=/bin")].into_iter().chain((0..10_000).map(|n| format!("VARIABLE_{n}={n}"))).collect();
    let source = bundle.directory.join("source");
    fs::create_dir(&source).unwrap();
    for number in 0..1000 {
        let mount = json!({"destination": format!("/data/{number}"), "type": "bind", "source": source, "options": ["rbind", "ro"]});
        bundle.push("/mounts", mount);
    }
    let seen = bundle.directory.join("seen");
    let hook = format!("wc -c > {}", seen.display());
    bundle.set("/annotations", Value::Object(many)).set("/process/env", json!(environment));
    bundle.set(
        "/hooks",
        json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hook], "env": ["PATH=/usr/bin:/bin"]}]}),
    );
    bundle.script("env | grep -c ^VARIABLE_; grep -c ' /data/' /proc/self/mounts; ulimit -n");
    // As many descriptors as most have: each mount is one for a moment.
    bundle.write();
    let command = bundle.runtime();
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -Sn 1024; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    let output = limited.args(["run", &bundle.id]).current_dir(&bundle.directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(lines.lines().collect::<Vec<_>>(), ["10000", "1000", "1024"]);
    let length: usize = fs::read_to_string(&seen).unwrap().trim().parse().unwrap();
    assert!(length > 10_000_000, "{length}");
}

#[test]
fn too_large_a_text_is_refused_before_it_is_read() {
    if is_reference() {
        return;
    }
    let bundle = Bundle::new("huge");
    let file = fs::File::create(bundle.directory.join("config.json")).unwrap();
    file.set_len(1 << 40).unwrap();
    let output = bundle.call(&["create", &bundle.id]);
    assert!(output.code == 1 && output.stderr.contains("longer than 32 MiB"), "{output:?}");
    nothing_is_left(&bundle, "length");
}

#[test]
fn the_ids_of_a_namespace_that_is_joined_are_those_it_has() {
    if is_reference() {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let mut first = Bundle::new("joinmap-a");
    first.push("/linux/namespaces", json!({"type": "user"}));
    first.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map.clone());
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&first.directory, open).unwrap();
    first.args(&["/bin/sleep", "1000"]);
    first.create();
    let path = format!("/proc/{}/ns/user", first.pid());
    let mut second = Bundle::new("joinmap-b");
    fs::set_permissions(&second.directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    second.join("user", &path);
    second.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    assert_eq!(second.script("cat /proc/self/uid_map | tr -s ' '").run().lines(), [" 0 100000 65536"]);
    second.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1, "size": 1}]));
    refused(&second, &second.run(), "linux.uidMappings");
    eventually("the first one is not touched", || first.status() == "created");
}
