//! JSON as Go reads it: forgiving about `null`, unknown members and the case of keys, with Go's error texts.
//!
//! Docker's clients in many languages lean on `encoding/json`: they send `null` for what they leave out and sometimes keys
//! in another case. [`Forgiving`] is a deserializer over a parsed value that does the same for any derived type:
//! `null` is the zero value, keys are matched exactly and then without regard to case, unknown keys are skipped
//! (that part is serde's default).

use serde::de::value::SeqDeserializer;
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::fmt;

/// Why a text is not the JSON that was expected, in Go's words where it has some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Reason>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    Other(String),
    /// A member of the wrong type. The path grows from the inside out while the error travels up.
    Unmarshal {
        found: String,
        /// The innermost structure that the member belongs to; empty at the top.
        owner: &'static str,
        path: String,
        wanted: String,
    },
}

impl Error {
    fn other(text: impl Into<String>) -> Self {
        Self(Box::new(Reason::Other(text.into())))
    }

    fn unmarshal(found: impl Into<String>, expected: &dyn serde::de::Expected) -> Self {
        let wanted = go_type(&expected.to_string());
        Self(Box::new(Reason::Unmarshal { found: found.into(), owner: "", path: String::new(), wanted }))
    }

    /// Says that the value is the member `key` of something larger.
    fn inside(mut self, key: &str) -> Self {
        if let Reason::Unmarshal { path, .. } = &mut *self.0 {
            *path = match path.as_str() {
                "" => key.to_string(),
                rest => format!("{key}.{rest}"),
            };
        }
        self
    }

    /// Says which structure the member belongs to, unless an inner one was named.
    fn owned_by(mut self, name: &'static str) -> Self {
        if let Reason::Unmarshal { owner, path, .. } = &mut *self.0
            && owner.is_empty()
            && !path.is_empty()
        {
            *owner = name;
        }
        self
    }

    /// Puts `embedded` into a path behind `outer` where the next member belongs to what Go embeds there.
    pub(crate) fn member_of(mut self, outer: &str, belongs: fn(&str) -> bool, embedded: &str) -> Self {
        if let Reason::Unmarshal { path, .. } = &mut *self.0
            && let Some(rest) = path.strip_prefix(outer).and_then(|rest| rest.strip_prefix('.'))
            && belongs(rest.split('.').next().unwrap_or_default())
        {
            *path = format!("{outer}.{embedded}.{rest}");
        }
        self
    }

    /// The text with the Go type that the whole value was to become.
    pub(crate) fn at_top(self, go_type: &str) -> String {
        match *self.0 {
            Reason::Unmarshal { found, .. } => {
                format!("json: cannot unmarshal {found} into Go value of type {go_type}")
            }
            Reason::Other(text) => text,
        }
    }

    /// For a structure that Go embeds in another: its members are the outer one's, at a path that names the inner one.
    pub(crate) fn embedded(mut self, inner: &'static str, outer: &'static str) -> Self {
        self = self.inside(inner);
        if let Reason::Unmarshal { owner, .. } = &mut *self.0
            && *owner == inner
        {
            *owner = outer;
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Reason::Other(text) => f.write_str(text),
            Reason::Unmarshal { found, path, wanted, .. } if path.is_empty() => {
                write!(f, "json: cannot unmarshal {found} into Go value of type {wanted}")
            }
            Reason::Unmarshal { found, owner, path, wanted } => {
                write!(f, "json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::other(message.to_string())
    }

    fn invalid_type(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        match found {
            // Go names the number that does not fit.
            serde::de::Unexpected::Float(number) => Self::unmarshal(format!("number {number}"), expected),
            _ => Self::unmarshal(kind_of(&found), expected),
        }
    }

    fn invalid_value(found: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        match found {
            serde::de::Unexpected::Signed(number) => Self::unmarshal(format!("number {number}"), expected),
            serde::de::Unexpected::Unsigned(number) => Self::unmarshal(format!("number {number}"), expected),
            _ => Self::unmarshal(kind_of(&found), expected),
        }
    }
}

/// Go's name of what was found in the text.
fn kind_of(found: &serde::de::Unexpected<'_>) -> &'static str {
    use serde::de::Unexpected as U;
    match found {
        U::Bool(_) => "bool",
        U::Unsigned(_) | U::Signed(_) | U::Float(_) => "number",
        U::Str(_) | U::Char(_) | U::Bytes(_) => "string",
        U::Seq => "array",
        U::Map => "object",
        _ => "value",
    }
}

/// Go's name of the type that serde calls by its own.
fn go_type(expected: &str) -> String {
    match expected {
        "a string" => "string".into(),
        "a boolean" => "bool".into(),
        "a sequence" => "[]string".into(),
        "a map" => "map[string]string".into(),
        "i64" => "int64".into(),
        "i32" => "int32".into(),
        "u64" => "uint64".into(),
        "u32" => "uint32".into(),
        "u16" => "uint16".into(),
        "u8" => "uint8".into(),
        "f64" => "float64".into(),
        other => other.strip_prefix("struct ").unwrap_or(other).into(),
    }
}

/// Reads one JSON value from outside. Text after it is an error, as is text that ends early.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    let value: Value = serde_json::from_slice(text).map_err(|error| syntax(text, &error))?;
    from_value(&value)
}

/// The same from a string.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    from_slice(text.as_bytes())
}

/// The same from a value that was parsed before.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(Forgiving { value })
}

/// Go's text for a syntax error.
fn syntax(text: &[u8], error: &serde_json::Error) -> Error {
    if error.is_eof() {
        return Error::other(if text.iter().all(u8::is_ascii_whitespace) { "EOF" } else { "unexpected EOF" });
    }
    let line_start = text.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1)).map(<[u8]>::len);
    let offset = line_start.sum::<usize>() + error.column().saturating_sub(1);
    let Some(byte) = text.get(offset) else { return Error::other(error.to_string()) };
    let before = text[..offset].iter().rev().find(|byte| !byte.is_ascii_whitespace());
    let place = match before {
        None => "looking for beginning of value",
        Some(b'{' | b',') if *byte != b'}' && *byte != b'"' => "looking for beginning of object key string",
        Some(b':' | b'[') => "looking for beginning of value",
        Some(b'"') => "after object key",
        Some(_) => "after top-level value",
    };
    Error::other(format!("invalid character {} {place}", quote(*byte)))
}

