//! `docker network ls`.

use crate::client::Query;
use crate::error::Error;
use crate::format::row::{Listing, Row};
use crate::format::{human, natural};
use crate::{Invocation, terminal};
use api::network::Network;
use jiff::Timestamp;

/// `docker network ls`.
pub(crate) async fn list(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let config = call.config();
    let wanted = if values.is_set("format") { values.text("format") } else { config.text("networksFormat") };
    let wanted = if values.on("quiet") && !values.is_set("format") { "" } else { wanted };
    let listing = Listing {
        type_name: "*network.networkContext",
        headings: &[
            ("ID", "NETWORK ID"),
            ("Name", "NAME"),
            ("Driver", "DRIVER"),
            ("Scope", "SCOPE"),
            ("IPv4", "IPV4"),
            ("IPv6", "IPV6"),
            ("Internal", "INTERNAL"),
            ("Labels", "LABELS"),
            ("CreatedAt", "CREATED AT"),
        ],
        default: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}".into(),
        quiet: "{{.ID}}",
    };
    let format = listing.format(wanted, values.on("quiet"))?;
    let client = call.client()?.with_headers(config.headers());
    let mut networks: Vec<Network> =
        client.get("/networks", &Query::new().with_text("filters", &values.filters().to_query())).await?;
    networks.sort_by(|a, b| natural(&a.name, &b.name));
    let rows: Vec<Row> = networks.iter().map(|network| row(network, !values.on("no-trunc"))).collect();
    terminal::print(&listing.show(&format, &rows)?);
    Ok(0)
}

fn row(network: &Network, short: bool) -> Row {
    let labels = network.labels.clone().unwrap_or_default();
    let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    // Go shows the time with its nanoseconds.
    let created = api::time::parse(&network.created).unwrap_or(Timestamp::UNIX_EPOCH);
    let text = created.to_zoned_datetime(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S%.f %z UTC").to_string();
    Row::new([
        ("ID", if short { human::short_id(&network.id).to_owned() } else { network.id.clone() }),
        ("Name", network.name.clone()),
        ("Driver", network.driver.clone()),
        ("Scope", network.scope.clone()),
        ("IPv4", network.enable_ipv4.to_string()),
        ("IPv6", network.enable_ipv6.to_string()),
        ("Internal", network.internal.to_string()),
        ("Labels", shown.join(",")),
        ("CreatedAt", text),
    ])
    .with_labels(labels)
}
