//! The same questions in older versions of the API.

use crate::parity::observe::{Depth, Side};
use serde_json::json;

/// Versions before and after something changed.
const VERSIONS: &[&str] = &["1.24", "1.25", "1.30", "1.40", "1.41", "1.42", "1.43", "1.44"];

pub(super) fn run(side: &mut Side) {
    let image = side.image();
    let id = side
        .running("parity-version", &json!({"Image": image, "Cmd": ["sleep", "1000"], "Labels": {"parity": "version"}}));
    for version in VERSIONS {
        let at = |path: &str| format!("/v{version}{path}");
        side.ask(&format!("{version}: inspect a container"), "GET", &at(&format!("/containers/{id}/json")));
        side.ask(
            &format!("{version}: list containers"),
            "GET",
            &at("/containers/json?filters=%7B%22label%22:%7B%22parity=version%22:true%7D%7D"),
        );
        side.ask(&format!("{version}: inspect an image"), "GET", &at(&format!("/images/{image}/json")));
        side.ask(
            &format!("{version}: list images"),
            "GET",
            &at("/images/json?filters=%7B%22reference%22:%7B%22parity/rootfs%22:true%7D%7D"),
        );
        let info = side.send("GET", &at("/info"), &[], b"");
        side.note(&format!("{version}: info"), &info, Depth::Shape);
        let usage = side.send("GET", &at("/system/df"), &[], b"");
        side.note(&format!("{version}: disk usage"), &usage, Depth::Shape);
        let name = format!("parity-version-{}", version.replace('.', "-"));
        let body = json!({"Image": image, "MacAddress": "02:42:ac:00:00:77", "HostConfig": {"AutoRemove": true, "KernelMemory": 0, "Mounts": [{"Type": "tmpfs", "Target": "/t", "VolumeOptions": {}}]}});
        let created = side.ask_with(
            &format!("{version}: create"),
            "POST",
            &at(&format!("/containers/create?name={name}")),
            &body,
        );
        if let Some(id) = created["Id"].as_str() {
            side.at_the_end("DELETE", &format!("/containers/{id}?force=1"));
            side.ask(&format!("{version}: inspect what it created"), "GET", &format!("/containers/{id}/json"));
        }
        let logs = side.send("GET", &at(&format!("/containers/{id}/logs?stdout=1")), &[], b"");
        side.note(&format!("{version}: logs"), &logs, Depth::Values);
    }
}
