//! `port diff export top`: what a container shows of itself.

use crate::client::{Client, Query, encode};
use crate::error::Error;
use crate::format::table;
use crate::{Invocation, terminal};
use api::container::{Change, InspectResponse, PortBinding, TopResponse};
use std::io::Write;

/// `docker port`.
pub(crate) async fn port(call: Invocation) -> Result<u8, Error> {
    let client = call.client()?;
    let name = &call.words[0];
    let container: InspectResponse = client.get(&format!("/containers/{}/json", encode(name)), &Query::new()).await?;
    let ports = container.network_settings.ports;
    let shown = |binding: &PortBinding| match binding.host_ip.contains(':') {
        true => format!("[{}]:{}", binding.host_ip, binding.host_port),
        false => format!("{}:{}", binding.host_ip, binding.host_port),
    };
    let mut lines: Vec<String> = Vec::new();
    if let Some(wanted) = call.words.get(1) {
        let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        let number: u16 = number.parse().map_err(|_| {
            Error::plain(format!(
                "Error: invalid port ({number}): {}",
                crate::format::go::invalid_syntax("ParseUint", number)
            ))
        })?;
        let bindings = ports.get(&format!("{number}/{protocol}")).and_then(Option::as_ref);
        let Some(bindings) = bindings.filter(|bindings| !bindings.is_empty()) else {
            return Err(Error::plain(format!("Error: No public port '{wanted}' published for {name}")));
        };
        lines.extend(bindings.iter().map(shown));
    } else {
        for (port, bindings) in &ports {
            lines.extend(bindings.iter().flatten().map(|binding| format!("{port} -> {}", shown(binding))));
        }
    }
    // Docker sorts by the number of the port first.
    lines.sort_by_key(|line| {
        let number = line.split('/').next().and_then(|port| port.parse::<u32>().ok()).unwrap_or(u32::MAX);
        (number, line.clone())
    });
    terminal::print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    Ok(0)
}

/// `docker diff`.
pub(crate) async fn diff(call: Invocation) -> Result<u8, Error> {
    let client = call.client()?;
    let name = call.words[0].trim();
    if name.is_empty() {
        return Err(Error::plain("Container name cannot be empty"));
    }
    let changes: Option<Vec<Change>> =
        client.get(&format!("/containers/{}/changes", encode(name)), &Query::new()).await?;
    let line = |change: &Change| {
        let kind = match change.kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        format!("{kind} {}\n", change.path)
    };
    terminal::print(&changes.unwrap_or_default().iter().map(line).collect::<String>());
    Ok(0)
}

/// `docker export`.
pub(crate) async fn export(call: Invocation) -> Result<u8, Error> {
    let output = call.values.text("output");
    if output.is_empty() && terminal::output_is_terminal() {
        return Err(Error::plain("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let client = call.client()?;
    download(
        &client,
        &format!("/containers/{}/export", encode(&call.words[0])),
        &Query::new(),
        output,
        "export container",
    )
    .await?;
    Ok(0)
}

/// Streams an answer to a file, or to standard output when none is named. The file appears when it is complete.
pub(super) async fn download(
    client: &Client,
    path: &str,
    query: &Query,
    output: &str,
    what: &str,
) -> Result<(), Error> {
    if output.is_empty() {
        let mut answer = client.open(path, query).await?;
        while let Some(piece) = answer.chunk().await? {
            terminal::print_bytes(&piece);
        }
        return Ok(());
    }
    let failed = |error: std::io::Error| {
        Error::plain(format!("failed to {what}: open {output}: {}", crate::error::reason(&error)))
    };
    check_output(output).map_err(|why| Error::plain(format!("failed to {what}: {why}")))?;
    let mut answer = client.open(path, query).await?;
    let temporary = format!("{output}.{}", std::process::id());
    let mut file = std::fs::File::create(&temporary).map_err(failed)?;
    let copied = async {
        while let Some(piece) = answer.chunk().await? {
            file.write_all(&piece).map_err(failed)?;
        }
        std::fs::rename(&temporary, output).map_err(failed)
    };
    let copied = copied.await;
    if copied.is_err() {
        // What is not complete is not left behind.
        let _ = std::fs::remove_file(&temporary);
    }
    copied
}

/// What can be replaced by a file, and has a directory.
fn check_output(path: &str) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    let (parent, _) = super::cp::split_path(&crate::options::volume::absolute(path));
    if let Err(error) = std::fs::metadata(&parent) {
        return Err(format!("invalid output path: stat {parent}: {}", crate::error::reason(&error)));
    }
    let Ok(found) = std::fs::metadata(path) else { return Ok(()) };
    let kind = found.file_type();
    let what = match () {
        () if kind.is_dir() => "directory",
        () if kind.is_char_device() => "character device file",
        () if kind.is_block_device() => "block device file",
        () if kind.is_fifo() => "named pipe file",
        () if kind.is_socket() => "socket file",
        () => return Ok(()),
    };
    Err(format!("cannot write to a {what}"))
}

/// `docker top`.
pub(crate) async fn top(call: Invocation) -> Result<u8, Error> {
    let client = call.client()?;
    let query = Query::new().with_text("ps_args", &call.words[1..].join(" "));
    let answer: TopResponse = client.get(&format!("/containers/{}/top", encode(&call.words[0])), &query).await?;
    let mut text = format!("{}\n", answer.titles.join("\t"));
    for process in &answer.processes {
        text.push_str(&process.join("\t"));
        text.push('\n');
    }
    terminal::print(&table::align_with(&text, 20, 1));
    Ok(0)
}
