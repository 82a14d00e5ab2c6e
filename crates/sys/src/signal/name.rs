//! Signals by name.

/// First and last real-time signal that are not glibc's own.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Name (without SIG) and number on x86-64 and arm64, signal(7).
const NAMES: &[(&str, i32)] = &[
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

/// The number of `TERM`, `SIGTERM`, `sigterm`, `RTMIN+3` or `SIGRTMAX-1`; `None` for what is no name.
#[must_use]
pub fn by_name(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(RTMIN, offset, '+');
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(RTMAX, offset, '-');
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// So far from an end of their range: they are counted from its beginning upwards and from its end downwards.
fn real_time(from: i32, offset: &str, sign: char) -> Option<i32> {
    let offset = match offset.strip_prefix(sign) {
        Some(digits) => digits.parse::<u8>().ok()?.into(),
        None if offset.is_empty() => 0,
        None => return None,
    };
    let number = if sign == '+' { from + offset } else { from - offset };
    Some(number).filter(|number| (RTMIN..=RTMAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_spelling() {
        for (text, number) in
            [("TERM", 15), ("SIGKILL", 9), ("sigusr1", 10), ("RTMIN", 34), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)]
        {
            assert_eq!(by_name(text), Some(number), "{text}");
        }
        for bad in ["", "0", "ZORK", "SIG", "RTMIN+99", "RTMAX+", "RTMIN-1", "RTMAX+1", "TERM+1"] {
            assert_eq!(by_name(bad), None, "{bad}");
        }
    }
}
