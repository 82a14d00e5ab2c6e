//! Files in and out of containers: archive (cp), export, changes.

use base64::Engine as _;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::BodyStream;

use crate::failure::{Failure, Outcome};
use crate::reply::{self, Reply, with_header};
use crate::request::Request;
use crate::router::{Route, routes};

pub(super) const ROUTES: &[Route] = routes! {
    HEAD "/containers/{id}/archive" => stat,
    GET "/containers/{id}/archive" => get,
    PUT "/containers/{id}/archive" => put,
    GET "/containers/{id}/export" => export,
    GET "/containers/{id}/changes" => changes,
};

/// Header with the base64 of [`api::container::PathStat`] as JSON.
const STAT: &str = "x-docker-container-path-stat";

fn path(request: &Request) -> Outcome<&str> {
    // The missing space is dockerd's.
    request.query.some("path").ok_or_else(|| Failure::bad_request("bad parameter: pathcannot be empty"))
}

fn stat_header(stat: &api::container::PathStat) -> Outcome<String> {
    let text = serde_json::to_vec(stat).map_err(|error| Failure::new(500, error.to_string()))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(text))
}

async fn stat(request: Request) -> Outcome<Reply> {
    let stat = request.engine.archive_stat(&request.name, path(&request)?).await?;
    Ok(with_header(reply::empty(200), STAT, &stat_header(&stat)?).into())
}

async fn get(request: Request) -> Outcome<Reply> {
    let (stat, archive) = request.engine.archive_get(&request.name, path(&request)?).await?;
    let response = reply::stream("application/x-tar", archive);
    Ok(with_header(response, STAT, &stat_header(&stat)?).into())
}

async fn put(request: Request) -> Outcome<Reply> {
    let path = path(&request)?.to_owned();
    let options = engine::ArchivePutOptions {
        no_overwrite_dir_non_dir: request.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: request.query.flag("copyUIDGID"),
    };
    let (engine, name) = (request.engine.clone(), request.name.clone());
    engine.archive_put(&name, &path, options, body_pieces(request)).await?;
    Ok(reply::empty(200).into())
}

async fn export(request: Request) -> Outcome<Reply> {
    let archive = request.engine.container_export(&request.name).await?;
    Ok(reply::stream("application/octet-stream", archive).into())
}

async fn changes(request: Request) -> Outcome<Reply> {
    let changes = request.engine.container_changes(&request.name).await?;
    // No change at all is `null`, not an empty list.
    reply::json(200, &Some(changes).filter(|changes| !changes.is_empty()))
}

/// The body of a request as a stream of its bytes.
pub(super) fn body_pieces(request: Request) -> BoxStream<'static, std::io::Result<bytes::Bytes>> {
    let frames = BodyStream::new(request.into_body());
    let pieces = frames.filter_map(|frame| async {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(std::io::Error::other(error))),
        }
    });
    pieces.boxed()
}
