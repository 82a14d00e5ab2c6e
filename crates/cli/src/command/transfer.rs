//! `pull push import load save`: images over the wire.

use super::container::download;
use super::image::platform_query;
use crate::client::{Body, Client, Query, encode};
use crate::config::{Config, registry_key};
use crate::error::{Error, reason};
use crate::options::platform;
use crate::progress::{self, Output};
use crate::{Invocation, terminal};
use api::auth::AuthConfig;
use bytes::Bytes;
use hyper::Method;
use oci::reference::Reference;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Size of the pieces in which a file is sent.
const PIECE: usize = 64 << 10;
/// How many pieces wait for the connection.
const AHEAD: usize = 8;

/// Content trust is off and stays off.
fn refuse_trust(call: &Invocation) -> Result<(), Error> {
    if call.values.on_or("disable-content-trust", true) {
        return Ok(());
    }
    Err(Error::plain("content trust is not supported: --disable-content-trust cannot be switched off"))
}

fn reference(name: &str) -> Result<Reference, Error> {
    Reference::parse_normalized(name).map_err(|error| Error::plain(error.to_string()))
}

/// `docker pull`.
pub(crate) async fn pull(call: Invocation) -> Result<u8, Error> {
    refuse_trust(&call)?;
    let values = &call.values;
    let name = reference(&call.words[0])?;
    let all = values.on("all-tags");
    let named = name.tag().is_some() || name.digest().is_some();
    if all && named {
        return Err(Error::plain("tag can't be used with --all-tags/-a"));
    }
    let quiet = values.on("quiet");
    let name = if all { name } else { name.with_default_tag() };
    if !all && !named && !quiet {
        terminal::print("Using default tag: latest\n");
    }
    if values.is_set("platform") {
        platform::check(values.text("platform")).map_err(Error::plain)?;
    }
    let client = call.client()?;
    let output = if quiet { Output::Quiet } else { Output::Stdout };
    let wanted = Query::new()
        .with_text("platform", values.text("platform"))
        .with_flag("allPlatforms", values.on("all-platforms"));
    fetch(&client, &call.config(), &name, wanted, output).await?;
    terminal::print(&format!("{name}\n"));
    Ok(0)
}

/// Pulls an image; one without a tag means all tags.
pub(super) async fn pull_image(
    client: &Client,
    config: &Config,
    name: &Reference,
    platform: &str,
    output: Output,
) -> Result<(), Error> {
    fetch(client, config, name, Query::new().with_text("platform", platform), output).await
}

/// Pulls an image with further parameters.
async fn fetch(client: &Client, config: &Config, name: &Reference, query: Query, output: Output) -> Result<(), Error> {
    let tag = name.digest().map_or_else(|| name.tag().unwrap_or_default().to_owned(), ToString::to_string);
    let query = query.with("fromImage", &name.name()).with_text("tag", &tag);
    let auth = config.header_for(name).unwrap_or_else(|| AuthConfig::default().to_header());
    let headers = [("x-registry-auth", auth)];
    let answer = client.send(Method::POST, "/images/create", &query, Body::empty, &headers).await?;
    progress::show(answer, output, |_| {}).await
}

/// `docker push`.
pub(crate) async fn push(call: Invocation) -> Result<u8, Error> {
    refuse_trust(&call)?;
    let values = &call.values;
    let name = reference(&call.words[0])?;
    let (all, quiet) = (values.on("all-tags"), values.on("quiet"));
    if all && name.tag().is_some() {
        return Err(Error::plain("tag can't be used with --all-tags/-a"));
    }
    let name = if all {
        name
    } else {
        if name.tag().is_none() && name.digest().is_none() && !quiet {
            terminal::print("Using default tag: latest\n");
        }
        name.with_default_tag()
    };
    let mut query = Query::new().with_text("tag", name.tag().unwrap_or_default());
    if values.is_set("platform") {
        let wanted = values.text("platform");
        platform::check(wanted).map_err(Error::plain)?;
        query = query.with("platform", &platform::json(wanted));
        if !quiet {
            terminal::print(
                "\n Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.\n         \
                 Other components, like attestations, will not be included.\n         \
                 To push the complete multi-platform image, remove the --platform flag.\n         \n",
            );
        }
    }
    // The engine insists on the header, even when it says nothing.
    let auth = call.config().header_for(&name).unwrap_or_else(|| AuthConfig::default().to_header());
    let client = call.client()?;
    let path = format!("/images/{}/push", encode(&name.name()));
    let answer = client.send(Method::POST, &path, &query, Body::empty, &[("x-registry-auth", auth)]).await?;
    let output = if quiet { Output::Quiet } else { Output::Stdout };
    progress::show(answer, output, |_| {}).await?;
    if quiet {
        terminal::print(&format!("{name}\n"));
    }
    Ok(0)
}

