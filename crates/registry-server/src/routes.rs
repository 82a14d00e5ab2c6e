//! What each route does.

mod blobs;
mod lists;
mod manifests;
mod referrers;
mod token;
mod uploads;

use hyper::{Method, Response};

use crate::body::Body;
use crate::failure::Result;
use crate::reply;
use crate::request::Request;
use crate::route::Route;
use crate::server::Server;

/// Answers a request that is allowed.
pub(crate) async fn answer(server: &Server, request: &mut Request) -> Result<Response<Body>> {
    let method = request.head.method.clone();
    match (request.route.clone(), &method) {
        (Route::Base, _) => Ok(reply::json(&serde_json::json!({}))),
        (Route::Catalog, _) => lists::catalog(server, request).await,
        (Route::Tags(name), _) => lists::tags(server, request, &name).await,
        (Route::Manifest(name, target), &Method::PUT) => manifests::put(server, request, &name, target).await,
        (Route::Manifest(name, target), &Method::DELETE) => manifests::delete(server, &name, target).await,
        (Route::Manifest(name, target), _) => manifests::get(server, request, &name, target).await,
        (Route::Blob(name, digest), &Method::DELETE) => blobs::delete(server, &name, &digest).await,
        (Route::Blob(name, digest), _) => blobs::get(server, request, &name, &digest).await,
        (Route::Uploads(name), _) => uploads::begin(server, request, &name).await,
        (Route::Upload(name, id), &Method::GET) => uploads::status(server, &name, &id).await,
        (Route::Upload(name, id), &Method::DELETE) => uploads::cancel(server, &name, &id).await,
        (Route::Upload(name, id), &Method::PATCH) => uploads::append(server, request, &name, &id).await,
        (Route::Upload(name, id), _) => uploads::finish(server, request, &name, &id).await,
        (Route::Referrers(name, digest), _) => referrers::list(server, request, &name, &digest).await,
        (Route::Token, _) => token::issue(server, request).await,
        (Route::Metrics, _) => Ok(server.metrics.page()),
    }
}
