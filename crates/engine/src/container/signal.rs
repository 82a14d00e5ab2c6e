//! Signals by name and number, as `docker kill -s` and STOPSIGNAL take them.

use crate::error::{Error, Result};

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
    sys::signal::by_name(text).ok_or_else(invalid)
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