/// `gantry image copy`.
pub(crate) async fn copy(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let (source, destination) = (reference(&call.words[0])?, reference(&call.words[1])?);
    if values.is_set("platform") {
        platform::check(values.text("platform")).map_err(Error::plain)?;
    }
    let query = Query::new()
        .with("from", &source.to_string())
        .with("to", &destination.to_string())
        .with_text("platform", values.text("platform"));
    let config = call.config();
    let mut auths = BTreeMap::new();
    for name in [&source, &destination] {
        let key = registry_key(name.domain());
        let auth = config.credentials(&key);
        if !auth.is_empty() {
            auths.insert(key, auth);
        }
    }
    let headers = [("x-registry-config", AuthConfig::many_to_header(&auths))];
    let client = call.client()?;
    let answer = client.send(Method::POST, "/images/copy", &query, Body::empty, &headers).await?;
    let output = if values.on("quiet") { Output::Quiet } else { Output::Stdout };
    let mut copied = String::new();
    progress::show(answer, output, |aux| copied = aux["Digest"].as_str().unwrap_or_default().to_owned()).await?;
    terminal::print(&format!("{}@{copied}\n", destination.name()));
    Ok(0)
}

/// `docker import`.
pub(crate) async fn import(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let source = call.words[0].as_str();
    let mut query = Query::new();
    let remote = source.starts_with("http://") || source.starts_with("https://");
    query = query.with("fromSrc", if remote { source } else { "-" });
    if let Some(name) = call.words.get(1) {
        let name = reference(name)?;
        query = query.with("repo", &name.familiar());
    }
    query = query.with_text("message", values.text("message"));
    for change in values.list("change") {
        query = query.with("changes", change);
    }
    if values.is_set("platform") {
        platform::check(values.text("platform")).map_err(Error::plain)?;
        query = query.with("platform", values.text("platform"));
    }
    let body = if remote {
        Body::empty()
    } else {
        file_body(if source == "-" { None } else { Some(open(source)?) }, "application/x-tar")?
    };
    let client = call.client()?;
    let answer = client.upload(Method::POST, "/images/create", &query, body, &[]).await?;
    progress::show(answer, Output::Stdout, |_| {}).await?;
    Ok(0)
}

/// `docker load`.
pub(crate) async fn load(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let input = values.text("input");
    if input.is_empty() && terminal::input_is_terminal() {
        return Err(Error::plain("requested load from stdin, but stdin is empty"));
    }
    let body = file_body(if input.is_empty() { None } else { Some(open(input)?) }, "application/x-tar")?;
    // Bars are drawn on terminals only.
    let quiet = values.on("quiet") || !terminal::output_is_terminal();
    let query = platform_query(values.text("platform"))?.with("quiet", if quiet { "1" } else { "0" });
    let client = call.client()?;
    let mut answer = client.upload(Method::POST, "/images/load", &query, body, &[]).await?;
    if answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        progress::show(answer, Output::Stdout, |_: &Value| {}).await?;
        return Ok(0);
    }
    while let Some(piece) = answer.chunk().await? {
        terminal::print_bytes(&piece);
    }
    Ok(0)
}

/// `docker save`.
pub(crate) async fn save(call: Invocation) -> Result<u8, Error> {
    let output = call.values.text("output");
    if output.is_empty() && terminal::output_is_terminal() {
        return Err(Error::plain("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let client = call.client()?;
    let mut query = platform_query(call.values.text("platform"))?;
    for name in &call.words {
        query = query.with("names", name);
    }
    download(&client, "/images/get", &query, output, "save image").await?;
    Ok(0)
}

fn open(path: &str) -> Result<File, Error> {
    File::open(path).map_err(|error| Error::plain(format!("open {path}: {}", reason(&error))))
}

/// Standard input as the body of a request.
pub(super) fn stdin_body(content_type: &'static str) -> Result<Body, Error> {
    file_body(None, content_type)
}

/// A file, or standard input, as the body of a request; a thread reads it.
fn file_body(file: Option<File>, content_type: &'static str) -> Result<Body, Error> {
    let mut file = match file {
        Some(file) => file,
        None => rustix::io::dup(io::stdin())
            .map(File::from)
            .map_err(|error| Error::Io { what: "stdin".into(), source: error.into() })?,
    };
    let (sender, pieces) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        loop {
            let mut buffer = vec![0; PIECE];
            let piece = match file.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    buffer.truncate(count);
                    Ok(Bytes::from(buffer))
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            // The request is over when nobody takes the pieces.
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    Ok(Body::stream(pieces, content_type))
}