/// A character as Go quotes it in its errors.
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".into(),
        b'"' => "'\"'".into(),
        b'\n' => r"'\n'".into(),
        b'\t' => r"'\t'".into(),
        _ => format!("'{}'", char::from(byte)),
    }
}

/// A deserializer over a parsed value with Go's leniency.
#[derive(Clone, Copy)]
struct Forgiving<'a> {
    value: &'a Value,
}

impl<'a> Forgiving<'a> {
    fn plain<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (.., Some(number)) => visitor.visit_f64(number),
                _ => Err(Error::custom("number out of range")),
            },
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.iter().map(|value| Forgiving { value })))
            }
            Value::Object(members) => {
                visitor.visit_map(Members(members.iter().map(|(key, value)| (key.as_str(), value)), None))
            }
        }
    }
}

/// The members of an object, one after the other; errors learn the key that they happened under.
struct Members<'a, I: Iterator<Item = (&'a str, &'a Value)>>(I, Option<(&'a str, &'a Value)>);

impl<'a, I: Iterator<Item = (&'a str, &'a Value)>> serde::de::MapAccess<'a> for Members<'a, I> {
    type Error = Error;

    fn next_key_seed<K: serde::de::DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.1 = self.0.next();
        let Some((key, _)) = self.1 else { return Ok(None) };
        seed.deserialize(serde::de::value::BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: serde::de::DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, value)) = self.1.take() else {
            return Err(Error::other("a value was asked for before its key"));
        };
        seed.deserialize(Forgiving { value }).map_err(|error| error.inside(key))
    }
}

impl<'a> IntoDeserializer<'a, Error> for Forgiving<'a> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

/// `null` is the zero value of whatever was asked for.
macro_rules! null_is {
    ($($method:ident => $visit:ident($zero:expr)),* $(,)?) => {
        $(fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.value {
                Value::Null => visitor.$visit($zero),
                _ => self.plain(visitor),
            }
        })*
    };
}

impl<'a> Deserializer<'a> for Forgiving<'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.plain(visitor)
    }

    null_is! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i64(0), deserialize_i16 => visit_i64(0), deserialize_i32 => visit_i64(0), deserialize_i64 => visit_i64(0),
        deserialize_u8 => visit_u64(0), deserialize_u16 => visit_u64(0), deserialize_u32 => visit_u64(0), deserialize_u64 => visit_u64(0),
        deserialize_f32 => visit_f64(0.0), deserialize_f64 => visit_f64(0.0),
        deserialize_str => visit_borrowed_str(""), deserialize_string => visit_borrowed_str(""),
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() {
            return visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<Forgiving<'a>>()));
        }
        self.plain(visitor)
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() {
            return visitor.visit_map(Members(std::iter::empty(), None));
        }
        self.plain(visitor)
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let members = match self.value {
            Value::Object(members) => members,
            // serde would take a list for the members in their order.
            Value::Array(_) => return Err(Error::unmarshal("array", &name)),
            _ => return self.deserialize_map(visitor),
        };
        let chosen = choose(members, fields);
        visitor.visit_map(Members(chosen.into_iter(), None)).map_err(|error| error.owned_by(name))
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_enum(name, variants, visitor).map_err(Error::custom)
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'a>>
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

