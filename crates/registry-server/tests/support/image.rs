//! Content to push.

use oci::media_type::{OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use oci::{Descriptor, Digest};
use serde_json::json;

/// Bytes that no compression shrinks, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(length)
    .collect()
}

/// An OCI manifest of these layers.
pub fn manifest(layers: &[&[u8]], config: &[u8]) -> Vec<u8> {
    let layers: Vec<Descriptor> = layers.iter().map(|layer| Descriptor::of(OCI_LAYER, layer)).collect();
    let config = Descriptor::of(OCI_CONFIG, config);
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}).to_string().into()
}

/// An artifact without content that belongs to another manifest. `{}` must have been pushed.
pub fn artifact(kind: &str, subject: &str, size: usize) -> Vec<u8> {
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2});
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind, "config": empty, "layers": [empty],
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": size}, "annotations": {"of": kind},
    })
    .to_string()
    .into()
}
