//! `/volumes`.

use crate::failure::{Failure, Outcome};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::{Route, routes};

pub(super) const ROUTES: &[Route] = routes! {
    GET "/volumes" => list,
    GET "/volumes/{id}" => inspect,
    POST "/volumes/create" => create,
    POST "/volumes/prune" => prune,
    PUT "/volumes/{id}" => update,
    DELETE "/volumes/{id}" => remove,
};

async fn list(request: Request) -> Outcome<Reply> {
    reply::json(200, &request.engine.volume_list(&request.query.filters()?).await?)
}

async fn inspect(request: Request) -> Outcome<Reply> {
    reply::json(200, &request.engine.volume_inspect(&request.name).await?)
}

async fn create(mut request: Request) -> Outcome<Reply> {
    let body = request.json_or_default().await?;
    reply::json(201, &request.engine.volume_create(body).await?)
}

async fn prune(request: Request) -> Outcome<Reply> {
    let mut filters = request.query.filters()?;
    if request.version.before(42) {
        // Before 1.42 prune took named volumes along.
        filters.remove("all");
        filters.add("all", "true");
    }
    reply::json(200, &request.engine.volume_prune(&filters).await?)
}

async fn update(request: Request) -> Outcome<Reply> {
    request.engine.volume_inspect(&request.name).await?;
    Err(Failure::bad_request("volume update only valid for cluster volumes, but swarm is unavailable"))
}

async fn remove(request: Request) -> Outcome<Reply> {
    request.engine.volume_remove(&request.name, request.query.flag("force")).await?;
    Ok(reply::no_content())
}
