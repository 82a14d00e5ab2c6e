//! Hooks (runtime specification, config.md#posix-platform-hooks).

use super::Other;
use serde::{Deserialize, Serialize};

/// Programs that run at points of the container's life.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Obsolete: after the namespaces are made, before pivot_root.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub prestart: Vec<Hook>,
    /// After the namespaces are made, in the runtime's namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub create_runtime: Vec<Hook>,
    /// The same, in the container's namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub create_container: Vec<Hook>,
    /// Before the program starts, in the container.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub start_container: Vec<Hook>,
    /// After it started.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub poststart: Vec<Hook>,
    /// After the container was deleted.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub poststop: Vec<Hook>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// One program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hook {
    /// Absolute path.
    pub path: String,
    /// Arguments with the zeroth.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub args: Vec<String>,
    /// Its whole environment.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub env: Vec<String>,
    /// Seconds that it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}
