//! What Gantry's API has beyond Docker's: answers of addresses that no Docker Engine serves.
//!
//! | address | answer |
//! |---|---|
//! | `GET /images/NAME/layers` | a list of [`LayerReport`] |
//! | `POST /images/NAME/pin`, `POST /images/NAME/unpin` | nothing |
//! | `POST /images/NAME/squash` | a `CommitResponse` of Docker's |
//! | `POST /system/verify` | a progress stream; its last line has [`Verified`] as `aux` |

use serde::{Deserialize, Serialize};

/// One layer of an image, as it changes what is below it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LayerReport {
    /// `sha256:…` of its plain tar.
    pub diff_id: String,
    /// The command that made it, if the image says so.
    pub created_by: String,
    /// The sizes of its files together, in bytes.
    pub size: i64,
    /// Of these, what later layers replaced or removed, in bytes.
    pub wasted: i64,
    /// What it brings, changes and removes, sorted by path.
    pub files: Vec<LayerFile>,
}

/// What a layer says about a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LayerFile {
    /// Absolute, inside the image.
    pub path: String,
    /// As in `docker diff`: 0 changed, 1 added, 2 removed.
    pub kind: u8,
    /// `st_mode`: type and permission bits; 0 for what is removed.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes, 0 for a further name of a file; of what is removed, what it had.
    pub size: i64,
    /// A later layer replaced or removed it.
    pub wasted: bool,
}

/// What a check of the store found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Verified {
    /// Configurations, manifests and indexes that were read.
    pub documents: u64,
    /// Blobs that were read.
    pub blobs: u64,
    /// Layers that were read.
    pub layers: u64,
    /// What was read in all, in bytes.
    pub bytes: u64,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Finding {
    /// `blob`, `layer` or `document`.
    pub kind: String,
    /// Its digest.
    pub digest: String,
    /// The images that need it, by name (by id where there is none).
    pub images: Vec<String>,
    /// What is wrong with it, in one sentence.
    pub problem: String,
}
