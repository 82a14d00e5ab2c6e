//! The image configuration: Docker's image JSON, which OCI's image configuration is a subset of.
//!
//! The digest of its bytes is the image's id, so bytes that came from elsewhere are kept and never written again from
//! these types. Times are kept as text for the same reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;

/// An image: what it runs by default, its layers, and how it came to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// CPU, e.g. `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Defaults for containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// The container it was committed from, if any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// The configuration of that container, as Docker wrote it. Kept as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_config: Option<Value>,
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The version of the engine that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    /// One entry per step, from the oldest.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    /// Kernel, e.g. `linux`.
    #[serde(default)]
    pub os: String,
    /// Version of the kernel (Windows only).
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Required features of the kernel (Windows only).
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub os_features: Vec<String>,
    /// The layers.
    #[serde(default)]
    pub rootfs: RootFs,
    /// Flavour of the CPU, e.g. `v7`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The message of the commit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Uncompressed layers by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// SHA-256 of each layer's uncompressed tar, from the lowest up.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

impl RootFs {
    /// The chain id of each layer with everything below it (image specification: `ChainID`).
    #[must_use]
    pub fn chain_ids(&self) -> Vec<Digest> {
        let mut chain: Vec<Digest> = Vec::with_capacity(self.diff_ids.len());
        for diff_id in &self.diff_ids {
            chain.push(match chain.last() {
                None => diff_id.clone(),
                Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
            });
        }
        chain
    }
}

/// One step of how an image was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// By what command.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// A message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Defaults for the containers of an image.
///
/// What belongs to a single container (`Hostname`, `Tty`, …), which Docker writes here too, is in `extra`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// `user[:group]`, names or numbers; empty is root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp` → nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// `KEY=value`.
    pub env: Option<Vec<String>>,
    /// The command; with an entrypoint, its arguments.
    pub cmd: Option<Vec<String>>,
    /// How to see whether a container is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The command is one argument that Windows splits itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// Paths that get an anonymous volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Where a process starts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// What the command is appended to.
    pub entrypoint: Option<Vec<String>>,
    /// Steps for builds that start from this image.
    pub on_build: Option<Vec<String>>,
    /// Free text by key.
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal for `stop`, a name or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// The shell of `RUN`, `CMD` and `ENTRYPOINT` given as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// `{}`: the value of JSON objects that are used as sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// How to see whether a container is well. Times are in nanoseconds; 0 means the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", arg…]` or `["CMD-SHELL", command]`; empty: inherited.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time that one check may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time after the start in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two checks in that period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

// Serde passes references.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Go writes empty lists as null.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Why bytes are no image configuration that can be run.
#[derive(Debug, thiserror::Error)]
pub enum ImageConfigError {
    /// Not the JSON that it should be.
    #[error("invalid image configuration: {0}")]
    Json(#[from] serde_json::Error),
    /// It has no layers to speak of (Docker's text).
    #[error("invalid image JSON, no RootFS key")]
    NoRootFs,
}

impl ImageConfig {
    /// Reads the bytes of a configuration blob.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageConfigError> {
        #[derive(Deserialize)]
        struct Shape {
            rootfs: Option<Value>,
        }
        if serde_json::from_slice::<Shape>(bytes)?.rootfs.is_none() {
            return Err(ImageConfigError::NoRootFs);
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Its bytes, to be stored and hashed: JSON without blanks.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain data with string keys: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What it runs on.
    #[must_use]
    pub fn platform(&self) -> crate::descriptor::Platform {
        crate::descriptor::Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: Some(self.variant.clone()).filter(|variant| !variant.is_empty()),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = r#"{"architecture":"amd64","config":{"Hostname":"","Domainname":"","User":"","AttachStdin":false,
        "Env":["PATH=/bin"],"Cmd":["sh"],"Image":"sha256:x","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,
        "Labels":null,"Healthcheck":{"Test":null,"Interval":5}},"container":"abc","container_config":{"Cmd":null},
        "created":"2024-05-01T00:00:00.123456789Z","docker_version":"20.10","history":null,"os":"linux",
        "rootfs":{"type":"layers","diff_ids":null},"moby.buildkit.buildinfo.v1":"eyJ9"}"#;

    #[test]
    fn reads_what_docker_writes() {
        let image = ImageConfig::parse(DOCKER.as_bytes()).unwrap();
        let config = image.config.as_ref().unwrap();
        assert_eq!(config.cmd.as_deref().unwrap(), ["sh"]);
        assert_eq!(config.extra["Image"], "sha256:x");
        assert_eq!(image.extra["moby.buildkit.buildinfo.v1"], "eyJ9");
        assert_eq!(ImageConfig::parse(&image.to_bytes()).unwrap(), image);
    }

    #[test]
    fn needs_a_rootfs() {
        assert!(matches!(ImageConfig::parse(b"{}"), Err(ImageConfigError::NoRootFs)));
        assert!(matches!(ImageConfig::parse(b"[]"), Err(ImageConfigError::Json(_))));
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        let rootfs = RootFs { diff_ids: vec![a.clone(), b.clone()], ..RootFs::default() };
        assert_eq!(rootfs.chain_ids(), [a.clone(), Digest::of(format!("{a} {b}").as_bytes())]);
    }
}
