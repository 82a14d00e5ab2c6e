//! A request as handlers see it: names from its path, parameters, a body within limits, and who speaks which version.

use api::Version;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use hyper::http::request::Parts;
use serde::de::DeserializeOwned;
use std::sync::Arc;

use crate::failure::{Failure, Outcome};
use engine::Engine;

/// The largest JSON body: far above any real one (an image's labels, a long environment), far below what would hurt.
const MAX_JSON_BYTES: usize = 16 << 20;

/// One request on its way to a handler.
pub(crate) struct Request {
    /// The engine that serves it.
    pub(crate) engine: Arc<Engine>,
    /// The version in the path, or the latest.
    pub(crate) version: Version,
    /// What the route's placeholder stood for, decoded.
    pub(crate) name: String,
    /// Parameters of the address.
    pub(crate) query: Query,
    head: Parts,
    body: Incoming,
}

impl Request {
    pub(crate) fn new(engine: Arc<Engine>, version: Version, name: String, head: Parts, body: Incoming) -> Self {
        let query = Query::parse(head.uri.query().unwrap_or_default());
        Self { engine, version, name, query, head, body }
    }

    /// A header's text; empty when it is missing or no text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether the client asks to leave HTTP with an `Upgrade` header.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.head.headers.contains_key(UPGRADE)
    }

    /// Whether only the head of the answer is wanted.
    pub(crate) fn is_head(&self) -> bool {
        self.head.method == hyper::Method::HEAD
    }

    /// Length of the body in bytes; `None` when it is chunked.
    pub(crate) fn body_length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The body as JSON, or the zero value for no body at all. Refusals are Docker's.
    pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Outcome<T> {
        let text = self.json_text().await?;
        if text.is_empty() {
            return Ok(T::default());
        }
        parse(&text)
    }

    /// The body as JSON; an empty one is refused.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        let text = self.json_text().await?;
        if text.is_empty() {
            return Err(Failure::bad_request("invalid JSON: got EOF while reading request body"));
        }
        parse(&text)
    }

    /// A stream of the body, for archives.
    pub(crate) fn into_body(self) -> Incoming {
        self.body
    }

    async fn json_text(&mut self) -> Outcome<Bytes> {
        if self.body.is_end_stream() || self.header(CONTENT_LENGTH.as_str()) == "0" {
            return Ok(Bytes::new());
        }
        let content_type = self.header(CONTENT_TYPE.as_str());
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !content_type.is_empty() && !essence.eq_ignore_ascii_case("application/json") {
            return Err(Failure::bad_request(format!(
                "unsupported Content-Type header ({content_type}): must be 'application/json'"
            )));
        }
        match Limited::new(&mut self.body, MAX_JSON_BYTES).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Failure::new(
                413,
                format!("request body too large: at most {MAX_JSON_BYTES} bytes of JSON are read"),
            )),
            Err(error) => Err(Failure::bad_request(format!("could not read the request body: {error}"))),
        }
    }
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Outcome<T> {
    // Go decodes one value and then looks for a second one.
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>();
    match values.next() {
        Some(Ok(value)) if text[values.byte_offset()..].iter().all(u8::is_ascii_whitespace) => {
            api::json::from_value(&value).map_err(|error| Failure::bad_request(format!("invalid JSON: {error}")))
        }
        Some(Ok(_)) => Err(Failure::bad_request("unexpected content after JSON")),
        _ => match api::json::from_slice::<serde_json::Value>(text) {
            Err(error) if error.to_string() == "EOF" => {
                Err(Failure::bad_request("invalid JSON: got EOF while reading request body"))
            }
            Err(error) => Err(Failure::bad_request(format!("invalid JSON: {error}"))),
            Ok(_) => Err(Failure::bad_request("unexpected content after JSON")),
        },
    }
}

/// The parameters of an address, in order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a key; empty when it is missing.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    /// The value of a key, `None` when it is missing or empty.
    pub(crate) fn some(&self, key: &str) -> Option<&str> {
        Some(self.get(key)).filter(|value| !value.is_empty())
    }

    /// All values of a key.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
    }

    /// Whether the key is there at all.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// Docker's reading of a flag: everything but these words is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        !matches!(self.get(key).trim().to_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// [`Self::flag`] with a default for a missing key.
    pub(crate) fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.contains(key) { self.flag(key) } else { default }
    }

    /// A whole number; `None` when missing or empty, dockerd's text otherwise under `status` (it is not consistent).
    pub(crate) fn number(&self, key: &str, status: u16) -> Outcome<Option<i64>> {
        let Some(text) = self.some(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Failure::not_a_number(status, text))
    }

    /// The `filters` parameter.
    pub(crate) fn filters(&self) -> Outcome<api::Filters> {
        Ok(api::Filters::parse(self.get("filters"))?)
    }

    /// A point in time; dockerd answers 500 to what is none.
    pub(crate) fn time(&self, key: &str) -> Outcome<Option<jiff::Timestamp>> {
        api::time::parse_query(self.get(key)).map_err(|message| Failure::new(500, message))
    }
}

/// A side of a terminal. Missing and bad numbers get Go's text; a terminal cannot be larger than its type.
pub(crate) fn terminal_side(query: &Query, key: &str) -> Outcome<u16> {
    let text = query.get(key);
    let number: i64 = text.parse().map_err(|_| Failure::not_a_number(400, text))?;
    Ok(u16::try_from(number.clamp(0, i64::from(u16::MAX))).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_like_docker_s() {
        let query = Query::parse("a=1&b=0&c=False&d=&e&f=x&g=none&g=1");
        assert!(query.flag("a") && query.flag("f"));
        for off in ["b", "c", "d", "e", "g", "missing"] {
            assert!(!query.flag(off), "{off}");
        }
        assert!(query.flag_or("missing", true) && !query.flag_or("b", true));
        assert_eq!(query.all("g"), ["none", "1"]);
        assert_eq!(query.number("f", 400).unwrap_err().message, "strconv.Atoi: parsing \"x\": invalid syntax");
    }

    #[test]
    fn bodies_are_one_value() {
        let message = |text: &str| parse::<api::exec::StartRequest>(text.as_bytes()).unwrap_err().message;
        assert_eq!(message("{} {}"), "unexpected content after JSON");
        assert_eq!(message("{x"), "invalid JSON: invalid character 'x' looking for beginning of object key string");
        assert_eq!(
            message(r#"{"Tty":1}"#),
            "invalid JSON: json: cannot unmarshal number into Go struct field StartRequest.Tty of type bool"
        );
        assert!(parse::<api::exec::StartRequest>(b" {} \n").is_ok());
    }
}
