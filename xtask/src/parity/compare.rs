//! Holds two answers against each other, after replacing what must differ by its format.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::cell::Cell;
use std::path::Path;

use super::observe::{Depth, Observation};

/// One place where two answers differ.
#[derive(Debug)]
pub(crate) struct Difference {
    /// `body.State.Pid`; `[]` stands for every element of a list.
    pub(crate) path: String,
    pub(crate) theirs: String,
    pub(crate) ours: String,
}

/// Numbers and texts that are never the same: their type is compared.
const FREE: &[&str] = &[
    "Pid",
    "Created",
    "Size",
    "VirtualSize",
    "SizeRootFs",
    "SizeRw",
    "time",
    "timeNano",
    "CreatedAt",
    "Mountpoint",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "LogPath",
    "SandboxKey",
    "LowerDir",
    "MergedDir",
    "UpperDir",
    "WorkDir",
    "SpaceReclaimed",
    "LayersSize",
    "SharedSize",
    "Subnet",
    "Gateway",
    "IPAddress",
    "IPv4Address",
    "MacAddress",
    "com.docker.network.bridge.name",
    "execID",
    "execDuration",
];

/// Lists whose order means nothing.
const UNORDERED: &[&str] = &["Mounts", "RepoTags", "ExecIDs"];

/// All places where two answers to one request differ.
pub(crate) fn answers(theirs: Option<&Observation>, ours: Option<&Observation>) -> Vec<Difference> {
    let mut found = Vec::new();
    match (theirs, ours) {
        (Some(theirs), Some(ours)) => {
            let shape = theirs.depth == Depth::Shape;
            let side = |answer: &Value| if shape { shaped(answer) } else { normal("", answer) };
            values("", &side(&theirs.answer), &side(&ours.answer), &mut found);
        }
        (theirs, ours) => {
            let word = |side: Option<&Observation>| side.map_or("was not asked", |_| "was asked").to_owned();
            found.push(Difference { path: "the operation".into(), theirs: word(theirs), ours: word(ours) });
        }
    }
    found
}

fn values(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<Difference>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let inside = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            for (key, value) in a {
                match b.get(key) {
                    Some(other) => values(&inside(key), value, other, found),
                    None => note(inside(key), &short(value), "missing", found),
                }
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                note(inside(key), "missing", &short(value), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (a, b) in a.iter().zip(b) {
                values(&format!("{path}[]"), a, b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            let only = |of: &[Value], not: &[Value]| {
                let only: Vec<Value> = of.iter().filter(|item| !not.contains(item)).cloned().collect();
                format!("{} elements, of its own: {}", of.len(), short(&only.into()))
            };
            note(path.to_owned(), &only(a, b), &only(b, a), found);
        }
        _ if theirs == ours => {}
        _ => note(path.to_owned(), &short(theirs), &short(ours), found),
    }
}

fn note(path: String, theirs: &str, ours: &str, found: &mut Vec<Difference>) {
    // Every element of a list tells the same story.
    if !found.iter().any(|d| d.path == path && d.theirs == theirs && d.ours == ours) {
        found.push(Difference { path, theirs: theirs.into(), ours: ours.into() });
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 600 { text } else { format!("{}…", text.chars().take(600).collect::<String>()) }
}

/// A value with ids, times and addresses replaced by their format.
fn normal(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let named = members.iter().map(|(key, value)| (text_format(key), normal(key, value)));
            // Maps by id come in the order of the ids.
            let mut named: Vec<_> = named.collect();
            named.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(named.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| normal(key, item)).collect();
            if UNORDERED.contains(&key) {
                items.sort_by_key(ToString::to_string);
            }
            items.into()
        }
        Value::String(text) if FREE.contains(&key) => empty_or(text).into(),
        Value::String(text) => text_format(text).into(),
        Value::Number(number) if FREE.contains(&key) => {
            // 0 and -1 mean "nothing" and "not computed".
            match number.as_i64() {
                Some(number @ (0 | -1)) => number.into(),
                _ => "<number>".into(),
            }
        }
        other => other.clone(),
    }
}

fn empty_or(text: &str) -> String {
    if text.is_empty() { String::new() } else { "<text>".into() }
}

/// Where an engine keeps a volume, for the path of one.
fn volume_path(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("/volumes/")?;
    let name = rest.strip_suffix("/_data").filter(|_| text.starts_with('/'))?;
    Some(format!("<root>/volumes/{}/_data", text_format(name)))
}

/// Replaces whole values and parts that are ids, digests, times or addresses.
fn text_format(text: &str) -> String {
    if let Some(time) = time_format(text) {
        return time.into();
    }
    if let Some(path) = volume_path(text) {
        return path;
    }
    let mut result = String::new();
    let mut word = String::new();
    let end = |word: &mut String, result: &mut String| {
        let hex = word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        result.push_str(match (hex, word.len()) {
            (true, 64) => "<id>",
            (true, 12) => "<short id>",
            _ => word,
        });
        word.clear();
    };
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() {
            word.push(letter);
        } else {
            end(&mut word, &mut result);
            result.push(letter);
        }
    }
    end(&mut word, &mut result);
    result
}

