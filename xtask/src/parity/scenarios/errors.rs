//! What is refused, with which status and in which words.

use crate::parity::observe::{Depth, Side, described};
use serde_json::{Value, json};

pub(super) fn run(side: &mut Side) {
    let image = side.image();
    nobody(side);
    refused(side, image);
    not_started(side, image);
}

/// Every operation on a container that does not exist.
fn nobody(side: &mut Side) {
    for (method, what) in [
        ("GET", "/json"),
        ("GET", "/top"),
        ("GET", "/logs?stdout=1"),
        ("GET", "/logs"),
        ("GET", "/changes"),
        ("GET", "/export"),
        ("GET", "/stats?stream=0"),
        ("POST", "/resize?h=1&w=1"),
        ("POST", "/start"),
        ("POST", "/stop"),
        ("POST", "/restart"),
        ("POST", "/kill"),
        ("POST", "/rename?name=x"),
        ("POST", "/rename"),
        ("POST", "/pause"),
        ("POST", "/unpause"),
        ("POST", "/attach"),
        ("POST", "/wait"),
        ("POST", "/wait?condition=removed"),
        ("DELETE", ""),
        ("DELETE", "?force=1"),
        ("HEAD", "/archive?path=/"),
        ("GET", "/archive?path=/"),
        ("PUT", "/archive?path=/"),
        ("GET", "/archive"),
    ] {
        side.ask(&format!("no such container: {method} {what}"), method, &format!("/containers/parity-nobody{what}"));
    }
    side.ask_with("no such container: exec", "POST", "/containers/parity-nobody/exec", &json!({"Cmd": ["true"]}));
    side.ask_with("no such container: update", "POST", "/containers/parity-nobody/update", &json!({}));
    side.ask("no such container: commit", "POST", "/commit?container=parity-nobody");
}

