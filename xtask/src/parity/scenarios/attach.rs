//! Streams of a container's own process: attach, logs, wait.

use crate::parity::http::Answer;
use crate::parity::observe::{Depth, Side, described, frames};
use serde_json::{Value, json};

const UPGRADE: [(&str, &str); 2] = [("Connection", "Upgrade"), ("Upgrade", "tcp")];

pub(super) fn run(side: &mut Side) {
    let image = side.image();
    attached(side, image);
    logged(side, image);
    waited(side, image);
    exit_codes(side, image);
}

/// Notes the head and the content of a stream.
pub(super) fn note_stream(side: &mut Side, name: &str, stream: Result<(Answer, Value), String>) {
    let noted = match stream {
        Ok((head, content)) => {
            let mut noted = described(&head);
            noted["body"] = content;
            noted["chunked"] = head.header("transfer-encoding").is_some().into();
            noted
        }
        Err(failure) => json!({ "failure": failure }),
    };
    side.note_value(name, noted, Depth::Values);
}

/// Attaches before the start, starts, sends the input and notes the whole output.
fn session(side: &mut Side, name: &str, body: &Value, query: &str, headers: &[(&str, &str)], input: Option<&[u8]>) {
    let id = side.container(&format!("parity-{}", name.replace([' ', ',', '\''], "-")), body);
    let noted = (|| {
        let mut connection = side.open("POST", &format!("/containers/{id}/attach?{query}"), headers, b"")?;
        let head = connection.head()?;
        side.quietly("POST", &format!("/containers/{id}/start"), &Value::Null);
        if let Some(input) = input {
            connection.write(input)?;
            connection.close_input()?;
        }
        let bytes = connection.rest()?;
        let tty = body["Tty"] == true;
        let content = if tty { String::from_utf8_lossy(&bytes).into_owned().into() } else { frames(&bytes) };
        Ok::<_, String>((head, content))
    })();
    note_stream(side, name, noted);
    side.wait(&id);
}

