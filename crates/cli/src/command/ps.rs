//! `docker ps`.

use crate::client::Query;
use crate::error::Error;
use crate::format::row::{Listing, Row};
use crate::format::{go, human};
use crate::{Invocation, terminal};
use api::container::{Summary, SummaryPort};
use jiff::Timestamp;
use serde_json::Value;
use std::fmt::Write;

/// How much of a command a table has room for.
const COMMAND_WIDTH: usize = 20;

/// The listing of containers.
fn listing(size: bool) -> Listing {
    let mut default =
        "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}".to_owned();
    if size {
        default.push_str("\t{{.Size}}");
    }
    Listing {
        type_name: "*formatter.ContainerContext",
        headings: &[
            ("ID", "CONTAINER ID"),
            ("Names", "NAMES"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("CreatedAt", "CREATED AT"),
            ("RunningFor", "CREATED"),
            ("Ports", "PORTS"),
            ("State", "STATE"),
            ("Status", "STATUS"),
            ("Size", "SIZE"),
            ("Labels", "LABELS"),
            ("Mounts", "MOUNTS"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Networks", "NETWORKS"),
            ("Platform", "PLATFORM"),
        ],
        default,
        quiet: "{{.ID}}",
    }
}

/// `docker ps`.
pub(crate) async fn ps(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let config = call.config();
    let wanted = if values.is_set("format") { values.text("format") } else { config.text("psFormat") };
    let wanted = if values.on("quiet") && !values.is_set("format") { "" } else { wanted };
    let size = values.on("size");
    let listing = listing(size);
    let format = listing.format(wanted, values.on("quiet"))?;
    let last = if values.on("latest") && values.int_or("last", -1) == -1 { 1 } else { values.int_or("last", -1) };
    // Sizes cost the engine a walk over files: they are asked for only when they are shown.
    let size = size || ((wanted.contains(".Size") || wanted.contains("json .}")) && !values.is_set("size"));
    let mut query = Query::new().with_flag("all", values.on("all")).with_text("filters", &values.filters().to_query());
    if last != -1 {
        query = query.with("limit", &last.to_string());
    }
    let query = query.with_flag("size", size);
    let client = call.client()?.with_headers(config.headers());
    let containers: Vec<Summary> = client.get("/containers/json", &query).await?;
    let rows: Vec<Row> = containers.iter().map(|container| row(container, !values.on("no-trunc"))).collect();
    terminal::print(&listing.show(&format, &rows)?);
    Ok(0)
}

/// One container; `short` cuts ids, commands and mounts.
pub(super) fn row(container: &Summary, short: bool) -> Row {
    let names = container.names.iter().map(|name| name.trim_start_matches('/'));
    // A name with a slash is a link's name for the container.
    let names: Vec<&str> = if short { names.filter(|name| !name.contains('/')).collect() } else { names.collect() };
    let command = if short { human::ellipsis(&container.command, COMMAND_WIDTH) } else { container.command.clone() };
    let created = Timestamp::from_second(container.created).unwrap_or_default();
    let mounts = container.mounts.iter().map(|mount| {
        let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
        if short { human::ellipsis(name, 15) } else { name.clone() }
    });
    let volumes = container.mounts.iter().filter(|mount| mount.driver == "local").count();
    let labels: Vec<String> = container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let networks: Vec<&str> = container.network_settings.networks.keys().map(String::as_str).collect();
    Row::new([
        ("ID", if short { human::short_id(&container.id).to_owned() } else { container.id.clone() }),
        ("Names", names.join(",")),
        ("Image", image(container, short)),
        ("Command", go::quote(&command)),
        ("CreatedAt", human::local(created)),
        ("RunningFor", human::since(container.created)),
        ("Ports", ports(&container.ports)),
        ("State", container.state.clone()),
        ("Status", container.status.clone()),
        ("Size", size(container)),
        ("Labels", labels.join(",")),
        ("Mounts", mounts.collect::<Vec<_>>().join(",")),
        ("LocalVolumes", volumes.to_string()),
        ("Networks", networks.join(",")),
    ])
    .with(
        "Platform",
        container.image_manifest_descriptor.as_ref().and_then(|d| d.get("platform")).cloned().unwrap_or(Value::Null),
    )
    .with_labels(container.labels.clone())
}

fn image(container: &Summary, short: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".into();
    }
    if short {
        let id = container.image_id.split_once(':').map_or(container.image_id.as_str(), |(_, hex)| hex);
        if container.image == container.image_id || container.image == id {
            return human::short_id(&container.image_id).to_owned();
        }
        // A digest says nothing to a reader of a table, unless it is all there is.
        if let Some((name, _)) = container.image.split_once('@') {
            return name.to_owned();
        }
    }
    container.image.clone()
}

fn size(container: &Summary) -> String {
    let mut text = human::size(container.size_rw);
    if container.size_root_fs > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, " (virtual {})", human::size(container.size_root_fs));
    }
    text
}

/// `0.0.0.0:80-81->80-81/tcp, 90/udp`: adjacent ports that are published alike are put together.
pub(super) fn ports(ports: &[SummaryPort]) -> String {
    let mut sorted: Vec<&SummaryPort> = ports.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |port: &SummaryPort| (port.private_port, port.ip.clone(), port.public_port, port.protocol.clone());
        key(a).cmp(&key(b))
    });
    // One open range per address and protocol: first and last port.
    let mut groups: Vec<(String, u16, u16)> = Vec::new();
    let (mut keys, mut mapped, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for port in sorted {
        let (private, public) = (port.private_port, port.public_port);
        let mut key = port.protocol.clone();
        if !port.ip.is_empty() {
            if public != private {
                mapped.push(format!("{}->{private}/{}", address(&port.ip, &public.to_string()), port.protocol));
                continue;
            }
            key = format!("{}/{}", port.ip, port.protocol);
        }
        match groups.iter_mut().find(|(other, ..)| *other == key) {
            None => {
                keys.push(key.clone());
                groups.push((key, private, private));
            }
            Some((_, _, last)) if private == *last + 1 || private == *last => *last = private,
            Some((_, first, last)) => {
                plain.push(range(&key, *first, *last));
                (*first, *last) = (private, private);
            }
        }
    }
    for key in keys {
        let found = groups.iter().find(|(other, ..)| *other == key);
        plain.extend(found.map(|(key, first, last)| range(key, *first, *last)));
    }
    plain.append(&mut mapped);
    plain.join(", ")
}

fn address(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn range(key: &str, first: u16, last: u16) -> String {
    let (ip, protocol) = key.rsplit_once('/').map_or(("", key), |(ip, protocol)| (ip, protocol));
    let group = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ip.is_empty() { format!("{group}/{protocol}") } else { format!("{}->{group}/{protocol}", address(ip, &group)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        let port = |ip: &str, private, public, protocol: &str| SummaryPort {
            ip: ip.into(),
            private_port: private,
            public_port: public,
            protocol: protocol.into(),
        };
        let all = [
            port("0.0.0.0", 80, 80, "tcp"),
            port("0.0.0.0", 81, 81, "tcp"),
            port("::", 80, 80, "tcp"),
            port("0.0.0.0", 90, 8090, "tcp"),
            port("", 53, 0, "udp"),
        ];
        assert_eq!(ports(&all), "53/udp, 0.0.0.0:80-81->80-81/tcp, [::]:80->80/tcp, 0.0.0.0:8090->90/tcp");
        assert_eq!(ports(&[]), "");
    }
}
