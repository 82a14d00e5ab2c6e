//! `image layers`, `image pin`, `image unpin` and `image squash`, which Docker does not have.

use crate::client::{Body, Query, encode};
use crate::error::Error;
use crate::format::row::{Listing, Row};
use crate::format::{human, table};
use crate::{Invocation, terminal};
use api::beyond::{LayerFile, LayerReport};
use api::image::CommitResponse;
use hyper::Method;
use oci::reference::Reference;
use serde_json::json;
use std::fmt::Write;

/// Wasted files that are named below the table.
const MOST_WASTED: usize = 10;

/// `gantry image layers`.
pub(crate) async fn layers(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let listing = Listing {
        type_name: "*image.layerContext",
        headings: &[
            ("Number", "LAYER"),
            ("DiffID", "DIFF ID"),
            ("Size", "SIZE"),
            ("Wasted", "WASTED"),
            ("Added", "ADDED"),
            ("Changed", "CHANGED"),
            ("Removed", "REMOVED"),
            ("CreatedBy", "CREATED BY"),
        ],
        default:
            "{{.Number}}\t{{.DiffID}}\t{{.Size}}\t{{.Wasted}}\t{{.Added}}\t{{.Changed}}\t{{.Removed}}\t{{.CreatedBy}}"
                .into(),
        quiet: "{{.DiffID}}",
    };
    let format = listing.format(values.text("format"), values.on("quiet"))?;
    let path = format!("/images/{}/layers", encode(&call.words[0]));
    let layers: Vec<LayerReport> = call.client()?.get(&path, &Query::new()).await?;
    if values.on("files") || values.on("wasted") {
        terminal::print(&files(&layers, values.on("wasted")));
        return Ok(0);
    }
    let rows: Vec<Row> =
        layers.iter().enumerate().map(|(n, layer)| row(n + 1, layer, !values.on("no-trunc"))).collect();
    let mut text = listing.show(&format, &rows)?;
    if !values.is_set("format") && !values.on("quiet") {
        text.push_str(&summary(&layers));
    }
    terminal::print(&text);
    Ok(0)
}

fn row(number: usize, layer: &LayerReport, short: bool) -> Row {
    let count = |kind: u8| layer.files.iter().filter(|file| file.kind == kind).count().to_string();
    let by = layer.created_by.replace('\t', " ");
    Row::new([
        ("Number", number.to_string()),
        ("DiffID", if short { human::short_id(&layer.diff_id).to_owned() } else { layer.diff_id.clone() }),
        ("Size", human::size(layer.size)),
        ("Wasted", human::size(layer.wasted)),
        ("Added", count(1)),
        ("Changed", count(0)),
        ("Removed", count(2)),
        ("CreatedBy", if short { human::ellipsis(&by, 45) } else { by }),
    ])
    .with("Bytes", json!({"Size": layer.size, "Wasted": layer.wasted}))
}

/// What the image as a whole wastes, and on what most.
fn summary(layers: &[LayerReport]) -> String {
    let size: i64 = layers.iter().map(|layer| layer.size).sum();
    let wasted: i64 = layers.iter().map(|layer| layer.wasted).sum();
    let share = if size > 0 { 100.0 * wasted as f64 / size as f64 } else { 0.0 };
    let mut text = format!("\n{} in all, {} ({share:.1}%) wasted\n", human::size(size), human::size(wasted));
    let mut worst: Vec<(usize, &LayerFile)> = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        worst.extend(layer.files.iter().filter(|file| file.wasted && file.size > 0).map(|file| (n + 1, file)));
    }
    worst.sort_by_key(|(_, file)| std::cmp::Reverse(file.size));
    let lines: String = worst
        .iter()
        .take(MOST_WASTED)
        .map(|(number, file)| format!("{}\tlayer {number}\t{}\n", human::size(file.size), file.path))
        .collect();
    text.push_str(&table::align(&lines));
    text
}

/// The files of each layer, or those that are wasted.
fn files(layers: &[LayerReport], only_wasted: bool) -> String {
    let mut text = String::new();
    for (n, layer) in layers.iter().enumerate() {
        let shown: Vec<&LayerFile> = layer.files.iter().filter(|file| file.wasted || !only_wasted).collect();
        if only_wasted && shown.is_empty() {
            continue;
        }
        // Writing into a string cannot fail.
        let _ = writeln!(text, "layer {}  {}  {}", n + 1, layer.diff_id, layer.created_by);
        let lines: String = shown.into_iter().map(line).collect();
        text.push_str(&table::align_with(&lines, 1, 2));
    }
    text
}

fn line(file: &LayerFile) -> String {
    let letter = ["C", "A", "D"][usize::from(file.kind.min(2))];
    let mode = if file.kind == 2 { "-".to_owned() } else { mode(file.mode) };
    let wasted = if file.wasted { "wasted" } else { "-" };
    format!("{letter}\t{mode}\t{}:{}\t{}\t{wasted}\t{}\n", file.uid, file.gid, human::size(file.size), file.path)
}

/// `drwxr-xr-x`, as `ls` has it.
fn mode(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// `gantry image pin`.
pub(crate) async fn pin(call: Invocation) -> Result<u8, Error> {
    each(&call, "pin").await
}

/// `gantry image unpin`.
pub(crate) async fn unpin(call: Invocation) -> Result<u8, Error> {
    each(&call, "unpin").await
}

/// `gantry image squash`.
pub(crate) async fn squash(call: Invocation) -> Result<u8, Error> {
    let mut query = Query::new().with_text("from", call.values.text("from"));
    if let Some(name) = call.words.get(1) {
        let name = Reference::parse_normalized(name).map_err(|error| Error::plain(error.to_string()))?;
        query = query.with("repo", &name.name()).with_text("tag", name.tag().unwrap_or_default());
    }
    let path = format!("/images/{}/squash", encode(&call.words[0]));
    let client = call.client()?;
    let made: CommitResponse = client.send(Method::POST, &path, &query, Body::empty, &[]).await?.json().await?;
    terminal::print(&format!("{}\n", made.id));
    Ok(0)
}

/// Every name is tried; those that failed are told together.
async fn each(call: &Invocation, verb: &str) -> Result<u8, Error> {
    let client = call.client()?;
    let mut failures = Vec::new();
    for name in &call.words {
        match client.post(&format!("/images/{}/{verb}", encode(name)), &Query::new()).await {
            Ok(_) => terminal::print(&format!("{name}\n")),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() { Ok(0) } else { Err(Error::joined(&failures)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_as_ls_shows_them() {
        for (bits, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o104_755, "-rwsr-xr-x"),
            (0o041_777, "drwxrwxrwt"),
            (0o102_640, "-rw-r-S---"),
            (0o120_777, "lrwxrwxrwx"),
        ] {
            assert_eq!(mode(bits), text);
        }
    }
}
