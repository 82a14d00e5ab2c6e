//! Sizes and times for people, as Docker's `go-units` writes them.

use super::go;
use jiff::Timestamp;

/// `1.98MB`: powers of 1000, three digits.
pub(crate) fn size(bytes: i64) -> String {
    custom(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"], 3)
}

/// `1.984MB`: powers of 1000, four digits, as progress bars show it.
pub(crate) fn size_precise(bytes: i64) -> String {
    custom(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"], 4)
}

/// `1.891MiB`: powers of 1024.
pub(crate) fn binary_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"], 4)
}

fn custom(bytes: i64, base: f64, units: &[&str], digits: usize) -> String {
    #[allow(clippy::cast_precision_loss)] // a few digits are shown
    scaled(bytes as f64, base, units, digits)
}

fn scaled(bytes: f64, base: f64, units: &[&str], digits: usize) -> String {
    let (mut amount, mut unit) = (bytes, 0);
    while amount >= base && unit + 1 < units.len() {
        amount /= base;
        unit += 1;
    }
    format!("{}{}", go::general(amount, digits), units[unit])
}

/// `About an hour`, `3 days`.
pub(crate) fn duration(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation)] // whole units are shown
    let (whole, minutes, hours) = (seconds as i64, (seconds / 60.0) as i64, (seconds / 3600.0 + 0.5) as i64);
    match () {
        () if whole < 1 => "Less than a second".into(),
        () if whole == 1 => "1 second".into(),
        () if whole < 60 => format!("{whole} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        #[allow(clippy::cast_possible_truncation)]
        () => format!("{} years", (seconds / 3600.0) as i64 / 24 / 365),
    }
}

/// `3 hours ago`, from seconds since 1970.
pub(crate) fn since(unix_seconds: i64) -> String {
    let now = Timestamp::now().as_millisecond();
    #[allow(clippy::cast_precision_loss)]
    let seconds = (now - unix_seconds.saturating_mul(1000)) as f64 / 1000.0;
    format!("{} ago", duration(seconds))
}

/// Go's `time.Time.String()` in the local zone: `2026-11-24 10:28:46 +0000 UTC`.
pub(crate) fn local(time: Timestamp) -> String {
    let zoned = time.to_zoned_datetime(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// The first twelve digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

/// Cuts text to a number of characters, the last of which is then an ellipsis.
pub(crate) fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    if most <= 1 {
        return text.chars().take(most).collect();
    }
    let mut short: String = text.chars().take(most - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size(0), "0B");
        assert_eq!(size(1_984_000), "1.98MB");
        assert_eq!(size(215_000_000), "215MB");
        assert_eq!(size(999_600), "1e+03kB");
        assert_eq!(binary_size(67_108_864.0), "64MiB");
        assert_eq!(binary_size(24_105.5 * 1024.0), "23.54MiB");
    }

    #[test]
    fn durations() {
        let cases = [
            (0.5, "Less than a second"),
            (1.0, "1 second"),
            (59.9, "59 seconds"),
            (61.0, "About a minute"),
            (3599.0, "59 minutes"),
            (3600.0, "About an hour"),
            (47.0 * 3600.0, "47 hours"),
            (48.0 * 3600.0, "2 days"),
            (20.0 * 86400.0, "2 weeks"),
            (90.0 * 86400.0, "3 months"),
            (800.0 * 86400.0, "2 years"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn ellipses() {
        assert_eq!(ellipsis("abcdef", 6), "abcdef");
        assert_eq!(ellipsis("abcdefg", 6), "abcde…");
    }
}
