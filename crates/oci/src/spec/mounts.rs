//! Root file system and mounts (runtime specification, config.md#root and #mounts).

use super::IdMapping;
use super::{Other, is_false};
use serde::{Deserialize, Serialize};

/// The root file system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: String,
    /// Mounted read-only.
    #[serde(skip_serializing_if = "is_false")]
    pub readonly: bool,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// A mount inside the container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Absolute path inside.
    pub destination: String,
    /// File system type, or `bind`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Options of mount(8) and some of runtimes.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub options: Vec<String>,
    /// Maps of user ids, for an id-mapped mount.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub uid_mappings: Vec<IdMapping>,
    /// Maps of group ids.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub gid_mappings: Vec<IdMapping>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}
