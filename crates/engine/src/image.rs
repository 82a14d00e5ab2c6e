//! Images as the Engine API sees them, over `store` (what is here) and `registry` (what is elsewhere).
//!
//! ```text
//! image_list(ListOptions) -> Vec<Summary>            image_inspect(name) -> InspectResponse
//! image_history(name) -> Vec<HistoryItem>            image_tag(name, repo, tag)
//! image_remove(name, RemoveOptions) -> Vec<DeleteItem>
//! image_prune(&Filters) -> PruneResponse
//! image_pull(PullOptions) -> ProgressStream          POST /images/create?fromImage=
//! image_import(ImportOptions, body) -> ProgressStream    POST /images/create?fromSrc=
//! image_push(PushOptions) -> ProgressStream          POST /images/NAME/push
//! image_copy(CopyOptions) -> ProgressStream          POST /images/copy (our own)
//! image_load(LoadOptions, body) -> ProgressStream    POST /images/load
//! image_save(&[names], platform) -> ArchiveStream    GET /images/get, /images/NAME/get
//! commit(CommitOptions, Option<container::Config>) -> CommitResponse
//! image_search(SearchOptions) -> Vec<SearchResult>   GET /images/search
//! registry_auth(AuthConfig) -> AuthResponse          POST /auth
//! ```
//!
//! An `Err` of a method that returns a stream is known before the first line was written: it is an HTTP status. What goes
//! wrong later is the last line of the stream ([`api::progress::Message::failure`]). A stream that is dropped cancels the work.
//!
//! A `body` is any `Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static`.

mod changes;
mod commit;
mod copy;
mod distribution;
pub mod hello;
mod import;
mod inspect;
mod layers;
mod list;
mod load;
mod offer;
mod pattern;
mod progress;
mod pull;
mod push;
mod remove;
mod save;
mod search;
mod squash;
mod upload;
mod verify;
mod words;

use std::collections::BTreeMap;

use api::Filters;
use api::auth::AuthConfig;
use oci::Platform;

use crate::error::{Error, Result};

pub use progress::ProgressStream;
pub use save::ArchiveStream;
pub use search::SearchOptions;
pub use squash::SquashOptions;

/// The platform that newer endpoints take as JSON (`{"os":"linux","architecture":"arm64"}`); empty is none.
fn platform_of(json: &str) -> Result<Option<Platform>> {
    if json.is_empty() {
        return Ok(None);
    }
    let platform: Platform =
        serde_json::from_str(json).map_err(|error| Error::invalid(format!("failed to parse platform: {error}")))?;
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(Error::invalid("both OS and Architecture must be provided"));
    }
    // The same names for the same things as on the command line.
    Platform::parse(&platform.to_string()).map(Some).map_err(|error| Error::invalid(error.to_string()))
}

/// `GET /images/json`.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Also images that are only steps on the way to others.
    pub all: bool,
    /// `dangling`, `label`, `label!`, `reference`, `before`, `since`, `until`.
    pub filters: Filters,
    /// Compute `SharedSize`.
    pub shared_size: bool,
    /// Count `Containers` (`docker system df` does; the list does not).
    pub container_count: bool,
}

/// `DELETE /images/NAME`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// In spite of stopped containers and several names.
    pub force: bool,
    /// Keep untagged parents.
    pub no_prune: bool,
}

/// `POST /images/create?fromImage=…`, the header `X-Registry-Auth`.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// `fromImage`.
    pub from_image: String,
    /// `tag`: a tag or a digest. Empty, with no tag in `from_image`: all tags.
    pub tag: String,
    /// `platform`, e.g. `linux/arm64`; empty is this machine's.
    pub platform: String,
    /// `allPlatforms`, our own: keep the images for all others as well, so that a push sends the index whole.
    pub all_platforms: bool,
    /// Credentials; empty when there was no header.
    pub auth: AuthConfig,
}

/// `POST /images/copy`, the header `X-Registry-Config`.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// `from`: a name in a registry.
    pub from: String,
    /// `to`: another one; without tag or digest it is called like the first.
    pub to: String,
    /// `platform`, e.g. `linux/arm64`; empty is everything that the name stands for.
    pub platform: String,
    /// Credentials by registry.
    pub auths: BTreeMap<String, AuthConfig>,
}

/// `POST /images/NAME/push`, the header `X-Registry-Auth`.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// The repository.
    pub name: String,
    /// `tag`; empty, with no tag in the name: all tags.
    pub tag: String,
    /// `platform` (JSON, since 1.46). Empty is none.
    pub platform: String,
    /// Credentials.
    pub auth: AuthConfig,
}

/// `POST /images/create?fromSrc=…`.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// `fromSrc`: `-` for the body; a URL is fetched.
    pub source: String,
    /// `repo`; empty: no name.
    pub repo: String,
    /// `tag`.
    pub tag: String,
    /// `message`.
    pub message: String,
    /// `changes`, each one instruction.
    pub changes: Vec<String>,
    /// `platform`.
    pub platform: String,
}

/// `POST /images/load`.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `quiet`: no progress bars.
    pub quiet: bool,
    /// `platform` (JSON, since 1.48). Empty is all.
    pub platform: String,
}

/// `POST /commit`.
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// `container`.
    pub container: String,
    /// `repo`; empty: no name.
    pub repo: String,
    /// `tag`.
    pub tag: String,
    /// `comment`.
    pub comment: String,
    /// `author`.
    pub author: String,
    /// `pause`: freeze the container meanwhile. True unless said otherwise.
    pub pause: bool,
    /// `changes`, each one instruction.
    pub changes: Vec<String>,
}
