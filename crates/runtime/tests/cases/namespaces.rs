//! Namespaces, new and joined.

use crate::support::{Bundle, eventually, is_reference};
use serde_json::json;
use std::fs;

#[test]
fn all_are_its_own() {
    let mut bundle = Bundle::new("ns");
    bundle.push("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.script("for n in pid net ipc uts mnt cgroup user; do readlink /proc/self/ns/$n; done; hostname; echo $$");
    let output = bundle.run();
    let lines = output.lines();
    for (name, inside) in ["pid", "net", "ipc", "uts", "mnt", "cgroup"].iter().zip(&lines) {
        let outside = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(outside.to_str().unwrap(), *inside);
    }
    assert_eq!(fs::read_link("/proc/self/ns/user").unwrap().to_str().unwrap(), lines[6]);
    assert_eq!(lines[7..], ["inside", "1"]);
}

#[test]
fn the_loopback_interface_is_up() {
    let mut bundle = Bundle::new("lo");
    let output = bundle.script("ping -c 1 -W 2 127.0.0.1 >/dev/null && echo up; ls /sys/class/net").run();
    assert_eq!(output.lines(), ["up", "lo"]);
}

#[test]
fn those_not_listed_are_the_hosts() {
    let mut bundle = Bundle::new("host");
    bundle.without_namespace("network").without_namespace("ipc");
    bundle.script("readlink /proc/self/ns/net; readlink /proc/self/ns/ipc");
    let output = bundle.run();
    let outside = ["net", "ipc"].map(|name| fs::read_link(format!("/proc/self/ns/{name}")).unwrap());
    assert_eq!(output.lines(), outside.each_ref().map(|path| path.to_str().unwrap()));
}

#[test]
fn joined_by_path() {
    let mut first = Bundle::new("join-a");
    first.args(&["/bin/sleep", "1000"]);
    first.create();
    first.start();
    let pid = first.pid();
    let mut second = Bundle::new("join-b");
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        second.join(kind, &format!("/proc/{pid}/ns/{name}"));
    }
    second.set("/hostname", json!(""));
    second.script(
        "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done; hostname; cat /proc/1/cmdline | tr '\\0' ' '",
    );
    let output = second.run();
    let lines = output.lines();
    for (name, inside) in ["net", "ipc", "uts", "pid"].iter().zip(&lines) {
        let joined = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(joined.to_str().unwrap(), *inside, "{name}");
    }
    assert_eq!(lines[4], "inside");
    assert_eq!(lines[5].trim(), "/bin/sleep 1000", "the first process of the joined namespace is seen");
}

pub(crate) fn user_namespace(bundle: &mut Bundle) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let status = std::process::Command::new("chown").args(["-Rh", "100000:100000"]).arg(bundle.rootfs()).status();
    assert!(status.unwrap().success());
    // The way to the root filesystem is open to the mapped root.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&bundle.directory, open).unwrap();
}

#[test]
fn a_user_namespace() {
    let mut bundle = Bundle::new("user");
    user_namespace(&mut bundle);
    bundle.script(
        "id -u; cat /proc/self/uid_map; touch /data/new && stat -c %u /data/new; echo x > /dev/null && echo null; \
         cat /proc/self/setgroups; head -c 1 /dev/zero | wc -c",
    );
    let output = bundle.run();
    let lines = output.lines();
    assert_eq!(lines[0], "0");
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert_eq!(lines[2..], ["0", "null", "allow", "1"]);
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(bundle.rootfs().join("data/new")).unwrap());
    assert_eq!(owner, 100_000);
}

#[test]
fn a_user_namespace_sees_bind_mounts_that_it_could_not_reach() {
    let mut bundle = Bundle::new("userbind");
    user_namespace(&mut bundle);
    let secret = bundle.directory.join("locked/inner");
    fs::create_dir_all(&secret).unwrap();
    fs::write(secret.join("file"), "seen\n").unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(bundle.directory.join("locked"), closed).unwrap();
    // What the host's mount forbids stays forbidden in a user namespace; runc 1.1 must be told so.
    let options = if is_reference() { json!(["rbind", "ro", "nosuid", "nodev"]) } else { json!(["rbind", "ro"]) };
    bundle.push("/mounts", json!({"destination": "/data", "type": "bind", "source": secret, "options": options}));
    let output = bundle.script("cat /data/file").run();
    assert_eq!(output.lines(), ["seen"]);
}

#[test]
fn a_user_namespace_beside_a_joined_network() {
    // runc 1.1 makes such a container and cannot add a process to it.
    if is_reference() {
        return;
    }
    let mut first = Bundle::new("usernet-a");
    first.args(&["/bin/sleep", "1000"]);
    first.create();
    let net = format!("/proc/{}/ns/net", first.pid());
    let mut second = Bundle::new("usernet-b");
    user_namespace(&mut second);
    second.join("network", &net);
    // sysfs of a network namespace of the host's cannot be mounted in a user namespace.
    second.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "sysfs");
    second.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    second.script("id -u; readlink /proc/self/ns/net; exec sleep 1000");
    second.create();
    second.start();
    let joined = fs::read_link(net).unwrap();
    eventually("it speaks", || second.output().lines().count() == 2);
    assert_eq!(second.output().lines().collect::<Vec<_>>(), ["0", joined.to_str().unwrap()]);
    let output = second.exec(&["/bin/sh", "-c", "id -u; readlink /proc/self/ns/net"]);
    assert_eq!(output.lines(), ["0", joined.to_str().unwrap()], "exec is in the same namespaces");
}

#[test]
fn a_time_namespace_has_its_own_clock() {
    if is_reference() && fs::read("/proc/self/ns/time").is_err() {
        return;
    }
    let mut bundle = Bundle::new("time");
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}}));
    let output = bundle.script("cat /proc/uptime").run();
    let text = output.lines()[0].to_owned();
    let uptime: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
    assert!(uptime > 1_000_000.0, "{uptime}");
}

#[test]
fn names_and_kernel_parameters() {
    let mut bundle = Bundle::new("sysctl");
    bundle.set("/domainname", json!("domain.inside"));
    bundle.set(
        "/linux/sysctl",
        json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096", "net/ipv4/ip_default_ttl": "33"}),
    );
    bundle.script("cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_default_ttl");
    // runc 1.1 does not know the domain name.
    let domain = if is_reference() { "(none)" } else { "domain.inside" };
    assert_eq!(bundle.run().lines(), [domain, "1", "4096", "33"]);
    bundle.set("/linux/sysctl", json!({"vm.overcommit_memory": "1"}));
    let output = bundle.run();
    assert_ne!(output.code, 0, "a parameter of the whole host is refused");
    assert!(output.stderr.contains("is not in a separate kernel namespace"), "{output:?}");
}
