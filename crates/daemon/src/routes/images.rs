//! `/images`, `/commit` and `/distribution`.

use api::Version;
use api::auth::AuthConfig;
use api::progress::Message;
use engine::image::{
    CommitOptions, CopyOptions, ImportOptions, ListOptions, LoadOptions, ProgressStream, PullOptions, PushOptions,
    RemoveOptions, SearchOptions, SquashOptions,
};
use futures_util::StreamExt;

use super::archive::body_pieces;
use crate::convert::answer;
use crate::failure::{Failure, Outcome};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::{Route, routes};

pub(super) const ROUTES: &[Route] = routes! {
    GET "/images/json" => list,
    GET "/images/search" => search,
    GET "/images/get" => save,
    GET "/images/{name}/get" => save,
    POST "/images/copy" => copy,
    GET "/images/{name}/json" => inspect,
    GET "/images/{name}/history" => history,
    POST "/images/create" => create,
    POST "/images/load" => load,
    POST "/images/prune" => prune,
    POST "/images/{name}/push" => push,
    POST "/images/{name}/tag" => tag,
    GET "/images/{name}/layers" => layers,
    GET "/images/{name}/offer" => offer,
    GET "/images/blobs/{digest}" => blob,
    POST "/images/{name}/squash" => squash,
    POST "/images/{name}/pin" => pin,
    POST "/images/{name}/unpin" => unpin,
    DELETE "/images/{name}" => remove,
    POST "/commit" => commit,
    GET "/distribution/{name}/json" => distribution,
};

/// Credentials of `X-Registry-Auth`.
const AUTH: &str = "x-registry-auth";
/// Credentials by registry.
const AUTHS: &str = "x-registry-config";

async fn list(request: Request) -> Outcome<Reply> {
    let mut filters = request.query.filters()?;
    if request.version.before(41)
        && let Some(pattern) = request.query.some("filter")
    {
        filters.add("reference", pattern);
    }
    let options = ListOptions {
        all: request.query.flag("all"),
        filters,
        shared_size: !request.version.before(42) && request.query.flag("shared-size"),
        container_count: false,
    };
    let images = request.engine.image_list(options).await?;
    if request.version < Version::LATEST {
        return reply::json(200, &answer::images(&images, request.version)?);
    }
    reply::json(200, &images)
}

async fn search(request: Request) -> Outcome<Reply> {
    let query = &request.query;
    let limit = query.some("limit").map_or(Ok(0), str::parse);
    let options = SearchOptions {
        term: query.get("term").to_owned(),
        limit: limit.map_err(|_| Failure::bad_request(format!("invalid limit specified: {}", query.get("limit"))))?,
        filters: query.filters()?,
        auth: AuthConfig::from_header(request.header(AUTH)).unwrap_or_default(),
    };
    reply::json(200, &request.engine.image_search(options).await?)
}

async fn inspect(request: Request) -> Outcome<Reply> {
    let image = request.engine.image_inspect(&request.name).await?;
    if request.version < Version::LATEST {
        return reply::json(200, &answer::image(&image, request.version)?);
    }
    reply::json(200, &image)
}

async fn history(request: Request) -> Outcome<Reply> {
    reply::json(200, &request.engine.image_history(&request.name).await?)
}

async fn create(request: Request) -> Outcome<Reply> {
    let query = &request.query;
    let platform = query.some("platform").filter(|_| !request.version.before(32)).unwrap_or_default().to_owned();
    if let Some(image) = query.some("fromImage") {
        let options = PullOptions {
            from_image: image.to_owned(),
            tag: query.get("tag").to_owned(),
            platform,
            all_platforms: query.flag("allPlatforms"),
            // Bad credentials are none here: the registry says what it thinks of that.
            auth: AuthConfig::from_header(request.header(AUTH)).unwrap_or_default(),
        };
        return Ok(progress(request.engine.image_pull(options).await?));
    }
    let options = ImportOptions {
        source: query.get("fromSrc").to_owned(),
        repo: query.get("repo").to_owned(),
        tag: query.get("tag").to_owned(),
        message: query.get("message").to_owned(),
        changes: query.all("changes"),
        platform,
    };
    let engine = request.engine.clone();
    Ok(progress(engine.image_import(options, body_pieces(request)).await?))
}

/// Progress as its own lines, which end in `\r\n`.
pub(super) fn progress(lines: ProgressStream) -> Reply {
    reply::stream("application/json", lines.map(|message: Message| Ok(message.to_line().into()))).into()
}

