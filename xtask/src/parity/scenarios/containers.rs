//! The life of a container from create to remove, looked at after every step.

use crate::parity::observe::Side;
use serde_json::{Value, json};

pub(super) fn run(side: &mut Side) {
    let image = side.image();
    let created = side.ask_with(
        "create",
        "POST",
        "/containers/create?name=parity-life",
        &json!({"Image": image, "Cmd": ["sleep", "1000"], "Labels": {"parity": "life"}}),
    );
    let id = created["Id"].as_str().unwrap_or("missing").to_owned();
    side.at_the_end("DELETE", &format!("/containers/{id}?force=1"));
    let at = |what: &str| format!("/containers/{id}{what}");
    look(side, "created", &id);
    side.ask("stop before start", "POST", &at("/stop"));
    side.ask("kill before start", "POST", &at("/kill"));
    side.ask("pause before start", "POST", &at("/pause"));
    side.ask("unpause before start", "POST", &at("/unpause"));
    side.ask("top before start", "GET", &at("/top"));
    side.ask("resize before start", "POST", &at("/resize?h=10&w=10"));
    side.ask("logs before start", "GET", &at("/logs?stdout=1"));
    side.ask("stats before start", "GET", &at("/stats?stream=0&one-shot=1"));
    side.ask("start with a body", "POST", &at("/start?x=1"));
    side.ask("start again", "POST", &at("/start"));
    look(side, "running", &id);
    side.ask("inspect with size", "GET", &at("/json?size=1"));
    side.ask_shape("top", "GET", &at("/top"));
    side.ask_shape("top with arguments", "GET", &at("/top?ps_args=-o%20pid,comm"));
    side.ask("top with bad arguments", "GET", &at("/top?ps_args=-o%20comm"));
    side.ask_shape("stats", "GET", &at("/stats?stream=0&one-shot=1"));
    side.ask("resize", "POST", &at("/resize?h=10&w=10"));
    side.ask("resize to nothing", "POST", &at("/resize"));
    side.ask("resize to no number", "POST", &at("/resize?h=a&w=1"));
    side.ask("remove while it runs", "DELETE", &at(""));
    paused(side, &id);
    renamed(side, &id);
    updated(side, &id);
    ended(side, &id);
    pruned(side);
}

fn look(side: &mut Side, state: &str, id: &str) {
    side.ask(&format!("inspect: {state}"), "GET", &format!("/containers/{id}/json"));
    let filters = "%7B%22label%22:%7B%22parity=life%22:true%7D%7D";
    side.ask(&format!("list: {state}"), "GET", &format!("/containers/json?all=1&filters={filters}"));
    side.ask(&format!("list running: {state}"), "GET", &format!("/containers/json?filters={filters}"));
}

fn paused(side: &mut Side, id: &str) {
    let at = |what: &str| format!("/containers/{id}{what}");
    side.ask("pause", "POST", &at("/pause"));
    side.ask("pause again", "POST", &at("/pause"));
    look(side, "paused", id);
    side.ask("start while paused", "POST", &at("/start"));
    side.ask_with("exec while paused", "POST", &at("/exec"), &json!({"Cmd": ["true"]}));
    side.ask("remove while paused", "DELETE", &at(""));
    side.ask("unpause", "POST", &at("/unpause"));
    side.ask("unpause again", "POST", &at("/unpause"));
}

fn renamed(side: &mut Side, id: &str) {
    let at = |what: &str| format!("/containers/{id}{what}");
    side.ask("rename", "POST", &at("/rename?name=parity-renamed"));
    side.ask("rename to its own name", "POST", &at("/rename?name=parity-renamed"));
    side.ask("rename to nothing", "POST", &at("/rename"));
    side.ask("rename to a bad name", "POST", &at("/rename?name=-bad-"));
    side.ask_with(
        "create under a name in use",
        "POST",
        "/containers/create?name=parity-renamed",
        &json!({"Image": "parity/rootfs:1"}),
    );
    side.ask("inspect by name", "GET", "/containers/parity-renamed/json");
    side.ask("inspect by the beginning of its id", "GET", &format!("/containers/{}/json", &id[..id.len().min(12)]));
    side.ask("rename back", "POST", "/containers/parity-renamed/rename?name=parity-life");
}

fn updated(side: &mut Side, id: &str) {
    let update = format!("/containers/{id}/update");
    side.ask_with("update nothing", "POST", &update, &json!({}));
    side.ask_with(
        "update limits",
        "POST",
        &update,
        &json!({"Memory": 67_108_864, "MemorySwap": 134_217_728, "CpuShares": 512, "PidsLimit": 50}),
    );
    side.ask_with(
        "update the restart policy",
        "POST",
        &update,
        &json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}),
    );
    side.ask("inspect: updated", "GET", &format!("/containers/{id}/json"));
    side.ask_with("update to too little memory", "POST", &update, &json!({"Memory": 1024}));
    side.ask_with("update to a bad restart policy", "POST", &update, &json!({"RestartPolicy": {"Name": "sometimes"}}));
    side.ask_with(
        "update both ways of saying processors",
        "POST",
        &update,
        &json!({"NanoCpus": 500_000_000, "CpuPeriod": 1000}),
    );
    side.ask("update without a body", "POST", &update);
    side.quietly("POST", &update, &json!({"RestartPolicy": {"Name": "no"}}));
}

fn ended(side: &mut Side, id: &str) {
    let at = |what: &str| format!("/containers/{id}{what}");
    side.ask("kill with a bad signal", "POST", &at("/kill?signal=NONSENSE"));
    side.ask("kill with a harmless signal", "POST", &at("/kill?signal=SIGWINCH"));
    side.ask("stop after no number of seconds", "POST", &at("/stop?t=x"));
    side.ask("stop with a bad signal", "POST", &at("/stop?signal=NONSENSE"));
    side.ask("restart", "POST", &at("/restart?t=0"));
    side.ask("kill", "POST", &at("/kill"));
    side.ask("wait", "POST", &at("/wait"));
    side.ask("wait for a bad condition", "POST", &at("/wait?condition=nonsense"));
    look(side, "killed", id);
    side.ask("kill again", "POST", &at("/kill"));
    side.ask("stop again", "POST", &at("/stop"));
    side.quietly("POST", &at("/start"), &Value::Null);
    side.ask("stop", "POST", &at("/stop?t=0"));
    look(side, "stopped", id);
    side.ask("changes of an untouched root", "GET", &at("/changes"));
    side.ask("remove", "DELETE", &at(""));
    side.ask("remove again", "DELETE", &at(""));
    side.ask("inspect: removed", "GET", "/containers/parity-life/json");
}

fn pruned(side: &mut Side) {
    let filters = "%7B%22label%22:%5B%22parity=prune%22%5D%7D";
    let id = side.container("parity-prune", &json!({"Image": "parity/rootfs:1", "Labels": {"parity": "prune"}}));
    side.ask("prune", "POST", &format!("/containers/prune?filters={filters}"));
    side.ask("prune again", "POST", &format!("/containers/prune?filters={filters}"));
    side.ask("inspect: pruned", "GET", &format!("/containers/{id}/json"));
}
