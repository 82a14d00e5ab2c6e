//! Go's `fmt` over JSON values.

use serde_json::{Map, Value};

/// Members that are maps in Docker's types; other objects are structures, which Go shows without names.
const MAPS: &[&str] = &[
    "Labels",
    "ExposedPorts",
    "PortBindings",
    "Ports",
    "Networks",
    "Options",
    "DriverOpts",
    "Sysctls",
    "Tmpfs",
    "Volumes",
    "Annotations",
    "StorageOpt",
    "Data",
    "Details",
    "Status",
    "Containers",
    "Runtimes",
    "EndpointsConfig",
    "Attributes",
    "AuxiliaryAddresses",
    "Platforms",
];

/// What Go shows for a key that is not in a map.
pub(super) const NO_VALUE: &str = "<no value>";

/// `%v`. `name` is the member that the value came from; it decides how an object is shown.
pub(super) fn value(value: &Value, name: &str) -> String {
    match value {
        Value::Null if name == NO_VALUE => NO_VALUE.into(),
        Value::Null if is_list(name) => "[]".into(),
        Value::Null if MAPS.contains(&name) => "map[]".into(),
        Value::Null => "<nil>".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| self::value(item, "")).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(members) if is_map(members, name) => map(members),
        Value::Object(members) => {
            let shown: Vec<String> = members.iter().map(|(name, member)| self::value(member, name)).collect();
            // The one structure that people print whole and that has a member which its JSON leaves out.
            let health = if name == "State" && !members.contains_key("Health") { " <nil>" } else { "" };
            format!("{{{}{health}}}", shown.join(" "))
        }
    }
}

/// Whether an object is a map in Docker's types.
pub(super) fn is_map(members: &Map<String, Value>, name: &str) -> bool {
    MAPS.contains(&name) || (name == "Config" && all_text(members))
}

/// What Go has in the place of a member that is `null`.
pub(super) fn empty(name: &str) -> Value {
    match name {
        name if is_list(name) => Value::Array(Vec::new()),
        name if MAPS.contains(&name) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

/// `%v` of plain JSON: objects are maps.
pub(super) fn raw(value: &Value) -> String {
    fn inner(value: &Value) -> String {
        match value {
            Value::Array(items) => format!("[{}]", items.iter().map(inner).collect::<Vec<_>>().join(" ")),
            Value::Object(members) => {
                let mut pairs: Vec<(&String, &Value)> = members.iter().collect();
                pairs.sort_by_key(|(key, _)| *key);
                let pairs: Vec<String> = pairs.iter().map(|(key, member)| format!("{key}:{}", inner(member))).collect();
                format!("map[{}]", pairs.join(" "))
            }
            other => self::value(other, ""),
        }
    }
    if value.is_null() { NO_VALUE.into() } else { inner(value) }
}

fn all_text(members: &Map<String, Value>) -> bool {
    members.values().all(Value::is_string)
}

/// Members that are lists in Docker's types and `null` when nothing was given.
fn is_list(name: &str) -> bool {
    matches!(
        name,
        "Env"
            | "Cmd"
            | "Entrypoint"
            | "OnBuild"
            | "Shell"
            | "Binds"
            | "VolumesFrom"
            | "CapAdd"
            | "CapDrop"
            | "Dns"
            | "DnsOptions"
            | "DnsSearch"
            | "ExtraHosts"
            | "GroupAdd"
            | "Links"
            | "SecurityOpt"
            | "Devices"
            | "DeviceCgroupRules"
            | "DeviceRequests"
            | "Ulimits"
            | "BlkioWeightDevice"
            | "BlkioDeviceReadBps"
            | "BlkioDeviceWriteBps"
            | "BlkioDeviceReadIOps"
            | "BlkioDeviceWriteIOps"
            | "ExecIDs"
            | "Aliases"
            | "DNSNames"
            | "MaskedPaths"
            | "ReadonlyPaths"
            | "Warnings"
            | "Mounts"
            | "SecondaryIPAddresses"
            | "SecondaryIPv6Addresses"
            | "RepoTags"
            | "RepoDigests"
            | "Layers"
            | "Args"
    )
}

/// `map[a:1 b:2]`, keys sorted.
fn map(members: &Map<String, Value>) -> String {
    let mut pairs: Vec<(&String, &Value)> = members.iter().collect();
    pairs.sort_by_key(|(key, _)| *key);
    let pairs: Vec<String> = pairs.iter().map(|(key, member)| format!("{key}:{}", value(member, ""))).collect();
    format!("map[{}]", pairs.join(" "))
}

/// Go's `fmt.Sprint`: a space between two values when neither is a string.
pub(super) fn sprint(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, item) in values.iter().enumerate() {
        if index > 0 && !item.is_string() && !values[index - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&value(item, ""));
    }
    out
}

/// Go's `fmt.Sprintf` with the verbs `v s d q t x X c f g e o b %`, width, precision and the flags `- 0 +`.
pub(super) fn sprintf(format: &str, values: &[Value]) -> String {
    let (mut out, mut next, mut chars) = (String::new(), 0, format.chars().peekable());
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '0' | '+' | '#' | ' ')) {
            spec.left |= flag == '-';
            spec.zero |= flag == '0';
            spec.plus |= flag == '+';
        }
        let mut digits = |spec: &mut usize| {
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                *spec = (*spec * 10 + digit as usize - '0' as usize).min(MAX_WIDTH);
            }
        };
        digits(&mut spec.width);
        let mut precision = 0;
        if chars.next_if_eq(&'.').is_some() {
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                precision = (precision * 10 + digit as usize - '0' as usize).min(MAX_WIDTH);
            }
            spec.precision = Some(precision);
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => {
                match values.get(next) {
                    Some(item) => out.push_str(&spec.show(verb, item)),
                    None => out.push_str(&format!("%!{verb}(MISSING)")),
                }
                next += 1;
            }
        }
    }
    if next < values.len() {
        let rest: Vec<String> =
            values[next..].iter().map(|item| format!("{}={}", type_name(item), value(item, ""))).collect();
        out.push_str(&format!("%!(EXTRA {})", rest.join(", ")));
    }
    out
}