/// The format of a time: which zone it is in, and whether it was ever set.
fn time_format(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let date = bytes.len() >= 20 && bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b'T' && bytes[13] == b':';
    if !date {
        return None;
    }
    if text == "0001-01-01T00:00:00Z" {
        return Some("<never>");
    }
    Some(if text.ends_with('Z') { "<time>" } else { "<time with an offset>" })
}

/// Keys and types: every element of a list must have the shape of the first.
fn shaped(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| {
                // The status is no description of the host.
                let value = match key.as_str() {
                    "status" | "headers" => normal(key, value),
                    // Whether a thing of somebody else has labels says nothing.
                    "Labels" => "<labels>".into(),
                    "RepoTags" | "RepoDigests" => "<names>".into(),
                    _ => shaped(value),
                };
                (key.clone(), value)
            })
            .collect(),
        Value::Array(items) => items.first().map(shaped).into_iter().collect(),
        Value::Null => Value::Null,
        Value::Bool(_) => "<bool>".into(),
        Value::Number(_) => "<number>".into(),
        Value::String(text) => if time_format(text).is_some() { "<time>" } else { "<text>" }.into(),
    }
}

/// The list of known differences.
pub(crate) struct Known {
    entries: Vec<(Entry, Cell<bool>)>,
}

/// One of them: an operation and a path, each with `*` for anything, and why it is no bug.
#[derive(Debug, Deserialize)]
struct Entry {
    operation: String,
    path: String,
    reason: String,
}

impl Known {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let entries: Vec<Entry> =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { entries: entries.into_iter().map(|entry| (entry, Cell::new(false))).collect() })
    }

    /// Why this difference is known.
    pub(crate) fn reason(&self, operation: &str, path: &str) -> Option<String> {
        let fits = |(entry, _): &&(Entry, Cell<bool>)| fits(&entry.operation, operation) && fits(&entry.path, path);
        let (entry, used) = self.entries.iter().find(fits)?;
        used.set(true);
        Some(entry.reason.clone())
    }

    /// Entries that nothing differs at.
    pub(crate) fn unused(&self) -> Vec<String> {
        let unused = self.entries.iter().filter(|(_, used)| !used.get());
        unused.map(|(entry, _)| format!("{:?} {:?}", entry.operation, entry.path)).collect()
    }
}

/// Whether a pattern with `*` fits a text.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formats_stand_for_values() {
        let id = "ab".repeat(32);
        assert_eq!(text_format(&format!("sha256:{id} is {}", &id[..12])), "sha256:<id> is <short id>");
        assert_eq!(text_format("2026-11-24T10:23:08.70659935Z"), "<time>");
        assert_eq!(text_format("0001-01-01T00:00:00Z"), "<never>");
        assert_eq!(normal("Pid", &json!(4711)), json!("<number>"));
        assert_eq!(normal("Pid", &json!(0)), json!(0));
        assert_eq!(normal("", &json!({ id: {} })), json!({ "<id>": {} }));
    }

    #[test]
    fn null_empty_and_missing_differ() {
        let mut found = Vec::new();
        values("", &json!({"a": null, "b": [], "c": 1}), &json!({"a": [], "b": [], "d": 1}), &mut found);
        let paths: Vec<&str> = found.iter().map(|d| d.path.as_str()).collect();
        assert_eq!(paths, ["a", "c", "d"]);
    }

    #[test]
    fn stars_fit_anything() {
        assert!(fits("system: *", "system: info") && fits("*.Pid", "body.State.Pid") && fits("a*b*c", "a1b2c"));
        assert!(!fits("system", "system: info") && !fits("*x", "abc"));
    }
}
