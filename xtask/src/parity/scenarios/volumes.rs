//! Volumes.

use crate::parity::observe::Side;
use serde_json::{Value, json};

pub(super) fn run(side: &mut Side) {
    let image = side.image();
    side.at_the_end("DELETE", "/volumes/parity-volume");
    side.ask_with(
        "create",
        "POST",
        "/volumes/create",
        &json!({"Name": "parity-volume", "Labels": {"parity": "volume"}}),
    );
    side.ask_with("create again", "POST", "/volumes/create", &json!({"Name": "parity-volume"}));
    let unnamed = side.ask_with("create without a name", "POST", "/volumes/create", &json!({}));
    let name = unnamed["Name"].as_str().unwrap_or("missing").to_owned();
    side.ask("inspect without a name", "GET", &format!("/volumes/{name}"));
    side.ask("remove without a name", "DELETE", &format!("/volumes/{name}"));
    side.ask("inspect", "GET", "/volumes/parity-volume");
    side.ask("list", "GET", "/volumes?filters=%7B%22label%22:%5B%22parity=volume%22%5D%7D");
    side.ask("list by name", "GET", "/volumes?filters=%7B%22name%22:%5B%22parity-vol%22%5D%7D");
    side.ask("list nothing", "GET", "/volumes?filters=%7B%22name%22:%5B%22nosuch%22%5D%7D");
    let body = json!({"Image": image, "HostConfig": {"Binds": ["parity-volume:/v"]}, "Volumes": {"/anonymous": {}}});
    let id = side.running("parity-uses-volume", &body);
    side.ask("inspect a container that uses it", "GET", &format!("/containers/{id}/json"));
    side.ask("remove in use", "DELETE", "/volumes/parity-volume");
    side.ask("remove in use by force", "DELETE", "/volumes/parity-volume?force=1");
    side.quietly("DELETE", &format!("/containers/{id}?force=1&v=1"), &Value::Null);
    side.ask("inspect after its container", "GET", "/volumes/parity-volume");
    for (name, body) in [
        ("a bad name", json!({"Name": "-bad"})),
        ("a name of one letter", json!({"Name": "x"})),
        ("an unknown driver", json!({"Name": "parity-driver", "Driver": "nonsense"})),
        ("an unknown option", json!({"Name": "parity-option", "DriverOpts": {"nonsense": "1"}})),
        ("half a mount", json!({"Name": "parity-half", "DriverOpts": {"type": "tmpfs"}})),
    ] {
        side.ask_with(&format!("create with {name}"), "POST", "/volumes/create", &body);
    }
    side.ask("create without a body", "POST", "/volumes/create");
    side.ask("inspect nothing", "GET", "/volumes/parity-nosuch");
    side.ask("remove nothing", "DELETE", "/volumes/parity-nosuch");
    side.ask("remove nothing by force", "DELETE", "/volumes/parity-nosuch?force=1");
    side.ask("prune others", "POST", "/volumes/prune?filters=%7B%22label%22:%5B%22parity=nosuch%22%5D%7D");
    side.ask(
        "prune",
        "POST",
        "/volumes/prune?filters=%7B%22all%22:%5B%22true%22%5D,%22label%22:%5B%22parity=volume%22%5D%7D",
    );
    side.ask("inspect after prune", "GET", "/volumes/parity-volume");
}
