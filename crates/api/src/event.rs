//! What happened, and to what.
#![allow(missing_docs)] // the fields are those of the Engine API document's `EventMessage`

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::json::is_default;

/// One event. `status`, `id` and `from` repeat action, actor and image for containers and images, as clients of 1.21 expect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`, `daemon`, …
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local` or `swarm`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "is_default")]
    pub time: i64,
    #[serde(rename = "timeNano", skip_serializing_if = "is_default")]
    pub time_nano: i64,
}

/// What an event happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}
