//! Signals by name and number.

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
    ("RTMIN", 34),
    ("RTMAX", 64),
];

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub(super) fn parse(text: &str) -> Result<i32, String> {
    let unknown = || format!("unknown signal {text:?}");
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let (name, offset) = match name.find(['+', '-']).and_then(|at| name.split_at_checked(at)) {
        Some((name, offset)) => (name, offset.parse::<i32>().map_err(|_| unknown())?),
        None => (name, 0),
    };
    if offset != 0 && !name.starts_with("RT") {
        return Err(unknown());
    }
    let number = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| number + offset);
    number.filter(|number| (1..=64).contains(number)).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_and_numbers() {
        let parse = |text: &str| super::parse(text).ok();
        assert_eq!(parse("TERM"), Some(15));
        assert_eq!(parse("sigkill"), Some(9));
        assert_eq!(parse("RTMIN+3"), Some(37));
        assert_eq!(parse("64"), Some(64));
        assert_eq!((parse("65"), parse("FOO"), parse("TERM+1")), (None, None, None));
    }
}
