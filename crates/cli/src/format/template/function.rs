//! The functions of Go's templates, and those that Docker adds.

use super::super::go;
use super::eval::truth;
use super::print;
use serde_json::Value;

const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "html", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad",
    "print", "printf", "println", "slice", "split", "title", "truncate", "upper", "urlquery",
];

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Go names only the argument, not the whole call, when a function of Docker gets a value of the wrong type.
pub(super) fn is_conversion(name: &str) -> bool {
    matches!(name, "join" | "split" | "upper" | "lower" | "title" | "pad" | "truncate")
}

/// What leaves the name of a column as it is.
pub(super) fn is_left_alone(name: &str) -> bool {
    matches!(name, "json" | "title" | "lower" | "upper" | "truncate" | "join" | "split" | "pad")
}

/// Calls a function; `row` is whether the template is executed on a row of a listing, which Go writes as JSON with `<`, `>` and `&`
/// escaped. `and` and `or` are not here: they do not look at all their arguments. The error is the reason alone.
pub(super) fn call(name: &str, arguments: &[Value], row: bool) -> Result<Value, String> {
    let text = |index: usize| text_argument(arguments, index);
    let count = |wanted: usize| {
        let got = arguments.len();
        if got == wanted { Ok(()) } else { Err(format!("wrong number of args for {name}: want {wanted} got {got}")) }
    };
    Ok(match name {
        "json" => {
            count(1)?;
            let text = serde_json::to_string(&arguments[0]).map_err(|error| error.to_string())?;
            let escaped = row && arguments[0].is_object();
            if escaped { go::escape_html(&text) } else { text }.into()
        }
        "upper" | "lower" | "title" => {
            count(1)?;
            let text = text(0)?;
            match name {
                "upper" => text.to_uppercase(),
                "lower" => text.to_lowercase(),
                _ => title(&text),
            }
            .into()
        }
        "join" => {
            count(2)?;
            let items = arguments[0].as_array().cloned().unwrap_or_default();
            let items: Vec<String> = items.iter().map(|item| print::value(item, "")).collect();
            items.join(&text(1)?).into()
        }
        "split" => {
            count(2)?;
            Value::Array(text(0)?.split(text(1)?.as_str()).map(Value::from).collect())
        }
        "pad" => {
            count(3)?;
            format!("{}{}{}", " ".repeat(size(arguments, 1)?), text(0)?, " ".repeat(size(arguments, 2)?)).into()
        }
        "truncate" => {
            count(2)?;
            text(0)?.chars().take(size(arguments, 1)?).collect::<String>().into()
        }
        "print" => print::sprint(arguments).into(),
        "println" => {
            let words: Vec<String> = arguments.iter().map(|item| print::value(item, "")).collect();
            format!("{}\n", words.join(" ")).into()
        }
        "printf" => print::sprintf(&text(0)?, arguments.get(1..).unwrap_or_default()).into(),
        "html" => print::sprint(arguments)
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&#34;")
            .replace('\'', "&#39;")
            .into(),
        "urlquery" => crate::client::encode(&print::sprint(arguments)).replace("%20", "+").into(),
        "not" => {
            count(1)?;
            (!truth(&arguments[0])).into()
        }
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare(name, arguments)?.into(),
        "len" => {
            count(1)?;
            length(&arguments[0])?
        }
        "index" => index(arguments)?,
        "slice" => slice(arguments)?,
        _ => return Err(format!("\"{name}\" is not a defined function")),
    })
}

fn text_argument(arguments: &[Value], index: usize) -> Result<String, String> {
    match arguments.get(index) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) | None => Ok(String::new()),
        Some(other) => Err(format!("wrong type for value; expected string; got {}", print::value(other, ""))),
    }
}