async fn load(request: Request) -> Outcome<Reply> {
    let options =
        LoadOptions { quiet: request.query.flag_or("quiet", true), platform: request.query.get("platform").to_owned() };
    let engine = request.engine.clone();
    Ok(progress(engine.image_load(options, body_pieces(request)).await?))
}

/// Our own: from one registry to another.
async fn copy(request: Request) -> Outcome<Reply> {
    let query = &request.query;
    let options = CopyOptions {
        from: query.get("from").to_owned(),
        to: query.get("to").to_owned(),
        platform: query.get("platform").to_owned(),
        auths: AuthConfig::many_from_header(request.header(AUTHS)).map_err(Failure::bad_request)?,
    };
    Ok(progress(request.engine.image_copy(options).await?))
}

async fn save(request: Request) -> Outcome<Reply> {
    let names = if request.name.is_empty() { request.query.all("names") } else { vec![request.name.clone()] };
    let archive = request.engine.image_save(&names, request.query.get("platform")).await?;
    Ok(reply::stream("application/x-tar", archive).into())
}

/// What a registry has where it has this image: Gantry's own, for `gantry registry serve --from-engine`.
async fn offer(request: Request) -> Outcome<Reply> {
    reply::json(200, &request.engine.image_offer(&request.name).await?)
}

/// A configuration or layer that an offer names.
async fn blob(request: Request) -> Outcome<Reply> {
    let (size, pieces) = request.engine.image_blob(&request.name).await?;
    let response = reply::stream("application/octet-stream", pieces);
    Ok(reply::with_header(response, "content-length", &size.to_string()).into())
}

async fn prune(request: Request) -> Outcome<Reply> {
    reply::json(200, &request.engine.image_prune(&request.query.filters()?).await?)
}

async fn push(mut request: Request) -> Outcome<Reply> {
    let header = request.header(AUTH).to_owned();
    let auth = if header.is_empty() {
        // Credentials came in the body once. dockerd insists on one of the two.
        let body: Option<AuthConfig> = request.json().await.ok();
        body.ok_or_else(|| {
            Failure::bad_request("bad parameters and missing X-Registry-Auth: invalid X-Registry-Auth header: EOF")
        })?
    } else {
        AuthConfig::from_header(&header).unwrap_or_default()
    };
    let options = PushOptions {
        name: request.name.clone(),
        tag: request.query.get("tag").to_owned(),
        platform: request.query.get("platform").to_owned(),
        auth,
    };
    Ok(progress(request.engine.image_push(options).await?))
}

async fn tag(request: Request) -> Outcome<Reply> {
    let query = &request.query;
    request.engine.image_tag(&request.name, query.get("repo"), query.get("tag")).await?;
    Ok(reply::empty(201).into())
}

async fn layers(request: Request) -> Outcome<Reply> {
    reply::json(200, &request.engine.image_layers(&request.name).await?)
}

async fn squash(request: Request) -> Outcome<Reply> {
    let query = &request.query;
    let options = SquashOptions {
        from: query.get("from").to_owned(),
        repo: query.get("repo").to_owned(),
        tag: query.get("tag").to_owned(),
    };
    reply::json(201, &request.engine.image_squash(&request.name, options).await?)
}

async fn pin(request: Request) -> Outcome<Reply> {
    request.engine.image_pin(&request.name, true).await?;
    Ok(reply::empty(204).into())
}

async fn unpin(request: Request) -> Outcome<Reply> {
    request.engine.image_pin(&request.name, false).await?;
    Ok(reply::empty(204).into())
}

async fn remove(request: Request) -> Outcome<Reply> {
    let options = RemoveOptions { force: request.query.flag("force"), no_prune: request.query.flag("noprune") };
    reply::json(200, &request.engine.image_remove(&request.name, options).await?)
}

async fn commit(mut request: Request) -> Outcome<Reply> {
    let config: Option<api::container::Config> = request.json_or_default().await?;
    let query = &request.query;
    let options = CommitOptions {
        container: query.get("container").to_owned(),
        repo: query.get("repo").to_owned(),
        tag: query.get("tag").to_owned(),
        comment: query.get("comment").to_owned(),
        author: query.get("author").to_owned(),
        pause: query.flag_or("pause", true),
        changes: query.all("changes"),
    };
    reply::json(201, &request.engine.commit(options, config).await?)
}

async fn distribution(request: Request) -> Outcome<Reply> {
    // Bad credentials are none here as well.
    let auth = AuthConfig::from_header(request.header(AUTH)).unwrap_or_default();
    reply::json(200, &request.engine.image_distribution(&request.name, &auth).await?)
}
