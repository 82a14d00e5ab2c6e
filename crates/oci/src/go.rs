//! Two habits of Go that its programs' users and files rely on: lengths of time, and quoted texts in errors.

use std::fmt::Write;

/// `%q`: the text in quotes, with escapes.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `time.ParseDuration`: nanoseconds in `1h30m`, `1.5s`, `-5ms` or `0`. Errors are Go's, with the text in them.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let is_of_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c| !is_of_number(c)).unwrap_or(rest.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let (fraction, second) = fraction.split_once('.').map_or((fraction, false), |(fraction, _)| (fraction, true));
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        // A second point ends the number.
        let end = if second { 0 } else { after.find(is_of_number).unwrap_or(after.len()) };
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("time: missing unit in duration {}", quote(text))),
            other => return Err(format!("time: unknown unit {} in duration {}", quote(other), quote(text))),
        };
        total = scaled(whole, fraction, unit).and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
        rest = after;
    }
    Ok(if text.starts_with('-') { -total } else { total })
}

/// So many units, without the error that a product of two binary fractions has. What is less than one is cut.
fn scaled(whole: &str, fraction: &str, unit: i64) -> Option<i64> {
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than these say nothing about nanoseconds.
    let digits = fraction.get(..fraction.len().min(18)).filter(|digits| !digits.is_empty()).unwrap_or("0");
    let part = digits.parse::<i128>().ok()? * i128::from(unit) / 10_i128.pow(digits.len().try_into().ok()?);
    whole.checked_mul(unit)?.checked_add(part.try_into().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("1.5ms", 1_500_000),
            ("1.001s", 1_001_000_000),
            ("0.3ns", 0),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("0.1234567890123456789012s", 123_456_789),
            ("0", 0),
            ("+0", 0),
            ("-5ms", -5_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
        for (text, error) in [
            ("x", "time: invalid duration \"x\""),
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            (".s", "time: invalid duration \".s\""),
            ("1.1.1s", "time: missing unit in duration \"1.1.1s\""),
            ("..s", "time: invalid duration \"..s\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5y", "time: unknown unit \"y\" in duration \"5y\""),
        ] {
            assert_eq!(parse_duration(text).unwrap_err(), error);
        }
    }

    #[test]
    fn quotes() {
        assert_eq!(quote("a\"\\\n\u{1}é"), "\"a\\\"\\\\\\n\\x01é\"");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[-+0-9.numshµ ]{0,40}") {
            let _ = parse_duration(&text);
        }
    }
}
