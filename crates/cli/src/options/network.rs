//! `--network`: a name, or `name=NET,alias=A,ip=…,driver-opt=K=V,…`.

use super::csv;
use api::network::{EndpointIpamConfig, EndpointSettings};
use std::collections::BTreeMap;

/// One network to join, as it was asked for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Attachment {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) links: Vec<String>,
    pub(crate) driver_opts: BTreeMap<String, String>,
    pub(crate) ipv4: String,
    pub(crate) ipv6: String,
    pub(crate) link_local: Vec<String>,
    pub(crate) mac: String,
    pub(crate) gw_priority: i64,
}

/// Refuses a value while flags are read.
pub(crate) fn check(value: &str) -> Result<(), String> {
    parse(value).map(drop)
}

/// Reads one value.
pub(crate) fn parse(value: &str) -> Result<Attachment, String> {
    let mut network = Attachment::default();
    if !is_long(value) {
        value.clone_into(&mut network.name);
        return Ok(network);
    }
    for field in csv::fields(value)? {
        let (key, value) =
            field.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| format!("invalid field {field}"))?;
        let (key, value) = (key.trim().to_lowercase(), value.trim());
        match key.as_str() {
            "name" => network.name = value.to_owned(),
            "alias" => network.aliases.push(value.to_owned()),
            "ip" => network.ipv4 = value.to_owned(),
            "ip6" => network.ipv6 = value.to_owned(),
            "mac-address" => network.mac = value.to_owned(),
            "link-local-ip" => network.link_local.push(value.to_owned()),
            "driver-opt" => {
                let (key, value) = value
                    .split_once('=')
                    .filter(|(key, _)| !key.is_empty())
                    .ok_or("invalid key value pair format in driver options")?;
                network.driver_opts.insert(key.trim().to_lowercase(), value.trim().to_owned());
            }
            "gw-priority" => {
                network.gw_priority = value.parse().map_err(|error: std::num::ParseIntError| {
                    format!(
                        "invalid gw-priority: {}",
                        crate::format::go::number_error("ParseInt", value, *error.kind())
                    )
                })?;
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if network.name.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(network)
}

/// Docker takes a value with `word=word` in it for the long form.
fn is_long(value: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    value.match_indices('=').any(|(at, _)| value[..at].ends_with(word) && value[at + 1..].starts_with(word))
}

impl Attachment {
    /// What the endpoint asks for, in the API's form.
    pub(crate) fn endpoint(self) -> EndpointSettings {
        let asks = !(self.ipv4.is_empty() && self.ipv6.is_empty() && self.link_local.is_empty());
        let ipam =
            EndpointIpamConfig { ipv4_address: self.ipv4, ipv6_address: self.ipv6, link_local_ips: self.link_local };
        let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
        EndpointSettings {
            ipam_config: asks.then_some(ipam),
            links: list(self.links),
            aliases: list(self.aliases),
            mac_address: self.mac,
            driver_opts: (!self.driver_opts.is_empty()).then_some(self.driver_opts),
            gw_priority: self.gw_priority,
            ..EndpointSettings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        assert_eq!(parse("container:a=").unwrap().name, "container:a=");
        let network = parse("name=n,alias=a,alias=b,ip=10.0.0.2,driver-opt=k=v").unwrap();
        assert_eq!((network.name.as_str(), network.aliases.len(), network.driver_opts["k"].as_str()), ("n", 2, "v"));
        assert_eq!(network.endpoint().ipam_config.unwrap().ipv4_address, "10.0.0.2");
        assert_eq!(parse("name=x,foo=bar").unwrap_err(), "invalid field key foo");
        assert_eq!(parse("alias=x").unwrap_err(), "network name/id is not specified");
    }
}
