//! What of a container flows: logs, stats, and its attached streams.

use api::container::Stats;
use engine::{AttachOptions, LogsOptions, StatsOptions};
use futures_util::StreamExt;

use crate::failure::{Failure, Outcome};
use crate::hijack::{self, Takeover};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::{Route, routes};

pub(super) const ROUTES: &[Route] = routes! {
    GET "/containers/{id}/logs" => logs,
    GET "/containers/{id}/stats" => stats,
    POST "/containers/{id}/attach" => attach,
    GET "/containers/{id}/attach/ws" => attach_over_websocket,
};

async fn logs(request: Request) -> Outcome<Reply> {
    let query = &request.query;
    let options = LogsOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        tail: query.get("tail").to_owned(),
        since: query.time("since")?,
        until: query.time("until")?,
        // Docker's command line, and the one of this program.
        joined: ["Docker-Client/", "Gantry-Client/"].iter().any(|name| request.header("user-agent").starts_with(name)),
    };
    if !options.stdout && !options.stderr {
        return Err(Failure::bad_request("Bad parameters: you must choose at least one stream"));
    }
    let logs = request.engine.container_logs(&request.name, options).await?;
    let content_type = hijack::stream_type(!logs.tty, request.version);
    Ok(reply::stream(content_type, logs.output).into())
}

async fn stats(request: Request) -> Outcome<Reply> {
    let query = &request.query;
    let options = StatsOptions {
        stream: query.flag_or("stream", true),
        one_shot: !request.version.before(41) && query.flag("one-shot"),
    };
    let (single, one_shot) = (!options.stream, options.one_shot);
    let mut samples = Box::pin(request.engine.container_stats(&request.name, options).await?);
    if single {
        let sample = samples.next().await;
        return match sample {
            // A sample that is compared with nothing does not say whose it is.
            Some(sample) if one_shot && sample.read != api::time::ZERO => {
                reply::json(200, &Stats { name: String::new(), id: String::new(), ..sample })
            }
            Some(sample) => reply::json(200, &sample),
            None => Err(Failure::new(500, "the container ended before its first sample")),
        };
    }
    Ok(reply::json_stream(samples).into())
}

async fn attach(request: Request) -> Outcome<Reply> {
    let query = &request.query;
    let options = AttachOptions {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        detach_keys: query.get("detachKeys").to_owned(),
    };
    let (upgrade, version, wants_stdin) = (request.wants_upgrade(), request.version, options.stdin);
    let session = request.engine.container_attach(&request.name, options).await;
    let session = match session {
        Ok(session) => session,
        // dockerd has left HTTP by now and answers in plain text.
        Err(error) => {
            let failure = Failure::from(error);
            return Ok(Reply::Takeover(Takeover::new(move |mut connection| async move {
                let _ = connection.refuse(failure.status, &failure.message).await;
            })));
        }
    };
    let content_type = hijack::stream_type(!session.tty, version);
    Ok(Reply::Takeover(Takeover::new(move |mut connection| async move {
        if connection.accept(upgrade, content_type, "").await.is_ok() {
            super::exec::pump(connection, session, wants_stdin).await;
        }
    })))
}

async fn attach_over_websocket(_: Request) -> Outcome<Reply> {
    Err(Failure::new(501, "attach over a websocket is not supported by this engine"))
}
