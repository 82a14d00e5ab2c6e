//! The networks that every engine has.

use crate::parity::observe::Side;
use serde_json::json;

pub(super) fn run(side: &mut Side) {
    let image = side.image();
    side.running("parity-networked", &json!({"Image": image}));
    let only = |name: &str| format!("%7B%22name%22:%5B%22{name}%22%5D%7D");
    for name in ["bridge", "host", "none"] {
        side.ask(&format!("list {name}"), "GET", &format!("/networks?filters={}", only(&format!("%5E{name}$"))));
        side.ask(&format!("remove {name}"), "DELETE", &format!("/networks/{name}"));
    }
    side.ask("list by driver", "GET", "/networks?filters=%7B%22driver%22:%5B%22null%22%5D%7D");
    side.ask("list nothing", "GET", &format!("/networks?filters={}", only("nosuch")));
    side.ask("inspect host", "GET", "/networks/host");
    side.ask("inspect none", "GET", "/networks/none");
    inspected_bridge(side);
    side.ask("inspect nothing", "GET", "/networks/parity-nosuch");
    side.ask("remove nothing", "DELETE", "/networks/parity-nosuch");
    side.ask("create without a body", "POST", "/networks/create");
    side.ask_with("create without a name", "POST", "/networks/create", &json!({}));
    side.ask_with("create bridge", "POST", "/networks/create", &json!({"Name": "bridge"}));
    side.ask_with("connect nobody", "POST", "/networks/parity-nosuch/connect", &json!({"Container": "nosuch"}));
    side.ask_with("disconnect nobody", "POST", "/networks/parity-nosuch/disconnect", &json!({"Container": "nosuch"}));
}

/// The default bridge with the container of this scenario only: others come and go.
fn inspected_bridge(side: &mut Side) {
    let mut bridge = side.quietly("GET", "/networks/bridge", &serde_json::Value::Null);
    if let Some(containers) = bridge["Containers"].as_object_mut() {
        containers.retain(|_, container| container["Name"] == "parity-networked");
    }
    side.note_value("inspect bridge", bridge, crate::parity::observe::Depth::Values);
}
