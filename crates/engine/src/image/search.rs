//! `docker search`.

use api::Filters;
use api::auth::AuthConfig;
use api::image::SearchResult;
use registry::Hit;

use super::progress::failure;
use super::pull::credentials;
use crate::engine::Engine;
use crate::error::{Error, Result};

const FILTERS: [&str; 3] = ["is-automated", "is-official", "stars"];
/// Without a limit.
const DEFAULT_LIMIT: i64 = 25;
const MAX_LIMIT: i64 = 100;

/// `GET /images/search`.
#[derive(Debug, Clone, Default)]
pub struct SearchOptions {
    /// `term`: a word, or a registry and a word.
    pub term: String,
    /// `limit`; 0 is 25.
    pub limit: i64,
    /// `is-automated`, `is-official`, `stars`.
    pub filters: Filters,
    /// Credentials.
    pub auth: AuthConfig,
}

impl Engine {
    /// Looks for repositories in a registry.
    pub async fn image_search(&self, options: SearchOptions) -> Result<Vec<SearchResult>> {
        let SearchOptions { term, limit, filters, auth } = options;
        filters.validate(&FILTERS).map_err(|error| Error::invalid(error.message))?;
        let flag = |name| filters.flag(name).map_err(|error| Error::invalid(error.message));
        // There are none any more.
        if flag("is-automated")? == Some(true) {
            return Ok(Vec::new());
        }
        let (is_official, stars) = (flag("is-official")?, stars(&filters)?);
        if term.contains("://") {
            let text = format!("invalid repository name: repository name ({term}) should not have a scheme");
            return Err(Error::invalid(text));
        }
        let limit = if limit == 0 { DEFAULT_LIMIT } else { limit };
        let count = usize::try_from(limit).ok().filter(|_| (1..=MAX_LIMIT).contains(&limit));
        let count =
            count.ok_or_else(|| Error::invalid(format!("limit {limit} is outside the range of [1, {MAX_LIMIT}]")))?;
        let found = self.registry.search(&term, count, &credentials(&auth)).await.map_err(failure)?;
        let is_wanted =
            |hit: &Hit| is_official.is_none_or(|wanted| hit.is_official == wanted) && hit.star_count >= stars;
        Ok(found.into_iter().filter(is_wanted).map(result).collect())
    }
}

/// The highest number of stars that is asked for.
fn stars(filters: &Filters) -> Result<i64> {
    let mut most = 0;
    for text in filters.get("stars") {
        let stars: i64 = text.parse().map_err(|_| {
            Error::invalid(format!("invalid filter 'stars={text}': strconv.Atoi: parsing {text:?}: invalid syntax"))
        })?;
        most = most.max(stars);
    }
    Ok(most)
}

fn result(hit: Hit) -> SearchResult {
    let Hit { name, description, star_count, is_official, .. } = hit;
    SearchResult { star_count, is_official, name, is_automated: false, description }
}
