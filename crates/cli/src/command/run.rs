//! `docker run` and `docker create`.
//!
//! ```text
//! create ──(No such image: pull, create)──► attach + wait, at once ──► start ──► streams ──► exit code
//! ```
//!
//! `run` needs three round trips: the two requests that must stand before the start are sent together on connections of their own.

use super::stream::{self, End, Signals, Streams, Window};
use super::transfer;
use crate::client::{Answer, Body, Client, Query};
use crate::error::Error;
use crate::options::{container, platform};
use crate::progress::Output;
use crate::{Invocation, terminal};
use api::container::{CreateRequest, CreateResponse, WaitResponse};
use hyper::Method;
use oci::reference::{Reference, ReferenceError};
use std::fs::File;
use std::io::Write;

/// `docker create`.
pub(crate) async fn create(call: Invocation) -> Result<u8, Error> {
    let wrong = |why: String| call.wrong(125, &why);
    check(&call)?;
    let request = container::request(&call.values, &call.words, false).map_err(wrong)?;
    check_name(&call.words[0])?;
    let id = make(&call, &call.client()?, &request).await?;
    terminal::print(&format!("{id}\n"));
    Ok(0)
}

/// `docker run`.
pub(crate) async fn run(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let detached = values.on("detach");
    check(&call)?;
    if detached && values.is_set("attach") {
        return Err(Error::plain("conflicting options: cannot specify both --attach and --detach"));
    }
    let mut request = container::request(values, &call.words, detached).map_err(|why| call.wrong(125, &why))?;
    if !detached {
        stream::check_terminal(request.config.attach_stdin, request.config.tty)?;
    }
    if let Some((rows, columns)) = terminal::size().filter(|_| terminal::output_is_terminal()) {
        request.host_config.console_size = [rows.into(), columns.into()];
    }
    check_name(&call.words[0]).map_err(|error| framed(&call, error))?;
    let client = call.client().map_err(|error| framed(&call, error))?;
    // Signals that arrive from here on are meant for the container.
    let signals = if !detached && values.on_or("sig-proxy", true) { Some(Signals::catch()?) } else { None };
    let id = make(&call, &client, &request).await.map_err(|error| framed(&call, error))?;
    let config = &request.config;
    let output = config.attach_stdout || config.attach_stderr;
    if !(output || config.attach_stdin) {
        client.post(&format!("/containers/{id}/start"), &Query::new()).await.map_err(|error| framed(&call, error))?;
        terminal::print(&format!("{id}\n"));
        return Ok(0);
    }
    if !output {
        terminal::print(&format!("{id}\n"));
    }
    attached(&call, &client, &id, &request, signals).await
}

/// Attach and wait, then start, then the streams until they end.
async fn attached(
    call: &Invocation,
    client: &Client,
    id: &str,
    request: &CreateRequest,
    signals: Option<Signals>,
) -> Result<u8, Error> {
    let config = &request.config;
    let own_keys = call.values.text("detach-keys");
    let keys = if own_keys.is_empty() && config.tty {
        call.config().text("detachKeys").to_owned()
    } else {
        own_keys.to_owned()
    };
    let attach = Query::new()
        .with("stream", "1")
        .with_flag("stdin", config.attach_stdin)
        .with_flag("stdout", config.attach_stdout)
        .with_flag("stderr", config.attach_stderr)
        .with_text("detachKeys", &keys);
    let attach_path = format!("/containers/{id}/attach");
    let (hijacked, waiting) = tokio::join!(
        client.hijack(&attach_path, &attach, None),
        wait_for_exit(client, id, request.host_config.auto_remove)
    );
    let hijacked = hijacked.map_err(|error| framed(call, error))?;
    let waiting = waiting.map_err(|error| framed(call, error))?;
    let streams = Streams { tty: config.tty, stdin: config.attach_stdin, keys: stream::keys(&keys) };
    let mut copying = stream::copy(&hijacked, streams)?;
    if let Err(error) = client.post(&format!("/containers/{id}/start"), &Query::new()).await {
        terminal::restore();
        // A container that removes itself is gone when the wait ends; until then its name is taken.
        if request.host_config.auto_remove {
            let _ = waiting.bytes().await;
        }
        return Err(framed(call, error));
    }
    let window = if config.tty { Window::follow(format!("/containers/{id}")) } else { None };
    if let Some(window) = &window {
        window.tell(client).await;
    }
    match stream::attend(client, id, &mut copying, window, signals).await {
        End::Detached => return Ok(0),
        End::Broken(why) => terminal::print_error(&format!("{why}\n")),
        End::Closed => {}
    }
    if !(config.attach_stdout || config.attach_stderr) {
        return Ok(0);
    }
    exit_code(waiting).await
}

