//! Options of create and what inspect makes of them.

use crate::parity::observe::Side;
use serde_json::{Value, json};

/// Bodies beside the image, by what they are about.
fn bodies() -> Vec<(&'static str, Value)> {
    let mut bodies = logs();
    bodies.extend([
        ("nothing", json!({})),
        ("as the command line sends it", command_line()),
        ("a command as one text", json!({"Cmd": "true"})),
        ("no entry point", json!({"Entrypoint": [], "Cmd": ["true"]})),
        ("an empty entry point", json!({"Entrypoint": [""], "Cmd": ["true"]})),
        ("environment", json!({"Env": ["A=1", "B=", "PATH=/bin"], "WorkingDir": "/data", "User": "user"})),
        ("host name and domain", json!({"Hostname": "h", "Domainname": "d.e"})),
        (
            "a terminal",
            json!({"Tty": true, "OpenStdin": true, "AttachStdin": true, "HostConfig": {"ConsoleSize": [10, 20]}}),
        ),
        (
            "limits",
            json!({"HostConfig": {"Memory": 67_108_864, "NanoCpus": 500_000_000, "PidsLimit": 10, "CpuShares": 100, "CpusetCpus": "0", "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}]}}),
        ),
        ("unlimited processes", json!({"HostConfig": {"PidsLimit": -1}})),
        ("capabilities", json!({"HostConfig": {"CapAdd": ["net_admin", "CAP_SYS_TIME"], "CapDrop": "ALL"}})),
        ("privileged", json!({"HostConfig": {"Privileged": true}})),
        (
            "security",
            json!({"HostConfig": {"SecurityOpt": ["seccomp=unconfined", "no-new-privileges"], "ReadonlyRootfs": true, "MaskedPaths": [], "ReadonlyPaths": []}}),
        ),
        ("systempaths", json!({"HostConfig": {"SecurityOpt": ["systempaths=unconfined"]}})),
        (
            "exposed and published ports",
            json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "0"}]}}}),
        ),
        ("no network", json!({"HostConfig": {"NetworkMode": "none"}})),
        ("the host's network", json!({"HostConfig": {"NetworkMode": "host"}})),
        (
            "name resolution",
            json!({"HostConfig": {"Dns": ["9.9.9.9"], "DnsSearch": ["a.b"], "DnsOptions": ["ndots:2"], "ExtraHosts": ["x:1.2.3.4"]}}),
        ),
        (
            "binds",
            json!({"HostConfig": {"Binds": ["/tmp:/mnt:ro", "parity-named:/named"]}, "Volumes": {"/anonymous": {}}}),
        ),
        (
            "mounts",
            json!({"HostConfig": {"Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 448}}, {"Type": "bind", "Source": "/tmp", "Target": "/b", "ReadOnly": true}]}}),
        ),
        ("tmpfs", json!({"HostConfig": {"Tmpfs": {"/run": "size=1m"}, "ShmSize": 1_048_576}})),
        ("a health check", json!({"Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000}})),
        ("restart always", json!({"HostConfig": {"RestartPolicy": {"Name": "always"}}})),
        ("an init", json!({"HostConfig": {"Init": true}, "StopSignal": "SIGINT", "StopTimeout": 3})),
        (
            "namespaces of the host",
            json!({"HostConfig": {"PidMode": "host", "IpcMode": "host", "UTSMode": "host", "CgroupnsMode": "host"}}),
        ),
        ("sysctls", json!({"HostConfig": {"Sysctls": {"net.ipv4.ip_forward": "0"}}})),
        ("annotations", json!({"HostConfig": {"Annotations": {"a": "b"}}})),
        ("groups", json!({"HostConfig": {"GroupAdd": ["user", "5"]}})),
        (
            "devices",
            json!({"HostConfig": {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "rw"}], "DeviceCgroupRules": ["c 1:3 rwm"]}}),
        ),
        (
            "a network's name and aliases",
            json!({"NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": "02:42:ac:00:00:99"}}}}),
        ),
        ("the old MAC address", json!({"MacAddress": "02:42:ac:00:00:98"})),
    ]);
    bodies
}

/// Those about logs.
fn logs() -> Vec<(&'static str, Value)> {
    vec![
        (
            "log options",
            json!({"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}}}}),
        ),
        (
            "a log that is not waited for",
            json!({"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"mode": "non-blocking", "max-buffer-size": "2m"}}}}),
        ),
        ("no log", json!({"HostConfig": {"LogConfig": {"Type": "none"}}})),
    ]
}

/// What `docker create` fills in.
fn command_line() -> Value {
    let text = r#"{
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true, "AttachStderr": true,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": ["sleep", "9"], "Volumes": {},
        "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
        "HostConfig": {
            "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "default",
            "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": false,
            "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [0, 0], "CapAdd": null, "CapDrop": null,
            "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null,
            "IpcMode": "", "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false,
            "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
            "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
            "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
            "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "Devices": [],
            "DeviceCgroupRules": null, "DeviceRequests": null, "MemoryReservation": 0, "MemorySwap": 0,
            "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0, "Ulimits": [], "MaskedPaths": null,
            "ReadonlyPaths": null
        },
        "NetworkingConfig": {"EndpointsConfig": {"default": {}}}
    }"#;
    serde_json::from_str(text).unwrap_or_default()
}

pub(super) fn run(side: &mut Side) {
    let image = side.image();
    for (number, (name, mut body)) in bodies().into_iter().enumerate() {
        body["Image"] = image.into();
        let container = format!("parity-option-{number}");
        let created = side.ask_with(
            &format!("create with {name}"),
            "POST",
            &format!("/containers/create?name={container}"),
            &body,
        );
        let id = created["Id"].as_str().unwrap_or("missing").to_owned();
        side.at_the_end("DELETE", &format!("/containers/{id}?force=1&v=1"));
        side.ask(&format!("inspect with {name}"), "GET", &format!("/containers/{id}/json"));
    }
    side.at_the_end("DELETE", "/volumes/parity-named");
    started(side, image);
}

/// What shows only once a container has run.
fn started(side: &mut Side, image: &str) {
    for (name, body) in [
        (
            "published ports",
            json!({"ExposedPorts": {"80/tcp": {}, "81/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]}}}),
        ),
        (
            "a binding of a port that is not exposed",
            json!({"ExposedPorts": {"81/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]}}}),
        ),
        ("all ports published", json!({"ExposedPorts": {"81/tcp": {}}, "HostConfig": {"PublishAllPorts": true}})),
        ("the host's network", json!({"HostConfig": {"NetworkMode": "host"}})),
        ("no network", json!({"HostConfig": {"NetworkMode": "none"}})),
    ] {
        let mut body = body;
        body["Image"] = image.into();
        let id = side.running(&format!("parity-started-{}", name.replace([' ', '\''], "-")), &body);
        let answer = side.quietly("GET", &format!("/containers/{id}/json"), &Value::Null);
        let mut settings = answer["NetworkSettings"].clone();
        // The engine picks the port.
        for bindings in settings["Ports"].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
            for binding in bindings.as_array_mut().into_iter().flatten() {
                binding["HostPort"] = "<port>".into();
            }
        }
        side.note_value(&format!("network settings with {name}"), settings, crate::parity::observe::Depth::Values);
    }
    let shared = side.running("parity-shared", &json!({"Image": image}));
    let id = side.running(
        "parity-sharing",
        &json!({"Image": image, "HostConfig": {"NetworkMode": format!("container:{shared}")}}),
    );
    side.ask("inspect with another's network", "GET", &format!("/containers/{id}/json"));
}
