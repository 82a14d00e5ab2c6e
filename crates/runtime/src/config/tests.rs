//! Configurations as text: what is wrong is named, and what is taken stays what it is.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

#[track_caller]
fn wrong(text: &str, words: &str) {
    let message = parse::<Spec>(text.as_bytes()).unwrap_err();
    assert!(message.starts_with(words), "{message}");
}

/// Nothing of the specification is read as a field that is not known.
#[test]
fn every_field_is_known() {
    let text = include_bytes!("../../../../fuzz/seeds/config/every-field.json");
    let spec = check(text).unwrap();
    // Fields that are not known are all that keeps its place and has no type here.
    fn unknown(value: &Spec) -> Vec<String> {
        let debug = format!("{value:?}");
        debug.match_indices("other: {").map(|(at, _)| debug[at..].chars().take(40).collect()).collect()
    }
    let found: Vec<String> = unknown(&spec).into_iter().filter(|text| !text.starts_with("other: {}")).collect();
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(check(&serde_json::to_vec(&spec).unwrap()).unwrap(), spec);
}

#[test]
fn the_field_is_named() {
    wrong(r#"{"linux":{"resources":{"memory":{"limit":"1"}}}}"#, "linux.resources.memory.limit: invalid type: string");
    wrong(r#"{"mounts":[{"destination":"/"},{"options":[1]}]}"#, "mounts[1].options[0]: invalid type: integer");
    wrong(r#"{"annotations":{"a.b":7}}"#, "annotations.a.b: invalid type: integer");
    wrong("{\"annotations\":{\"a\\nb\":7}}", "annotations.a\\nb: invalid type: integer");
    wrong(r#"{"process":[]}"#, "process: invalid type: sequence");
    wrong("[]", "invalid type: sequence");
    wrong("{", "EOF while parsing");
}

/// JSON pointers to everything in a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found)),
        Value::Array(list) => list.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), found)),
        _ => {}
    }
}

/// What a careless program could have written instead.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        Just(json!([null])),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3..70_000_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        proptest::sample::select(
            &["/", "/a", "..", "0-3", "9-1", "a b", "x\n", "\0", "SCMP_ACT_NOTIFY", "mount", "b", "%d"][..]
        )
        .prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever stands in the place of a field or two: one sentence, or a configuration that stays the same when it is
    /// written and read again.
    #[test]
    fn odd_values_are_refused_in_a_sentence_or_taken(changes in proptest::collection::vec((any::<prop::sample::Index>(), odd_value()), 1..3)) {
        let mut config: Value = serde_json::from_slice(include_bytes!("../../../../fuzz/seeds/config/every-field.json")).unwrap();
        for (index, value) in changes {
            let mut all = Vec::new();
            places(&config, "", &mut all);
            *config.pointer_mut(&all[index.index(all.len())]).unwrap() = value;
        }
        match check(config.to_string().as_bytes()) {
            Ok(spec) => prop_assert_eq!(check(&serde_json::to_vec(&spec).unwrap()).unwrap(), spec),
            Err(error) => {
                let sentence = error.to_string();
                prop_assert!(!sentence.contains(['\n', '\0']), "{:?}", sentence);
            }
        }
    }
}
