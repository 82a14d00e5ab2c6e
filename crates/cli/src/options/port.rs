//! `-p` and `--expose`: `[[IP:]HOST_PORT:]CONTAINER_PORT[/PROTOCOL]`, each port a number or a range.

use api::container::{EmptyObject, PortBinding, PortMap};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What `-p` publishes and therefore exposes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ports {
    pub(crate) exposed: BTreeMap<String, EmptyObject>,
    pub(crate) bindings: PortMap,
}

/// Reads all values of `--publish` and `--expose`.
pub(crate) fn parse(published: &[String], exposed: &[String]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for value in published {
        let short;
        let spec = if value.contains('=') {
            short = long_form(value)?;
            &short
        } else {
            value
        };
        for (port, binding) in publish(spec)? {
            ports.exposed.insert(port.clone(), EmptyObject {});
            ports.bindings.entry(port).or_insert_with(|| Some(Vec::new())).get_or_insert_default().push(binding);
        }
    }
    for value in exposed {
        if value.contains(':') {
            return Err(format!("invalid port format for --expose: {value}"));
        }
        let (protocol, range) = split_protocol(value);
        let (first, last) =
            parse_range(range).map_err(|why| format!("invalid range format for --expose: {value}, error: {why}"))?;
        for port in first..=last {
            check_protocol(protocol)?;
            ports.exposed.insert(format!("{port}/{protocol}"), EmptyObject {});
        }
    }
    Ok(ports)
}

/// `published=80,target=8080,protocol=tcp` in the short form.
fn long_form(value: &str) -> Result<String, String> {
    let mut fields = BTreeMap::new();
    for pair in value.split(',') {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, value)| !key.is_empty() && !value.is_empty())
            .ok_or_else(|| format!("invalid publish opts format (should be name=value but got '{pair}')"))?;
        fields.insert(key, value);
    }
    let field = |name: &str, default| fields.get(name).copied().unwrap_or(default);
    Ok(format!("{}:{}/{}", field("published", ""), field("target", ""), field("protocol", "tcp")))
}

/// One value in the short form: container port and binding for each port of its range.
fn publish(spec: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let (ip, host, container) = split(spec);
    let (protocol, container) = split_protocol(container);
    let ip = match ip.strip_prefix('[') {
        Some(rest) => {
            rest.strip_suffix(']').ok_or_else(|| format!("invalid IP address {ip}: missing ']' in address"))?
        }
        None => &ip,
    };
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let (first, last) = parse_range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let hosts = match host {
        "" => None,
        range => Some(parse_range(range).map_err(|_| format!("invalid hostPort: {range}"))?),
    };
    if let Some((low, high)) = hosts
        && last - first != high - low
        && last != first
    {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    check_protocol(protocol)?;
    let protocol = protocol.to_lowercase();
    let bind = |offset: u16| {
        let host_port = match hosts {
            None => String::new(),
            // One container port and several host ports: the engine picks one that is free.
            Some((low, high)) if first == last && low != high => format!("{low}-{high}"),
            Some((low, _)) => (low + offset).to_string(),
        };
        (format!("{}/{protocol}", first + offset), PortBinding { host_ip: ip.to_owned(), host_port })
    };
    Ok((0..=last - first).map(bind).collect())
}

/// Address, host port and container port. An IPv6 address holds colons itself.
fn split(spec: &str) -> (String, &str, &str) {
    let parts: Vec<&str> = spec.split(':').collect();
    match parts.as_slice() {
        [container] => (String::new(), "", container),
        [host, container] => (String::new(), host, container),
        [ip @ .., host, container] => (ip.join(":"), host, container),
        [] => (String::new(), "", ""),
    }
}

fn split_protocol(port: &str) -> (&str, &str) {
    match port.split_once('/') {
        None if port.is_empty() => ("", ""),
        None => ("tcp", port),
        Some(("", _)) => ("", ""),
        Some((port, "")) => ("tcp", port),
        Some((port, protocol)) => (protocol, port),
    }
}

fn check_protocol(protocol: &str) -> Result<(), String> {
    match protocol.to_lowercase().as_str() {
        "tcp" | "udp" | "sctp" => Ok(()),
        _ => Err(format!("invalid proto: {protocol}")),
    }
}

/// `80` or `80-90`.
fn parse_range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".into());
    }
    let number = |part: &str| {
        part.parse::<u16>().map_err(|error| crate::format::go::number_error("ParseUint", part, *error.kind()))
    };
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((low, high)) => {
            let (low, high) = (number(low)?, number(high)?);
            if high < low { Err(format!("invalid range specified for port: {text}")) } else { Ok((low, high)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(published: &str) -> Result<Vec<String>, String> {
        let ports = parse(&[published.to_owned()], &[])?;
        let rows = ports.bindings.iter().flat_map(|(port, bindings)| {
            bindings.iter().flatten().map(move |b| format!("{port}={}|{}", b.host_ip, b.host_port))
        });
        Ok(rows.collect())
    }

    #[test]
    fn published() {
        let cases: &[(&str, &[&str])] = &[
            ("80", &["80/tcp=|"]),
            ("8080:80", &["80/tcp=|8080"]),
            ("8080:80/udp", &["80/udp=|8080"]),
            ("127.0.0.1:8080:80", &["80/tcp=127.0.0.1|8080"]),
            ("127.0.0.1::80", &["80/tcp=127.0.0.1|"]),
            ("[::1]:8080:80", &["80/tcp=::1|8080"]),
            ("::1:8080:80", &["80/tcp=::1|8080"]),
            ("10-11:20-21", &["20/tcp=|10", "21/tcp=|11"]),
            ("10-20:80", &["80/tcp=|10-20"]),
            ("published=8080,target=80,protocol=udp", &["80/udp=|8080"]),
        ];
        for (spec, expected) in cases {
            assert_eq!(shown(spec).unwrap(), *expected, "{spec}");
        }
    }

    #[test]
    fn refused() {
        let cases = [
            ("abc", "invalid containerPort: abc"),
            ("x:80", "invalid hostPort: x"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("80/foo", "invalid proto: foo"),
            ("1-2:3-5", "invalid ranges specified for container and host Ports: 3-5 and 1-2"),
            ("published=80", "no port specified: 80:/tcp<empty>"),
            ("published=80,target=8x", "invalid containerPort: 8x"),
            ("70000", "invalid containerPort: 70000"),
            ("", "no port specified: <empty>"),
        ];
        for (spec, expected) in cases {
            assert_eq!(shown(spec).unwrap_err(), expected, "{spec}");
        }
        let expose = |value: &str| parse(&[], &[value.to_owned()]);
        assert_eq!(expose("80-81/udp").unwrap().exposed.len(), 2);
        assert_eq!(expose("1:2").unwrap_err(), "invalid port format for --expose: 1:2");
        assert_eq!(
            expose("x").unwrap_err(),
            "invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax"
        );
    }
}
