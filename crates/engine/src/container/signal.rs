//! Signals by name and number, as `docker kill -s` and STOPSIGNAL take them.

use crate::error::{Error, Result};

/// First and last real-time signal that are not glibc's own.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Name (without SIG) and number on x86-64 and arm64.
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// SIGKILL.
pub(crate) const KILL: i32 = 9;
/// SIGTERM, the default of `stop`.
pub(crate) const TERM: i32 = 15;

/// `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3` → its number. Fails with `invalid signal: TEXT`.
pub(crate) fn parse(text: &str) -> Result<i32> {
    let invalid = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if number == 0 { Err(invalid()) } else { Ok(number) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |base: i32, offset: &str, sign: i32| {
        let offset = if offset.is_empty() { Some(0) } else { offset.get(1..)?.parse::<i32>().ok() }?;
        Some(base + sign * offset).filter(|n| (RTMIN..=RTMAX).contains(n))
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(RTMIN, rest, 1).ok_or_else(invalid);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(RTMAX, rest, -1).ok_or_else(invalid);
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in
            [("TERM", 15), ("SIGKILL", 9), ("sigusr1", 10), ("3", 3), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)]
        {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "ZORK", "SIG", "RTMIN+99", "RTMAX+"] {
            assert_eq!(parse(bad).unwrap_err().message(), format!("invalid signal: {bad}"));
        }
    }
}
