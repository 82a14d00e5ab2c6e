//! What a client sends to change a container, and the short answers to it.
#![allow(missing_docs)] // the fields are those of the Engine API document

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

use super::host_config::is_resource;
use super::{Config, HostConfig};
use crate::network::EndpointSettings;

/// Body of `POST /containers/create`: a [`Config`] with two members beside its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateRequest {
    #[serde(flatten)]
    pub config: Config,
    pub host_config: HostConfig,
    pub networking_config: NetworkingConfig,
}

impl<'de> Deserialize<'de> for CreateRequest {
    /// Reads the value three times: a flattened field would lose the forgiving reading.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename = "CreateRequest", rename_all = "PascalCase", default)]
        struct Beside {
            host_config: HostConfig,
            networking_config: NetworkingConfig,
        }
        let value = serde_json::Value::deserialize(deserializer)?;
        if !value.is_object() && !value.is_null() {
            // Text for what is no object at all.
            let error = crate::json::from_value::<Beside>(&value).err();
            return Err(D::Error::custom(
                error.map_or_else(String::new, |error| error.at_top("container.CreateRequest")),
            ));
        }
        let config = crate::json::from_value(&value)
            .map_err(|error| D::Error::custom(error.embedded("Config", "CreateRequest")))?;
        let beside: Beside = crate::json::from_value(&value).map_err(|error| {
            // Resources are embedded in HostConfig.
            D::Error::custom(error.member_of("HostConfig", is_resource, "Resources"))
        })?;
        Ok(Self { config, host_config: beside.host_config, networking_config: beside.networking_config })
    }
}

/// Which networks a new container joins, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkingConfig {
    pub endpoints_config: Option<BTreeMap<String, EndpointSettings>>,
}

/// Answer to create.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateResponse {
    pub id: String,
    /// Never `null`.
    pub warnings: Vec<String>,
}

/// Answer to update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateResponse {
    pub warnings: Option<Vec<String>>,
}

/// Answer to wait: the exit code, and what went wrong in waiting or starting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
    pub status_code: i64,
}

/// Why a container could not be waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitError {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Answer to top: one row per process, in the order of `titles`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TopResponse {
    pub processes: Vec<Vec<String>>,
    pub titles: Vec<String>,
}

/// One changed path of a container's root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Change {
    pub path: String,
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
}

/// Answer to prune.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneResponse {
    pub containers_deleted: Option<Vec<String>>,
    pub space_reclaimed: u64,
}

/// What `X-Docker-Container-Path-Stat` says of a path, in base64. The names are not capitalised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    /// Go's `os.FileMode`: permission bits below, type bits from bit 31 down (see [`PathStat::go_mode`]).
    pub mode: u32,
    /// RFC 3339 with nanoseconds.
    pub mtime: String,
    pub link_target: String,
}

impl PathStat {
    /// Go's `os.FileMode` of a Unix `st_mode`.
    pub fn go_mode(st_mode: u32) -> u32 {
        let kind = match st_mode & 0o170_000 {
            0o040_000 => 1 << 31,             // directory
            0o120_000 => 1 << 27,             // symbolic link
            0o060_000 => 1 << 26,             // block device
            0o020_000 => (1 << 26) | 1 << 21, // character device
            0o010_000 => 1 << 25,             // fifo
            0o140_000 => 1 << 24,             // socket
            _ => 0,
        };
        let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
        let special = special.iter().filter(|(bit, _)| st_mode & bit != 0).fold(0, |all, (_, go)| all | go);
        kind | special | (st_mode & 0o777)
    }
}
