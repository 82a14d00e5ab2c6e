//! Files in and out of containers.

use crate::parity::observe::{Depth, Side, described};
use serde_json::{Value, json};

pub(super) fn run(side: &mut Side) {
    let image = side.image();
    let command = "echo new > /data/new; rm /data/file; mkdir /tmp/made; touch /etc/passwd; sleep 1000";
    let id = side.running("parity-archive", &json!({"Image": image, "Cmd": ["sh", "-c", command]}));
    for state in ["running", "stopped"] {
        looked_up(side, &id, state);
        taken(side, &id, state);
        put(side, &id, state);
        changed(side, &id, state);
        exported(side, &id, state);
        side.quietly("POST", &format!("/containers/{id}/kill"), &Value::Null);
        side.wait(&id);
    }
}

/// Changes by path: their order is that of a walk through folders.
fn changed(side: &mut Side, id: &str, state: &str) {
    let mut changes = side.quietly("GET", &format!("/containers/{id}/changes"), &Value::Null);
    if let Some(changes) = changes.as_array_mut() {
        changes.sort_by_key(|change| change["Path"].to_string());
    }
    side.note_value(&format!("changes: {state}"), changes, Depth::Values);
}

/// The stat header without what depends on the moment.
fn stat(answer: &crate::parity::http::Answer) -> Value {
    let Some(text) = answer.header("x-docker-container-path-stat") else { return Value::Null };
    let mut value: Value = serde_json::from_slice(&decode(text)).unwrap_or_default();
    if let Some(size) = value.get_mut("size") {
        // The size of a folder is the file system's business.
        *size = "<number>".into();
    }
    value
}

/// Base64, without a dependency for one header.
fn decode(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => u32::from(c - b'A'),
        b'a'..=b'z' => u32::from(c - b'a') + 26,
        b'0'..=b'9' => u32::from(c - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> = text.bytes().filter(|c| *c != b'=').map(value).collect();
    let quads = digits.chunks(4).flat_map(|quad| {
        let bits = quad.iter().fold(0, |all, digit| all << 6 | digit) << (6 * (4 - quad.len()));
        bits.to_be_bytes()[1..quad.len()].to_vec()
    });
    quads.collect()
}

fn looked_up(side: &mut Side, id: &str, state: &str) {
    for path in
        ["/", "/etc", "/etc/", "/bin/sh", "/data/new", "/nosuch", "/data/new/", "/../etc/passwd", "relative", ""]
    {
        let answer = side.send("HEAD", &format!("/containers/{id}/archive?path={path}"), &[], b"");
        let noted = answer.map(|answer| {
            let mut noted = described(&answer);
            noted["stat"] = stat(&answer);
            noted
        });
        side.note_value(&format!("stat {path:?}: {state}"), noted.unwrap_or_default(), Depth::Values);
    }
}

/// Names, kinds and sizes of the entries of a tar archive.
fn entries(bytes: &[u8]) -> Vec<String> {
    let (mut at, mut found) = (0, Vec::new());
    while let Some(header) = bytes.get(at..at + 512) {
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&header[range]).trim_end_matches(['\0', ' ']).to_owned()
        };
        if header[0] == 0 {
            break;
        }
        let size = usize::from_str_radix(&text(124..136), 8).unwrap_or(0);
        found.push(format!(
            "{} {} {} -> {:?} mode {}",
            char::from(header[156]),
            text(0..100),
            size,
            text(157..257),
            text(100..108)
        ));
        at += 512 + size.next_multiple_of(512);
    }
    found
}

fn taken(side: &mut Side, id: &str, state: &str) {
    for path in ["/data", "/data/", "/data/.", "/data/new", "/bin/sh", "/nosuch", "/data/new/"] {
        let answer = side.send("GET", &format!("/containers/{id}/archive?path={path}"), &[], b"");
        let noted = answer.map(|answer| {
            let mut noted = described(&answer);
            if answer.status == 200 {
                noted["body"] = json!(entries(&answer.body));
                noted["stat"] = stat(&answer);
            }
            noted
        });
        side.note_value(&format!("get {path:?}: {state}"), noted.unwrap_or_default(), Depth::Values);
    }
    side.ask(&format!("get no path: {state}"), "GET", &format!("/containers/{id}/archive"));
}

fn put(side: &mut Side, id: &str, state: &str) {
    let archive = side.archive.clone();
    let headers = [("Content-Type", "application/x-tar")];
    side.ask_raw(
        &format!("put into a folder: {state}"),
        "PUT",
        &format!("/containers/{id}/archive?path=/tmp"),
        &headers,
        &archive,
    );
    side.ask_raw(
        &format!("put into nothing: {state}"),
        "PUT",
        &format!("/containers/{id}/archive?path=/nosuch"),
        &headers,
        &archive,
    );
    side.ask_raw(
        &format!("put into a file: {state}"),
        "PUT",
        &format!("/containers/{id}/archive?path=/data/new"),
        &headers,
        &archive,
    );
    side.ask_raw(
        &format!("put no archive: {state}"),
        "PUT",
        &format!("/containers/{id}/archive?path=/tmp"),
        &headers,
        b"this is no archive",
    );
    side.ask_raw(&format!("put nowhere: {state}"), "PUT", &format!("/containers/{id}/archive"), &headers, &archive);
    side.ask_raw(
        &format!("put a folder over a file: {state}"),
        "PUT",
        &format!("/containers/{id}/archive?path=/tmp&noOverwriteDirNonDir=1"),
        &headers,
        &archive,
    );
}

fn exported(side: &mut Side, id: &str, state: &str) {
    let answer = side.send("GET", &format!("/containers/{id}/export"), &[], b"");
    let noted = answer.map(|answer| {
        let mut noted = described(&answer);
        let mut names = entries(&answer.body);
        names.sort();
        noted["body"] = json!(names);
        noted
    });
    side.note_value(&format!("export: {state}"), noted.unwrap_or_default(), Depth::Values);
}