/// The members that belong to `fields`, each once: an exact key wins over one in another case, a later one over an earlier.
fn choose<'a>(members: &'a Map<String, Value>, fields: &'static [&'static str]) -> Vec<(&'static str, &'a Value)> {
    fields
        .iter()
        .filter_map(|field| {
            let exact = members.get(*field);
            let loose = || members.iter().rfind(|(key, _)| key.eq_ignore_ascii_case(field)).map(|(_, v)| v);
            exact.or_else(loose).map(|value| (*field, value))
        })
        .collect()
}

/// For `skip_serializing_if`: Go's `omitempty` on numbers and flags.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Go's `strslice`: a list of strings, or one string for a list of one.
pub fn string_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(vec![text])),
        list => from_value(&list).map(Some).map_err(D::Error::custom),
    }
}

/// A fixed pair of numbers; missing elements are 0, further ones ignored, `null` is `[0, 0]`, as for Go's `[2]uint`.
pub fn pair<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u64; 2], D::Error> {
    let items: Vec<u64> = from_value(&Value::deserialize(deserializer)?).map_err(D::Error::custom)?;
    Ok([items.first().copied().unwrap_or(0), items.get(1).copied().unwrap_or(0)])
}

/// [`pair`] where `null` stays apart from `[0, 0]`.
pub fn optional_pair<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u64; 2]>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        value => pair(&value).map(Some).map_err(D::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{CreateRequest, HostConfig};

    #[test]
    fn null_is_the_zero_value_everywhere() {
        let request: CreateRequest = from_str(
            r#"{"Hostname":null,"Tty":null,"Cmd":null,"Labels":{"a":null},"Image":"x","ExposedPorts":{"80/tcp":null},
                "HostConfig":{"Memory":null,"PortBindings":{"80/tcp":null},"ConsoleSize":null,"LogConfig":null},
                "NetworkingConfig":null,"Unknown":[1,{"x":null}]}"#,
        )
        .unwrap();
        assert_eq!(request.config.labels.unwrap()["a"], "");
        assert!(request.config.exposed_ports.contains_key("80/tcp"));
        assert_eq!(request.config.cmd, None);
        assert_eq!(request.host_config.port_bindings.unwrap()["80/tcp"], None);
        assert_eq!(request.host_config.console_size, [0, 0]);
        assert_eq!(from_str::<HostConfig>("null").unwrap(), HostConfig::default());
    }

    #[test]
    fn keys_match_in_any_case_and_exact_ones_win() {
        let request: CreateRequest =
            from_str(r#"{"image":"lower","CMD":"ls","hostconfig":{"autoremove":true,"AutoRemove":false}}"#).unwrap();
        assert_eq!(request.config.image, "lower");
        assert_eq!(request.config.cmd, Some(vec!["ls".to_string()]));
        assert!(!request.host_config.auto_remove);
    }

    #[test]
    fn errors_read_like_go() {
        let error = |text: &str| from_str::<CreateRequest>(text).unwrap_err().to_string();
        assert_eq!(error(""), "EOF");
        assert_eq!(error("{"), "unexpected EOF");
        assert_eq!(error("x"), "invalid character 'x' looking for beginning of value");
        assert_eq!(error("{x"), "invalid character 'x' looking for beginning of object key string");
        assert_eq!(
            error(r#"{"Tty":"yes"}"#),
            "json: cannot unmarshal string into Go struct field CreateRequest.Config.Tty of type bool"
        );
        assert_eq!(
            error(r#"{"HostConfig":{"LogConfig":{"Type":1}}}"#),
            "json: cannot unmarshal number into Go struct field LogConfig.HostConfig.LogConfig.Type of type string"
        );
        assert_eq!(
            error(r#"{"HostConfig":{"Memory":"x"}}"#),
            "json: cannot unmarshal string into Go struct field HostConfig.HostConfig.Resources.Memory of type int64"
        );
        assert_eq!(error("[]"), "json: cannot unmarshal array into Go value of type container.CreateRequest");
        assert_eq!(
            error(r#"{"HostConfig":{"ShmSize":-1.5}}"#),
            "json: cannot unmarshal number -1.5 into Go struct field HostConfig.HostConfig.ShmSize of type int64"
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let request: CreateRequest = from_str(r#"{"Image":"x","Entrypoint":[],"HostConfig":{"Init":true}}"#).unwrap();
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(from_str::<CreateRequest>(&text).unwrap(), request);
        assert!(text.contains(r#""Entrypoint":[]"#) && text.contains(r#""Env":null"#));
    }
}