/// A width: limited, so that a format cannot ask for gigabytes.
fn size(arguments: &[Value], index: usize) -> Result<usize, String> {
    let number = arguments.get(index).and_then(Value::as_u64).filter(|number| *number <= 4096);
    number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| "expected a small integer".to_owned())
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let shown = if start { c.to_uppercase().next().unwrap_or(c) } else { c };
            start = !(c.is_alphanumeric() || c == '_' || c == '\'');
            shown
        })
        .collect()
}

fn compare(name: &str, arguments: &[Value]) -> Result<bool, String> {
    let (first, rest) = arguments.split_first().filter(|(_, rest)| !rest.is_empty()).ok_or(format!(
        "wrong number of args for {name}: want at least {} got {}",
        if name == "eq" { 1 } else { 2 },
        arguments.len()
    ))?;
    let wrong = || format!("error calling {name}: incompatible types for comparison");
    let order = |other: &Value| match (first, other) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()).ok_or_else(wrong),
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        _ => Err(wrong()),
    };
    match name {
        "eq" | "ne" => {
            let mut same = false;
            for other in rest {
                let equal = match (first, other) {
                    (Value::Number(_), Value::Number(_)) | (Value::String(_), Value::String(_)) => {
                        order(other)?.is_eq()
                    }
                    (Value::Bool(a), Value::Bool(b)) => a == b,
                    (Value::Null, other) | (other, Value::Null) => other.is_null(),
                    _ => return Err(wrong()),
                };
                same |= equal;
            }
            Ok(same == (name == "eq"))
        }
        _ => {
            let order = order(&rest[0])?;
            Ok(match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            })
        }
    }
}

fn length(item: &Value) -> Result<Value, String> {
    match item {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(members) => Ok(members.len().into()),
        Value::Null => Err("error calling len: len of nil pointer".into()),
        Value::Bool(_) => Err("error calling len: len of type bool".into()),
        Value::Number(_) => Err("error calling len: len of type float64".into()),
    }
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let (first, keys) = arguments.split_first().ok_or("wrong number of args for index: want at least 1 got 0")?;
    let mut item = first.clone();
    for key in keys {
        item = match (&item, key) {
            (Value::Array(items), Value::Number(number)) => {
                let at = number.as_u64().and_then(|at| usize::try_from(at).ok());
                at.and_then(|at| items.get(at))
                    .cloned()
                    .ok_or_else(|| format!("error calling index: index out of range: {number}"))?
            }
            // A key that is not there gives the empty value of the map's type; for text that prints as nothing.
            (Value::Object(members), Value::String(key)) => {
                let empty = if members.values().all(Value::is_string) { Value::from("") } else { Value::Null };
                members.get(key).cloned().unwrap_or(empty)
            }
            (Value::Null, Value::String(_)) => Value::from(""),
            (Value::Null, _) => return Err("error calling index: index of untyped nil".into()),
            (Value::Array(_), _) => return Err("error calling index: cannot index slice/array with type string".into()),
            (Value::Object(_), _) => return Err("error calling index: value has type int; should be string".into()),
            (other, _) => {
                return Err(format!("error calling index: can't index item of type {}", print::value(other, "")));
            }
        };
    }
    Ok(item)
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let (first, bounds) = arguments.split_first().ok_or("wrong number of args for slice: want at least 1 got 0")?;
    let most = match first {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        _ => return Err("error calling slice: can't slice item".into()),
    };
    let bound = |index: usize, default: usize| match bounds.get(index) {
        None => Ok(default),
        Some(number) => number
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| *number <= most)
            .ok_or(format!("error calling slice: index out of range: {}", print::value(number, ""))),
    };
    let (low, high) = (bound(0, 0)?, bound(1, most)?);
    match first {
        Value::String(text) => Ok(text.get(low..high).ok_or("error calling slice: invalid slice index")?.into()),
        Value::Array(items) => {
            Ok(Value::Array(items.get(low..high).ok_or("error calling slice: invalid slice index")?.to_vec()))
        }
        _ => Ok(Value::Null),
    }
}
