//! `--device`, the limits of single devices, and `--gpus`.

use crate::flags::parse_bytes;
use api::container::{DeviceMapping, DeviceRequest, ThrottleDevice, WeightDevice};

/// What a value of `--device` asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Device {
    /// A device of the host.
    Mapping(DeviceMapping),
    /// A name of the container device interface: `vendor.com/class=name`.
    Named(String),
}

/// Device requests for all names of the container device interface.
pub(crate) fn request(names: Vec<String>) -> Option<Vec<DeviceRequest>> {
    if names.is_empty() {
        return None;
    }
    Some(vec![DeviceRequest { driver: "cdi".into(), device_ids: Some(names), ..DeviceRequest::default() }])
}

/// Reads `SOURCE[:TARGET[:ACCESS]]`.
pub(crate) fn parse(value: &str) -> Result<Device, String> {
    if let Some((kind, name)) = value.split_once('=')
        && kind.contains('/')
        && !kind.starts_with('/')
        && !name.is_empty()
    {
        return Ok(Device::Named(value.to_owned()));
    }
    let parts: Vec<&str> = value.split(':').collect();
    let bad = || format!("bad format for path: {value}");
    let (source, target, access) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        // The second part is the access when it can be one.
        [source, access] if is_access(access) => (*source, *source, *access),
        [source, target] => (*source, *target, "rwm"),
        [source, target, access] if is_access(access) => (*source, *target, *access),
        [_, _, access] => return Err(format!("bad mode specified: {access}")),
        _ => return Err(bad()),
    };
    if source.is_empty() {
        return Err(bad());
    }
    if !target.starts_with('/') {
        return Err(format!("{target} is not an absolute path"));
    }
    Ok(Device::Mapping(DeviceMapping {
        path_on_host: source.to_owned(),
        path_in_container: target.to_owned(),
        cgroup_permissions: access.to_owned(),
    }))
}

/// Letters of `rwm`, each once.
fn is_access(text: &str) -> bool {
    let once = |letter: char| text.matches(letter).count() <= 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c)) && "rwm".chars().all(once)
}

/// Refuses a value of `--device-cgroup-rule`.
pub(crate) fn check_cgroup_rule(value: &str) -> Result<(), String> {
    let bad = || Err(format!("invalid device cgroup format '{value}'"));
    let words: Vec<&str> = value.split(' ').collect();
    let [kind, numbers, access] = words.as_slice() else { return bad() };
    let number = |part: &str| part == "*" || (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let pair = numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor));
    let access = (1..=3).contains(&access.len()) && access.chars().all(|c| "rwm".contains(c));
    if matches!(*kind, "a" | "b" | "c") && pair && access { Ok(()) } else { bad() }
}

/// Refuses a value of `--blkio-weight-device`.
pub(crate) fn check_weight(value: &str) -> Result<(), String> {
    weight(value).map(drop)
}

/// Reads `PATH:WEIGHT`.
pub(crate) fn weight(value: &str) -> Result<WeightDevice, String> {
    let (path, weight) = path_and(value)?;
    let number: u16 = weight.parse().map_err(|_| format!("invalid weight for device: {value}"))?;
    if number > 0 && !(10..=1000).contains(&number) {
        return Err(format!("invalid weight for device: {value}"));
    }
    Ok(WeightDevice { path: path.to_owned(), weight: number })
}

/// Refuses a value of `--device-read-bps` and `--device-write-bps`.
pub(crate) fn check_rate_bytes(value: &str) -> Result<(), String> {
    rate_bytes(value).map(drop)
}

/// Reads `PATH:BYTES`.
pub(crate) fn rate_bytes(value: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = path_and(value)?;
    let rate = parse_bytes(rate).ok().and_then(|rate| u64::try_from(rate).ok()).ok_or_else(|| {
        format!(
            "invalid rate for device: {value}. The correct format is <device-path>:<number>[<unit>]. \
             Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// Refuses a value of `--device-read-iops` and `--device-write-iops`.
pub(crate) fn check_rate_count(value: &str) -> Result<(), String> {
    rate_count(value).map(drop)
}

/// Reads `PATH:OPERATIONS`.
pub(crate) fn rate_count(value: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = path_and(value)?;
    let rate = rate.parse().map_err(|_| {
        format!(
            "invalid rate for device: {value}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

fn path_and(value: &str) -> Result<(&str, &str), String> {
    let bad = || format!("bad format: {value}");
    let (path, rest) =
        value.split_once(':').filter(|(_, rest)| !rest.is_empty() && !rest.contains(':')).ok_or_else(bad)?;
    if path.starts_with("/dev/") { Ok((path, rest)) } else { Err(format!("bad format for device path: {value}")) }
}

/// There is no driver for these devices.
pub(crate) fn refuse_gpus(_: &str) -> Result<(), String> {
    Err("GPU devices are not supported: no device driver has the capability [[gpu]]".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let mapping = |value| match parse(value).unwrap() {
            Device::Mapping(m) => format!("{} {} {}", m.path_on_host, m.path_in_container, m.cgroup_permissions),
            Device::Named(name) => name,
        };
        assert_eq!(mapping("/dev/null"), "/dev/null /dev/null rwm");
        assert_eq!(mapping("/dev/null:r"), "/dev/null /dev/null r");
        assert_eq!(mapping("/dev/null:/dev/x:rw"), "/dev/null /dev/x rw");
        assert_eq!(mapping("vendor.com/gpu=all"), "vendor.com/gpu=all");
        assert_eq!(parse("a:b:c:d").unwrap_err(), "bad format for path: a:b:c:d");
        assert_eq!(parse("/dev/a:/dev/b:q").unwrap_err(), "bad mode specified: q");
    }

    #[test]
    fn limits() {
        assert_eq!(rate_bytes("/dev/sda:1mb").unwrap().rate, 1 << 20);
        assert_eq!(rate_count("/dev/sda:5").unwrap().rate, 5);
        assert_eq!(weight("/dev/sda:100").unwrap().weight, 100);
        assert_eq!(weight("x").unwrap_err(), "bad format: x");
        assert!(weight("/dev/sda:5").is_err() && rate_bytes("/dev/x:y").is_err());
        assert!(check_cgroup_rule("c 1:* rwm").is_ok() && check_cgroup_rule("x").is_err());
    }
}
