//! `/containers`: everything that is a question with one answer. Streams, archives and execs have modules of their own.

use api::Version;
use engine::{ListOptions, RemoveOptions, StopOptions, WaitCondition};
use futures_util::stream;

use crate::convert::{self, answer};
use crate::failure::{Failure, Outcome};
use crate::reply::{self, Reply};
use crate::request::{Query, Request, terminal_side};
use crate::router::{Route, routes};

pub(super) const ROUTES: &[Route] = routes! {
    GET "/containers/json" => list,
    POST "/containers/create" => create,
    POST "/containers/prune" => prune,
    GET "/containers/{id}/json" => inspect,
    GET "/containers/{id}/top" => top,
    POST "/containers/{id}/start" => start,
    POST "/containers/{id}/stop" => stop,
    POST "/containers/{id}/restart" => restart,
    POST "/containers/{id}/kill" => kill,
    POST "/containers/{id}/pause" => pause,
    POST "/containers/{id}/unpause" => unpause,
    POST "/containers/{id}/rename" => rename,
    POST "/containers/{id}/resize" => resize,
    POST "/containers/{id}/update" => update,
    POST "/containers/{id}/wait" => wait,
    DELETE "/containers/{id}" => remove,
};

async fn list(request: Request) -> Outcome<Reply> {
    let query = &request.query;
    let options = ListOptions {
        all: query.flag("all"),
        size: query.flag("size"),
        // A negative number is no limit either.
        limit: query.number("limit", 500)?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0),
        filters: query.filters()?,
    };
    let containers = request.engine.container_list(options).await?;
    if request.version < Version::LATEST {
        return reply::json(200, &answer::containers(&containers, request.version)?);
    }
    reply::json(200, &containers)
}

async fn create(mut request: Request) -> Outcome<Reply> {
    let body: serde_json::Value = request.json().await?;
    // dockerd tells a body without any member of a configuration from an empty configuration.
    let empty = body
        .as_object()
        .is_none_or(|members| members.keys().all(|key| matches!(key.as_str(), "HostConfig" | "NetworkingConfig")));
    let mut create: api::container::CreateRequest =
        api::json::from_value(&body).map_err(|error| Failure::bad_request(format!("invalid JSON: {error}")))?;
    if empty {
        return Err(Failure::bad_request("config cannot be empty in order to create a container"));
    }
    let warnings = convert::create(&mut create, request.version)?;
    let platform = request.query.some("platform").filter(|_| !request.version.before(41));
    let mut created = request.engine.container_create(request.query.some("name"), platform, create).await?;
    created.warnings.extend(warnings);
    reply::json(201, &created)
}

async fn prune(request: Request) -> Outcome<Reply> {
    reply::json(200, &request.engine.container_prune(&request.query.filters()?).await?)
}

async fn inspect(request: Request) -> Outcome<Reply> {
    let container = request.engine.container_inspect(&request.name, request.query.flag("size")).await?;
    if request.version < Version::LATEST {
        return reply::json(200, &answer::inspect(&container, request.version)?);
    }
    reply::json(200, &container)
}

async fn top(request: Request) -> Outcome<Reply> {
    reply::json(200, &request.engine.container_top(&request.name, request.query.get("ps_args")).await?)
}

async fn start(request: Request) -> Outcome<Reply> {
    // A body here set the host configuration once; a JSON object that says anything has more than 7 bytes.
    if request.body_length().is_none_or(|length| length > 7) {
        return Err(Failure::bad_request(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if let Some(checkpoint) = request.query.some("checkpoint") {
        return Err(Failure::new(501, format!("checkpoints are not supported by this engine: {checkpoint}")));
    }
    request.engine.container_start(&request.name).await?;
    Ok(reply::no_content())
}

fn stop_options(query: &Query, version: Version) -> Outcome<StopOptions> {
    let signal = query.some("signal").filter(|_| !version.before(42)).map(str::to_owned);
    Ok(StopOptions { signal, timeout_s: query.number("t", 500)? })
}

async fn stop(request: Request) -> Outcome<Reply> {
    let options = stop_options(&request.query, request.version)?;
    request.engine.container_stop(&request.name, options).await?;
    Ok(reply::no_content())
}

async fn restart(request: Request) -> Outcome<Reply> {
    let options = stop_options(&request.query, request.version)?;
    request.engine.container_restart(&request.name, options).await?;
    Ok(reply::no_content())
}

async fn kill(request: Request) -> Outcome<Reply> {
    let killed = request.engine.container_kill(&request.name, request.query.some("signal")).await;
    killed.map_err(|error| Failure::from(error).prefixed(format!("cannot kill container: {}", request.name)))?;
    Ok(reply::no_content())
}

async fn pause(request: Request) -> Outcome<Reply> {
    request.engine.container_pause(&request.name).await?;
    Ok(reply::no_content())
}

async fn unpause(request: Request) -> Outcome<Reply> {
    request.engine.container_unpause(&request.name).await?;
    Ok(reply::no_content())
}

async fn rename(request: Request) -> Outcome<Reply> {
    request.engine.container_rename(&request.name, request.query.get("name")).await?;
    Ok(reply::no_content())
}

async fn resize(request: Request) -> Outcome<Reply> {
    let (height, width) = (terminal_side(&request.query, "h")?, terminal_side(&request.query, "w")?);
    request.engine.container_resize(&request.name, height, width).await?;
    Ok(reply::empty(200).into())
}

async fn update(mut request: Request) -> Outcome<Reply> {
    let mut body = request.json_or_default().await?;
    convert::create::update(&mut body, request.version);
    reply::json(200, &request.engine.container_update(&request.name, body).await?)
}

async fn wait(request: Request) -> Outcome<Reply> {
    let condition = match request.query.get("condition") {
        // Conditions came with 1.30.
        "" => WaitCondition::default(),
        _ if request.version.before(30) => WaitCondition::default(),
        condition => condition.parse()?,
    };
    let waiting = request.engine.container_wait(&request.name, condition).await?;
    if request.version.before(30) {
        // The head came with the answer then.
        return reply::json(200, &waiting.await?);
    }
    // The client starts the container once it has the head, so the head must not wait for the end.
    let answer = async move {
        let answer = match waiting.await {
            Ok(answer) => answer,
            Err(error) => api::container::WaitResponse {
                error: Some(api::container::WaitError { message: error.message().to_owned() }),
                ..Default::default()
            },
        };
        reply::line(&answer, b"\n")
    };
    Ok(reply::stream("application/json", stream::once(answer)).into())
}

async fn remove(request: Request) -> Outcome<Reply> {
    let query = &request.query;
    let options = RemoveOptions { force: query.flag("force"), volumes: query.flag("v"), link: query.flag("link") };
    request.engine.container_remove(&request.name, options).await?;
    Ok(reply::no_content())
}
