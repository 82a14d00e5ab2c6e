//! Addresses of the API that this engine names and refuses: swarm, plugins, builds. A client learns what is missing instead of
//! "page not found", which it would take for an older version.

use crate::failure::{Failure, Outcome};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::{Route, routes};

pub(super) const ROUTES: &[Route] = routes! {
    GET "/swarm" => no_swarm,
    GET "/swarm/unlockkey" => no_swarm,
    POST "/swarm/init" => no_swarm_mode,
    POST "/swarm/join" => no_swarm_mode,
    POST "/swarm/leave" => no_swarm,
    POST "/swarm/update" => no_swarm,
    POST "/swarm/unlock" => no_swarm,
    GET "/nodes" => no_swarm,
    GET "/nodes/{id}" => no_swarm,
    GET "/services" => no_swarm,
    GET "/services/{id}" => no_swarm,
    POST "/services/create" => no_swarm,
    GET "/tasks" => no_swarm,
    GET "/tasks/{id}" => no_swarm,
    GET "/secrets" => no_swarm,
    POST "/secrets/create" => no_swarm,
    GET "/configs" => no_swarm,
    POST "/configs/create" => no_swarm,
    GET "/plugins" => no_plugins,
    GET "/plugins/privileges" => refuse_plugins,
    POST "/plugins/pull" => refuse_plugins,
    POST "/plugins/create" => refuse_plugins,
    POST "/build" => refuse_builds,
    POST "/build/prune" => refuse_builds,
    POST "/build/cancel" => refuse_builds,
    POST "/session" => refuse_builds,
    POST "/grpc" => refuse_builds,
    POST "/containers/{id}/checkpoints" => refuse_checkpoints,
    GET "/containers/{id}/checkpoints" => refuse_checkpoints,
};

async fn no_swarm(_: Request) -> Outcome<Reply> {
    Err(Failure::new(
        503,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    ))
}

async fn no_swarm_mode(_: Request) -> Outcome<Reply> {
    Err(Failure::new(501, "swarm mode is not supported by this engine"))
}

async fn no_plugins(_: Request) -> Outcome<Reply> {
    reply::json(200, &[(); 0])
}

async fn refuse_plugins(_: Request) -> Outcome<Reply> {
    Err(Failure::new(501, "plugins are not supported by this engine"))
}

async fn refuse_builds(_: Request) -> Outcome<Reply> {
    Err(Failure::new(501, "builds are not supported by this engine"))
}

async fn refuse_checkpoints(_: Request) -> Outcome<Reply> {
    Err(Failure::new(501, "checkpoints are not supported by this engine"))
}
