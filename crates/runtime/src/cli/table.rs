//! `list` and `ps`.

use std::fmt::Write as _;

use serde_json::json;

use crate::Container;

use super::{Context, Outcome};

pub(super) fn list(context: &Context) -> Outcome {
    let mut warnings = Vec::new();
    let containers = Container::list(&context.root, &mut warnings)?;
    warnings.iter().for_each(|warning| context.log.warning(warning));
    if context.arguments.is_set("quiet") {
        for container in &containers {
            println!("{}", container.id());
        }
        return Ok(0);
    }
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    for container in &containers {
        let state = container.state()?;
        let owner = owner(container.owner());
        let pid = state.pid.unwrap_or_default();
        let row = [
            container.id().to_owned(),
            pid.to_string(),
            state.status.to_string(),
            state.bundle.clone(),
            container.created().to_owned(),
            owner.clone(),
        ];
        rows.push(row);
        objects.push(json!({
            "ociVersion": state.oci_version,
            "id": container.id(),
            "pid": pid,
            "status": state.status,
            "bundle": state.bundle,
            "rootfs": container.rootfs(),
            "created": container.created(),
            "annotations": state.annotations,
            "owner": owner,
        }));
    }
    match context.arguments.value("format") {
        None | Some("table") => print!("{}", columns(&rows)),
        Some("json") => println!("{}", serde_json::Value::Array(objects)),
        Some(_) => return Err("invalid format option".into()),
    }
    Ok(0)
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

fn columns(rows: &[[String; 6]]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    // runc's columns are at least 12 wide with a blank of 1.
    let mut widths = [12; 6];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (cell.chars().count() + 1).max(*width);
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
            let width = if index + 1 == row.len() { 0 } else { width };
            let _ = write!(text, "{cell:<width$}");
        }
        text.push('\n');
    }
    text
}

/// The processes of a container. Nothing is executed for it: the columns are those of `ps -ef`, from `/proc`.
pub(super) fn ps(context: &Context) -> Outcome {
    let container = Container::load(&context.root, context.arguments.word(0))?;
    let pids = container.processes()?;
    match context.arguments.value("format") {
        Some("json") => {
            println!("{}", json!(pids));
            return Ok(0);
        }
        None | Some("table") => {}
        Some(_) => return Err("invalid format option".into()),
    }
    println!("{:<12}{:>8}{:>8} {:<5} CMD", "UID", "PID", "PPID", "STAT");
    for pid in pids {
        // One that ended meanwhile has no line.
        if let Some(line) = process_line(pid) {
            println!("{line}");
        }
    }
    Ok(0)
}

fn process_line(pid: i32) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let uid = field("Uid")?.split_whitespace().next()?.parse().ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let command = words.join(" ");
    let command = if command.trim().is_empty() { format!("[{}]", field("Name")?.trim()) } else { command };
    let state = field("State")?.trim().chars().next()?;
    Some(format!("{:<12}{pid:>8}{:>8} {state:<5} {}", owner(uid), field("PPid")?.trim(), command.trim()))
}
