//! Specifications compared with those that dockerd 26.1 wrote for the same containers (`golden/*.json`: configuration and host
//! configuration as inspect shows them, and the runtime configuration without seccomp, hooks and doubled rules).

use serde_json::{Value, json};

use super::*;
use crate::container::mounts;
use crate::container::record::tests::record;
use crate::container::user::User;

fn golden(name: &str, text: &str, user: User) {
    let golden: Value = serde_json::from_str(text).unwrap();
    let mut record = record("web");
    record.config = serde_json::from_value(golden["config"].clone()).unwrap();
    record.host_config = serde_json::from_value(golden["host_config"].clone()).unwrap();
    let host = record.host_config.clone();
    record.security.no_new_privileges = host.security_opt.iter().flatten().any(|o| o == "no-new-privileges");
    for text in host.binds.iter().flatten() {
        record.mounts.push(mounts::parse_bind(text, "").unwrap());
    }
    record.mounts.extend(host.mounts.iter().map(mounts::from_mount));
    record.mounts.extend(host.tmpfs.iter().map(|(path, options)| mounts::from_tmpfs(path, options)));
    let file = |name: &str| Some(format!("/data/containers/{}/{name}", record.id));
    let devices = host.devices.iter().flatten();
    let devices =
        devices.flat_map(|d| device_from_path(&d.path_on_host, &d.path_in_container, &d.cgroup_permissions).unwrap());
    let inputs = Inputs {
        root: "/bundle/rootfs".to_owned(),
        mounts: &record.mounts,
        etc: EtcFiles { resolv_conf: file("resolv.conf"), hostname: file("hostname"), hosts: file("hosts") },
        user,
        more_groups: host.group_add.iter().flatten().map(|g| g.parse().unwrap()).collect(),
        shm: (host.ipc_mode == "host").then(|| "/dev/shm".to_owned()),
        devices: devices.collect(),
        cgroup_parent: "/gantry",
        // What the engine of the files had: everything but CAP_SYS_RESOURCE.
        held_capabilities: !(1 << 24),
        ..Inputs::default()
    };
    let mut ours = serde_json::to_value(generate(&record, &inputs).unwrap()).unwrap();
    ours.as_object_mut().unwrap().remove("ociVersion");
    let (mut ours, mut theirs) = (ours, golden["spec"].clone());
    for spec in [&mut ours, &mut theirs] {
        normalize(spec);
    }
    for key in theirs.as_object().unwrap().keys().chain(ours.as_object().unwrap().keys()) {
        assert_eq!(ours[key], theirs[key], "{name}: {key}");
    }
}

/// Orders what has no order: mounts of the same depth, groups, capabilities and sets.
fn normalize(spec: &mut Value) {
    let sort = |value: &mut Value| {
        if let Some(list) = value.as_array_mut() {
            list.sort_by_key(ToString::to_string);
        }
    };
    sort(&mut spec["mounts"]);
    sort(&mut spec["linux"]["namespaces"]);
    for set in ["bounding", "effective", "permitted"] {
        sort(&mut spec["process"]["capabilities"][set]);
    }
    // Go writes empty objects and lists where we write nothing.
    if spec["linux"]["resources"]["blockIO"].is_null() {
        spec["linux"]["resources"]["blockIO"] = json!({});
    }
}

#[test]
fn specifications_are_those_of_dockerd() {
    let root = || User { home: "/".to_owned(), ..User::default() };
    golden("default", include_str!("golden/default.json"), root());
    golden("tty", include_str!("golden/tty.json"), root());
    golden("limits", include_str!("golden/limits.json"), root());
    golden("mounts", include_str!("golden/mounts.json"), root());
    golden("capabilities", include_str!("golden/capabilities.json"), root());
    golden("host", include_str!("golden/host.json"), root());
    golden("none", include_str!("golden/none.json"), User { uid: 1, gid: 2, ..root() });
    golden("private", include_str!("golden/private.json"), root());
}

#[test]
fn init_is_bound_and_runs_the_program() {
    let record = record("web");
    let inputs = Inputs { init: Some("/usr/bin/gantry".to_owned()), ..Inputs::default() };
    let spec = generate(&record, &inputs).unwrap();
    assert_eq!(spec.process.unwrap().args, [INIT_PATH, "--", "sleep", "100000"]);
    let bound = spec.mounts.iter().find(|m| m.destination == INIT_PATH).unwrap();
    assert_eq!((bound.source.as_deref(), bound.options.join(",")), (Some("/usr/bin/gantry"), "bind,ro".to_owned()));
}

#[test]
fn tmpfs_options_override_each_other() {
    let merged = mount::merge_tmpfs_options(&["noexec", "nosuid", "rprivate", "size=1m", "exec", "size=2m"]).unwrap();
    assert_eq!(merged, ["nosuid", "rprivate", "exec", "size=2m"]);
    assert_eq!(mount::merge_tmpfs_options(&["zork"]).unwrap_err().message(), "invalid tmpfs option \"zork\"");
}
