//! Which handler serves which address: `/vVERSION` is taken off, then the first route of the table that fits wins.
//!
//! A route's pattern is literal but for one placeholder: `{id}` is one segment, `{name}` may hold slashes (image names do).

use api::Version;
use futures_util::future::BoxFuture;
use hyper::Method;
use percent_encoding::percent_decode_str;

use crate::failure::{Failure, Outcome};
use crate::reply::Reply;
use crate::request::Request;

/// What serves a route.
pub(crate) type Handler = fn(Request) -> BoxFuture<'static, Outcome<Reply>>;

/// One line of the table.
pub(crate) struct Route {
    method: Method,
    pattern: &'static str,
    handler: Handler,
}

impl Route {
    pub(crate) const fn new(method: Method, pattern: &'static str, handler: Handler) -> Self {
        Self { method, pattern, handler }
    }
}

/// A table of routes: `GET "/path" => handler`. Handlers are `async fn(Request) -> Outcome<Reply>`.
macro_rules! routes {
    ($($method:ident $pattern:literal => $handler:path),* $(,)?) => {
        &[$($crate::router::Route::new(hyper::Method::$method, $pattern, |request| Box::pin($handler(request)))),*]
    };
}
pub(crate) use routes;

/// Where a request goes.
pub(crate) struct Target {
    /// Its version, or the latest.
    pub(crate) version: Version,
    /// What the placeholder stands for.
    pub(crate) name: String,
    /// Who serves it.
    pub(crate) handler: Handler,
}

/// Why there is no target.
pub(crate) enum Miss {
    /// The path has empty or dotted segments: go here instead.
    Redirect(String),
    /// Nobody serves it, or not for this version.
    Failed(Failure),
}

/// Finds the handler for a path.
pub(crate) fn find(tables: &[&'static [Route]], method: &Method, path: &str) -> Result<Target, Miss> {
    let clean = cleaned(path);
    if clean != path {
        return Err(Miss::Redirect(clean));
    }
    let (version, rest) = match split_version(path) {
        Some((version, rest)) => (version, rest),
        None => (None, path),
    };
    let routes = tables.iter().flat_map(|table| table.iter());
    let found = routes.filter(|route| route.method == *method).find_map(|route| {
        let name = fit(route.pattern, rest)?;
        Some((name, route.handler))
    });
    let Some((name, handler)) = found else { return Err(Miss::Failed(Failure::page_not_found())) };
    let version = version.map_or(Ok(Version::LATEST), check_version).map_err(Miss::Failed)?;
    Ok(Target { version, name, handler })
}

/// The version in a path, as text, and what follows it.
fn split_version(path: &str) -> Option<(Option<&str>, &str)> {
    let (version, _) = path.strip_prefix("/v")?.split_once('/')?;
    let numeric = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    numeric.then(|| (Some(version), &path[2 + version.len()..]))
}

/// Refuses versions that are not served, in dockerd's words.
fn check_version(text: &str) -> Outcome<Version> {
    // `1` and `1.2.3` are no versions of the API; Go compares them as 1.0 and 1.2.
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    let version = Version::new(parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < Version::OLDEST {
        return Err(Failure::bad_request(format!(
            "client version {text} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            Version::OLDEST
        )));
    }
    if version > Version::LATEST {
        return Err(Failure::bad_request(format!(
            "client version {text} is too new. Maximum supported API version is {}",
            Version::LATEST
        )));
    }
    Ok(version)
}

/// What a pattern's placeholder stands for in a path; empty for a pattern without one.
fn fit(pattern: &str, path: &str) -> Option<String> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return (pattern == path || path.strip_suffix('/') == Some(pattern)).then(String::new);
    };
    let (placeholder, after) = rest.split_once('}')?;
    let middle = path.strip_prefix(before)?.strip_suffix(after)?;
    let many = placeholder == "name";
    if middle.is_empty() || (!many && middle.contains('/')) {
        return None;
    }
    Some(percent_decode_str(middle).decode_utf8_lossy().into_owned())
}

/// A path without empty and dotted segments, as dockerd's router wants it.
fn cleaned(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    let slash = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{slash}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_paths() {
        assert_eq!(fit("/containers/{id}/json", "/containers/a%2Fb/json").as_deref(), Some("a/b"));
        assert_eq!(fit("/containers/{id}/json", "/containers/a/b/json"), None);
        assert_eq!(
            fit("/images/{name}/json", "/images/localhost:5000/a/b/json").as_deref(),
            Some("localhost:5000/a/b")
        );
        assert_eq!(fit("/images/{name}/json", "/images/json"), None);
        assert_eq!(fit("/networks", "/networks/").as_deref(), Some(""));
        assert_eq!(fit("/info", "/infos"), None);
    }

    #[test]
    fn versions_are_split_off_and_checked() {
        assert_eq!(split_version("/v1.45/info"), Some((Some("1.45"), "/info")));
        assert_eq!(split_version("/v1.x/info"), None);
        assert_eq!(split_version("/version"), None);
        let message = |text| check_version(text).unwrap_err().message;
        assert_eq!(message("1.99"), "client version 1.99 is too new. Maximum supported API version is 1.50");
        assert!(message("1.9").starts_with("client version 1.9 is too old. Minimum supported API version is 1.24,"));
        assert_eq!(check_version("1.24").unwrap(), Version::OLDEST);
    }

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(cleaned("/containers//x/json"), "/containers/x/json");
        assert_eq!(cleaned("/a/../b/./c/"), "/b/c/");
        assert_eq!(cleaned("/"), "/");
    }
}
