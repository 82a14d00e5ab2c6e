//! `--ulimit`: `TYPE=SOFT[:HARD]`.

use api::container::Ulimit;

const TYPES: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Refuses a value while flags are read.
pub(crate) fn check(value: &str) -> Result<(), String> {
    parse(value).map(drop)
}

/// Reads one value; -1 is unlimited.
pub(crate) fn parse(value: &str) -> Result<Ulimit, String> {
    let (name, limits) = value.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {value}"))?;
    if !TYPES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| {
        text.parse::<i64>().map_err(|error| crate::format::go::number_error("ParseInt", text, *error.kind()))
    };
    let parts: Vec<&str> = limits.split(':').collect();
    let (soft, hard) = match parts.as_slice() {
        [both] => (number(both)?, number(both)?),
        [soft, hard] => (number(soft)?, number(hard)?),
        _ => return Err(format!("too many limit values - {limits}, can only have parts: 1 or 2")),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        let ulimit = parse("nofile=5:10").unwrap();
        assert_eq!((ulimit.soft, ulimit.hard), (5, 10));
        assert_eq!(parse("nproc=7").unwrap().hard, 7);
        assert_eq!(parse("x").unwrap_err(), "invalid ulimit argument: x");
        assert_eq!(parse("foo=5").unwrap_err(), "invalid ulimit type: foo");
        assert_eq!(
            parse("nofile=5:3").unwrap_err(),
            "ulimit soft limit must be less than or equal to hard limit: 5 > 3"
        );
    }
}
