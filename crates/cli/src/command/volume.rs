//! `docker volume ls create rm`.

use crate::client::{Query, encode};
use crate::error::Error;
use crate::format::row::{Listing, Row};
use crate::{Invocation, terminal};
use api::volume::{CreateRequest, ListResponse, Volume};

/// The listing of volumes.
const fn headings() -> &'static [(&'static str, &'static str)] {
    &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Availability", "AVAILABILITY"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ]
}

/// `docker volume ls`.
pub(crate) async fn list(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    if values.on("cluster") {
        return Err(Error::plain("--cluster is not supported: there are no cluster volumes without a swarm"));
    }
    let config = call.config();
    let wanted = if values.is_set("format") { values.text("format") } else { config.text("volumesFormat") };
    let wanted = if values.on("quiet") && !values.is_set("format") { "" } else { wanted };
    let listing = Listing {
        type_name: "*formatter.volumeContext",
        headings: headings(),
        default: "{{.Driver}}\t{{.Name}}".into(),
        quiet: "{{.Name}}",
    };
    let format = listing.format(wanted, values.on("quiet"))?;
    let client = call.client()?.with_headers(config.headers());
    let answer: ListResponse =
        client.get("/volumes", &Query::new().with_text("filters", &values.filters().to_query())).await?;
    let mut volumes = answer.volumes;
    volumes.sort_by(|a, b| crate::format::natural(&a.name, &b.name));
    let rows: Vec<Row> = volumes.iter().map(row).collect();
    terminal::print(&listing.show(&format, &rows)?);
    Ok(0)
}

/// One volume.
pub(super) fn row(volume: &Volume) -> Row {
    let labels = volume.labels.clone().unwrap_or_default();
    let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let usage = volume.usage_data.as_ref();
    let none = || "N/A".to_owned();
    Row::new([
        ("Name", volume.name.clone()),
        ("Driver", volume.driver.clone()),
        ("Scope", volume.scope.clone()),
        ("Availability", none()),
        ("Mountpoint", volume.mountpoint.clone()),
        ("Labels", shown.join(",")),
        ("Links", usage.map_or_else(none, |usage| usage.ref_count.to_string())),
        ("Size", usage.map_or_else(none, |usage| crate::format::human::size_precise(usage.size))),
        ("Group", none()),
        ("Status", none()),
    ])
    .with_labels(labels)
}

/// Flags of `volume create` that only cluster volumes have.
const CLUSTER_ONLY: &[&str] = &[
    "availability",
    "group",
    "limit-bytes",
    "required-bytes",
    "scope",
    "secret",
    "sharing",
    "topology-preferred",
    "topology-required",
    "type",
];

/// `docker volume create`.
pub(crate) async fn create(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    if let Some(flag) = CLUSTER_ONLY.iter().find(|flag| values.is_set(flag)) {
        return Err(Error::plain(format!("--{flag} is not supported: there are no cluster volumes without a swarm")));
    }
    let labels = crate::options::environment::labels(&[], values.list("label")).map_err(Error::plain)?;
    let body = CreateRequest {
        driver: values.last("driver").unwrap_or("local").to_owned(),
        driver_opts: values.map("opt"),
        labels: (!labels.is_empty()).then_some(labels),
        name: call.words.first().cloned().unwrap_or_default(),
        ..CreateRequest::default()
    };
    let volume: Volume = call.client()?.post_json("/volumes/create", &Query::new(), &body).await?;
    terminal::print(&format!("{}\n", volume.name));
    Ok(0)
}

/// `docker volume rm`.
pub(crate) async fn remove(call: Invocation) -> Result<u8, Error> {
    let client = call.client()?;
    let query = Query::new().with_flag("force", call.values.on("force"));
    let mut failures = Vec::new();
    for name in &call.words {
        let removed = match client.delete(&format!("/volumes/{}", encode(name)), &query).await {
            Ok(answer) => answer.finish().await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => terminal::print(&format!("{name}\n")),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() { Ok(0) } else { Err(Error::joined(&failures)) }
}
