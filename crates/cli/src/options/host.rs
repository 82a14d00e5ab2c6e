//! `--add-host`, `--attach`, `--dns`, `--dns-search`, `--link`, `--link-local-ip`, `--sysctl` and `--restart`.

use api::container::RestartPolicy;
use std::net::IpAddr;

/// Refuses a value of `--add-host`.
pub(crate) fn check_extra_host(value: &str) -> Result<(), String> {
    extra_host(value).map(drop)
}

/// `NAME:ADDRESS` or `NAME=ADDRESS` in the API's form; an IPv6 address may stand in brackets.
pub(crate) fn extra_host(value: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {}", crate::format::go::quote(value));
    let (name, address) = value.split_once('=').or_else(|| value.split_once(':')).ok_or_else(bad)?;
    if name.is_empty() {
        return Err(bad());
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if address != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {}", crate::format::go::quote(address)));
    }
    Ok(format!("{name}:{bare}"))
}

/// Refuses a value of `--attach`.
pub(crate) fn check_stream(value: &str) -> Result<(), String> {
    match value.to_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}

/// Refuses what is no IP address.
pub(crate) fn check_address(value: &str) -> Result<(), String> {
    let parsed = value.trim().parse::<IpAddr>();
    parsed.map(|_| ()).map_err(|_| format!("IP address is not correctly formatted: {value}"))
}

/// Refuses what is no domain; a lone dot means "no search domain".
pub(crate) fn check_domain(value: &str) -> Result<(), String> {
    let text = value.trim();
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let good = text == "."
        || (text.trim_end_matches('.').split('.').all(part)
            && !text.ends_with("..")
            && text.bytes().any(|byte| byte.is_ascii_alphabetic()));
    if good { Ok(()) } else { Err(format!("{value} is not a valid domain")) }
}

/// Refuses a value of `--link`.
pub(crate) fn check_link(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("empty string specified for links".into());
    }
    if value.split(':').count() > 2 { Err(format!("bad format for links: {value}")) } else { Ok(()) }
}

/// Refuses a value of `--sysctl`: only what belongs to a namespace may be set.
pub(crate) fn check_sysctl(value: &str) -> Result<(), String> {
    const NAMES: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let name = value.split('=').next().unwrap_or_default();
    let known = NAMES.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    if value.contains('=') && known { Ok(()) } else { Err(format!("sysctl '{value}' is not allowed")) }
}

/// `--restart`: `NAME[:COUNT]`.
pub(crate) fn restart(value: &str) -> Result<RestartPolicy, String> {
    if value.is_empty() {
        return Ok(RestartPolicy::default());
    }
    let (name, count) = value.split_once(':').map_or((value, None), |(name, count)| (name, Some(count)));
    if name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".into());
    }
    let count = count.map(str::parse).transpose();
    let count =
        count.map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?;
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count: count.unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert_eq!(extra_host("a:10.0.0.1").unwrap(), "a:10.0.0.1");
        assert_eq!(extra_host("a=[::1]").unwrap(), "a:::1");
        assert_eq!(extra_host("a:::1").unwrap(), "a:::1");
        assert_eq!(extra_host("a:host-gateway").unwrap(), "a:host-gateway");
        assert_eq!(extra_host("x").unwrap_err(), "bad format for add-host: \"x\"");
        assert_eq!(extra_host("x:y").unwrap_err(), "invalid IP address in add-host: \"y\"");
    }

    #[test]
    fn small_grammars() {
        assert!(check_domain("example.com").is_ok() && check_domain(".").is_ok());
        assert_eq!(check_domain("f_o..").unwrap_err(), "f_o.. is not a valid domain");
        assert!(check_sysctl("net.core.somaxconn=5").is_ok());
        assert_eq!(check_sysctl("foo=bar").unwrap_err(), "sysctl 'foo=bar' is not allowed");
        assert_eq!(restart("on-failure:3").unwrap().maximum_retry_count, 3);
        assert!(restart("on-failure:x").is_err() && restart(":3").is_err());
        assert!(check_link("a:b").is_ok() && check_link("a:b:c").is_err());
    }
}