fn attached(side: &mut Side, image: &str) {
    let both = json!({"Image": image, "Cmd": ["sh", "-c", "echo out; echo err >&2"]});
    session(side, "attach", &both, "stream=1&stdout=1&stderr=1", &UPGRADE, None);
    session(side, "attach without an upgrade", &both, "stream=1&stdout=1&stderr=1", &[], None);
    session(side, "attach to stderr", &both, "stream=1&stderr=1", &UPGRADE, None);
    let cat = json!({"Image": image, "Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true, "AttachStdin": true, "AttachStdout": true});
    session(side, "attach with input", &cat, "stream=1&stdin=1&stdout=1", &UPGRADE, Some(b"one\ntwo\n"));
    let tty = json!({"Image": image, "Cmd": ["sh", "-c", "echo out; tty"], "Tty": true});
    session(side, "attach to a terminal", &tty, "stream=1&stdout=1&stderr=1", &UPGRADE, None);
    let id = side.running("parity-attach-later", &both);
    side.wait(&id);
    let noted = (|| {
        let mut connection =
            side.open("POST", &format!("/containers/{id}/attach?logs=1&stdout=1&stderr=1"), &UPGRADE, b"")?;
        Ok((connection.head()?, frames(&connection.rest()?)))
    })();
    note_stream(side, "attach to the past", noted);
    side.ask(
        "attach with bad detach keys",
        "POST",
        &format!("/containers/{id}/attach?stream=1&stdin=1&detachKeys=nonsense"),
    );
    let id = side.running("parity-attach-paused", &json!({"Image": image}));
    side.quietly("POST", &format!("/containers/{id}/pause"), &Value::Null);
    side.ask("attach to a paused container", "POST", &format!("/containers/{id}/attach?stream=1&stdout=1"));
    side.quietly("POST", &format!("/containers/{id}/unpause"), &Value::Null);
    detached(side, image);
}

/// The detach keys end the session and nothing else.
fn detached(side: &mut Side, image: &str) {
    let body = json!({"Image": image, "Cmd": ["cat"], "Tty": true, "OpenStdin": true});
    let id = side.running("parity-detach", &body);
    let noted = (|| {
        let mut connection =
            side.open("POST", &format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1"), &UPGRADE, b"")?;
        let head = connection.head()?;
        connection.write(b"hi\n")?;
        let echoed = connection.until(b"hi\r\nhi\r\n")?;
        connection.write(&[16, 17])?;
        let rest = connection.rest()?;
        Ok::<_, String>((head, String::from_utf8_lossy(&[echoed, rest].concat()).into_owned().into()))
    })();
    note_stream(side, "detach by keys", noted);
    side.ask("inspect after detaching", "GET", &format!("/containers/{id}/json"));
}

fn logs(side: &mut Side, name: &str, id: &str, query: &str, tty: bool) {
    let answer = side.send("GET", &format!("/containers/{id}/logs?{query}"), &[], b"");
    let noted = answer.map(|answer| {
        let content =
            if tty { String::from_utf8_lossy(&answer.body).into_owned().into() } else { frames(&answer.body) };
        (answer, content)
    });
    note_stream(side, name, noted);
}

fn logged(side: &mut Side, image: &str) {
    // The pauses keep the order of the two streams, which are two pipes.
    let lines = "for i in 1 2 3; do echo out $i; sleep 0.05; echo err $i >&2; sleep 0.05; done; echo -n partial";
    let id = side.running("parity-logs", &json!({"Image": image, "Cmd": ["sh", "-c", lines]}));
    side.wait(&id);
    for (name, query) in [
        ("logs", "stdout=1&stderr=1"),
        ("logs of stdout", "stdout=1"),
        ("logs of stderr", "stderr=true"),
        ("logs, the last two", "stdout=1&stderr=1&tail=2"),
        ("logs, none of them", "stdout=1&tail=0"),
        ("logs, all of them", "stdout=1&tail=all"),
        ("logs, the last nonsense", "stdout=1&tail=nonsense"),
        ("logs, the last minus one", "stdout=1&tail=-1"),
        ("logs of the future", "stdout=1&since=4000000000"),
        ("logs of the past", "stdout=1&until=1"),
        ("logs followed to the end", "stdout=1&stderr=1&follow=1"),
        ("logs with details", "stdout=1&details=1"),
    ] {
        logs(side, name, &id, query, false);
    }
    let id = side.running("parity-logs-time", &json!({"Image": image, "Cmd": ["echo", "now"]}));
    side.wait(&id);
    let answer = side.send("GET", &format!("/containers/{id}/logs?stdout=1&timestamps=1"), &[], b"");
    let text = answer.map(|answer| String::from_utf8_lossy(answer.body.get(8..).unwrap_or_default()).into_owned());
    // The time has nine digits of a fraction here, unlike everywhere else.
    let form = text.map(|text| text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>());
    side.note_value("logs with times", json!(form.unwrap_or_default()), Depth::Values);
    let id = side.running("parity-logs-tty", &json!({"Image": image, "Cmd": ["echo", "terminal"], "Tty": true}));
    side.wait(&id);
    logs(side, "logs of a terminal", &id, "stdout=1", true);
    side.ask("logs of no stream", "GET", &format!("/containers/{id}/logs"));
    side.ask("logs since no time", "GET", &format!("/containers/{id}/logs?stdout=1&since=x"));
    let body = json!({"Image": image, "Cmd": ["echo", "x"], "HostConfig": {"LogConfig": {"Type": "none"}}});
    let id = side.running("parity-logs-none", &body);
    side.wait(&id);
    side.ask("logs of a container without logs", "GET", &format!("/containers/{id}/logs?stdout=1"));
}

/// The head of wait comes at once: a client starts the container after it.
fn waited(side: &mut Side, image: &str) {
    for condition in ["next-exit", "removed"] {
        let body = json!({"Image": image, "Cmd": ["sh", "-c", "exit 7"], "HostConfig": {"AutoRemove": condition == "removed"}});
        let id = side.container(&format!("parity-wait-{condition}"), &body);
        let noted = (|| {
            let mut connection =
                side.open("POST", &format!("/containers/{id}/wait?condition={condition}"), &[], b"")?;
            let head = connection.head()?;
            side.quietly("POST", &format!("/containers/{id}/start"), &Value::Null);
            let body = connection.chunks()?.concat();
            Ok::<_, String>((head, serde_json::from_slice(&body).unwrap_or_default()))
        })();
        note_stream(side, &format!("wait until {condition}"), noted);
        side.ask(&format!("inspect after {condition}"), "GET", &format!("/containers/{id}/json"));
    }
}

fn exit_codes(side: &mut Side, image: &str) {
    for (name, command) in [
        ("0", "true"),
        ("42", "exit 42"),
        ("killed by itself", "kill -9 $$"),
        ("terminated by itself", "kill -15 $$; sleep 1"),
    ] {
        let id = side.running(
            &format!("parity-exit-{}", name.replace(' ', "-")),
            &json!({"Image": image, "Cmd": ["sh", "-c", command]}),
        );
        let waited = side.wait(&id);
        let state = side.quietly("GET", &format!("/containers/{id}/json"), &Value::Null)["State"].clone();
        side.note_value(&format!("exit code: {name}"), json!({ "wait": waited, "State": state }), Depth::Values);
    }
}
