//! `docker inspect`, alone and for one kind of object.

use super::image::platform_query;
use crate::client::{Client, Query, encode};
use crate::error::Error;
use crate::format::go;
use crate::format::template::{Data, Template};
use crate::{Invocation, terminal};
use serde_json::Value;

/// A kind of object that has an inspection.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    prefix: &'static str,
    suffix: &'static str,
    size: bool,
}

const CONTAINER: Kind = Kind { name: "container", prefix: "/containers/", suffix: "/json", size: true };
const IMAGE: Kind = Kind { name: "image", prefix: "/images/", suffix: "/json", size: false };
const NETWORK: Kind = Kind { name: "network", prefix: "/networks/", suffix: "", size: false };
const VOLUME: Kind = Kind { name: "volume", prefix: "/volumes/", suffix: "", size: false };

/// In the order in which a name is looked for.
const KINDS: [Kind; 4] = [CONTAINER, IMAGE, NETWORK, VOLUME];

/// Kinds that Docker knows and that need what this client does not have.
const OTHER_KINDS: &[&str] = &["config", "node", "plugin", "secret", "service", "task"];

/// `docker container inspect`.
pub(crate) async fn container(call: Invocation) -> Result<u8, Error> {
    named(&call, &[CONTAINER], Query::new(), None).await
}

/// `docker image inspect`.
pub(crate) async fn image(call: Invocation) -> Result<u8, Error> {
    let query = platform_query(call.values.text("platform"))?;
    named(&call, &[IMAGE], query, None).await
}

/// `docker network inspect`.
pub(crate) async fn network(call: Invocation) -> Result<u8, Error> {
    let query = Query::new().with_text("verbose", if call.values.on("verbose") { "true" } else { "" });
    named(&call, &[NETWORK], query, None).await
}

/// `docker volume inspect`.
pub(crate) async fn volume(call: Invocation) -> Result<u8, Error> {
    named(&call, &[VOLUME], Query::new(), None).await
}

/// `docker inspect`.
pub(crate) async fn any(call: Invocation) -> Result<u8, Error> {
    let wanted = call.values.text("type");
    if call.values.is_set("type") && wanted.is_empty() {
        return Err(Error::plain(
            "type is empty: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
        ));
    }
    if OTHER_KINDS.contains(&wanted) {
        return Err(Error::plain(format!("inspecting objects of type \"{wanted}\" is not supported")));
    }
    let found = KINDS.iter().position(|kind| kind.name == wanted);
    let kinds = match found {
        Some(index) => &KINDS[index..=index],
        None if wanted.is_empty() => &KINDS[..],
        None => {
            return Err(Error::plain(format!(
                "unknown type: {}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \
                 \"secret\", \"service\", \"task\", \"volume\"",
                go::quote(wanted)
            )));
        }
    };
    named(&call, kinds, Query::new(), Some("Error: No such object: ")).await
}

/// How the objects are shown.
enum Shown {
    /// A list, indented.
    Indented,
    /// A list on one line.
    Json,
    /// A line for each.
    Template(Template),
}

async fn named(call: &Invocation, kinds: &[Kind], query: Query, missing: Option<&str>) -> Result<u8, Error> {
    let shown = match call.values.text("format") {
        "" => Shown::Indented,
        "json" => Shown::Json,
        text => Shown::Template(
            Template::parse(text)
                .map_err(|why| Error::Plain { message: format!("template parsing error: {why}"), code: 64 })?,
        ),
    };
    let client = call.client()?;
    let (mut objects, mut failures) = (Vec::new(), Vec::new());
    for name in &call.words {
        match find(&client, kinds, name, &query, call.values.on("size")).await {
            Ok(Some(object)) => objects.push(object),
            Ok(None) => failures.push(format!("{}{name}", missing.unwrap_or("Error: No such object: "))),
            Err(error) => failures.push(error.to_string()),
        }
    }
    let text = match shown {
        Shown::Indented => list(&objects, true),
        Shown::Json => list(&objects, false),
        Shown::Template(template) => match lines(&template, &objects) {
            (text, None) => text,
            (text, Some(why)) => {
                terminal::print(&format!("{text}\n"));
                failures.push(format!("template parsing error: {why}"));
                String::new()
            }
        },
    };
    terminal::print(&text);
    if failures.is_empty() { Ok(0) } else { Err(Error::joined(&failures)) }
}

/// The text of an object of one of the kinds; `None` when there is no such object of any of several kinds.
async fn find(client: &Client, kinds: &[Kind], name: &str, query: &Query, size: bool) -> Result<Option<String>, Error> {
    for kind in kinds {
        let query = query.clone().with_flag("size", size && kind.size);
        let path = format!("{}{}{}", kind.prefix, encode(name), kind.suffix);
        let answer = match client.open(&path, &query).await {
            // The next kind may have it; a name that is none for one kind may be one for another.
            Err(error) if kinds.len() > 1 && matches!(error.status(), 400 | 404) => continue,
            other => other?,
        };
        let text = String::from_utf8(answer.bytes().await?).map_err(|error| Error::Protocol(error.to_string()))?;
        return Ok(Some(text.trim_end().to_owned()));
    }
    Ok(None)
}

fn list(objects: &[String], indented: bool) -> String {
    if objects.is_empty() {
        return "[]\n".into();
    }
    let text = format!("[{}]", objects.join(","));
    if indented { format!("{}\n", go::indent(&text)) } else { format!("{text}\n") }
}

/// The lines before the first failure, and its reason.
fn lines(template: &Template, objects: &[String]) -> (String, Option<String>) {
    let mut text = String::new();
    for object in objects {
        let value: Value = match serde_json::from_str(object) {
            Ok(value) => value,
            Err(error) => return (text, Some(format!("unable to read inspect data: {error}"))),
        };
        match template.execute(&Data::new(&value)) {
            Ok(line) => {
                text.push_str(&line);
                text.push('\n');
            }
            Err(why) => return (text, Some(why)),
        }
    }
    (text, None)
}
