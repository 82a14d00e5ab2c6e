//! `/_ping`, `/version`, `/info`, `/events`, `/auth`, `/system/df`, `/system/verify`.

use engine::EventsOptions;

use crate::convert::answer;
use crate::failure::{Failure, Outcome};
use crate::reply::{self, Reply, with_header};
use crate::request::Request;
use crate::router::{Route, routes};

pub(super) const ROUTES: &[Route] = routes! {
    GET "/_ping" => ping,
    HEAD "/_ping" => ping,
    GET "/version" => version,
    GET "/info" => info,
    GET "/events" => events,
    GET "/system/df" => disk_usage,
    POST "/system/verify" => verify,
    POST "/auth" => auth,
};

async fn ping(request: Request) -> Outcome<Reply> {
    let body = if request.is_head() { "" } else { "OK" };
    let mut response = reply::whole(200, "text/plain; charset=utf-8", body);
    for (name, value) in [
        // What the client's `build` may speak to.
        ("builder-version", "2"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        ("swarm", "inactive"),
    ] {
        response = with_header(response, name, value);
    }
    Ok(response.into())
}

async fn version(request: Request) -> Outcome<Reply> {
    reply::json(200, &request.engine.version().await?)
}

async fn info(request: Request) -> Outcome<Reply> {
    reply::json(200, &answer::info(&request.engine.info().await?, request.version)?)
}

async fn events(request: Request) -> Outcome<Reply> {
    let options = EventsOptions {
        since: request.query.time("since")?,
        until: request.query.time("until")?,
        filters: request.query.filters()?,
    };
    let events = request.engine.events(options)?;
    Ok(reply::json_stream(events).into())
}

async fn disk_usage(request: Request) -> Outcome<Reply> {
    let kinds = request.query.all("type");
    if let Some(unknown) =
        kinds.iter().find(|kind| !["container", "image", "volume", "build-cache"].contains(&kind.as_str()))
    {
        return Err(Failure::bad_request(format!("unknown object type: {unknown}")));
    }
    let usage = request.engine.disk_usage(&kinds).await?;
    reply::json(200, &answer::disk_usage(&usage, request.version)?)
}

async fn verify(request: Request) -> Outcome<Reply> {
    Ok(super::images::progress(request.engine.store_verify().await?))
}

async fn auth(mut request: Request) -> Outcome<Reply> {
    let credentials = request.json().await.map_err(bare)?;
    reply::json(200, &request.engine.registry_auth(credentials).await?)
}

/// This body is decoded without the words that all others get around their errors.
fn bare(failure: Failure) -> Failure {
    let message = match failure.message.strip_prefix("invalid JSON: ") {
        Some("got EOF while reading request body") => "EOF".to_owned(),
        Some(reason) => reason.to_owned(),
        None => failure.message,
    };
    // A mistake of the caller, but dockerd answers 500.
    Failure { status: 500, message }
}
