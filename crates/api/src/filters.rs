//! The `filters` query parameter: what it looks like on the wire, and how its values are matched.
//!
//! Two forms arrive: `{"label": ["a", "b"]}` since 1.22 and `{"label": {"a": true}}` before, which Docker's own client still
//! writes. Several values of one key are alternatives (except labels, which must all hold); several keys must all hold.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::ApiError;

/// A parsed `filters` parameter; empty matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    fields: BTreeMap<String, BTreeSet<String>>,
}

impl Filters {
    /// Reads the parameter; empty text is no filter. Anything but the two forms is Docker's `invalid filter` (400).
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let invalid = || ApiError::bad_request("invalid filter");
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Ok(Value::Object(members)) = serde_json::from_str(text) else { return Err(invalid()) };
        let mut filters = Self::default();
        for (key, values) in members {
            let values: BTreeSet<String> = match values {
                Value::Array(items) => items
                    .into_iter()
                    .map(|item| if let Value::String(text) = item { Ok(text) } else { Err(invalid()) })
                    .collect::<Result<_, _>>()?,
                Value::Object(set) => {
                    set.into_iter().filter(|(_, on)| *on != Value::Bool(false)).map(|(v, _)| v).collect()
                }
                Value::Null => BTreeSet::new(),
                _ => return Err(invalid()),
            };
            filters.fields.insert(key, values);
        }
        Ok(filters)
    }

    /// Writes the parameter as Docker's client does; empty for no filter.
    pub fn to_query(&self) -> String {
        if self.fields.is_empty() {
            return String::new();
        }
        let set = |values: &BTreeSet<String>| values.iter().map(|value| (value.clone(), Value::Bool(true))).collect();
        Value::Object(self.fields.iter().map(|(key, values)| (key.clone(), Value::Object(set(values)))).collect())
            .to_string()
    }

    /// Adds one alternative under a key.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.fields.entry(key.into()).or_default().insert(value.into());
    }

    /// Refuses keys outside `known`, in Docker's words.
    pub fn validate(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.fields.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(ApiError::bad_request(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether the key is there, even without values.
    pub fn contains(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// The values under a key, sorted.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.fields.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Takes a key out, for filters that become an option (`until`, `dangling`).
    pub fn remove(&mut self, key: &str) -> Vec<String> {
        self.fields.remove(key).into_iter().flatten().collect()
    }

    /// `true`, `1`, `false` or `0` under a key, `None` without the key; both or anything else is refused in Docker's words.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ApiError> {
        let Some(values) = self.fields.get(key) else { return Ok(None) };
        let has = |words: [&str; 2]| words.iter().any(|word| values.contains(*word));
        match (has(["true", "1"]), has(["false", "0"])) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => {
                let values: Vec<&str> = self.get(key).collect();
                Err(ApiError::bad_request(format!("invalid filter '{key}=[{}]'", values.join(" "))))
            }
        }
    }

    /// Whether one of the values equals `source`; true without the key.
    pub fn exact(&self, key: &str, source: &str) -> bool {
        self.any(key, |value| value == source)
    }

    /// Whether one of the values begins `source` (ids are named by their beginning); true without the key.
    pub fn prefix(&self, key: &str, source: &str) -> bool {
        self.any(key, |value| source.starts_with(value))
    }

    /// Whether one of the values is part of `source`; true without the key. A leading `^` and a final `$` bind it to the
    /// ends, and `.*` stands for anything: the part of regular expressions that people write in names.
    pub fn name(&self, key: &str, source: &str) -> bool {
        self.any(key, |value| value == source || matches_pattern(value, source))
    }

    /// Whether all values hold for a set of labels: `NAME`, or `NAME=VALUE`; true without the key.
    pub fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        })
    }

    /// Whether a predicate holds for one of the values; true without the key or without values.
    pub fn any(&self, key: &str, holds: impl Fn(&str) -> bool) -> bool {
        match self.fields.get(key) {
            Some(values) if !values.is_empty() => values.iter().any(|value| holds(value)),
            _ => true,
        }
    }
}

/// A small, linear-time subset of regular expressions: anchors, `.`, and `.*`.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, from_start) = pattern.strip_prefix('^').map_or((pattern, false), |rest| (rest, true));
    let (pattern, to_end) = pattern.strip_suffix('$').map_or((pattern, false), |rest| (rest, true));
    let mut parts = pattern.split(".*").peekable();
    let (mut rest, mut first) = (text, true);
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let must_start = first && from_start;
        first = false;
        if last && to_end {
            let Some(cut) = rest.len().checked_sub(part.len()).filter(|cut| rest.is_char_boundary(*cut)) else {
                return false;
            };
            return (!must_start || cut == 0) && same(part, &rest[cut..]);
        }
        let places = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
        let found = places
            .take_while(|at| !must_start || *at == 0)
            .find(|at| rest.get(*at..at + part.len()).is_some_and(|piece| same(part, piece)));
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Equality where `.` in the pattern stands for any one character.
fn same(pattern: &str, text: &str) -> bool {
    pattern.len() == text.len() && pattern.bytes().zip(text.bytes()).all(|(p, t)| p == b'.' || p == t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        let new = Filters::parse(r#"{"label":["a","b=c"],"status":["exited"]}"#).unwrap();
        let old = Filters::parse(r#"{"label":{"a":true,"b=c":true},"status":{"exited":true}}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(Filters::parse(&new.to_query()).unwrap(), new);
        assert!(Filters::parse("").unwrap().is_empty());
        for bad in ["x", "[]", r#"{"a":"b"}"#, r#"{"a":[1]}"#] {
            assert_eq!(Filters::parse(bad).unwrap_err().message, "invalid filter");
        }
    }

    #[test]
    fn labels_must_all_hold() {
        let labels = BTreeMap::from([("a".to_string(), "1".to_string()), ("b".to_string(), String::new())]);
        let holds = |text: &str| Filters::parse(text).unwrap().labels("label", &labels);
        assert!(holds(r#"{"label":["a=1","b"]}"#) && holds("{}"));
        assert!(!holds(r#"{"label":["a=2"]}"#) && !holds(r#"{"label":["a","c"]}"#));
    }

    #[test]
    fn names_match_like_the_common_expressions() {
        let name = |value: &str| {
            let mut filters = Filters::default();
            filters.add("name", value);
            filters.name("name", "web-12")
        };
        for good in ["web", "b-1", "^web", "12$", "^web-12$", "w.*2", "^w.*-..$", "web-12", "^.*$"] {
            assert!(name(good), "{good}");
        }
        for bad in ["^eb", "web$", "db", "^web-1$", "^we$", "2.*w", "^web-12-and-more$"] {
            assert!(!name(bad), "{bad}");
        }
    }

    #[test]
    fn flags_take_one_side() {
        let flag = |text: &str| Filters::parse(text).unwrap().flag("dangling");
        assert_eq!(flag(r#"{"dangling":["1"]}"#).unwrap(), Some(true));
        assert_eq!(flag(r#"{"dangling":["false"]}"#).unwrap(), Some(false));
        assert_eq!(flag("{}").unwrap(), None);
        assert_eq!(flag(r#"{"dangling":["x"]}"#).unwrap_err().message, "invalid filter 'dangling=[x]'");
        assert_eq!(
            Filters::parse(r#"{"foo":["x"]}"#).unwrap().validate(&["label"]).unwrap_err().message,
            "invalid filter 'foo'"
        );
    }
}
