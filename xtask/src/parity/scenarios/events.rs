//! What an engine says while things happen, in order.

use crate::parity::observe::{Depth, Side};
use serde_json::{Value, json};

pub(super) fn run(side: &mut Side) {
    let image = side.image();
    let body = json!({"Image": image, "Cmd": ["sleep", "1000"], "Labels": {"parity": "event"}});
    let since = now();
    let id = side.running("parity-event", &body);
    let at = |what: &str| format!("/containers/{id}{what}");
    for step in
        ["/pause", "/unpause", "/rename?name=parity-event-2", "/restart?t=0", "/resize?h=10&w=10", "/kill?signal=WINCH"]
    {
        side.quietly("POST", &at(step), &Value::Null);
    }
    side.quietly("POST", &at("/update"), &json!({"CpuShares": 100}));
    let exec = side.quietly("POST", &at("/exec"), &json!({"Cmd": ["true"]}));
    let exec = exec["Id"].as_str().unwrap_or("missing").to_owned();
    side.quietly("POST", &format!("/exec/{exec}/start"), &json!({}));
    // Its end is told when it has ended, whatever came meanwhile.
    while side.quietly("GET", &format!("/exec/{exec}/json"), &Value::Null)["Running"] == true {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    side.quietly("GET", &at("/top"), &Value::Null);
    let _ = side.send("GET", &at("/archive?path=/etc"), &[], b"");
    let archive = side.archive.clone();
    let _ = side.send("PUT", &at("/archive?path=/tmp"), &[], &archive);
    let _ = side.send("GET", &at("/export"), &[], b"");
    side.quietly("POST", &at("/stop?t=0"), &Value::Null);
    side.quietly("DELETE", &at(""), &Value::Null);
    noted(side, "a container's life", &since, &format!("%7B%22container%22:%5B%22{id}%22%5D%7D"));
    noted(
        side,
        "its networks",
        &since,
        &format!("%7B%22type%22:%5B%22network%22%5D,%22container%22:%5B%22{id}%22%5D%7D"),
    );
    noted(
        side,
        "by label",
        &since,
        "%7B%22label%22:%5B%22parity=event%22%5D,%22event%22:%5B%22create%22,%22destroy%22%5D%7D",
    );
    images(side, image);
    volumes(side);
    exits(side, image);
}

/// The present, in the form of the `since` parameter: both engines share this host's clock.
fn now() -> String {
    in_time(std::time::Duration::ZERO)
}

/// A moment from now, as the API wants it.
fn in_time(from_now: std::time::Duration) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default() + from_now;
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

/// Everything that was said since, as a list.
fn noted(side: &mut Side, name: &str, since: &str, filters: &str) {
    // dockerd tells of an end some time after it has answered those who wait for it.
    let until = in_time(std::time::Duration::from_millis(500));
    let answer = side.send("GET", &format!("/events?since={since}&until={until}&filters={filters}"), &[], b"");
    let lines = answer.map(|answer| {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        serde_json::Deserializer::from_str(&text).into_iter::<Value>().flatten().collect::<Vec<Value>>()
    });
    let mut lines = lines.unwrap_or_default();
    for at in 1..lines.len() {
        // Two threads tell of these two.
        if lines[at - 1]["Action"] == "stop" && lines[at]["Action"] == "die" {
            lines.swap(at - 1, at);
        }
    }
    side.note_value(name, lines.into(), Depth::Values);
}

fn images(side: &mut Side, image: &str) {
    let since = now();
    side.quietly("POST", &format!("/images/{image}/tag?repo=parity/event&tag=1"), &Value::Null);
    side.quietly("DELETE", "/images/parity/event:1", &Value::Null);
    noted(side, "an image's names", &since, "%7B%22type%22:%5B%22image%22%5D%7D");
}

fn volumes(side: &mut Side) {
    let since = now();
    side.quietly("POST", "/volumes/create", &json!({"Name": "parity-event"}));
    side.quietly("DELETE", "/volumes/parity-event", &Value::Null);
    noted(side, "a volume's life", &since, "%7B%22type%22:%5B%22volume%22%5D,%22volume%22:%5B%22parity-event%22%5D%7D");
}

/// How the end of a process is told.
fn exits(side: &mut Side, image: &str) {
    for (name, command) in [("an exit code", "exit 3"), ("a signal", "kill -9 $$")] {
        let since = now();
        let id = side.running(
            &format!("parity-event-{}", name.replace(' ', "-")),
            &json!({"Image": image, "Cmd": ["sh", "-c", command]}),
        );
        side.wait(&id);
        noted(side, name, &since, &format!("%7B%22container%22:%5B%22{id}%22%5D%7D"));
    }
    let since = now();
    let id = side.container("parity-event-nosuch", &json!({"Image": image, "Cmd": ["nosuch"]}));
    side.quietly("POST", &format!("/containers/{id}/start"), &Value::Null);
    noted(side, "a failed start", &since, &format!("%7B%22container%22:%5B%22{id}%22%5D%7D"));
}
