//! The runtime specification 1.2 as types: a bundle's `config.json`, and the state that a runtime reports.
//!
//! One Rust field for each field of the JSON schema, absent fields as `None` or empty, and `null` read as absent, as
//! Go programs write it. What a newer version adds is kept in `other`, so that a config can be read and written again.

pub mod features;
mod hooks;
mod linux;
mod mounts;
mod process;
mod seccomp;

pub use features::Features;
pub use hooks::*;
pub use linux::*;
pub use mounts::*;
pub use process::*;
pub use seccomp::*;

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The version that this module describes.
pub const VERSION: &str = "1.2.1";

/// Fields that are not known here.
pub type Other = BTreeMap<String, serde_json::Value>;

/// A bundle's `config.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Version of the specification that it follows.
    pub oci_version: String,
    /// Root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// NIS domain name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Mounts, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub mounts: Vec<Mount>,
    /// Hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Anything, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
    /// What is particular to Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// What a runtime says of a container (runtime.md, State).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Version of the specification.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// Where in its life it is.
    pub status: Status,
    /// Its first process as the host sees it; none when stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Absolute path of its bundle.
    pub bundle: String,
    /// Annotations of its config.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Namespaces and mounts are being made.
    Creating,
    /// Everything is made, the program is not executed yet.
    Created,
    /// The program runs.
    Running,
    /// Frozen. Not of the specification; runc says it.
    Paused,
    /// The first process is gone.
    #[default]
    Stopped,
}

impl Status {
    /// The word of the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Spec {
    /// The namespace of a kind, when the container has one of its own or joins one.
    pub fn namespace(&self, kind: &str) -> Option<&Namespace> {
        self.linux.as_ref()?.namespaces.iter().find(|n| n.kind == kind)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Go writes an empty list or map as `null`.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_unknown_fields_survive() {
        let text = r#"{"ociVersion":"1.2.0","process":{"user":{"uid":1,"gid":2},"args":["a"],"env":null,"cwd":"/","new":[1]},
            "linux":{"resources":{"blockIO":{"throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":5}]}},"future":{"a":1}}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        let linux = spec.linux.as_ref().unwrap();
        let io = linux.resources.as_ref().unwrap().block_io.as_ref().unwrap();
        assert_eq!(io.throttle_read_iops_device[0].rate, 5);
        let again: serde_json::Value = serde_json::to_value(&spec).unwrap();
        assert_eq!(again["linux"]["future"]["a"], 1);
        assert_eq!(again["process"]["new"][0], 1);
        assert!(again["process"].get("env").is_none());
    }
}