/// Bodies that create refuses.
fn refused(side: &mut Side, image: &str) {
    let cases = [
        ("no image", json!({"Cmd": ["true"]})),
        ("an unknown image", json!({"Image": "parity/nosuch:1"})),
        ("an unknown image without a tag", json!({"Image": "parity/nosuch"})),
        ("a bad image", json!({"Image": "UPPER/case"})),
        ("a bad working directory", json!({"WorkingDir": "relative"})),
        ("a bad variable", json!({"Env": ["=x"]})),
        ("too little memory", json!({"HostConfig": {"Memory": 1024}})),
        ("swap below memory", json!({"HostConfig": {"Memory": 67_108_864, "MemorySwap": 33_554_432}})),
        ("swap without memory", json!({"HostConfig": {"MemorySwap": 33_554_432}})),
        (
            "a reservation above the limit",
            json!({"HostConfig": {"Memory": 67_108_864, "MemoryReservation": 134_217_728}}),
        ),
        ("more processors than there are", json!({"HostConfig": {"NanoCpus": 99_000_000_000_i64}})),
        ("two ways of saying processors", json!({"HostConfig": {"NanoCpus": 1_000_000_000, "CpuQuota": 1000}})),
        ("a bad set of processors", json!({"HostConfig": {"CpusetCpus": "x"}})),
        ("processors that do not exist", json!({"HostConfig": {"CpusetCpus": "99"}})),
        ("a period that is too short", json!({"HostConfig": {"CpuPeriod": 10}})),
        ("a negative /dev/shm", json!({"HostConfig": {"ShmSize": -1}})),
        ("a score out of range", json!({"HostConfig": {"OomScoreAdj": 2000}})),
        ("an unknown capability", json!({"HostConfig": {"CapAdd": ["NONSENSE"]}})),
        ("an unknown restart policy", json!({"HostConfig": {"RestartPolicy": {"Name": "sometimes"}}})),
        (
            "a restart count without its policy",
            json!({"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 2}}}),
        ),
        ("removal and restart", json!({"HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "always"}}})),
        ("an unknown log driver", json!({"HostConfig": {"LogConfig": {"Type": "nonsense"}}})),
        (
            "an unknown log option",
            json!({"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"nonsense": "1"}}}}),
        ),
        (
            "an unknown log mode",
            json!({"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"mode": "nonsense"}}}}),
        ),
        (
            "a log buffer without its mode",
            json!({"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-buffer-size": "1m"}}}}),
        ),
        (
            "a bad log buffer",
            json!({"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"mode": "non-blocking", "max-buffer-size": "x"}}}}),
        ),
        ("an unknown runtime", json!({"HostConfig": {"Runtime": "nonsense"}})),
        ("a bad port", json!({"ExposedPorts": {"x/tcp": {}}})),
        ("a bad port binding", json!({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "x"}]}}})),
        (
            "a bad address to publish at",
            json!({"HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "x", "HostPort": "0"}]}}}),
        ),
        ("a bad bind", json!({"HostConfig": {"Binds": ["a:b:c:d"]}})),
        ("a bind to a relative path", json!({"HostConfig": {"Binds": ["/tmp:relative"]}})),
        ("a bind with a bad mode", json!({"HostConfig": {"Binds": ["/tmp:/a:nonsense"]}})),
        ("a bind to the root", json!({"HostConfig": {"Binds": ["/tmp:/"]}})),
        ("a bind twice", json!({"HostConfig": {"Binds": ["/tmp:/a", "/tmp:/a"]}})),
        (
            "a mount of nothing",
            json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/parity/nosuch", "Target": "/a"}]}}),
        ),
        ("a mount of an unknown type", json!({"HostConfig": {"Mounts": [{"Type": "nonsense", "Target": "/a"}]}})),
        (
            "a mount with another's options",
            json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/a", "TmpfsOptions": {}}]}}),
        ),
        ("a mount without a target", json!({"HostConfig": {"Mounts": [{"Type": "tmpfs"}]}})),
        ("a bad volume name", json!({"HostConfig": {"Binds": ["-bad:/a"]}})),
        ("an unknown network", json!({"HostConfig": {"NetworkMode": "parity-nosuch"}})),
        ("another's network that does not exist", json!({"HostConfig": {"NetworkMode": "container:parity-nosuch"}})),
        (
            "ports on the host's network",
            json!({"Hostname": "x", "HostConfig": {"NetworkMode": "container:parity-nosuch"}}),
        ),
        ("a bad pid mode", json!({"HostConfig": {"PidMode": "nonsense"}})),
        ("a bad ipc mode", json!({"HostConfig": {"IpcMode": "nonsense"}})),
        ("a bad uts mode", json!({"HostConfig": {"UTSMode": "nonsense"}})),
        ("a bad userns mode", json!({"HostConfig": {"UsernsMode": "nonsense"}})),
        ("a bad cgroupns mode", json!({"HostConfig": {"CgroupnsMode": "nonsense"}})),
        ("a bad stop signal", json!({"StopSignal": "NONSENSE"})),
        ("a bad host", json!({"HostConfig": {"ExtraHosts": ["x"]}})),
        ("a bad name server", json!({"HostConfig": {"Dns": ["x"]}})),
        ("a bad security option", json!({"HostConfig": {"SecurityOpt": ["nonsense"]}})),
        ("an unreadable seccomp profile", json!({"HostConfig": {"SecurityOpt": ["seccomp=nonsense"]}})),
        (
            "a bad device",
            json!({"HostConfig": {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "nonsense"}]}}),
        ),
        ("a bad health check", json!({"Healthcheck": {"Test": ["CMD", "true"], "Interval": 1}})),
        ("storage options", json!({"HostConfig": {"StorageOpt": {"nonsense": "1"}}})),
        (
            "a sysctl of the host",
            json!({"HostConfig": {"NetworkMode": "host", "Sysctls": {"net.ipv4.ip_forward": "1"}}}),
        ),
        ("volumes from nobody", json!({"HostConfig": {"VolumesFrom": ["parity-nosuch"]}})),
        ("links", json!({"HostConfig": {"Links": ["parity-nosuch:x"]}})),
    ];
    for (name, mut body) in cases {
        if body.get("Image").is_none() && name != "no image" {
            body["Image"] = image.into();
        }
        let created = side.ask_with(&format!("create with {name}"), "POST", "/containers/create", &body);
        if let Some(id) = created["Id"].as_str() {
            // Some mistakes show only at the start.
            side.at_the_end("DELETE", &format!("/containers/{id}?force=1&v=1"));
            side.ask(&format!("start with {name}"), "POST", &format!("/containers/{id}/start"));
        }
    }
    for name in ["-bad", "a%2Fb", "%C3%A4", "a"] {
        side.ask_with(
            &format!("create named {name}"),
            "POST",
            &format!("/containers/create?name={name}"),
            &json!({"Image": image}),
        );
    }
    side.ask_with("create for no platform", "POST", "/containers/create?platform=a/b/c/d", &json!({"Image": image}));
    side.ask_with(
        "create for another platform",
        "POST",
        "/containers/create?platform=linux/s390x",
        &json!({"Image": image}),
    );
}

/// Containers that cannot start, and what is left of them.
fn not_started(side: &mut Side, image: &str) {
    let taken = side.running("parity-port", &json!({"Image": image, "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port(side)}]}}}));
    for (name, body) in [
        ("a command that does not exist", json!({"Cmd": ["nosuch"]})),
        ("a path that does not exist", json!({"Cmd": ["/nosuch"]})),
        ("a command that is a folder", json!({"Cmd": ["/data"]})),
        ("an unknown user", json!({"User": "nosuch", "Cmd": ["true"]})),
        ("an unknown group", json!({"User": "root:nosuch", "Cmd": ["true"]})),
        ("a file as working directory", json!({"WorkingDir": "/data/file", "Cmd": ["true"]})),
        (
            "a port that is taken",
            json!({"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port(side)}]}}}),
        ),
    ] {
        let mut body = body;
        body["Image"] = image.into();
        let target = format!("/containers/create?name=parity-with-{}", name.replace([' ', '/'], "-"));
        let created = side.ask_with(&format!("create with {name}"), "POST", &target, &body);
        let Some(id) = created["Id"].as_str() else { continue };
        side.at_the_end("DELETE", &format!("/containers/{id}?force=1&v=1"));
        let own = port(side);
        let mut noted = side
            .send("POST", &format!("/containers/{id}/start"), &[], b"")
            .map(|answer| described(&answer))
            .unwrap_or_default();
        noted = serde_json::from_str(&noted.to_string().replace(&own, "<port>")).unwrap_or_default();
        side.note_value(&format!("start with {name}"), noted, Depth::Values);
        let inspected =
            side.quietly("GET", &format!("/containers/{id}/json"), &Value::Null).to_string().replace(&own, "<port>");
        side.note_value(
            &format!("inspect after {name}"),
            serde_json::from_str(&inspected).unwrap_or_default(),
            Depth::Values,
        );
    }
    side.quietly("POST", &format!("/containers/{taken}/kill"), &Value::Null);
}

/// A port of each engine's own: both run on one host.
fn port(side: &Side) -> String {
    let sum: u32 = side.socket_name().bytes().map(u32::from).sum();
    (28_000 + sum % 900).to_string()
}
