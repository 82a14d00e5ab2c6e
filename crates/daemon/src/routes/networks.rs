//! `/networks`.

use serde_json::Value;

use crate::convert::answer;
use crate::failure::Outcome;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::{Route, routes};

pub(super) const ROUTES: &[Route] = routes! {
    GET "/networks" => list,
    GET "/networks/{id}" => inspect,
    POST "/networks/create" => create,
    POST "/networks/prune" => prune,
    POST "/networks/{id}/connect" => connect,
    POST "/networks/{id}/disconnect" => disconnect,
    DELETE "/networks/{id}" => remove,
};

async fn list(request: Request) -> Outcome<Reply> {
    let networks = request.engine.network_list(&request.query.filters()?).await?;
    let networks: Vec<Value> =
        networks.iter().map(|network| answer::network(network, request.version)).collect::<Outcome<_>>()?;
    reply::json(200, &networks)
}

async fn inspect(request: Request) -> Outcome<Reply> {
    let network = request.engine.network_inspect(&request.name).await?;
    reply::json(200, &answer::network(&network, request.version)?)
}

async fn create(mut request: Request) -> Outcome<Reply> {
    let body: api::network::CreateRequest = request.json_or_default().await?;
    reply::json(201, &request.engine.network_create(&body).await?)
}

async fn prune(request: Request) -> Outcome<Reply> {
    reply::json(200, &request.engine.network_prune(&request.query.filters()?).await?)
}

async fn connect(mut request: Request) -> Outcome<Reply> {
    let body: api::network::ConnectRequest = request.json_or_default().await?;
    request.engine.network_connect(&request.name, &body).await?;
    Ok(reply::empty(200).into())
}

async fn disconnect(mut request: Request) -> Outcome<Reply> {
    let body: api::network::DisconnectRequest = request.json_or_default().await?;
    request.engine.network_disconnect(&request.name, &body).await?;
    Ok(reply::empty(200).into())
}

async fn remove(request: Request) -> Outcome<Reply> {
    request.engine.network_remove(&request.name).await?;
    Ok(reply::no_content())
}
