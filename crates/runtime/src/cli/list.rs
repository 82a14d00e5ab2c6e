//! `list` and `ps`.

use std::fmt::Write as _;
use std::path::Path;

use oci::spec::Status;
use serde::Serialize;
use serde_json::json;

use crate::{Container, ps as processes};

use super::commands::load;
use super::{Context, Failure, Outcome};

/// What `list` and `state` say of a container: the state of the specification, and runc's own fields besides.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    oci_version: String,
    id: String,
    pid: i32,
    status: Status,
    bundle: String,
    rootfs: String,
    created: String,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: std::collections::BTreeMap<String, String>,
    owner: String,
}

impl Row {
    /// Of a container, as it is now.
    pub(super) fn of(container: &Container, owner: String) -> crate::Result<Self> {
        let state = container.state()?;
        Ok(Self {
            oci_version: state.oci_version,
            id: state.id,
            pid: state.pid.unwrap_or_default(),
            status: state.status,
            bundle: state.bundle,
            rootfs: container.rootfs().to_string_lossy().into_owned(),
            created: container.created().to_owned(),
            annotations: state.annotations,
            owner,
        })
    }

    fn cells(&self) -> [String; 6] {
        let status = self.status.to_string();
        [self.id.clone(), self.pid.to_string(), status, self.bundle.clone(), self.created.clone(), self.owner.clone()]
    }
}

pub(super) fn list(context: &Context) -> Outcome {
    let arguments = &context.arguments;
    let format = format(arguments.value("format"))?;
    if context.root_is_given && !Path::new(&context.root).exists() {
        return Err(format!("open {}: no such file or directory", context.root.display()).into());
    }
    let mut warnings = Vec::new();
    let containers = Container::list(&context.root, &mut warnings)?;
    warnings.iter().for_each(|warning| context.log.warning(warning));
    if arguments.is_set("quiet") {
        for container in &containers {
            println!("{}", container.id());
        }
        return Ok(0);
    }
    let rows = containers.iter().map(|container| Row::of(container, owner(container.owner())));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    match format {
        Format::Table => print!("{}", columns(&rows)),
        // runc's way of saying that there are none.
        Format::Json if rows.is_empty() => println!("null"),
        Format::Json => println!("{}", serde_json::to_string(&rows)?),
    }
    Ok(0)
}

enum Format {
    Table,
    Json,
}

fn format(word: Option<&str>) -> Result<Format, Failure> {
    match word {
        None | Some("table") => Ok(Format::Table),
        Some("json") => Ok(Format::Json),
        Some(_) => Err("invalid format option".into()),
    }
}

/// Name of a user of the host by `/etc/passwd`.
fn owner(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("#{uid}"))
}

fn columns(rows: &[Row]) -> String {
    let mut lines = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    // runc's columns are at least 12 wide, with at least 3 blanks between them.
    let mut widths = [12; 6];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (cell.chars().count() + 3).max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        for (index, (cell, width)) in line.iter().zip(widths).enumerate() {
            let width = if index + 1 == line.len() { 0 } else { width };
            let _ = write!(text, "{cell:<width$}");
        }
        text.push('\n');
    }
    text
}

/// The processes of a container. Nothing is executed for it: the columns are those of ps, from `/proc`.
pub(super) fn ps(context: &Context) -> Outcome {
    let pids = load(context)?.processes()?;
    match format(context.arguments.value("format"))? {
        Format::Json if pids.is_empty() => println!("null"),
        Format::Json => println!("{}", json!(pids)),
        Format::Table => {
            let options = context.arguments.words.get(1..).unwrap_or_default();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            print!("{}", processes::list(&pids, &options)?);
        }
    }
    Ok(0)
}
