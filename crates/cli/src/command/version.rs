//! `docker version`.

use crate::client::Query;
use crate::error::Error;
use crate::format::table;
use crate::format::template::{Data, Template};
use crate::{Invocation, VERSION, build, terminal};
use api::Version;
use api::system::{Component, VersionResponse};
use serde_json::{Value, json};
use std::fmt::Write;

/// `docker version`.
pub(crate) async fn version(call: Invocation) -> Result<u8, Error> {
    let format = match call.values.text("format") {
        "json" => "{{json .}}",
        text => text,
    };
    let template = Template::parse(&format.replace("\\t", "\t").replace("\\n", "\n"));
    let template = template
        .map_err(|why| Error::Plain { message: format!("template parsing error: {}", named(&why)), code: 64 })?;
    let client = call.client()?;
    let server: Result<VersionResponse, Error> = client.get("/version", &Query::new()).await;
    let version = client.version();
    if format.is_empty() {
        let mut text = client_text(version);
        if let Ok(server) = &server {
            text.push_str(&server_text(server));
        }
        terminal::print(&text);
    } else {
        let value = value(version, server.as_ref().ok());
        let text = template.execute(&Data::row(&value, None, "system.versionInfo")).map_err(|why| {
            terminal::print("\n");
            Error::plain(named(&why))
        })?;
        terminal::print(&format!("{text}\n"));
    }
    server.map(|_| 0)
}

/// Docker has a name for this one template.
fn named(why: &str) -> String {
    why.replacen("template: :", "template: version:", 1).replacen("executing \"\"", "executing \"version\"", 1)
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn client_text(version: Version) -> String {
    let lowered =
        if version == Version::LATEST { String::new() } else { format!(" (downgraded from {})", Version::LATEST) };
    let rows = [
        ("Version:", VERSION.to_owned()),
        ("API version:", format!("{version}{lowered}")),
        ("Git commit:", build().to_owned()),
        ("OS/Arch:", format!("linux/{}", arch())),
        ("Context:", "default".to_owned()),
    ];
    let rows: String = rows.iter().map(|(name, value)| format!(" {name}\t{value}\n")).collect();
    format!("Client:\n{}", table::align_with(&rows, 20, 1))
}

fn server_text(server: &VersionResponse) -> String {
    let name = if server.platform.name.is_empty() { String::new() } else { format!(" {}", server.platform.name) };
    let mut text = format!("\nServer:{name}\n");
    for component in &server.components {
        let rows = component_rows(component);
        let body: String = rows.iter().map(|(name, value)| format!("  {name}:\t{value}\n")).collect();
        // Writing to a string cannot fail.
        let _ = write!(text, " {}:\n{}", component.name, table::align_with(&body, 20, 1));
    }
    text
}

/// What is worth telling of a component, in Docker's words and order.
fn component_rows(component: &Component) -> Vec<(&'static str, String)> {
    let detail = |name: &str| component.details.get(name).cloned();
    let mut rows = vec![("Version", component.version.clone())];
    if let Some(api) = detail("ApiVersion") {
        rows.push(("API version", format!("{api} (minimum version {})", detail("MinAPIVersion").unwrap_or_default())));
    }
    rows.extend(detail("GoVersion").filter(|go| !go.is_empty()).map(|go| ("Go version", go)));
    // Docker translates the names of the engine's own details only.
    let commit = if component.name == "Engine" { "Git commit" } else { "GitCommit" };
    rows.extend(detail("GitCommit").map(|value| (commit, value)));
    if let Some(built) = detail("BuildTime").filter(|built| !built.is_empty()) {
        let time = built.parse::<jiff::Timestamp>();
        let shown = time
            .map(|time| time.to_zoned_datetime(jiff::tz::TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y").to_string());
        rows.push(("Built", shown.unwrap_or(built)));
    }
    if let (Some(os), Some(arch)) = (detail("Os"), detail("Arch")) {
        rows.push(("OS/Arch", format!("{os}/{arch}")));
    }
    rows.extend(detail("Experimental").map(|on| ("Experimental", on)));
    rows
}

/// What a template is executed on.
fn value(version: Version, server: Option<&VersionResponse>) -> Value {
    let server = server.map_or(Value::Null, |server| serde_json::to_value(server).unwrap_or_default());
    json!({
        "Client": {
            "Version": VERSION,
            "ApiVersion": version.to_string(),
            "DefaultAPIVersion": Version::LATEST.to_string(),
            "GitCommit": build(),
            "Os": "linux",
            "Arch": arch(),
            "Context": "default",
        },
        "Server": server,
    })
}
