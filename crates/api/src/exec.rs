//! Processes started in a running container.
#![allow(missing_docs)] // the fields are those of the Engine API document

use serde::{Deserialize, Serialize};

use crate::json::is_default;

/// Body of `POST /containers/ID/exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateRequest {
    pub user: String,
    pub privileged: bool,
    pub tty: bool,
    /// Height and width.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::optional_pair")]
    pub console_size: Option<[u64; 2]>,
    pub attach_stdin: bool,
    pub attach_stderr: bool,
    pub attach_stdout: bool,
    /// Sent by clients older than 1.42; start decides.
    #[serde(skip_serializing_if = "is_default")]
    pub detach: bool,
    pub detach_keys: String,
    pub env: Option<Vec<String>>,
    pub working_dir: String,
    pub cmd: Option<Vec<String>>,
}

/// Answer to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateResponse {
    pub id: String,
}

/// Body of `POST /exec/ID/start`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StartRequest {
    pub detach: bool,
    pub tty: bool,
    /// Height and width.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::optional_pair")]
    pub console_size: Option<[u64; 2]>,
}

/// Answer to `GET /exec/ID/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct InspectResponse {
    #[serde(rename = "ID")]
    pub id: String,
    pub running: bool,
    /// `null` until it has ended.
    pub exit_code: Option<i64>,
    pub process_config: ProcessConfig,
    pub open_stdin: bool,
    pub open_stderr: bool,
    pub open_stdout: bool,
    pub can_remove: bool,
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// The bytes of the detach sequence in base64 (Go writes `[]byte` so); empty for none.
    pub detach_keys: String,
    pub pid: i64,
}

/// A sequence of keys in the form of [`InspectResponse::detach_keys`].
pub fn encoded_keys(keys: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(keys)
}

/// What an exec runs; the names are not capitalised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessConfig {
    pub tty: bool,
    pub entrypoint: String,
    pub arguments: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}
