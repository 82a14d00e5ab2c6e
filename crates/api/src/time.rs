//! Times as Go writes them: RFC 3339 in UTC, nanoseconds without trailing zeros.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

/// What Go writes for a time that was never set.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// The present as RFC 3339 with nanoseconds.
pub fn now() -> String {
    rfc3339(Timestamp::now())
}

/// Go's `RFC3339Nano`: `2026-11-24T10:23:08.70659935Z`, no fraction on a whole second.
pub fn rfc3339(time: Timestamp) -> String {
    // jiff trims trailing zeros in groups of none: `{:.N}` is fixed, the plain form is minimal, which is Go's rule.
    time.to_string()
}

/// Reads what [`rfc3339`] writes, with any offset. `None` for [`ZERO`] and for what is not a time.
pub fn parse(text: &str) -> Option<Timestamp> {
    if text == ZERO {
        return None;
    }
    text.parse().ok()
}

/// Reads a date, or a date and a time without a zone, both in the zone of this machine: `2001-02-03T04:05:06`.
pub fn parse_local(text: &str) -> Option<Timestamp> {
    let time = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(civil::DateTime::from));
    let is_time = text.contains('-') && !text.starts_with('-');
    time.ok().filter(|_| is_time)?.to_zoned_datetime(TimeZone::system()).ok().map(|zoned| zoned.timestamp())
}

/// Reads the `since` and `until` parameters: `SECONDS`, `SECONDS.NANOSECONDS`, or RFC 3339. Empty is `None`.
pub fn parse_query(text: &str) -> Result<Option<Timestamp>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(time) = text.parse() {
        return Ok(Some(time));
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let bad = |part: &str| format!("strconv.ParseInt: parsing {part:?}: invalid syntax");
    let whole: i64 = seconds.parse().map_err(|_| bad(seconds))?;
    // Go reads the digits after the point as nanoseconds, padded to nine.
    let mut digits: String = fraction.chars().take(9).collect();
    while digits.len() < 9 {
        digits.push('0');
    }
    let nanos: i32 = digits.parse().map_err(|_| bad(fraction))?;
    Timestamp::new(whole, nanos).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_like_go() {
        let at = |nanos| rfc3339(Timestamp::new(1_795_516_126, nanos).unwrap());
        assert_eq!(at(706_599_350), "2026-11-24T10:28:46.70659935Z");
        assert_eq!(at(0), "2026-11-24T10:28:46Z");
        assert_eq!(at(100_000_000), "2026-11-24T10:28:46.1Z");
    }

    #[test]
    fn reads_dates_without_a_zone() {
        let [date, time] = ["2001-02-03", "2001-02-03T00:00:00"].map(|text| parse_local(text).unwrap());
        assert_eq!(date, time);
        for text in ["2001", "20010203", "yesterday", "-5", "2001-02-03T00:00:00Z"] {
            assert_eq!(parse_local(text), None, "{text}");
        }
    }

    #[test]
    fn reads_query_forms() {
        let nanos = |text: &str| parse_query(text).unwrap().unwrap().as_nanosecond();
        assert_eq!(nanos("5"), 5_000_000_000);
        assert_eq!(nanos("5.25"), 5_250_000_000);
        assert_eq!(nanos("1970-01-01T00:00:05.25Z"), 5_250_000_000);
        assert!(parse_query("yesterday").is_err());
        assert_eq!(parse_query("").unwrap(), None);
    }
}
