//! What a repository has: manifests, blobs and tags.

use oci::digest::Digest;
use oci::{manifest, media_type};
use reqwest::header::{ACCEPT, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::transport::{Request, Response, go_json_error, transport};
use super::{Remote, retry};
use crate::error::{Error, Result};

/// Of an image configuration, in bytes.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;
/// Of the list of tags, in bytes and pages.
const MAX_TAGS: u64 = 8 << 20;
const MAX_TAG_PAGES: usize = 1000;

/// A manifest or index as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

/// A blob, or its rest, that is on its way.
pub(crate) struct Body {
    pub(crate) response: Response,
    /// Where in the blob it begins: not behind what was asked for, and before it if the registry knows no ranges.
    pub(crate) start: u64,
}

impl Remote {
    /// The digest of a tag, without its manifest; none when the registry does not say.
    pub(crate) async fn digest_of(&self, tag: &str) -> Result<Option<Digest>> {
        let request = accepting(Request::new(Method::HEAD, self.repository_url(&format!("manifests/{tag}"))?)).single();
        let response = self.send(request).await?;
        let digest = response.header("docker-content-digest").parse().ok();
        Ok(digest.filter(|_| response.status().is_success()))
    }

    /// Is this manifest in the repository?
    pub(crate) async fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        let request = accepting(Request::new(Method::HEAD, self.repository_url(&format!("manifests/{digest}"))?));
        Ok(self.send(request).await?.status().is_success())
    }

    /// A manifest or index by tag or digest, verified against the digest (or the one that the registry names).
    ///
    /// By a tag, which is how most operations begin, a failure is told at once, as Docker does.
    pub(crate) async fn manifest(&self, tag: &str, expected: Option<&Digest>) -> Result<Fetched> {
        let mut attempt = 1;
        loop {
            let error = match self.try_manifest(tag, expected).await {
                // A request that fails is tried again where it is sent.
                Err(error @ Error::Body(_)) if expected.is_some() && attempt < self.options.attempts => error,
                done => return done,
            };
            tracing::info!(%error, "document broke off");
            tokio::time::sleep(retry::delay(&self.options, attempt)).await;
            attempt += 1;
        }
    }

    async fn try_manifest(&self, tag: &str, expected: Option<&Digest>) -> Result<Fetched> {
        let name = expected.map_or(tag, Digest::as_str);
        let mut request = accepting(Request::new(Method::GET, self.repository_url(&format!("manifests/{name}"))?));
        request.is_single = expected.is_none();
        // Failures to reach the registry are told of the request that Docker makes first.
        let response = self.send(request).await.map_err(|error| as_head(error, expected.is_none()))?;
        let response = response.success().await?;
        let media_type = response.header("content-type").to_owned();
        let named: Option<Digest> = response.header("docker-content-digest").parse().ok();
        let bytes = response.bytes("manifest", manifest::MAX_SIZE as u64).await?;
        if let Some(expected) = expected.or(named.as_ref())
            && !expected.verifies(&bytes)
        {
            return Err(Error::ManifestDigest(expected.clone()));
        }
        let digest = expected.cloned().or(named).unwrap_or_else(|| Digest::of(&bytes));
        Ok(Fetched { media_type, digest, bytes })
    }

    /// A blob of this length from this byte on.
    pub(crate) async fn blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Body> {
        // Whoever wants a blob goes on where it ended.
        let mut request = Request::new(Method::GET, self.repository_url(&format!("blobs/{digest}"))?).single();
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-")).map_err(|_| Error::Task)?;
            request = request.header(RANGE, range);
        }
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Err(Error::UnknownBlob),
            StatusCode::PARTIAL_CONTENT => {
                // Without this header a registry means what it was asked for.
                let start = match response.header("content-range") {
                    "" => offset,
                    text => {
                        ContentRange::parse(text)
                            .filter(|range| range.start <= offset && range.total.is_none_or(|total| total == size))
                            .ok_or_else(|| Error::Range { digest: digest.clone(), offset, answer: text.to_owned() })?
                            .start
                    }
                };
                Ok(Body { response, start })
            }
            _ => Ok(Body { response: response.success().await?, start: 0 }),
        }
    }

    /// All tags of the repository.
    pub(crate) async fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut url = self.repository_url("tags/list")?;
        let mut found = Vec::new();
        for _ in 0..MAX_TAG_PAGES {
            let response = self.send(Request::new(Method::GET, url.clone())).await?.success().await?;
            let next = next_page(response.header("link")).and_then(|next| url.join(next).ok());
            let body = response.bytes("list of tags", MAX_TAGS).await?;
            let page: Tags = serde_json::from_slice(&body)
                .map_err(|error| transport(&Method::GET, &url, &go_json_error(&body, &error), false))?;
            found.extend(page.tags.unwrap_or_default().into_iter().filter(|tag| oci::reference::is_tag(tag)));
            match next {
                Some(next) if next.origin() == url.origin() => url = next,
                _ => break,
            }
        }
        Ok(found)
    }
}

/// `bytes 100-199/200`, `bytes 100-199/*` (RFC 9110, section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) start: u64,
    /// Length of the whole, if that is known.
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    /// None for what is no range, or none of bytes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let (start, end): (u64, u64) = (number(start)?, number(end)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        (start <= end && total.is_none_or(|total| end < total)).then_some(Self { start, total })
    }
}

/// Digits alone: Rust's own parser would take a sign as well.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `</v2/a/tags/list?last=b&n=1>; rel="next"`
pub(super) fn next_page(link: &str) -> Option<&str> {
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    parameters.contains("rel=\"next\"").then_some(target)
}

/// All types that we can read, the preferred first.
fn accepting(mut request: Request) -> Request {
    for media_type in media_type::MANIFESTS {
        request = request.header(ACCEPT, HeaderValue::from_static(media_type));
    }
    request
}

fn as_head(error: Error, applies: bool) -> Error {
    match error {
        Error::Transport { url, problem, transient, .. } if applies => {
            Error::Transport { method: "Head".into(), url, problem, transient }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range = |start, total| Some(ContentRange { start, total });
        for (text, expected) in [
            ("bytes 100-199/200", range(100, Some(200))),
            ("bytes 0-0/*", range(0, None)),
            ("bytes 100-99/200", None),
            ("bytes 100-200/200", None),
            ("bytes +1-2/3", None),
            ("bytes 1-2", None),
            ("bytes */200", None),
            ("lines 1-2/3", None),
            ("bytes 99999999999999999999-2/3", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text), expected, "{text}");
        }
    }
}
