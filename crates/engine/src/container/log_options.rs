//! What the options of a log mean: how large it gets, and whether its container waits for it.
//!
//! dockerd looks at `mode` and `max-buffer-size` when a container is made, and at the rest when it starts; so it is here.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// What dockerd keeps in memory when `max-buffer-size` does not say.
const BUFFER: u64 = 1_000_000;

/// The limits of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LogLimits {
    /// Bytes per file.
    pub(crate) max_size: Option<u64>,
    /// Files.
    pub(crate) max_file: Option<u32>,
}

/// Reads `max-size` and `max-file`; refuses what the shim would not do.
pub(crate) fn log_limits(options: &BTreeMap<String, String>) -> Result<LogLimits> {
    let mut limits = LogLimits::default();
    if let Some(text) = options.get("max-size").filter(|t| *t != "-1") {
        let size = parse_size(text, 1000.0).filter(|size| *size > 0);
        limits.max_size = Some(size.ok_or_else(|| Error::invalid(format!("invalid size: '{text}'")))?);
    }
    if let Some(text) = options.get("max-file") {
        let count: i64 =
            text.parse().map_err(|_| Error::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))?;
        if count < 1 {
            return Err(Error::invalid("max-file cannot be less than 1"));
        }
        limits.max_file = u32::try_from(count).ok();
    }
    if let Some(text) = options.get("compress").filter(|t| matches!(t.as_str(), "true" | "1"))
        && limits.max_size.is_some()
    {
        return Err(Error::not_implemented(format!("log option compress={text} is not supported by this engine")));
    }
    for unsupported in ["labels-regex", "env-regex", "tag"] {
        if options.contains_key(unsupported) {
            return Err(Error::not_implemented(format!("log option {unsupported} is not supported by this engine")));
        }
    }
    Ok(limits)
}

/// Reads `mode` and `max-buffer-size`: how many bytes wait for the log before lines are left out, or none when the container
/// waits instead.
pub(crate) fn log_buffer(options: &BTreeMap<String, String>) -> Result<Option<u64>> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::invalid(format!("logger: logging mode not supported: {mode}")));
    }
    let waits = mode != "non-blocking";
    match options.get("max-buffer-size") {
        Some(_) if waits => {
            Err(Error::invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'"))
        }
        Some(text) => {
            let wrong = || Error::invalid(format!("error parsing option max-buffer-size: invalid size: '{text}'"));
            parse_size(text, 1024.0).ok_or_else(wrong).map(Some)
        }
        None => Ok((!waits).then_some(BUFFER)),
    }
}

/// `10m`, `1g`, `512k`, `100` → bytes. Files are counted in powers of 1000, memory in powers of 1024.
fn parse_size(text: &str, base: f64) -> Option<u64> {
    let lower = text.trim().to_lowercase();
    let bare = lower.trim_end_matches('b');
    let split = bare.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(bare.len());
    let power = match bare[split..].trim() {
        "" => 0,
        "k" | "ki" => 1,
        "m" | "mi" => 2,
        "g" | "gi" => 3,
        "t" | "ti" => 4,
        "p" | "pi" => 5,
        _ => return None,
    };
    let number: f64 = bare[..split].parse().ok()?;
    Some((number * base.powi(power)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn limits_are_read_or_refused() {
        let of = |pairs: &[(&str, &str)]| log_limits(&options(pairs));
        let limits = of(&[("max-size", "10m"), ("max-file", "3")]).unwrap();
        assert_eq!(limits, LogLimits { max_size: Some(10_000_000), max_file: Some(3) });
        assert!(of(&[("max-size", "x")]).is_err() && of(&[("max-file", "0")]).is_err());
        assert_eq!(of(&[("tag", "x")]).unwrap_err().kind(), Kind::NotImplemented);
    }

    #[test]
    fn who_waits_for_whom() {
        let of = |pairs: &[(&str, &str)]| log_buffer(&options(pairs)).map_err(|error| error.message().to_owned());
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("mode", "blocking")]), Ok(None));
        assert_eq!(of(&[("mode", "non-blocking")]), Ok(Some(1_000_000)));
        assert_eq!(of(&[("mode", "non-blocking"), ("max-buffer-size", "4m")]), Ok(Some(4 << 20)));
        // The words of dockerd 26.1.
        let refused = |pairs: &[(&str, &str)], why: &str| assert_eq!(of(pairs), Err(why.to_owned()));
        refused(&[("mode", "sometimes")], "logger: logging mode not supported: sometimes");
        refused(
            &[("max-buffer-size", "1m")],
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        );
        refused(
            &[("mode", "non-blocking"), ("max-buffer-size", "xx")],
            "error parsing option max-buffer-size: invalid size: 'xx'",
        );
    }
}
