//! `docker events`, and the times that `--since` and `--until` take.

use crate::client::Query;
use crate::error::Error;
use crate::format::template::{Data, Template};
use crate::progress::Lines;
use crate::{Invocation, terminal};
use api::event::Message;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

/// `docker events`.
pub(crate) async fn events(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let format = match values.text("format") {
        "" => None,
        "json" => Some("{{json .}}"),
        text => Some(text),
    };
    let template = format.map(|text| Template::parse(&text.replace("\\t", "\t").replace("\\n", "\n"))).transpose();
    // Docker gives this error the exit code of a wrong command line.
    let template =
        template.map_err(|why| Error::Plain { message: format!("Error parsing format: {why}"), code: 64 })?;
    let time = |flag: &str| when(values.text(flag)).map_err(Error::plain);
    let query = Query::new()
        .with_text("since", &time("since")?)
        .with_text("until", &time("until")?)
        .with_text("filters", &values.filters().to_query());
    let client = call.client()?;
    let mut answer = client.open("/events", &query).await?;
    let mut lines = Lines::default();
    while let Some(piece) = answer.chunk().await? {
        lines.push(&piece)?;
        while let Some(event) = lines.next::<Value>()? {
            let text = match &template {
                Some(template) => template.execute(&Data::new(&complete(event, format))).map_err(Error::plain)?,
                None => api::json::from_value(&event)
                    .map(|event| line(&event))
                    .map_err(|error| Error::Protocol(error.to_string()))?,
            };
            terminal::print(&format!("{text}\n"));
        }
    }
    Ok(0)
}

/// The members that the JSON leaves out when they are empty: a template may ask for them all the same.
fn complete(mut event: Value, format: Option<&str>) -> Value {
    if let Value::Object(members) = &mut event
        && !format.is_some_and(|format| format.contains("json ."))
    {
        for name in ["status", "id", "from", "scope"] {
            members.entry(name).or_insert_with(|| "".into());
        }
    }
    event
}

/// `TIME TYPE ACTION ID (name=value, …)`.
fn line(event: &Message) -> String {
    let mut text = String::new();
    if event.time_nano != 0 {
        text = nanosecond_time(event.time_nano);
    } else if event.time != 0 {
        text = nanosecond_time(event.time.saturating_mul(1_000_000_000));
    }
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(&format!("{} {} {}", event.kind, event.action, event.actor.id));
    if !event.actor.attributes.is_empty() {
        let pairs: Vec<String> = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        text.push_str(&format!(" ({})", pairs.join(", ")));
    }
    text
}

/// RFC 3339 in the local zone with nine digits, as Docker's `RFC3339NanoFixed`.
fn nanosecond_time(nanos: i64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default().to_zoned_datetime(TimeZone::system());
    let text = time.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string();
    match text.strip_suffix("+00:00") {
        Some(utc) => format!("{utc}Z"),
        None => text,
    }
}

/// What `--since` and `--until` take, as the engine takes it: `SECONDS.NANOSECONDS`. Durations count back from now; dates without a zone
/// are local; empty stays empty.
pub(super) fn when(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    if let Ok(nanos) = oci::go::parse_duration(text) {
        let time = Timestamp::now().as_nanosecond() - i128::from(nanos);
        return Ok(seconds(time));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(seconds(time.as_nanosecond()));
    }
    if let Some(time) = api::time::parse_local(text) {
        return Ok(seconds(time.as_nanosecond()));
    }
    // Seconds since 1970, passed on as they are.
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(format!("failed to parse value as time or duration: {}", crate::format::go::quote(text)));
    }
    Ok(text.to_owned())
}

fn seconds(nanos: i128) -> String {
    format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(when("").unwrap(), "");
        assert_eq!(when("5").unwrap(), "5");
        assert_eq!(when("1970-01-01T00:00:05.25Z").unwrap(), "5.250000000");
        assert!(when("42m").unwrap().parse::<f64>().unwrap() > 1e9);
        assert!(when("yesterday").is_err());
        assert_eq!(seconds(-1), "-1.999999999");
    }

    #[test]
    fn lines() {
        let event = Message {
            kind: "container".into(),
            action: "create".into(),
            actor: api::event::Actor {
                id: "abc".into(),
                attributes: [("image", "busybox"), ("name", "dx")].map(|(k, v)| (k.into(), v.into())).into(),
            },
            ..Message::default()
        };
        assert_eq!(line(&event), "container create abc (image=busybox, name=dx)");
    }
}
