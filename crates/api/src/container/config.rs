//! The portable half of a container: what an image can also carry.
#![allow(missing_docs)] // the fields are those of the Engine API document's `ContainerConfig`

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::json::is_default;

/// The value of set-like maps (`"80/tcp": {}`): Go's `struct{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EmptyObject {}

/// `ContainerConfig`: what runs, as whom, where, with what environment.
///
/// `cmd`, `entrypoint` and `shell` also accept a bare string, as Go's `strslice` does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, EmptyObject>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    /// `NAME=value`; a bare `NAME` removes the image's variable.
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "crate::json::string_or_list")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    pub image: String,
    pub volumes: Option<BTreeMap<String, EmptyObject>>,
    pub working_dir: String,
    /// `Some([])` and `Some([""])` ask for no entry point at all, `None` for the image's.
    #[serde(deserialize_with = "crate::json::string_or_list")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_default")]
    pub network_disabled: bool,
    /// Written by clients older than 1.44; newer ones name it in the endpoint's settings.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds between the stop signal and SIGKILL; negative: no SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::string_or_list")]
    pub shell: Option<Vec<String>>,
}

/// `HealthConfig`: durations in nanoseconds, 0 inherits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `[]` inherits, `["NONE"]` disables, `["CMD", …]` executes, `["CMD-SHELL", line]` runs a shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_default")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub retries: i64,
}
