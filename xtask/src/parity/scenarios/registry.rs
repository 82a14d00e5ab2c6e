//! Push and pull.

use crate::parity::observe::{Depth, Side};
use crate::parity::rootfs;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `{}` in base64: no credentials.
const NOBODY: [(&str, &str); 1] = [("X-Registry-Auth", "e30=")];

pub(super) fn run(side: &mut Side) {
    // Each engine has its own repository and layer: what one pushed, the other would not send again.
    let unique = format!("{} {:?}", side.socket_name(), std::time::SystemTime::now());
    let archive = rootfs::with_file(&side.archive, "unique", &unique);
    let repository = format!("{}/parity/{}", side.registry, side.socket_name().to_lowercase().replace(['.', '_'], "-"));
    side.at_the_end("DELETE", &format!("/images/{repository}:1?force=1"));
    let target = format!("/images/create?fromSrc=-&repo={repository}&tag=1");
    let _ = side.send("POST", &target, &[("Content-Type", "application/x-tar")], &archive);
    progress(side, "push", &format!("/images/{repository}/push?tag=1"), &repository);
    progress(side, "push again", &format!("/images/{repository}/push?tag=1"), &repository);
    inspected(side, "pushed", &repository);
    progress(side, "pull what is here", &format!("/images/create?fromImage={repository}&tag=1"), &repository);
    side.quietly("DELETE", &format!("/images/{repository}:1?force=1"), &Value::Null);
    progress(side, "pull", &format!("/images/create?fromImage={repository}&tag=1"), &repository);
    inspected(side, "pulled", &repository);
    progress(side, "pull an unknown tag", &format!("/images/create?fromImage={repository}&tag=nosuch"), &repository);
    let nosuch = format!("{}/parity/nosuch", side.registry);
    progress(side, "pull an unknown repository", &format!("/images/create?fromImage={nosuch}&tag=1"), &repository);
    progress(side, "push what is not here", &format!("/images/{nosuch}/push?tag=1"), &repository);
    side.ask("pull a bad name", "POST", "/images/create?fromImage=UPPER");
    side.ask("pull a bad tag", "POST", "/images/create?fromImage=parity/x&tag=-");
    side.ask("pull from nobody", "POST", "/images/create?fromImage=127.0.0.1:1/x&tag=1");
    side.ask("push without credentials", "POST", &format!("/images/{repository}/push?tag=1"));
    side.ask("pull for no platform", "POST", &format!("/images/create?fromImage={repository}&tag=1&platform=a/b/c/d"));
}

/// The kinds of lines in a progress stream: which statuses with which members. Their number and order depend on the moment.
fn progress(side: &mut Side, name: &str, target: &str, repository: &str) {
    let answer = side.send("POST", target, &NOBODY, b"");
    let path = repository.split_once('/').map_or("", |(_, path)| path);
    let noted = answer.map(|answer| {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let lines = serde_json::Deserializer::from_str(&text).into_iter::<Value>().flatten();
        let plain = |line: Value| {
            let members: Vec<&str> = line.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
            let status = line["status"].as_str().unwrap_or_default().replace(repository, "<repository>");
            // Which of these it is depends on what the registry has from others.
            let status = if status.starts_with("Mounted from") || status == "Layer already exists" { "Pushed".into() } else { status };
            // Layers may or may not show each step.
            let step = ["Downloading", "Extracting", "Pushing", "Preparing", "Waiting", "Verifying Checksum", "Retrying in"];
            let fleeting = step.iter().any(|step| status.starts_with(step));
            (!fleeting).then(|| json!({ "status": status, "members": members, "error": line["error"] }).to_string().replace(repository, "<repository>").replace(path, "<path>"))
        };
        let kinds: BTreeSet<String> = lines.filter_map(plain).collect();
        json!({
            "status": answer.status,
            "content type": answer.header("content-type"),
            "lines": kinds.into_iter().map(|kind| serde_json::from_str(&kind).unwrap_or_default()).collect::<Vec<Value>>(),
            "body": if answer.status == 200 { Value::Null } else { answer.json()["message"].as_str().unwrap_or_default().replace(repository, "<repository>").into() },
        })
    });
    side.note_value(name, noted.unwrap_or_else(|failure| json!({ "failure": failure })), Depth::Values);
}

fn inspected(side: &mut Side, state: &str, repository: &str) {
    let image = side.quietly("GET", &format!("/images/{repository}:1/json"), &Value::Null);
    let text = image.to_string().replace(repository, "<repository>");
    side.note_value(&format!("inspect: {state}"), serde_json::from_str(&text).unwrap_or_default(), Depth::Values);
}
