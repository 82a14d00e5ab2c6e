//! Lists in pages: tags of a repository, repositories of the registry.

use hyper::{Response, StatusCode};
use serde_json::json;

use crate::body::Body;
use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::reply;
use crate::request::Request;
use crate::server::Server;

/// Entries of a page, when the client does not say or wants more.
const MOST: usize = 10_000;

/// `GET /v2/<name>/tags/list`
pub(super) async fn tags(server: &Server, request: &Request, name: &Name) -> Result<Response<Body>> {
    let limit = limit(request)?;
    let page = server.tags(name, request.param("last"), limit).await?;
    let page = page.ok_or_else(|| Failure::new(Code::NameUnknown).detail(json!({"name": name.as_str()})))?;
    let response = reply::json(&json!({"name": name.as_str(), "tags": page.items}));
    Ok(match page.items.last().filter(|_| page.more) {
        None => response,
        Some(last) => {
            reply::next_page(response, &format!("/v2/{name}/tags/list"), &[("last", last), ("n", &limit.to_string())])
        }
    })
}

/// `GET /v2/_catalog`
pub(super) async fn catalog(server: &Server, request: &Request) -> Result<Response<Body>> {
    let limit = limit(request)?;
    let page = server.repositories(&request.who, request.param("last"), limit).await?;
    let response = reply::json(&json!({"repositories": page.items}));
    Ok(match page.items.last().filter(|_| page.more) {
        None => response,
        Some(last) => reply::next_page(response, "/v2/_catalog", &[("last", last), ("n", &limit.to_string())]),
    })
}

fn limit(request: &Request) -> Result<usize> {
    let Some(text) = request.param("n") else { return Ok(MOST) };
    let number: usize = text.parse().map_err(|_| {
        let failure = Failure::new(Code::Unsupported).status(StatusCode::BAD_REQUEST);
        failure.because("n is the number of results that are wanted").detail(json!({"n": text}))
    })?;
    Ok(number.min(MOST))
}