/// No column is wider; a template must not make us allocate without bounds.
const MAX_WIDTH: usize = 1024;

#[derive(Default)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    fn show(&self, verb: char, item: &Value) -> String {
        let text = match (verb, item) {
            ('v', _) => value(item, ""),
            ('T', _) => type_name(item).to_owned(),
            ('s', Value::Array(_) | Value::Object(_)) => value(item, ""),
            ('s', Value::String(text)) => match self.precision {
                Some(most) => text.chars().take(most).collect(),
                None => text.clone(),
            },
            ('q', Value::String(text)) => super::super::go::quote(text),
            ('t', Value::Bool(flag)) => flag.to_string(),
            ('d', Value::Number(number)) if !number.is_f64() => self.signed(number.as_i64().unwrap_or_default()),
            ('x', Value::Number(number)) if !number.is_f64() => format!("{:x}", number.as_i64().unwrap_or_default()),
            ('X', Value::Number(number)) if !number.is_f64() => format!("{:X}", number.as_i64().unwrap_or_default()),
            ('o', Value::Number(number)) if !number.is_f64() => format!("{:o}", number.as_i64().unwrap_or_default()),
            ('b', Value::Number(number)) if !number.is_f64() => format!("{:b}", number.as_i64().unwrap_or_default()),
            ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('c', Value::Number(number)) => {
                let code = number.as_u64().and_then(|code| u32::try_from(code).ok());
                code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
            }
            ('f', Value::Number(number)) if number.is_f64() => {
                format!("{:.*}", self.precision.unwrap_or(6), number.as_f64().unwrap_or_default())
            }
            ('g', Value::Number(number)) if number.is_f64() => number.to_string(),
            _ => format!("%!{verb}({}={})", type_name(item), value(item, "")),
        };
        let missing = self.width.saturating_sub(text.chars().count());
        match (self.left, self.zero && item.is_number()) {
            (true, _) => format!("{text}{}", " ".repeat(missing)),
            (false, true) => match text.strip_prefix('-') {
                Some(digits) => format!("-{}{digits}", "0".repeat(missing)),
                None => format!("{}{text}", "0".repeat(missing)),
            },
            (false, false) => format!("{}{text}", " ".repeat(missing)),
        }
    }

    fn signed(&self, number: i64) -> String {
        if self.plus { format!("{number:+}") } else { number.to_string() }
    }
}

/// Go's name of a value's type.
fn type_name(item: &Value) -> &'static str {
    match item {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
