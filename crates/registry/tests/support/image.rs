//! Images made of nothing.

use std::io::Write;

use oci::digest::Digest;
use oci::{Descriptor, Manifest, media_type};

/// A layer as a plain tar and as a gzip blob.
#[derive(Clone)]
pub struct Layer {
    pub tar: Vec<u8>,
    pub blob: Vec<u8>,
    pub diff_id: Digest,
}

/// An image with everything that a registry serves for it.
#[derive(Clone)]
pub struct Image {
    pub layers: Vec<Layer>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

impl Layer {
    /// A layer whose blob is not compressed.
    pub fn plain(name: &str, content: &[u8]) -> Self {
        let Self { tar, diff_id, .. } = layer(name, content);
        Self { blob: tar.clone(), tar, diff_id }
    }

    /// A layer whose tar nobody wants to hold in memory.
    pub fn of(blob: Vec<u8>, diff_id: Digest) -> Self {
        Self { tar: Vec::new(), blob, diff_id }
    }
}

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

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer with one file.
pub fn layer(name: &str, content: &[u8]) -> Layer {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    builder.append_data(&mut header, name, content).unwrap();
    let tar = builder.into_inner().unwrap();
    Layer { blob: gzip(&tar), diff_id: Digest::of(&tar), tar }
}

pub fn config_of(layers: &[Layer]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    serde_json::to_vec(&serde_json::json!({
        "architecture": oci::Platform::host().architecture, "os": "linux", "config": {"Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": []
    }))
    .unwrap()
}

/// A Docker manifest, with blanks that only a bit-for-bit copy keeps.
pub fn manifest_of(layers: &[Layer], config: &[u8]) -> Vec<u8> {
    let layers = layers.iter().map(|layer| Descriptor::of(media_type::DOCKER_LAYER_GZIP, &layer.blob)).collect();
    let mut bytes = Manifest::docker(Descriptor::of(media_type::DOCKER_CONFIG, config), layers).to_bytes();
    bytes.extend_from_slice(b"\n  \n");
    bytes
}

/// An image with so many layers of so many bytes. Another seed is another image.
pub fn image(seed: u64, layers: usize, size: usize) -> Image {
    let layers: Vec<Layer> =
        (0..layers).map(|n| layer(&format!("file-{n}"), &noise(seed * 1000 + n as u64, size))).collect();
    from_layers(layers)
}

pub fn from_layers(layers: Vec<Layer>) -> Image {
    let config = config_of(&layers);
    let manifest = manifest_of(&layers, &config);
    Image { layers, config, manifest }
}

impl Image {
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    pub fn short(&self, layer: usize) -> String {
        Digest::of(&self.layers[layer].blob).hex()[..12].to_owned()
    }

    /// The content behind a path of the protocol: `manifests/latest`, `blobs/sha256:…`; with its media type.
    pub fn get(&self, path: &str) -> Option<(&'static str, Vec<u8>)> {
        let (kind, name) = path.split_once('/')?;
        let is = |bytes: &[u8]| name == Digest::of(bytes).as_str();
        match kind {
            "manifests" if name == "latest" || is(&self.manifest) => {
                Some((media_type::DOCKER_MANIFEST, self.manifest.clone()))
            }
            "blobs" if is(&self.config) => Some(("application/octet-stream", self.config.clone())),
            "blobs" => {
                let layer = self.layers.iter().find(|layer| is(&layer.blob))?;
                Some(("application/octet-stream", layer.blob.clone()))
            }
            _ => None,
        }
    }
}
