//! Manifests (one image for one platform) and indexes (many of them).
//!
//! The bytes that came from a registry are what is kept and hashed; these types are for looking into them, and for
//! writing new ones. Unknown fields survive nevertheless.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::descriptor::Descriptor;
use crate::media_type;

/// Manifests larger than this are refused by registries and by us, in bytes (the distribution specification's 4 MiB).
pub const MAX_SIZE: usize = 4 << 20;

/// A manifest: the configuration and the layers of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI allows leaving it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers from the lowest up.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// Another manifest that this one belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Manifest {
    /// A Docker schema 2 manifest, what `docker push` writes.
    #[must_use]
    pub fn docker(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::DOCKER_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: None,
            extra: Map::new(),
        }
    }

    /// Its bytes as Docker writes them (indented by three blanks), to be hashed and sent as they are.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        // Writing plain data into a vector cannot fail: keys are strings and there is no i/o.
        let _ = self.serialize(&mut serializer);
        bytes
    }
}

/// An index (Docker: manifest list): manifests for several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI allows leaving it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests, each with its platform.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// Another manifest that this one belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Either of the two: what a registry answers to a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Many images.
    Index(Index),
}

/// Why bytes are neither a manifest nor an index.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The media type is none that an image can have.
    #[error("unsupported manifest media type and no default available: {0}")]
    MediaType(String),
    /// The old schema, which dockerd refuses too.
    #[error(
        "not implemented: media type \"{0}\" is no longer supported, please rebuild the image as manifest v2, schema 2 or OCI"
    )]
    Schema1(String),
    /// The body claims another type than the header of the response did.
    #[error("mediaType in manifest should be '{expected}' not '{found}'")]
    Mismatch {
        /// What the header said.
        expected: String,
        /// What the body says.
        found: String,
    },
    /// Both `layers` and `manifests`: one digest that different readers would understand differently.
    #[error("manifest has both layers and manifests: it is ambiguous")]
    Ambiguous,
    /// It is larger than [`MAX_SIZE`].
    #[error("manifest of {0} bytes is too large")]
    Size(usize),
    /// Not the JSON that it should be.
    #[error("malformed manifest: {0}")]
    Json(#[from] serde_json::Error),
}

impl Document {
    /// Reads a body with the media type that it was delivered under (parameters are ignored; empty: not known).
    pub fn parse(delivered_as: &str, bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            media_type: Option<String>,
            layers: Option<Value>,
            config: Option<Value>,
            manifests: Option<Value>,
            fs_layers: Option<Value>,
        }
        if bytes.len() > MAX_SIZE {
            return Err(ManifestError::Size(bytes.len()));
        }
        let delivered_as = delivered_as.split(';').next().unwrap_or("").trim();
        if matches!(delivered_as, media_type::DOCKER_MANIFEST_V1 | media_type::DOCKER_MANIFEST_V1_SIGNED) {
            return Err(ManifestError::Schema1(delivered_as.to_owned()));
        }
        let shape: Shape = serde_json::from_slice(bytes)?;
        let is_image_type = |text: &str| media_type::is_manifest(text) || media_type::is_index(text);
        let kind = match (&shape.media_type, is_image_type(delivered_as)) {
            (Some(found), true) if found != delivered_as => {
                return Err(ManifestError::Mismatch { expected: delivered_as.to_owned(), found: found.clone() });
            }
            (_, true) => delivered_as.to_owned(),
            // Registries that serve plain files say text/plain or application/json.
            (Some(found), false) => found.clone(),
            (None, false) if shape.manifests.is_some() => media_type::OCI_INDEX.to_owned(),
            (None, false) if shape.config.is_some() => media_type::OCI_MANIFEST.to_owned(),
            (None, false) if shape.fs_layers.is_some() => {
                return Err(ManifestError::Schema1(media_type::DOCKER_MANIFEST_V1.to_owned()));
            }
            (None, false) => delivered_as.to_owned(),
        };
        if (shape.layers.is_some() || shape.config.is_some()) && shape.manifests.is_some() {
            return Err(ManifestError::Ambiguous);
        }
        if media_type::is_manifest(&kind) {
            Ok(Self::Manifest(serde_json::from_slice(bytes)?))
        } else if media_type::is_index(&kind) {
            Ok(Self::Index(serde_json::from_slice(bytes)?))
        } else {
            Err(ManifestError::MediaType(kind))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        Manifest::docker(
            Descriptor::of(media_type::DOCKER_CONFIG, b"{}"),
            vec![Descriptor::of(media_type::DOCKER_LAYER_GZIP, b"layer")],
        )
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = sample().to_bytes();
        assert!(bytes.starts_with(b"{\n   \"schemaVersion\": 2,\n   \"mediaType\""));
        for delivered_as in [media_type::DOCKER_MANIFEST, "text/plain; charset=utf-8", ""] {
            assert_eq!(Document::parse(delivered_as, &bytes).unwrap(), Document::Manifest(sample()));
        }
    }

    #[test]
    fn refused_by_name() {
        let bytes = sample().to_bytes();
        assert!(matches!(
            Document::parse(media_type::OCI_MANIFEST, &bytes).unwrap_err(),
            ManifestError::Mismatch { .. }
        ));
        let mut both = sample();
        both.extra.insert("manifests".into(), Value::Array(Vec::new()));
        assert!(matches!(Document::parse("", &both.to_bytes()).unwrap_err(), ManifestError::Ambiguous));
        assert!(matches!(
            Document::parse(media_type::DOCKER_MANIFEST_V1_SIGNED, b"{}").unwrap_err(),
            ManifestError::Schema1(_)
        ));
        assert!(matches!(Document::parse("text/html", b"{}").unwrap_err(), ManifestError::MediaType(_)));
        assert!(matches!(Document::parse("", b"<html>").unwrap_err(), ManifestError::Json(_)));
        assert!(matches!(Document::parse("", &vec![b' '; MAX_SIZE + 1]).unwrap_err(), ManifestError::Size(_)));
    }

    #[test]
    fn unknown_fields_survive() {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[],"annotations":{{"a":"b"}},"future":{{"x":[1,null]}}}}"#,
            media_type::OCI_INDEX
        );
        let Document::Index(index) = Document::parse(media_type::OCI_INDEX, text.as_bytes()).unwrap() else {
            panic!("an index")
        };
        assert_eq!(serde_json::to_string(&index).unwrap(), text);
    }
}
