//! Values of flags, checked when they are read so that a command only asks for them.
//!
//! The grammars and the texts of errors are those of Go's `strconv` and `time`, and of Docker's `go-units` and `opts`.

use super::{Flag, Kind};
use crate::format::go;
use std::collections::HashMap;

/// What was given on the command line, by the flag's name.
#[derive(Debug, Default)]
pub(crate) struct Values {
    given: HashMap<&'static str, Vec<String>>,
}

impl Values {
    /// Takes a value in; the error says what is wrong with it without naming the flag.
    pub(super) fn add(&mut self, flag: &Flag, value: &str) -> Result<(), String> {
        check(flag, value)?;
        let entry = self.given.entry(flag.name).or_default();
        if flag.kind == Kind::Strings {
            entry.extend(value.split(',').map(str::to_owned));
        } else {
            entry.push(value.to_owned());
        }
        Ok(())
    }

    /// Whether the flag was given at all.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Whether a switch is on; off when it was not given.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.on_or(name, false)
    }

    /// The same for a switch with a default of its own.
    pub(crate) fn on_or(&self, name: &str, default: bool) -> bool {
        self.last(name).and_then(parse_bool).unwrap_or(default)
    }

    /// The text that was given last, or nothing.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.last(name).unwrap_or_default()
    }

    /// The text that was given last.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.given.get(name)?.last().map(String::as_str)
    }

    /// All values of a flag that may be repeated.
    pub(crate) fn list(&self, name: &str) -> &[String] {
        self.given.get(name).map_or(&[], Vec::as_slice)
    }

    /// A number, or 0. Bytes, durations (nanoseconds) and processors (10^-9) count as numbers.
    pub(crate) fn int(&self, name: &str) -> i64 {
        self.int_or(name, 0)
    }

    /// The same for a number with a default of its own.
    pub(crate) fn int_or(&self, name: &str, default: i64) -> i64 {
        self.last(name).map_or(default, |text| number(text).unwrap_or(default))
    }

    /// Bytes, or 0; `-1` where it means "no limit".
    pub(crate) fn bytes(&self, name: &str) -> i64 {
        self.last(name).map_or(0, |text| if text == "-1" { -1 } else { parse_bytes(text).unwrap_or(0) })
    }

    /// Nanoseconds, or 0.
    pub(crate) fn duration(&self, name: &str) -> i64 {
        self.last(name).map_or(0, |text| oci::go::parse_duration(text).unwrap_or(0))
    }

    /// Processors in units of 10^-9, or 0.
    pub(crate) fn processors(&self, name: &str) -> i64 {
        self.last(name).map_or(0, |text| parse_processors(text).unwrap_or(0))
    }

    /// `KEY=VALUE` pairs; a bare key has no value.
    pub(crate) fn map(&self, name: &str) -> std::collections::BTreeMap<String, String> {
        self.list(name)
            .iter()
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// The `filters` parameter of a request.
    pub(crate) fn filters(&self) -> api::Filters {
        let mut filters = api::Filters::default();
        for pair in self.list("filter") {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            filters.add(key.trim().to_lowercase(), value.trim());
        }
        filters
    }
}

