//! Processes started in a running container.

use crate::parity::observe::{Depth, Side, frames};
use serde_json::{Value, json};

pub(super) fn run(side: &mut Side) {
    let image = side.image();
    let id = side.running("parity-exec", &json!({"Image": image, "Cmd": ["sleep", "1000"]}));
    created(side, &id);
    started(side, &id);
    refused(side, &id);
    let ids = side.quietly("GET", &format!("/containers/{id}/json"), &Value::Null)["ExecIDs"].clone();
    // How many have not been forgotten yet depends on the moment.
    side.note_value("execs of the container", ids.is_array().into(), Depth::Values);
    side.quietly("POST", &format!("/containers/{id}/kill"), &Value::Null);
    side.wait(&id);
    side.ask_with(
        "create in a stopped container",
        "POST",
        &format!("/containers/{id}/exec"),
        &json!({"Cmd": ["true"]}),
    );
}

fn make(side: &Side, id: &str, body: &Value) -> String {
    let created = side.quietly("POST", &format!("/containers/{id}/exec"), body);
    created["Id"].as_str().unwrap_or("missing").to_owned()
}

fn created(side: &mut Side, id: &str) {
    let body = json!({"Cmd": ["sh", "-c", "echo out; echo err >&2; exit 3"], "AttachStdout": true, "AttachStderr": true, "Env": ["A=1"], "User": "user", "WorkingDir": "/data", "DetachKeys": "ctrl-a"});
    let created = side.ask_with("create", "POST", &format!("/containers/{id}/exec"), &body);
    let exec = created["Id"].as_str().unwrap_or("missing").to_owned();
    side.ask("inspect before its start", "GET", &format!("/exec/{exec}/json"));
    side.ask("resize before its start", "POST", &format!("/exec/{exec}/resize?h=10&w=10"));
    stream(side, "start", &exec, &json!({}), true);
    side.ask("inspect after its end", "GET", &format!("/exec/{exec}/json"));
    side.ask_with("start again", "POST", &format!("/exec/{exec}/start"), &json!({"Detach": true}));
}

fn started(side: &mut Side, id: &str) {
    let output = |command: &str| json!({"Cmd": ["sh", "-c", command], "AttachStdout": true, "AttachStderr": true});
    let exec = make(side, id, &output("echo plain; echo error >&2"));
    stream(side, "start without an upgrade", &exec, &json!({}), false);
    let exec = make(side, id, &json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true}));
    with_input(side, "start with input", &exec);
    let exec = make(side, id, &json!({"Cmd": ["tty"], "Tty": true, "AttachStdout": true}));
    stream(side, "start with a terminal", &exec, &json!({"Tty": true}), true);
    let exec = make(side, id, &json!({"Cmd": ["nosuch"], "AttachStdout": true, "AttachStderr": true}));
    stream(side, "start what does not exist", &exec, &json!({}), true);
    side.ask("inspect what does not exist", "GET", &format!("/exec/{exec}/json"));
    let exec = make(side, id, &json!({"Cmd": ["/data/file"], "AttachStdout": true}));
    stream(side, "start what is no program", &exec, &json!({}), true);
    let exec = make(side, id, &json!({"Cmd": ["true"], "User": "nosuch", "AttachStdout": true}));
    stream(side, "start as nobody", &exec, &json!({}), true);
    let exec = make(side, id, &json!({"Cmd": ["true"]}));
    side.ask_with("start detached", "POST", &format!("/exec/{exec}/start"), &json!({"Detach": true}));
    let exec = make(side, id, &json!({"Cmd": ["nosuch"]}));
    side.ask_with(
        "start detached what does not exist",
        "POST",
        &format!("/exec/{exec}/start"),
        &json!({"Detach": true}),
    );
    let exec = make(side, id, &json!({"Cmd": ["sleep", "100"]}));
    side.quietly("POST", &format!("/exec/{exec}/start"), &json!({"Detach": true}));
    side.ask("inspect while it runs", "GET", &format!("/exec/{exec}/json"));
    side.ask("resize while it runs", "POST", &format!("/exec/{exec}/resize?h=10&w=10"));
}

fn refused(side: &mut Side, id: &str) {
    let target = format!("/containers/{id}/exec");
    side.ask_with("create without a command", "POST", &target, &json!({}));
    side.ask_with("create with an empty command", "POST", &target, &json!({"Cmd": []}));
    side.ask_with("create with bad detach keys", "POST", &target, &json!({"Cmd": ["true"], "DetachKeys": "nonsense"}));
    side.ask_raw("create with a bad body", "POST", &target, &[("Content-Type", "application/json")], b"{x");
    side.ask_raw("create from text", "POST", &target, &[("Content-Type", "text/plain")], b"{}");
    side.ask("create without a body", "POST", &target);
    side.ask_with("start no exec", "POST", "/exec/nosuch/start", &json!({}));
    side.ask("start no exec without a body", "POST", "/exec/nosuch/start");
    side.ask("inspect no exec", "GET", "/exec/nosuch/json");
    side.ask("resize no exec", "POST", "/exec/nosuch/resize?h=1&w=1");
    side.ask("resize no exec to nothing", "POST", "/exec/nosuch/resize");
    let exec = make(side, id, &json!({"Cmd": ["true"]}));
    side.ask_with(
        "start with a size and no terminal",
        "POST",
        &format!("/exec/{exec}/start"),
        &json!({"ConsoleSize": [1, 1]}),
    );
}

/// Starts an exec on a hijacked connection and notes head and stream.
fn stream(side: &mut Side, name: &str, exec: &str, body: &Value, upgrade: bool) {
    let noted = (|| {
        let mut headers = vec![("Content-Type", "application/json")];
        if upgrade {
            headers.extend([("Connection", "Upgrade"), ("Upgrade", "tcp")]);
        }
        let mut connection =
            side.open("POST", &format!("/exec/{exec}/start"), &headers, body.to_string().as_bytes())?;
        let head = connection.head()?;
        let bytes = connection.rest()?;
        let content =
            if body["Tty"] == true { String::from_utf8_lossy(&bytes).into_owned().into() } else { frames(&bytes) };
        Ok::<_, String>((head, content))
    })();
    super::attach::note_stream(side, name, noted);
}

fn with_input(side: &mut Side, name: &str, exec: &str) {
    let noted = (|| {
        let headers = [("Content-Type", "application/json"), ("Connection", "Upgrade"), ("Upgrade", "tcp")];
        let mut connection = side.open("POST", &format!("/exec/{exec}/start"), &headers, b"{}")?;
        let head = connection.head()?;
        connection.write(b"first\nsecond\n")?;
        connection.close_input()?;
        let bytes = connection.rest()?;
        Ok::<_, String>((head, frames(&bytes)))
    })();
    super::attach::note_stream(side, name, noted);
    side.ask(&format!("inspect after {name}"), "GET", &format!("/exec/{exec}/json"));
}
