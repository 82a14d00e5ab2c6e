//! Engine API types at the latest version, stream framing, and what older versions differ in.
//!
//! The types are those of the Engine API document 1.50, one Rust module per resource. They say **exactly** what dockerd
//! says: a field that Go writes as `null` when nothing was given is an `Option` here, one that it leaves out is skipped
//! when empty, and one that it always writes as a list is a plain `Vec`.
//!
//! Reading is as forgiving as Go's `encoding/json`, which clients rely on (`null` for any field, unknown fields, keys in
//! another case): use [`json::from_slice`] and friends for what comes from outside, and plain `serde_json` for what this
//! program wrote itself.
//!
//! | module | resource |
//! |---|---|
//! | [`container`], [`exec`] | containers and processes started in them |
//! | [`image`], [`progress`] | images, and the messages of pull, push and import |
//! | [`network`], [`volume`] | what containers are attached to |
//! | [`system`], [`event`], [`auth`] | the engine itself |
//! | [`stream`] | framing of stdout and stderr in one stream |
//! | [`filters`] | the `filters` query parameter |
//! | [`error`], [`version`], [`json`], [`time`] | what every request shares |

pub mod auth;
pub mod beyond;
pub mod container;
pub mod error;
pub mod event;
pub mod exec;
pub mod filters;
pub mod image;
pub mod json;
pub mod network;
pub mod progress;
pub mod stream;
pub mod system;
pub mod time;
pub mod version;
pub mod volume;

pub use error::ApiError;
pub use filters::Filters;
pub use version::Version;
