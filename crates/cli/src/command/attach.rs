//! `docker attach` and `docker start`.

use super::run::{exit_code, wait_for_exit};
use super::stream::{self, End, Signals, Streams, Window};
use crate::client::{Body, Client, Query, encode};
use crate::error::Error;
use crate::{Invocation, terminal};
use api::container::InspectResponse;
use hyper::Method;

/// `docker attach`.
pub(crate) async fn attach(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let client = call.client()?;
    let container = inspect(&client, &call.words[0]).await?;
    if !container.state.running {
        return Err(Error::plain("You cannot attach to a stopped container, start it first"));
    }
    if container.state.paused {
        return Err(Error::plain("You cannot attach to a paused container, unpause it first"));
    }
    if container.state.restarting {
        return Err(Error::plain("You cannot attach to a restarting container, wait until it is running"));
    }
    let stdin = !values.on("no-stdin") && container.config.open_stdin;
    let tty = container.config.tty;
    stream::check_terminal(stdin, tty)?;
    let signals = if values.on_or("sig-proxy", true) && !tty { Some(Signals::catch()?) } else { None };
    let keys = keys(&call);
    let query = attach_query(stdin, &keys);
    let wait = Query::new().with("condition", "");
    let (wait_path, attach_path) =
        (format!("/containers/{}/wait", container.id), format!("/containers/{}/attach", container.id));
    let (waiting, hijacked) = tokio::join!(
        client.send(Method::POST, &wait_path, &wait, Body::empty, &[]),
        client.hijack(&attach_path, &query, None)
    );
    let (waiting, hijacked) = (waiting?, hijacked?);
    let mut copying = stream::copy(&hijacked, Streams { tty, stdin, keys: stream::keys(&keys) })?;
    let window = if tty { Window::follow(format!("/containers/{}", container.id)) } else { None };
    if let Some(window) = &window {
        redraw(&client, &container.id).await;
        window.tell(&client).await;
    }
    match stream::attend(&client, &container.id, &mut copying, window, signals).await {
        End::Detached => Err(Error::plain("read escape sequence")),
        End::Broken(why) => Err(Error::plain(why)),
        End::Closed => exit_code(waiting).await,
    }
}

/// A size that is not ours makes the program draw anew when the right one follows.
async fn redraw(client: &Client, id: &str) {
    if let Some((rows, columns)) = terminal::size() {
        let query = Query::new().with("h", &(rows + 1).to_string()).with("w", &(columns + 1).to_string());
        // The container may have ended; then there is nothing to draw.
        let _ = client.post(&format!("/containers/{id}/resize"), &query).await;
    }
}

fn keys(call: &Invocation) -> String {
    match call.values.text("detach-keys") {
        "" => call.config().text("detachKeys").to_owned(),
        keys => keys.to_owned(),
    }
}

fn attach_query(stdin: bool, keys: &str) -> Query {
    Query::new()
        .with("stream", "1")
        .with_flag("stdin", stdin)
        .with("stdout", "1")
        .with("stderr", "1")
        .with_text("detachKeys", keys)
}

async fn inspect(client: &Client, name: &str) -> Result<InspectResponse, Error> {
    client.get(&format!("/containers/{}/json", encode(name)), &Query::new()).await
}

/// `docker start`.
pub(crate) async fn start(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let (attach, interactive) = (values.on("attach"), values.on("interactive"));
    if let Some(flag) = ["checkpoint", "checkpoint-dir"].iter().find(|flag| values.is_set(flag)) {
        return Err(Error::plain(format!(
            "\"--{flag}\" is only supported on a Docker daemon with experimental features enabled"
        )));
    }
    if attach || interactive {
        if call.words.len() > 1 {
            return Err(Error::plain("you cannot start and attach multiple containers at once"));
        }
        return start_attached(&call, interactive).await;
    }
    let client = call.client()?;
    let mut failed = Vec::new();
    for name in &call.words {
        match client.post(&format!("/containers/{}/start", encode(name)), &Query::new()).await {
            Ok(()) => terminal::print(&format!("{name}\n")),
            Err(error) => {
                terminal::print_error(&format!("{error}\n"));
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    Err(Error::plain(format!("Error: failed to start containers: {}", failed.join(", "))))
}

async fn start_attached(call: &Invocation, interactive: bool) -> Result<u8, Error> {
    let client = call.client()?;
    let container = inspect(&client, &call.words[0]).await?;
    let (id, tty) = (container.id.as_str(), container.config.tty);
    let stdin = interactive && container.config.open_stdin;
    let signals = if tty { None } else { Some(Signals::catch()?) };
    let keys = keys(call);
    let (attach, attach_path) = (attach_query(stdin, &keys), format!("/containers/{id}/attach"));
    let (hijacked, waiting) = tokio::join!(
        client.hijack(&attach_path, &attach, None),
        wait_for_exit(&client, id, container.host_config.auto_remove)
    );
    let (hijacked, waiting) = (hijacked?, waiting?);
    let mut copying = stream::copy(&hijacked, Streams { tty, stdin, keys: stream::keys(&keys) })?;
    if let Err(error) = client.post(&format!("/containers/{id}/start"), &Query::new()).await {
        terminal::restore();
        if container.host_config.auto_remove {
            // The name is free only when the removal is over.
            let _ = waiting.bytes().await;
        }
        return Err(error);
    }
    let window = if tty { Window::follow(format!("/containers/{id}")) } else { None };
    if let Some(window) = &window {
        window.tell(&client).await;
    }
    match stream::attend(&client, id, &mut copying, window, signals).await {
        End::Detached => Ok(0),
        End::Broken(why) => Err(Error::plain(why)),
        End::Closed => exit_code(waiting).await,
    }
}
