//! What we ask an engine for is what Docker's own client asks it for: the same command lines, the requests side by side.
//!
//! The one difference by design stands in [`SPARED`].

mod client;
mod engine;

use engine::{Engine, Reply, Request};
use serde_json::Value;
use std::collections::BTreeMap;

/// Requests that Docker sends and we spare: looking at a container whose error would come with the request itself anyway.
const SPARED: &[&str] = &["exec", "logs"];

/// Command lines, one request each unless Docker looks first.
const LINES: &str = include_str!("requests.txt");

/// Target, query, members of the body by path, and credentials.
type Essence = (String, BTreeMap<String, Vec<String>>, BTreeMap<String, String>, Option<String>);

/// A request in a form that can be compared: empty parameters, and JSON members that say nothing, are left out.
fn essence(request: &Request) -> Essence {
    let query = request.query.iter().filter(|(_, values)| values.iter().any(|value| !value.is_empty()));
    let query = query.map(|(name, values)| (name.clone(), values.clone())).collect();
    let mut body = BTreeMap::new();
    if let Ok(value) = serde_json::from_slice::<Value>(&request.body) {
        flatten(&value, String::new(), &mut body);
    }
    let auth = request.headers.get("x-registry-auth").cloned();
    (format!("{} {}", request.method, request.path), query, body, auth)
}

fn flatten(value: &Value, name: String, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| flatten(value, format!("{name}.{key}"), out)),
        // Go leaves an empty runtime out.
        Value::String(text) if text.is_empty() && name.ends_with(".Runtime") => {}
        // Docker collects these in a map, whose order changes from run to run.
        Value::Array(items) if name.ends_with(".Binds") => {
            let mut items: Vec<String> = items.iter().map(Value::to_string).collect();
            items.sort();
            out.insert(name, items.join(","));
        }
        other => {
            out.insert(name, other.to_string());
        }
    }
}

#[test]
fn requests_are_dockers() {
    let Some(docker) = client::docker() else {
        eprintln!("skipped: Docker's command line 28.2 is not on PATH");
        return;
    };
    let engine = Engine::start(|_| Reply::Whole(500, r#"{"message":"no"}"#));
    let our_client = client::ours();
    let sent = |program, line: &str| {
        let output =
            client::command(program, &engine.host()).args(client::words(line)).env("FOO", "bar").output().unwrap();
        (engine.take(), client::shown(&output))
    };
    for line in LINES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (theirs, their_output) = sent(&docker, line);
        let (ours, our_output) = sent(&our_client, line);
        let looks_first = SPARED.contains(&line.split(' ').next().unwrap());
        if looks_first {
            assert!(theirs[0].path.ends_with("/json") && !ours[0].path.ends_with("/json"), "{line}");
            continue;
        }
        let essences = |requests: &[Request]| requests.iter().map(essence).collect::<Vec<_>>();
        assert_eq!(essences(&ours), essences(&theirs), "docker {line}");
        assert_eq!(our_output, their_output, "docker {line}");
    }
}

/// An engine that finds our version too new is asked again with its own.
#[test]
fn an_older_engine_is_asked_again() {
    let engine = Engine::start(|request| match request.path.strip_prefix("/v1.45") {
        Some("/containers/json") => Reply::Whole(200, "[]"),
        _ => {
            Reply::Whole(400, r#"{"message":"client version 1.50 is too new. Maximum supported API version is 1.45"}"#)
        }
    });
    let output = client::command(&client::ours(), &engine.host()).args(["ps", "-q"]).output().unwrap();
    assert_eq!(client::shown(&output), (Some(0), String::new(), String::new()));
    assert_eq!(engine.take().len(), 2);
}

/// One connection serves a command's requests one after another, and nothing is asked that nobody needs.
#[test]
fn no_ping_before_a_command() {
    let engine = Engine::start(|_| Reply::Whole(200, "[]"));
    client::command(&client::ours(), &engine.host()).args(["ps"]).output().unwrap();
    let paths: Vec<String> = engine.take().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/containers/json"]);
}
