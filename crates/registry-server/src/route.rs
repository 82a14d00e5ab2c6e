//! What a request is about: its path, taken apart.
//!
//! Names of repositories contain slashes, so paths are read from their ends: `/v2/<name>/blobs/<digest>`. Where both
//! readings are possible (a repository called `a/blobs/b`), the last one wins, as in the reference registry.

use hyper::Method;
use oci::digest::{Digest, DigestError};
use oci::reference;
use percent_encoding::percent_decode_str;

use crate::failure::{Code, Failure, Result};
use crate::name::Name;
use crate::storage::layout;

/// A tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Tag(String),
    Digest(Digest),
}

/// A path of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`: is this a registry, and may I?
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(Name),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(Name, Target),
    /// `/v2/<name>/blobs/<digest>`
    Blob(Name, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(Name),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(Name, String),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(Name, Digest),
    /// `/token`
    Token,
    /// `/metrics`
    Metrics,
}

impl Route {
    /// Reads a path that is asked for by this method; None for one that no registry has.
    pub(crate) fn parse(method: &Method, path: &str) -> Result<Option<Self>> {
        match path {
            "/v2" | "/v2/" => return Ok(Some(Self::Base)),
            "/v2/_catalog" => return Ok(Some(Self::Catalog)),
            "/token" => return Ok(Some(Self::Token)),
            "/metrics" => return Ok(Some(Self::Metrics)),
            _ => {}
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return Ok(None) };
        // What stands at the end may be encoded as in a query: `sha256%3A…`.
        let end = rest.rsplit('/').next().unwrap_or_default();
        let decoded = percent_decode_str(end).decode_utf8().unwrap_or(end.into());
        let mut parts: Vec<&str> = rest.split('/').collect();
        parts.pop();
        parts.push(&decoded);
        let route = match parts[..] {
            [ref name @ .., "tags", "list"] => Self::Tags(self::name(name)?),
            [ref name @ .., "manifests", target] => Self::Manifest(self::name(name)?, self::target(method, target)?),
            [ref name @ .., "blobs", "uploads"] | [ref name @ .., "blobs", "uploads", ""] => {
                Self::Uploads(self::name(name)?)
            }
            [ref name @ .., "blobs", "uploads", id] => {
                let name = self::name(name)?;
                if !layout::is_id(id) {
                    return Err(Code::BlobUploadUnknown.into());
                }
                Self::Upload(name, id.to_owned())
            }
            [ref name @ .., "blobs", digest] => Self::Blob(self::name(name)?, self::digest(digest)?),
            [ref name @ .., "referrers", digest] => Self::Referrers(self::name(name)?, self::digest(digest)?),
            _ => return Ok(None),
        };
        Ok(Some(route))
    }

    /// The methods that it has.
    pub(crate) fn methods(&self) -> &'static [Method] {
        match self {
            Self::Base | Self::Catalog | Self::Tags(_) | Self::Referrers(..) | Self::Metrics => {
                &[Method::GET, Method::HEAD]
            }
            Self::Manifest(..) => &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
            Self::Blob(..) => &[Method::GET, Method::HEAD, Method::DELETE],
            Self::Uploads(_) => &[Method::POST],
            Self::Upload(..) => &[Method::GET, Method::PATCH, Method::PUT, Method::DELETE],
            Self::Token => &[Method::GET, Method::POST],
        }
    }

    /// Its word in metrics and in the access log.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags(_) => "tags",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Uploads(_) | Self::Upload(..) => "upload",
            Self::Referrers(..) => "referrers",
            Self::Token => "token",
            Self::Metrics => "metrics",
        }
    }

    /// The repository that it is in.
    pub(crate) fn repository(&self) -> Option<&Name> {
        match self {
            Self::Base | Self::Catalog | Self::Token | Self::Metrics => None,
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
        }
    }
}

fn name(parts: &[&str]) -> Result<Name> {
    let text = parts.join("/");
    Name::parse(&text).ok_or_else(|| Failure::new(Code::NameInvalid).detail(text.into()))
}

/// A digest of an algorithm that content may have here.
pub(crate) fn digest(text: &str) -> Result<Digest> {
    let digest = text
        .parse::<Digest>()
        .and_then(|digest| if layout::is_supported(&digest) { Ok(digest) } else { Err(DigestError::Unsupported) });
    digest.map_err(|error| Failure::new(Code::DigestInvalid).because(format!("{error}: {text}")))
}

fn target(method: &Method, text: &str) -> Result<Target> {
    if text.contains(':') {
        return digest(text).map(Target::Digest);
    }
    if !reference::is_tag(text) {
        // What cannot be there is not there.
        let code = if *method == Method::PUT { Code::ManifestInvalid } else { Code::ManifestUnknown };
        return Err(Failure::new(code).because("this is not a valid tag").detail(text.into()));
    }
    Ok(Target::Tag(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let of = |path: &str| Route::parse(&Method::GET, path).map_err(|failure| failure.code);
        let name = |text: &str| Name::parse(text).unwrap();
        let digest = Digest::of(b"x");
        assert_eq!(of("/v2/"), Ok(Some(Route::Base)));
        assert_eq!(of("/v2/a/b/tags/list"), Ok(Some(Route::Tags(name("a/b")))));
        assert_eq!(of(&format!("/v2/a/blobs/{digest}")), Ok(Some(Route::Blob(name("a"), digest.clone()))));
        let encoded = digest.as_str().replace(':', "%3a");
        assert_eq!(of(&format!("/v2/a/blobs/{encoded}")), Ok(Some(Route::Blob(name("a"), digest))));
        assert_eq!(of("/v2/a/blobs/b/blobs/uploads/"), Ok(Some(Route::Uploads(name("a/blobs/b")))));
        assert_eq!(of("/v2/a/manifests/v1"), Ok(Some(Route::Manifest(name("a"), Target::Tag("v1".into())))));
        for (path, code) in [
            ("/v2/A/tags/list", Code::NameInvalid),
            ("/v2//tags/list", Code::NameInvalid),
            ("/v2/a/../b/tags/list", Code::NameInvalid),
            ("/v2/a/manifests/.x", Code::ManifestUnknown),
            ("/v2/a/manifests/a%2Fb", Code::ManifestUnknown),
            ("/v2/a/manifests/%ff", Code::ManifestUnknown),
            ("/v2/a%2Fb/tags/list", Code::NameInvalid),
            ("/v2/a/manifests/sha256:xyz", Code::DigestInvalid),
            ("/v2/a/blobs/sha256:xyz", Code::DigestInvalid),
            ("/v2/a/blobs/uploads/x", Code::BlobUploadUnknown),
        ] {
            assert_eq!(of(path), Err(code), "{path}");
        }
        assert_eq!(of("/v2/a"), Ok(None));
        assert_eq!(of("/"), Ok(None));
    }
}