/// Asks to be told about the next exit, or about the removal that follows it; returns when the engine has taken note.
pub(super) async fn wait_for_exit<'a>(client: &'a Client, id: &str, removed: bool) -> Result<Answer<'a>, Error> {
    let condition = if removed { "removed" } else { "next-exit" };
    let query = Query::new().with("condition", condition);
    client.send(Method::POST, &format!("/containers/{id}/wait"), &query, Body::empty, &[]).await
}

/// The container's exit code as ours.
pub(super) async fn exit_code(waiting: Answer<'_>) -> Result<u8, Error> {
    let answer: WaitResponse = waiting.json().await?;
    if let Some(error) = answer.error.filter(|error| !error.message.is_empty()) {
        terminal::print_error(&format!("Error waiting for container: {}\n", error.message));
        return Ok(125);
    }
    // As the shell does: the low eight bits.
    Ok(u8::try_from(answer.status_code & 0xff).unwrap_or(u8::MAX))
}

/// What can be refused before the engine is asked.
fn check(call: &Invocation) -> Result<(), Error> {
    let values = &call.values;
    if let Some(why) = container::refused(values) {
        return Err(Error::plain(why));
    }
    let pull = values.last("pull").unwrap_or("missing");
    if !matches!(pull, "always" | "missing" | "never") {
        let why = format!("invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\"");
        return Err(call.wrong(125, &why));
    }
    if values.is_set("platform") {
        platform::check(values.text("platform")).map_err(|why| call.wrong(125, &why))?;
    }
    Ok(())
}

/// The image's name must be one, or an id of 64 digits.
fn check_name(name: &str) -> Result<(), Error> {
    match Reference::parse_normalized(name) {
        Ok(_) | Err(ReferenceError::Identifier(_)) => Ok(()),
        Err(error) => Err(Error::plain(error.to_string())),
    }
}

/// Makes the container, pulling its image when that is missing and allowed.
async fn make(call: &Invocation, client: &Client, request: &CreateRequest) -> Result<String, Error> {
    let values = &call.values;
    let id_file = IdFile::create(values.text("cidfile"))?;
    let policy = values.last("pull").unwrap_or("missing");
    if policy == "always" {
        pull(call, client).await?;
    }
    let query = Query::new().with_text("name", values.text("name")).with_text("platform", values.text("platform"));
    let make = || client.post_json::<CreateResponse>("/containers/create", &query, request);
    let mut made = make().await;
    if let Err(Error::Daemon(error)) = &made
        && error.status == 404
        && error.message.starts_with("No such image")
        && policy == "missing"
        && let Ok(reference) = Reference::parse_normalized(&call.words[0])
    {
        let shown = reference.with_default_tag().familiar();
        terminal::print_error(&format!("Unable to find image '{shown}' locally\n"));
        pull(call, client).await?;
        made = make().await;
    }
    let made = made?;
    for warning in &made.warnings {
        terminal::print_error(&format!("WARNING: {warning}\n"));
    }
    id_file.write(&made.id)?;
    Ok(made.id)
}

async fn pull(call: &Invocation, client: &Client) -> Result<(), Error> {
    let Ok(reference) = Reference::parse_normalized(&call.words[0]) else { return Ok(()) };
    let output = if call.values.on("quiet") { Output::Quiet } else { Output::Stderr };
    let platform = call.values.text("platform");
    transfer::pull_image(client, &call.config(), &reference.with_default_tag(), platform, output).await
}

/// Docker's frame around a failure of `run` and `create`, and the exit code that tells what kind of failure it was.
fn framed(call: &Invocation, error: Error) -> Error {
    let text = match &error {
        Error::Plain { code, .. } if *code != 1 => return error,
        other => other.to_string(),
    };
    let has = |part: &str| text.contains(part);
    let code = if has("executable file not found")
        || has("no such file or directory")
        || has("system cannot find the file specified")
    {
        127
    } else if has("permission denied") || has("is a directory") {
        126
    } else {
        125
    };
    call.wrong(code, &text)
}

/// The file of `--cidfile`: it must be new, and it does not stay when no container was made.
struct IdFile {
    path: String,
    file: Option<File>,
}

impl IdFile {
    fn create(path: &str) -> Result<Self, Error> {
        if path.is_empty() {
            return Ok(Self { path: String::new(), file: None });
        }
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(Error::plain(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        let file = File::create_new(path).map_err(|error| {
            Error::plain(format!(
                "failed to create the container ID file: open {path}: {}",
                crate::error::reason(&error)
            ))
        })?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    fn write(mut self, id: &str) -> Result<(), Error> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(id.as_bytes()).map_err(|error| {
            Error::plain(format!("failed to write the container ID to the file: {}", crate::error::reason(&error)))
        })?;
        self.file = None;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Only the empty file that we made ourselves is left at this point.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
