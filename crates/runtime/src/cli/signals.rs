//! Signals by name and number.

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub(super) fn parse(text: &str) -> Result<i32, String> {
    let unknown = || format!("unknown signal {text:?}");
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    sys::signal::by_name(text).ok_or_else(unknown)
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