fn check(flag: &Flag, value: &str) -> Result<(), String> {
    match flag.kind {
        Kind::Bool => parse_bool(value).map(drop).ok_or_else(|| go::invalid_syntax("ParseBool", value)),
        Kind::Int => number(value).map(drop).map_err(|why| go::number_error("ParseInt", value, why)),
        Kind::Uint => unsigned(value, u64::MAX).map_err(|why| go::number_error("ParseUint", value, why)),
        Kind::Uint16 => unsigned(value, u64::from(u16::MAX)).map_err(|why| go::number_error("ParseUint", value, why)),
        Kind::Decimal => parse_processors(value).map(drop),
        Kind::Bytes if value == "-1" && flag.name == "memory-swap" => Ok(()),
        Kind::Bytes => parse_bytes(value).map(drop),
        Kind::Duration => oci::go::parse_duration(value).map(drop),
        Kind::Filter if !value.is_empty() && !value.contains('=') => {
            Err("bad format of filter (expected name=value)".into())
        }
        _ => Ok(()),
    }?;
    flag.check.map_or(Ok(()), |check| check(value))
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseInt` with base 0.
fn number(text: &str) -> Result<i64, std::num::IntErrorKind> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_lowercase();
    let radix = [("0x", 16), ("0b", 2), ("0o", 8)].into_iter().find(|(prefix, _)| lower.starts_with(prefix));
    let result = match radix {
        Some((prefix, radix)) => i64::from_str_radix(&format!("{sign}{}", &lower[prefix.len()..]), radix),
        None if lower.len() > 1 && lower.starts_with('0') => i64::from_str_radix(&format!("{sign}{lower}"), 8),
        None => format!("{sign}{lower}").parse(),
    };
    result.map_err(|error| *error.kind())
}

fn unsigned(text: &str, most: u64) -> Result<(), std::num::IntErrorKind> {
    let value: u64 = text.parse().map_err(|error: std::num::ParseIntError| *error.kind())?;
    if value > most { Err(std::num::IntErrorKind::PosOverflow) } else { Ok(()) }
}

/// Docker's `ParseCPUs`: a rational number with at most nine digits behind the point.
fn parse_processors(text: &str) -> Result<i64, String> {
    let wrong = || format!("failed to parse {text} as a rational number");
    if let Some((top, bottom)) = text.split_once('/') {
        let (top, bottom): (i64, i64) = (top.parse().map_err(|_| wrong())?, bottom.parse().map_err(|_| wrong())?);
        let nanos = top.checked_mul(1_000_000_000).filter(|_| bottom != 0).ok_or_else(wrong)?;
        return if nanos % bottom == 0 { Ok(nanos / bottom) } else { Err("value is too precise".into()) };
    }
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let numeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty() || digits == "." || !numeric(whole) || !numeric(fraction) {
        return Err(wrong());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".into());
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(nanos)).map(|n| n * sign).ok_or_else(wrong)
}

/// go-units' `RAMInBytes`: `64m`, `1.5GiB`, powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let (digits, suffix) = text.split_at(end + 1);
    let digits = digits.strip_suffix(' ').unwrap_or(digits);
    let amount: f64 = digits.parse().map_err(|_| go::invalid_syntax("ParseFloat", digits))?;
    if amount < 0.0 {
        return Err(invalid());
    }
    let lower = suffix.to_lowercase();
    let power = match lower.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(lower.as_str(), "" | "b") => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(format!("invalid suffix: '{lower}'")),
    };
    if !matches!(lower.get(1..), None | Some("" | "b" | "ib")) {
        return Err(format!("invalid suffix: '{lower}'"));
    }
    // As Go does: the product is cut, not rounded.
    #[allow(clippy::cast_possible_truncation)]
    Ok((amount * 1024_f64.powi(power)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let good = [("64m", 64 << 20), ("1.5GiB", 3 << 29), ("10", 10), ("10b", 10), ("2 kb", 2048), ("1T", 1 << 40)];
        for (text, bytes) in good {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_bytes("abc").unwrap_err(), "invalid size: 'abc'");
        assert_eq!(parse_bytes("-1").unwrap_err(), "invalid size: '-1'");
        assert_eq!(parse_bytes("5xyz").unwrap_err(), "invalid suffix: 'xyz'");
        assert!(parse_bytes("5mm").is_err() && parse_bytes("5i").is_err() && parse_bytes("").is_err());
    }

    #[test]
    fn processors() {
        assert_eq!(parse_processors("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_processors(".25"), Ok(250_000_000));
        assert_eq!(parse_processors("1/2"), Ok(500_000_000));
        assert_eq!(parse_processors("0.0000000001").unwrap_err(), "value is too precise");
        assert!(parse_processors("").is_err() && parse_processors("a").is_err());
    }
}
