//! Limits, by version 1 or 2, whichever the host has.

use crate::support::{Bundle, eventually, is_reference, is_v2};
use serde_json::{Value, json};
use std::fs;

fn read(bundle: &Bundle, controller: &str, v1: &str, v2: &str) -> String {
    let file = if is_v2() { v2 } else { v1 };
    let path = bundle.cgroup(controller).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn running(bundle: &mut Bundle) {
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
}

#[test]
fn limits_are_in_force() {
    let mut bundle = Bundle::new("limits");
    bundle.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    bundle.set("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000, "shares": 512}));
    bundle.set("/linux/resources/pids", json!({"limit": 33}));
    running(&mut bundle);
    assert_eq!(read(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(read(&bundle, "pids", "pids.max", "pids.max"), "33");
    if is_v2() {
        assert_eq!(read(&bundle, "cpu", "", "cpu.max"), "50000 100000");
    } else {
        assert_eq!(read(&bundle, "cpu", "cpu.cfs_quota_us", ""), "50000");
        assert_eq!(read(&bundle, "cpu", "cpu.shares", ""), "512");
    }
    let pid = bundle.pid().to_string();
    for controller in ["memory", "cpu", "pids", "devices", "freezer"] {
        assert_eq!(read(&bundle, controller, "cgroup.procs", "cgroup.procs"), pid, "{controller}");
    }
}

#[test]
fn update_changes_them() {
    let mut bundle = Bundle::new("update");
    bundle.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    running(&mut bundle);
    let output = bundle.call(&[
        "update",
        "--memory",
        "33554432",
        "--pids-limit",
        "7",
        "--cpu-quota",
        "20000",
        "--cpu-period",
        "100000",
        &bundle.id,
    ]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(read(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), "33554432");
    assert_eq!(read(&bundle, "pids", "pids.max", "pids.max"), "7");
    let path = bundle.directory.join("resources.json");
    fs::write(&path, json!({"pids": {"limit": 9}}).to_string()).unwrap();
    assert_eq!(bundle.call(&["update", "-r", path.to_str().unwrap(), &bundle.id]).code, 0);
    assert_eq!(read(&bundle, "pids", "pids.max", "pids.max"), "9");
    assert_eq!(read(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), "33554432", "the rest stays");
}

#[test]
fn devices_that_are_not_allowed_cannot_be_opened() {
    let mut bundle = Bundle::new("devs");
    bundle.push(
        "/linux/resources/devices",
        json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}),
    );
    bundle.script(
        // In the container's own tmpfs: the directory of the bundle may lie on a mount without devices.
        "mknod /dev/fuse c 10 229 && mknod /dev/mem c 1 1; \
         dd if=/dev/fuse count=0 2>/dev/null && echo read; (echo x > /dev/fuse) 2>/dev/null || echo no-write; \
         dd if=/dev/mem count=0 2>/dev/null || echo no-mem; echo x > /dev/null && echo null",
    );
    assert_eq!(bundle.run().lines(), ["read", "no-write", "no-mem", "null"]);
}

#[test]
fn too_many_processes() {
    let mut bundle = Bundle::new("pids");
    bundle.set("/linux/resources/pids", json!({"limit": 4}));
    let output = bundle.script("for i in 1 2 3 4 5 6; do sleep 1 & done; wait; echo end").run();
    assert!(output.code != 0 || output.stderr.to_lowercase().contains("fork"), "{output:?}");
}

#[test]
fn out_of_memory_is_an_event() {
    use std::io::{BufRead, BufReader};
    let mut bundle = Bundle::new("oomev");
    bundle.set("/linux/resources/memory", json!({"limit": 33_554_432, "swap": 33_554_432}));
    bundle.script("while [ ! -e /data/go ]; do sleep 0.05; done; x=$(dd if=/dev/zero bs=1M count=128 2>/dev/null | tr '\\0' 'a'); sleep 1000");
    bundle.create();
    bundle.start();
    let mut command = bundle.runtime();
    command.args(["events", "--interval", "100ms", &bundle.id]).stdout(std::process::Stdio::piped());
    let mut events = command.spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let first: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["type"], "stats");
    assert!(first["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    fs::write(bundle.rootfs().join("data/go"), "").unwrap();
    let oom = lines.map_while(Result::ok).any(|line| line.contains("\"oom\""));
    let _ = events.kill();
    let _ = events.wait();
    assert!(oom, "an event tells about it");
}

#[test]
fn delete_kills_what_is_left_in_the_hosts_pid_namespace() {
    let mut bundle = Bundle::new("hostpid");
    bundle.without_namespace("pid");
    bundle.script("sleep 3000 & echo $!; exec sleep 2000");
    bundle.create();
    bundle.start();
    eventually("both run", || bundle.output().lines().count() == 1);
    let other = bundle.output().trim().to_owned();
    assert_eq!(bundle.call(&["delete", "--force", &bundle.id]).code, 0);
    eventually("nothing of it lives", || {
        fs::read_to_string(format!("/proc/{other}/status")).is_ok_and(|text| text.contains("State:\tZ"))
            || !fs::exists(format!("/proc/{other}")).unwrap()
    });
    // runc 1.1 gives up the group when its processes take a moment to end.
    assert!(is_reference() || !bundle.cgroup("memory").exists());
}

/// Numbers of some block device of the host.
fn block_device() -> Option<String> {
    let mut disks: Vec<_> = fs::read_dir("/sys/block").ok()?.flatten().map(|entry| entry.path()).collect();
    disks.sort();
    disks.iter().find_map(|disk| fs::read_to_string(disk.join("dev")).ok()).map(|text| text.trim().to_owned())
}

#[test]
fn every_limit_of_memory_and_processor() {
    let mut bundle = Bundle::new("resources");
    bundle.set("/linux/resources/memory", json!({"limit": 67_108_864, "reservation": 33_554_432, "swap": 134_217_728}));
    bundle.set(
        "/linux/resources/cpu",
        json!({"shares": 512, "quota": 30_000, "period": 60_000, "cpus": "0", "mems": "0"}),
    );
    if !is_v2() {
        bundle.set("/linux/resources/memory/swappiness", json!(11));
        bundle.set("/linux/resources/memory/disableOOMKiller", json!(true));
    }
    running(&mut bundle);
    assert_eq!(read(&bundle, "memory", "memory.soft_limit_in_bytes", "memory.low"), "33554432");
    let swap = if is_v2() { "67108864" } else { "134217728" };
    assert_eq!(read(&bundle, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max"), swap);
    assert_eq!(read(&bundle, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(read(&bundle, "cpuset", "cpuset.mems", "cpuset.mems"), "0");
    if is_v2() {
        assert_eq!(read(&bundle, "", "", "cpu.max"), "30000 60000");
        // 1 + (512 - 2) * 9999 / 262142, as runc 1.1 converts.
        assert_eq!(read(&bundle, "", "", "cpu.weight"), "20");
    } else {
        assert_eq!(read(&bundle, "cpu", "cpu.cfs_period_us", ""), "60000");
        assert_eq!(read(&bundle, "memory", "memory.swappiness", ""), "11");
        assert!(read(&bundle, "memory", "memory.oom_control", "").contains("oom_kill_disable 1"));
    }
}

#[test]
fn bursts_and_idle_groups() {
    // Newer than runc 1.1.
    if is_reference() {
        return;
    }
    let mut bundle = Bundle::new("burst");
    bundle.set("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000, "burst": 20_000}));
    running(&mut bundle);
    assert_eq!(read(&bundle, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "20000");
    // More than the quota that was in force allows, and right for the new one.
    let output = bundle.call(&["update", "--cpu-quota", "90000", "--cpu-burst", "80000", &bundle.id]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(read(&bundle, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "80000");
    let output = bundle.call(&["update", "--cpu-quota", "30000", "--cpu-burst", "10000", &bundle.id]);
    assert_eq!(output.code, 0, "and back: {output:?}");
    assert_eq!(read(&bundle, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "10000");
    assert_eq!(bundle.call(&["update", "--cpu-idle", "1", &bundle.id]).code, 0);
    assert_eq!(read(&bundle, "cpu", "cpu.idle", "cpu.idle"), "1");
    assert_eq!(bundle.call(&["update", "--cpu-idle", "0", &bundle.id]).code, 0);
    assert_eq!(read(&bundle, "cpu", "cpu.idle", "cpu.idle"), "0");
}

#[test]
fn limits_of_block_devices() {
    let mut bundle = Bundle::new("blockio");
    let Some(device) = block_device() else { return };
    let (major, minor) = device.split_once(':').unwrap();
    let (major, minor): (u64, u64) = (major.parse().unwrap(), minor.parse().unwrap());
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    bundle.set(
        "/linux/resources/blockIO",
        json!({
            "throttleReadBpsDevice": rate(1_048_576),
            "throttleWriteBpsDevice": rate(2_097_152),
            "throttleReadIOPSDevice": rate(100),
            "throttleWriteIOPSDevice": rate(200),
        }),
    );
    running(&mut bundle);
    if is_v2() {
        assert_eq!(read(&bundle, "", "", "io.max"), format!("{device} rbps=1048576 wbps=2097152 riops=100 wiops=200"));
    } else {
        for (file, rate) in [("read_bps", 1_048_576), ("write_bps", 2_097_152), ("read_iops", 100), ("write_iops", 200)]
        {
            let file = format!("blkio.throttle.{file}_device");
            assert_eq!(read(&bundle, "blkio", &file, ""), format!("{device} {rate}"));
        }
    }
}

#[test]
fn weights_of_block_devices() {
    let mut bundle = Bundle::new("weight");
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    let output = bundle.call(&["update", "--blkio-weight", "100", &bundle.id]);
    let directory = bundle.cgroup("blkio");
    let files = ["blkio.bfq.weight", "blkio.weight", "io.bfq.weight", "io.weight"];
    match files.iter().find(|file| directory.join(file).exists()) {
        Some(file) => {
            assert_eq!(output.code, 0, "{output:?}");
            // io.weight has a range of its own: 1 + (100 - 10) * 9999 / 990.
            let weight = if *file == "io.weight" { "default 910" } else { "100" };
            let text = fs::read_to_string(directory.join(file)).unwrap();
            assert!(text.trim() == weight || text.trim() == format!("default {weight}"), "{text}");
        }
        None => assert_eq!(output.code, 1, "{output:?}"),
    }
}

#[test]
fn huge_pages() {
    let size = "/sys/kernel/mm/hugepages/hugepages-2048kB";
    let place = |bundle: &Bundle| {
        let places = [bundle.cgroup("hugetlb"), bundle.cgroup("unified"), bundle.cgroup("")];
        let files = ["hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"];
        places.iter().flat_map(|place| files.iter().map(|file| place.join(file))).find(|path| path.exists())
    };
    // runc has the choice of version 1 or 2, and not of one controller in the other.
    let hybrid = !is_v2() && !fs::exists("/sys/fs/cgroup/hugetlb").unwrap();
    if !fs::exists(size).unwrap() || (hybrid && is_reference()) {
        return;
    }
    let mut bundle = Bundle::new("hugepages");
    bundle.set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 4_194_304}]));
    running(&mut bundle);
    let path = place(&bundle).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), "4194304");
    let reserved = path.to_str().unwrap().replace("2MB.", "2MB.rsvd.");
    if let Ok(text) = fs::read_to_string(&reserved) {
        assert_eq!(text.trim(), "4194304", "{reserved}");
    }
    if !is_reference() {
        let output = bundle.call(&["stats", &bundle.id]);
        let event: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(event["data"]["hugetlb"]["2MB"]["failcnt"], 0, "{event}");
    }
}

#[test]
fn files_of_version_2() {
    let mut bundle = Bundle::new("unified");
    bundle.set("/linux/resources/unified", json!({"memory.high": "50000000", "pids.max": "12"}));
    bundle.args(&["/bin/sleep", "1000"]);
    if is_v2() {
        bundle.create();
        assert_eq!(read(&bundle, "", "", "memory.high"), "49999872");
        assert_eq!(read(&bundle, "", "", "pids.max"), "12");
    } else {
        let output = bundle.create_with(&["create", &bundle.id]);
        assert_ne!(output.code, 0);
        assert!(!bundle.has_state() && !bundle.cgroup("memory").exists(), "{output:?}");
    }
}

/// A group that the case makes, with those above it, in the hierarchy of a controller.
struct Parent(std::path::PathBuf);

impl Parent {
    fn new(controller: &str, path: &str) -> Self {
        let v1 = std::path::Path::new("/sys/fs/cgroup").join(controller);
        let root = if is_v2() { "/sys/fs/cgroup".into() } else { v1 };
        let directory = root.join("gantry-test").join(path);
        fs::create_dir_all(&directory).unwrap();
        // On a host where no container ever was, nobody has filled the new set of processors above (cpuset(7)).
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let above = root.join("gantry-test").join(file);
            if !is_v2() && fs::read_to_string(&above).is_ok_and(|text| text.trim().is_empty()) {
                fs::write(&above, fs::read_to_string(root.join(file)).unwrap().trim()).unwrap();
            }
        }
        Self(directory)
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn below_a_group_that_has_limits() {
    let mut bundle = Bundle::new("nested");
    let above = format!("{}-above", bundle.id);
    let controllers = if is_v2() { &[""][..] } else { &["memory", "pids", "cpuset", "cpu"] };
    let parents: Vec<Parent> = controllers.iter().map(|controller| Parent::new(controller, &above)).collect();
    let set = |controller: &str, v1: &str, v2: &str, value: &str| {
        let at = controllers.iter().position(|name| *name == controller).unwrap_or_default();
        let file = parents[at].0.join(if is_v2() { v2 } else { v1 });
        fs::write(&file, value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        file
    };
    if is_v2() {
        // Everything above has to hand the controllers down, which is the case's part here.
        for directory in ["/sys/fs/cgroup", "/sys/fs/cgroup/gantry-test"] {
            fs::write(format!("{directory}/cgroup.subtree_control"), "+memory +pids +cpu +cpuset").unwrap();
        }
    }
    let memory = set("memory", "memory.limit_in_bytes", "memory.max", "268435456");
    let pids = set("pids", "pids.max", "pids.max", "50");
    set("cpuset", "cpuset.mems", "cpuset.mems", "0");
    set("cpuset", "cpuset.cpus", "cpuset.cpus", "0");
    bundle.set("/linux/cgroupsPath", json!(format!("/gantry-test/{above}/deep/er/{}", bundle.id)));
    bundle.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    bundle.args(&["/bin/sleep", "1000"]);
    bundle.create();
    bundle.start();
    let own = |controller: &str, v1: &str, v2: &str| {
        let at = controllers.iter().position(|name| *name == controller).unwrap_or_default();
        let path = parents[at].0.join("deep/er").join(&bundle.id).join(if is_v2() { v2 } else { v1 });
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    };
    assert_eq!(own("memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(own("cpuset", "cpuset.cpus", "cpuset.cpus.effective"), "0", "not more than those above have");
    assert_eq!(fs::read_to_string(&memory).unwrap().trim(), "268435456", "what was there stays");
    assert_eq!(fs::read_to_string(&pids).unwrap().trim(), "50");
    assert_eq!(bundle.call(&["pause", &bundle.id]).code, 0);
    assert_eq!(bundle.status(), "paused");
    assert_eq!(bundle.call(&["delete", "--force", &bundle.id]).code, 0);
    for parent in &parents {
        assert!(parent.0.is_dir() && !parent.0.join("deep/er").join(&bundle.id).exists());
        let _ = fs::remove_dir(parent.0.join("deep/er"));
        let _ = fs::remove_dir(parent.0.join("deep"));
    }
    if !is_v2() {
        remove_elsewhere(&above);
    }
}

/// The hierarchies that the case made nothing in have the groups above too, which nobody removes.
fn remove_elsewhere(above: &str) {
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let directory = hierarchy.path().join("gantry-test").join(above);
        for below in ["deep/er", "deep", ""] {
            let _ = fs::remove_dir(directory.join(below));
        }
    }
}

#[test]
fn contradictions() {
    let cases = [
        ("/linux/resources/memory", json!({"limit": 67_108_864, "swap": 33_554_432}), "memory"),
        ("/linux/resources/cpu", json!({"cpus": "4095"}), "cpus"),
        ("/linux/resources/cpu", json!({"quota": 1, "period": 100_000}), "cpu"),
        ("/linux/resources/hugepageLimits", json!([{"pageSize": "3MB", "limit": 1}]), "3MB"),
    ];
    for (pointer, value, word) in cases {
        let mut bundle = Bundle::new("contra");
        // runc does not look at pages where no hierarchy has their controller.
        if word == "3MB" && is_reference() {
            continue;
        }
        bundle.set(pointer, value).args(&["/bin/sleep", "1000"]);
        let output = bundle.create_with(&["create", &bundle.id]);
        assert_ne!(output.code, 0, "{pointer}");
        assert!(output.stderr.contains(word), "{output:?}");
        assert!(!bundle.has_state() && !bundle.cgroup("memory").exists(), "{pointer}: nothing is left");
    }
}

#[test]
fn an_update_that_fails_changes_nothing() {
    let mut bundle = Bundle::new("rollback");
    bundle.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    bundle.set("/linux/resources/pids", json!({"limit": 44}));
    running(&mut bundle);
    // The quota is too small for the kernel.
    let arguments = ["update", "--memory", "128m", "--pids-limit", "55", "--cpu-quota", "1", &bundle.id];
    let output = bundle.call(&arguments);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("quota") || output.stderr.contains("cpu.max"), "{output:?}");
    if is_reference() {
        return; // runc tries, and warns that it did not succeed
    }
    assert_eq!(read(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(read(&bundle, "pids", "pids.max", "pids.max"), "44");
}

#[test]
fn every_flag_of_update() {
    let mut bundle = Bundle::new("flags");
    running(&mut bundle);
    let update = |arguments: &[&str]| {
        let mut all = vec!["update"];
        all.extend(arguments);
        all.push(&bundle.id);
        let output = bundle.call(&all);
        assert_eq!(output.code, 0, "{output:?}");
    };
    update(&["--memory", "1.5g", "--memory-swap", "3GiB", "--memory-reservation", "512MB"]);
    assert_eq!(read(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), "1610612736");
    assert_eq!(read(&bundle, "memory", "memory.soft_limit_in_bytes", "memory.low"), "536870912");
    let swap = if is_v2() { "1610612736" } else { "3221225472" };
    assert_eq!(read(&bundle, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max"), swap);
    update(&["--memory", "-1"]);
    let all = if is_v2() { "max" } else { "9223372036854771712" };
    assert_eq!(read(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), all);
    update(&["--cpu-share", "256", "--cpu-period", "50000", "--cpu-quota", "20000"]);
    update(&["--cpu-quota", "30000"]);
    if is_v2() {
        assert_eq!(read(&bundle, "", "", "cpu.max"), "30000 50000", "the period stays");
        assert_eq!(read(&bundle, "", "", "cpu.weight"), "10");
    } else {
        assert_eq!(read(&bundle, "cpu", "cpu.shares", ""), "256");
        assert_eq!(read(&bundle, "cpu", "cpu.cfs_quota_us", ""), "30000");
        assert_eq!(read(&bundle, "cpu", "cpu.cfs_period_us", ""), "50000", "the period stays");
    }
    update(&["--cpuset-cpus", "0", "--cpuset-mems", "0"]);
    assert_eq!(read(&bundle, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    update(&["--pids-limit", "31"]);
    update(&["--pids-limit", "0"]);
    assert_eq!(read(&bundle, "pids", "pids.max", "pids.max"), "31", "0 leaves it");
    update(&["--pids-limit", "-1"]);
    assert_eq!(read(&bundle, "pids", "pids.max", "pids.max"), "max");
    let refused = |arguments: &[&str]| {
        let mut all = vec!["update"];
        all.extend(arguments);
        all.push(&bundle.id);
        let output = bundle.call(&all);
        assert_eq!(output.code, 1, "{output:?}");
    };
    refused(&["--memory", "1x"]);
    refused(&["--cpu-quota", "abc"]);
    refused(&["--pids-limit", "many"]);
    if !fs::exists("/sys/fs/resctrl/info").unwrap() {
        refused(&["--l3-cache-schema", "L3:0=ff"]);
        refused(&["--mem-bw-schema", "MB:0=50"]);
    }
    if !is_reference() {
        // runc says that it ignores it.
        refused(&["--kernel-memory", "64m"]);
    }
}

#[test]
fn real_time() {
    let mut bundle = Bundle::new("realtime");
    running(&mut bundle);
    let output = bundle.call(&["update", "--cpu-rt-period", "1000000", "--cpu-rt-runtime", "0", &bundle.id]);
    if is_v2() {
        // runc has no such limits there and does not say so.
        assert!(is_reference() || (output.code == 1 && output.stderr.contains("real-time")), "{output:?}");
    } else if bundle.cgroup("cpu").join("cpu.rt_period_us").exists() {
        assert_eq!(output.code, 0, "{output:?}");
        assert_eq!(read(&bundle, "cpu", "cpu.rt_period_us", ""), "1000000");
        let output = bundle.call(&["update", "--cpu-rt-runtime", "1000", &bundle.id]);
        // Not more than the group above, which has none.
        assert_eq!(output.code, 1, "{output:?}");
    }
}

#[test]
fn figures_in_the_form_of_runc() {
    let mut bundle = Bundle::new("figures");
    bundle.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    bundle.set("/linux/resources/pids", json!({"limit": 44}));
    running(&mut bundle);
    let output = bundle.call(&["events", "--stats", &bundle.id]);
    let lines = output.lines();
    assert_eq!(lines.len(), 1);
    let event: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(bundle.id)));
    let data = &event["data"];
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let top = ["blkio", "cpu", "cpuset", "hugetlb", "intel_rdt", "memory", "network_interfaces", "pids"];
    assert!(top.iter().all(|key| keys(data).contains(&(*key).to_owned())), "{data}");
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert!(data["cpu"]["usage"]["kernel"].is_u64() && data["cpu"]["throttling"].is_object());
    assert_eq!(data["memory"]["usage"]["limit"], 67_108_864);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    for kind in ["swap", "kernel", "kernelTCP"] {
        assert!(data["memory"][kind]["limit"].is_u64() && data["memory"][kind]["failcnt"] == 0, "{kind}: {data}");
    }
    assert!(data["memory"]["raw"].as_object().unwrap().len() > 10);
    assert_eq!(data["pids"], json!({"current": 1, "limit": 44}));
    for flag in ["cpu_exclusive", "mem_hardwall", "memory_migrate", "sched_load_balance", "sched_relax_domain_level"] {
        assert!(data["cpuset"][flag].is_i64(), "{flag}");
    }
    if !is_v2() {
        assert!(!data["cpu"]["usage"]["percpu"].as_array().unwrap().is_empty());
        assert!(!data["cpu"]["usage"]["percpu_kernel"].as_array().unwrap().is_empty());
        assert!(!data["cpuset"]["cpus"].as_array().unwrap().is_empty());
        assert_eq!(data["cpu"].get("psi"), None);
    }
    if !is_reference() {
        let again: Value = serde_json::from_str(&bundle.call(&["stats", &bundle.id]).stdout).unwrap();
        assert_eq!(keys(&again["data"]["memory"]), keys(&data["memory"]), "the same, once");
    }
}

#[test]
fn pressure() {
    // Newer than runc 1.1; version 1 has none.
    if is_reference() || !is_v2() || !fs::exists("/proc/pressure/cpu").unwrap() {
        return;
    }
    let mut bundle = Bundle::new("pressure");
    bundle.set("/linux/resources/cpu", json!({"quota": 1000, "period": 100_000}));
    bundle.script("while :; do :; done");
    bundle.create();
    bundle.start();
    let stats = || serde_json::from_str::<Value>(&bundle.call(&["stats", &bundle.id]).stdout).unwrap();
    let data = stats()["data"].take();
    for kind in ["cpu", "memory", "blkio"] {
        for which in ["some", "full"] {
            let stall = &data[kind]["psi"][which];
            assert!(stall["avg10"].is_f64() && stall["avg300"].is_f64() && stall["total"].is_u64(), "{kind}: {data}");
        }
    }
    // It is held back most of the time.
    eventually("it grows", || stats()["data"]["cpu"]["psi"]["some"]["total"].as_u64().unwrap() > 0);
    assert!(stats()["data"]["cpu"]["throttling"]["periods"].as_u64().unwrap() > 0);
}

#[test]
fn figures_at_an_interval_until_the_end() {
    let mut bundle = Bundle::new("interval");
    running(&mut bundle);
    let output = bundle.call(&["events", "--interval", "0s", &bundle.id]);
    assert!(output.code == 1 && output.stderr.contains("must be greater than 0"), "{output:?}");
    let mut command = bundle.runtime();
    command.args(["events", "--interval", "20ms", &bundle.id]).stdout(std::process::Stdio::piped());
    let mut events = command.spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(events.stdout.take().unwrap()));
    let mut kinds = lines.map_while(Result::ok).map(|line| serde_json::from_str::<Value>(&line).unwrap());
    assert!(kinds.by_ref().take(3).all(|event| event["type"] == "stats"));
    assert_eq!(bundle.call(&["delete", "--force", &bundle.id]).code, 0);
    assert!(kinds.all(|event| event["type"] == "stats"), "the end of the group is no lack of memory");
    assert!(events.wait().unwrap().success());
}

#[test]
fn interfaces_of_the_container() {
    if is_reference() {
        return; // it lists those alone that it made itself, which by its command line are none
    }
    let mut bundle = Bundle::new("interfaces");
    running(&mut bundle);
    let event: Value = serde_json::from_str(&bundle.call(&["stats", &bundle.id]).stdout).unwrap();
    assert_eq!(event["data"]["network_interfaces"], Value::Null, "but lo it has none");
}
