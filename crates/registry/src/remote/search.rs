//! Looking for repositories by a word: the search of Docker Hub, and of registries that have none.
//!
//! Search belongs to the first version of the protocol, which only Docker Hub still serves. Elsewhere the catalog of the
//! second version is read instead, and the names in it that contain the word are the result.

use oci::reference::{DEFAULT_DOMAIN, Reference};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::endpoint::{Endpoint, Trust};
use super::fetch::next_page;
use super::resolve::Resolver;
use super::transport::{Request, go_json_error, transport};
use super::{Actions, Credentials, Remote};
use crate::Client;
use crate::error::{Error, Result};

/// Where the search of docker.io is.
const INDEX: &str = "https://index.docker.io/v1";
/// Of one answer, in bytes, and pages of a catalog that are read.
const MAX_ANSWER: u64 = 8 << 20;
const MAX_PAGES: usize = 100;

/// A repository that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Hit {
    /// Its name, with the registry unless that is docker.io.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many users like it.
    pub star_count: i64,
    /// It is one of Docker's own.
    pub is_official: bool,
    /// It is built from sources by Docker Hub.
    pub is_automated: bool,
}

impl Client {
    /// Looks for repositories in the registry that the term begins with (`host/word`), or in Docker Hub.
    pub async fn search(&self, term: &str, limit: usize, credentials: &Credentials) -> Result<Vec<Hit>> {
        let (domain, word) = split(term);
        let resolver = Resolver::default();
        let endpoints = if domain == DEFAULT_DOMAIN {
            vec![Endpoint { root: INDEX.to_owned(), ..Endpoint::new("", Trust::Verified) }]
        } else {
            self.endpoints(domain, &resolver, Actions::Pull).await?
        };
        let mut failure = Error::Auth(format!("no endpoints found for {domain}"));
        for endpoint in endpoints {
            match self.search_at(endpoint, &resolver, domain, word, limit, credentials).await {
                Ok(found) => return Ok(found),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn search_at(
        &self,
        mut endpoint: Endpoint,
        resolver: &Resolver,
        domain: &str,
        word: &str,
        limit: usize,
        credentials: &Credentials,
    ) -> Result<Vec<Hit>> {
        let has_catalog = endpoint.root.ends_with("/v2");
        let catalog = endpoint.clone();
        if let Some(base) = endpoint.root.strip_suffix("/v2") {
            endpoint.root = format!("{base}/v1");
        }
        let connect = async |endpoint| {
            let (nowhere, credentials) = ((domain.to_owned(), String::new()), credentials.clone());
            let actions = Actions::Pull;
            Remote::connect(endpoint, &self.options, resolver, &self.connections, nowhere, credentials, actions).await
        };
        let remote = connect(endpoint).await?;
        if let Some(found) = remote.search(word, limit).await? {
            return Ok(found.into_iter().map(|hit| with_domain(hit, domain)).collect());
        }
        if !has_catalog {
            return Err(Error::Setup(format!("the registry {domain} cannot be searched")));
        }
        let remote = connect(catalog).await?;
        let names = remote.catalog(word, limit).await?;
        Ok(names.into_iter().map(|name| with_domain(Hit { name, ..Hit::default() }, domain)).collect())
    }
}

/// `host:5000/word` as the registry and the word, by the rules of references.
fn split(term: &str) -> (&str, &str) {
    let is_domain = |first: &str| first.contains(['.', ':']) || first == "localhost";
    match term.split_once('/') {
        Some(("docker.io" | "index.docker.io", word)) => (DEFAULT_DOMAIN, word),
        Some((first, word)) if is_domain(first) => (first, word),
        // What Docker's own images are called in full.
        Some(("library", word)) => (DEFAULT_DOMAIN, word),
        _ => (DEFAULT_DOMAIN, term),
    }
}

fn with_domain(mut hit: Hit, domain: &str) -> Hit {
    if domain != DEFAULT_DOMAIN && !hit.name.starts_with(&format!("{domain}/")) {
        hit.name = format!("{domain}/{}", hit.name);
    }
    hit
}

impl Remote {
    /// The search of the protocol's first version; None where there is none.
    async fn search(&self, word: &str, limit: usize) -> Result<Option<Vec<Hit>>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            results: Option<Vec<Hit>>,
        }
        let mut url = self.endpoint.url("/search")?;
        url.query_pairs_mut().append_pair("q", word).append_pair("n", &limit.to_string());
        let response = self.send(Request::new(Method::GET, url.clone())).await?;
        if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
            return Ok(None);
        }
        let body = response.success().await?.bytes("search result", MAX_ANSWER).await?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| transport(&Method::GET, &url, &go_json_error(&body, &error), false))?;
        let mut found = answer.results.unwrap_or_default();
        found.truncate(limit);
        Ok(Some(found))
    }

    /// The names in the catalog that contain a word, at most so many.
    async fn catalog(&self, word: &str, limit: usize) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Catalog {
            #[serde(default)]
            repositories: Option<Vec<String>>,
        }
        self.also("registry:catalog:*");
        let mut url = self.endpoint.url("/_catalog")?;
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let response = self.send(Request::new(Method::GET, url.clone())).await?.success().await?;
            let next = next_page(response.header("link")).and_then(|next| url.join(next).ok());
            let body = response.bytes("catalog", MAX_ANSWER).await?;
            let page: Catalog = serde_json::from_slice(&body)
                .map_err(|error| transport(&Method::GET, &url, &go_json_error(&body, &error), false))?;
            let is_name = |name: &String| Reference::parse_normalized(name).is_ok();
            let names = page.repositories.unwrap_or_default().into_iter().filter(is_name);
            found.extend(names.filter(|name| name.contains(word)));
            match next {
                Some(next) if next.origin() == url.origin() && found.len() < limit => url = next,
                _ => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_and_what() {
        for (term, expected) in [
            ("busybox", ("docker.io", "busybox")),
            ("team/tool", ("docker.io", "team/tool")),
            ("library/busybox", ("docker.io", "busybox")),
            ("docker.io/team/tool", ("docker.io", "team/tool")),
            ("localhost/x", ("localhost", "x")),
            ("r.example:5000/a/b", ("r.example:5000", "a/b")),
        ] {
            assert_eq!(split(term), expected, "{term}");
        }
        let named = |name: &str, domain: &str| with_domain(Hit { name: name.into(), ..Hit::default() }, domain).name;
        assert_eq!(named("a", "docker.io"), "a");
        assert_eq!(named("a", "r:1"), "r:1/a");
        assert_eq!(named("r:1/a", "r:1"), "r:1/a");
    }
}
