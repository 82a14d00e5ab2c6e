//! `docker exec`.

use super::stream::{self, End, Streams, Window};
use crate::client::{Query, encode};
use crate::error::Error;
use crate::options::environment;
use crate::{Invocation, terminal};
use api::exec::{CreateRequest, CreateResponse, InspectResponse, StartRequest};

/// `docker exec`.
pub(crate) async fn exec(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let (detached, tty) = (values.on("detach"), values.on("tty"));
    let interactive = values.on("interactive") && !detached;
    let own_keys = values.text("detach-keys");
    let keys =
        if own_keys.is_empty() && tty { call.config().text("detachKeys").to_owned() } else { own_keys.to_owned() };
    let env = environment::variables(values.list("env-file"), values.list("env")).map_err(Error::plain)?;
    let console = terminal::size().filter(|_| tty && terminal::output_is_terminal());
    let console = console.map(|(rows, columns)| [u64::from(rows), u64::from(columns)]);
    let request = CreateRequest {
        user: values.text("user").to_owned(),
        privileged: values.on("privileged"),
        tty,
        console_size: console,
        attach_stdin: interactive,
        attach_stdout: !detached,
        attach_stderr: !detached,
        detach_keys: keys.clone(),
        env: (!env.is_empty()).then_some(env),
        working_dir: values.text("workdir").to_owned(),
        cmd: Some(call.words[1..].to_vec()),
        ..CreateRequest::default()
    };
    if !detached {
        stream::check_terminal(interactive, tty)?;
    }
    let client = call.client()?;
    let made: CreateResponse =
        client.post_json(&format!("/containers/{}/exec", encode(&call.words[0])), &Query::new(), &request).await?;
    if made.id.is_empty() {
        return Err(Error::plain("exec ID empty"));
    }
    let path = format!("/exec/{}", made.id);
    let start = StartRequest { detach: detached, tty, console_size: console };
    if detached {
        client.send_json(&format!("{path}/start"), &Query::new(), &start).await?.finish().await?;
        return Ok(0);
    }
    let body = serde_json::to_vec(&start).map_err(|error| Error::Protocol(error.to_string()))?;
    let hijacked = client.hijack(&format!("{path}/start"), &Query::new(), Some(body)).await?;
    let mut copying = stream::copy(&hijacked, Streams { tty, stdin: interactive, keys: stream::keys(&keys) })?;
    let window = if tty && terminal::input_is_terminal() { Window::follow(path.clone()) } else { None };
    if let Some(window) = &window {
        window.tell(&client).await;
    }
    match stream::attend(&client, "", &mut copying, window, None).await {
        End::Detached => return Err(Error::plain("read escape sequence")),
        End::Broken(why) => return Err(Error::plain(why)),
        End::Closed => {}
    }
    let exec: InspectResponse = client.get(&format!("{path}/json"), &Query::new()).await?;
    Ok(u8::try_from(exec.exit_code.unwrap_or(0) & 0xff).unwrap_or(u8::MAX))
}
