//! The engine as a whole, and what every request shares.

use crate::parity::observe::Side;
use serde_json::json;

pub(super) fn run(side: &mut Side) {
    let image = side.image();
    // One of each, so that lists have a first element.
    side.at_the_end("DELETE", "/volumes/parity-system");
    side.running("parity-system", &json!({"Image": image, "HostConfig": {"Binds": ["parity-system:/v"]}}));
    side.ask("ping", "GET", "/_ping");
    side.ask("ping by HEAD", "HEAD", "/_ping");
    side.ask_shape("version", "GET", "/version");
    side.ask_shape("info", "GET", "/info");
    side.ask_shape("disk usage", "GET", "/system/df");
    side.ask("disk usage of an unknown type", "GET", "/system/df?type=nonsense");
    side.ask("options", "OPTIONS", "/info");
    addresses(side);
    bodies(side);
    filters(side);
    side.ask("events since no time", "GET", "/events?since=yesterday");
    side.ask("events that end before they begin", "GET", "/events?since=20&until=10");
    side.ask("events until the past", "GET", "/events?until=1");
    side.ask("login with a broken body", "POST", "/auth");
    for path in ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/plugins"] {
        side.ask(&format!("without swarm: {path}"), "GET", path);
    }
}

fn addresses(side: &mut Side) {
    side.ask("unknown page", "GET", "/nope");
    side.ask("wrong method", "PUT", "/version");
    side.ask("unknown page of an unserved version", "GET", "/v1.10/nope");
    side.ask("version that is too old", "GET", "/v1.10/version");
    side.ask("version that is no version", "GET", "/v1.x/version");
    side.ask("doubled slash", "GET", "//info?a=b");
    side.ask("slash at the end", "GET", "/networks/?filters=%7B%22name%22:%5B%22nosuch%22%5D%7D");
}

fn bodies(side: &mut Side) {
    let json = [("Content-Type", "application/json")];
    let create = "/containers/create";
    side.ask("create without a body", "POST", create);
    side.ask_raw("create with a form", "POST", create, &[("Content-Type", "application/x-www-form-urlencoded")], b"{}");
    side.ask_raw("create from plain text", "POST", create, &[("Content-Type", "text/plain")], b"{}");
    side.ask_raw(
        "create with a charset",
        "POST",
        create,
        &[("Content-Type", "application/json; charset=utf-8")],
        b"{}",
    );
    for (name, body) in [
        ("nothing in it", "{}"),
        ("white space", "  "),
        ("no JSON", "x"),
        ("a bad key", "{x"),
        ("an open object", "{"),
        ("two values", r#"{"Image":"parity/rootfs:1"} {}"#),
        ("a list", "[]"),
        ("a number for a flag", r#"{"HostConfig":{"Privileged":1}}"#),
        ("a text for a number", r#"{"HostConfig":{"ShmSize":"x"}}"#),
        ("a fraction", r#"{"HostConfig":{"ShmSize":1.5}}"#),
        ("a port that is too large", r#"{"Image":"parity/rootfs:1","HostConfig":{"BlkioWeight":70000}}"#),
    ] {
        side.ask_raw(&format!("create with {name}"), "POST", create, &json, body.as_bytes());
    }
}

fn filters(side: &mut Side) {
    for (name, path, filters) in [
        ("unknown filter", "/containers/json", json!({"foo": ["x"]})),
        ("filter that is a list", "/containers/json", json!(["x"])),
        ("filter that is a text", "/containers/json", json!({"label": "x"})),
        ("status that does not exist", "/containers/json", json!({"status": ["x"]})),
        ("health that does not exist", "/containers/json", json!({"health": ["x"]})),
        ("exit code that is no number", "/containers/json", json!({"exited": ["x"]})),
        ("before no container", "/containers/json", json!({"before": ["nosuch"]})),
        ("dangling that is no flag", "/images/json", json!({"dangling": ["x"]})),
        ("unknown filter of images", "/images/json", json!({"foo": ["x"]})),
        ("before no image", "/images/json", json!({"before": ["nosuch"]})),
        ("unknown filter of volumes", "/volumes", json!({"foo": ["x"]})),
        ("unknown filter of networks", "/networks", json!({"foo": ["x"]})),
        ("type of network that does not exist", "/networks", json!({"type": ["x"]})),
        ("unknown filter of events", "/events", json!({"foo": ["x"]})),
    ] {
        let text: String = filters.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
        // A list of events ends by itself only when its end is past.
        side.ask(name, "GET", &format!("{path}?filters={text}&until=1"));
    }
    side.ask("filters that are no JSON", "GET", "/containers/json?filters=x");
    side.ask("limit that is no number", "GET", "/containers/json?limit=x");
    side.ask("prune by an unknown filter", "POST", "/containers/prune?filters=%7B%22foo%22:%5B%22x%22%5D%7D");
    side.ask("prune images by an unknown filter", "POST", "/images/prune?filters=%7B%22foo%22:%5B%22x%22%5D%7D");
    side.ask("prune volumes by an unknown filter", "POST", "/volumes/prune?filters=%7B%22foo%22:%5B%22x%22%5D%7D");
}
