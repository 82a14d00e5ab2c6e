//! `docker system df`.

use super::{image, ps, volume};
use crate::client::Query;
use crate::error::Error;
use crate::format::human;
use crate::format::row::{Listing, Row};
use crate::{Invocation, terminal};
use api::container::Summary;
use api::system::DiskUsage;

/// `docker system df`.
pub(crate) async fn df(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let listing = Listing {
        type_name: "*formatter.diskUsageContext",
        headings: &[
            ("Type", "TYPE"),
            ("TotalCount", "TOTAL"),
            ("Active", "ACTIVE"),
            ("Size", "SIZE"),
            ("Reclaimable", "RECLAIMABLE"),
        ],
        default: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}".into(),
        quiet: "",
    };
    let format = listing.format(values.text("format"), false)?;
    let verbose = values.on("verbose");
    if verbose && values.is_set("format") {
        return Err(Error::plain("--verbose and --format cannot be used together"));
    }
    let usage: DiskUsage = call.client()?.get("/system/df", &Query::new()).await?;
    let text = if verbose { detailed(&usage)? } else { listing.show(&format, &summary(&usage))? };
    terminal::print(&text);
    Ok(0)
}

fn summary(usage: &DiskUsage) -> Vec<Row> {
    let images = usage.images.as_deref().unwrap_or_default();
    let containers = usage.containers.as_deref().unwrap_or_default();
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let used: i64 = images
        .iter()
        .filter(|image| image.containers > 0 && image.size != -1 && image.shared_size != -1)
        .map(|image| image.size - image.shared_size)
        .sum();
    let active = containers.iter().filter(|container| is_active(container));
    let sizes: i64 = containers.iter().map(|container| container.size_rw).sum();
    let idle: i64 =
        containers.iter().filter(|container| !is_active(container)).map(|container| container.size_rw).sum();
    let of = |volume: &&api::volume::Volume| {
        volume.usage_data.as_ref().map_or((0, 0), |usage| (usage.ref_count, usage.size.max(0)))
    };
    let volume_sizes: i64 = volumes.iter().map(|volume| of(&volume).1).sum();
    let volume_idle: i64 = volumes.iter().filter(|volume| of(volume).0 == 0).map(|volume| of(&volume).1).sum();
    let in_use = volumes.iter().filter(|volume| of(volume).0 > 0).count();
    let cache = usage.build_cache.as_deref().unwrap_or_default();
    vec![
        row(
            "Images",
            images.len(),
            images.iter().filter(|image| image.containers > 0).count(),
            usage.layers_size,
            Some(usage.layers_size - used),
        ),
        row("Containers", containers.len(), active.count(), sizes, Some(idle)),
        row("Local Volumes", volumes.len(), in_use, volume_sizes, Some(volume_idle)),
        row("Build Cache", cache.len(), 0, 0, None),
    ]
}

fn is_active(container: &Summary) -> bool {
    matches!(container.state.as_str(), "running" | "paused" | "restarting")
}

/// `reclaimable` comes with its share of the whole, where that can be told.
fn row(kind: &str, count: usize, active: usize, size: i64, reclaimable: Option<i64>) -> Row {
    let mut text = human::size_precise(reclaimable.unwrap_or(0));
    if let Some(part) = reclaimable.filter(|_| size > 0) {
        text.push_str(&format!(" ({}%)", i128::from(part) * 100 / i128::from(size)));
    }
    Row::new([
        ("Type", kind.to_owned()),
        ("TotalCount", count.to_string()),
        ("Active", active.to_string()),
        ("Size", human::size_precise(size)),
        ("Reclaimable", text),
    ])
}

fn detailed(usage: &DiskUsage) -> Result<String, Error> {
    let table = |headings: &'static [(&'static str, &'static str)], default: &str, rows: &[Row]| {
        let listing = Listing { type_name: "row", headings, default: default.to_owned(), quiet: "" };
        let format = listing.format("table", false)?;
        listing.show(&format, rows)
    };
    let images: Vec<Row> = usage
        .images
        .iter()
        .flatten()
        .flat_map(|summary| image::rows(summary, false, true).into_iter().take(1))
        .collect();
    let containers: Vec<Row> = usage
        .containers
        .iter()
        .flatten()
        .map(|container| ps::row(&Summary { size_root_fs: 0, ..container.clone() }, true))
        .collect();
    let volumes: Vec<Row> = usage.volumes.iter().flatten().map(volume::row).collect();
    let mut text = String::from("Images space usage:\n\n");
    text.push_str(&table(
        &[
            ("Repository", "REPOSITORY"), ("Tag", "TAG"), ("ID", "IMAGE ID"), ("CreatedSince", "CREATED"), ("Size", "SIZE"),
            ("SharedSize", "SHARED SIZE"), ("UniqueSize", "UNIQUE SIZE"), ("Containers", "CONTAINERS"),
        ],
        "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
        &images,
    )?);
    text.push_str("\nContainers space usage:\n\n");
    text.push_str(&table(
        &[
            ("ID", "CONTAINER ID"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Size", "SIZE"),
            ("RunningFor", "CREATED"),
            ("Status", "STATUS"),
            ("Names", "NAMES"),
        ],
        "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
        &containers,
    )?);
    text.push_str("\nLocal Volumes space usage:\n\n");
    text.push_str(&table(
        &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
        "{{.Name}}\t{{.Links}}\t{{.Size}}",
        &volumes,
    )?);
    text.push_str("\nBuild cache usage: 0B\n\n");
    text.push_str(&crate::format::table::align("CACHE ID\tCACHE TYPE\tSIZE\tCREATED\tLAST USED\tUSAGE\tSHARED\n"));
    Ok(text)
}
