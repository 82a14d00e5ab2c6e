//! Writing: one file after another into a stream of bytes.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use oci::digest::{Digest, Digester};
use oci::{Descriptor, Manifest, Platform, Reference, media_type};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::{Destination, Image, Source, type_of};
use super::blob_name;
use crate::error::{Error, Result};
use crate::remote::{Fetched, MAX_CONFIG};

/// Length of a block of a tar archive, in bytes.
const BLOCK: u64 = 512;

/// An archive that is being written. Parts are brought one at a time, so the files in it never mix.
pub(crate) struct Archive {
    out: mpsc::Sender<io::Result<Bytes>>,
    /// Images share layers, which are written once.
    written: Mutex<HashSet<Digest>>,
}

/// An image or index that is in the archive.
#[derive(Debug)]
pub(crate) struct Saved {
    /// Its manifest, or the index.
    root: Descriptor,
    /// What Docker's list says of it: the image for this machine.
    image: Files,
}

/// An image in Docker's list.
#[derive(Debug, Clone)]
struct Files {
    platform: Platform,
    config: Digest,
    layers: Vec<Descriptor>,
}

impl Destination for Archive {
    type Part = Descriptor;
    type Placed = Saved;

    fn lanes(&self) -> usize {
        1
    }

    async fn has(&self, _: &Fetched) -> Result<Option<Saved>> {
        Ok(None)
    }

    async fn parts<S: Source>(&self, source: &S, image: &Image) -> Result<Vec<Descriptor>> {
        let mut parts = Vec::new();
        for layer in &image.layers {
            parts.push(source.settle(layer, None).await?);
        }
        Ok(parts)
    }

    async fn bring<S: Source>(&self, source: &S, part: &Descriptor) -> Result<Descriptor> {
        if media_type::is_foreign_layer(&part.media_type) || !self.is_new(&part.digest) {
            return Ok(part.clone());
        }
        self.begin(&blob_name(&part.digest), part.size).await?;
        let mut content = source.open(part, 0).await?;
        let mut digester = Digester::new(part.digest.algorithm());
        let mut length = 0;
        while let Some(piece) = content.chunk().await? {
            digester.update(&piece);
            length += piece.len() as u64;
            if length > part.size {
                break;
            }
            self.send(piece).await?;
        }
        if length != part.size || digester.finish() != part.digest {
            return Err(Error::LayerDigest(part.digest.clone()));
        }
        self.pad(part.size).await?;
        Ok(part.clone())
    }

    async fn image<S: Source>(&self, source: &S, image: &Image, brought: Vec<Descriptor>) -> Result<Saved> {
        let config = source.open(&image.config, 0).await?.bytes("image configuration", MAX_CONFIG).await?;
        if !image.config.digest.verifies(&config) {
            return Err(Error::ConfigDigest(image.config.digest.clone()));
        }
        let platform = oci::ImageConfig::parse(&config).map(|config| config.platform()).unwrap_or_default();
        self.blob(&image.config.digest, config).await?;
        let root = match &image.manifest {
            Some(manifest) => {
                self.blob(&manifest.digest, manifest.bytes.clone()).await?;
                Descriptor::new(&type_of(manifest), manifest.digest.clone(), manifest.bytes.len() as u64)
            }
            None => {
                let mut manifest = Manifest::docker(image.config.clone(), brought.clone());
                manifest.media_type = Some(media_type::OCI_MANIFEST.to_owned());
                let bytes = to_json(&manifest)?;
                let root = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
                self.blob(&root.digest, bytes).await?;
                root
            }
        };
        let image = Files { platform, config: image.config.digest.clone(), layers: brought };
        Ok(Saved { root, image })
    }

    async fn index(&self, index: &Fetched, children: Vec<Saved>) -> Result<Saved> {
        self.blob(&index.digest, index.bytes.clone()).await?;
        let host = Platform::host();
        let images: Vec<Files> = children.into_iter().map(|child| child.image).collect();
        let own = images.iter().find(|image| image.platform.satisfies(&host)).or(images.first());
        let image = own.cloned().ok_or_else(|| Error::NoPlatform(host.to_string()))?;
        let root = Descriptor::new(&type_of(index), index.digest.clone(), index.bytes.len() as u64);
        Ok(Saved { root, image })
    }
}

impl Archive {
    pub(crate) fn new(out: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self { out, written: Mutex::default() }
    }

    /// Writes the lists with the names of everything, and the end of the archive.
    pub(crate) async fn finish(self, saved: Vec<(Saved, Vec<Reference>)>) -> Result<()> {
        let (mut manifests, mut index, mut repositories) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (Saved { root, image }, names) in saved {
            index.extend(index_entries(&root, &names));
            for name in &names {
                let tags: &mut BTreeMap<String, String> = repositories.entry(name.familiar_name()).or_default();
                let top = image.layers.last().map(|layer| layer.digest.hex().to_owned()).unwrap_or_default();
                tags.insert(name.tag().unwrap_or_default().to_owned(), top);
            }
            let names: Vec<String> = names.iter().map(Reference::familiar).collect();
            let sources = image.layers.iter().map(|layer| (layer.digest.to_string(), json!(layer)));
            manifests.push(json!({
                "Config": blob_name(&image.config),
                "RepoTags": if names.is_empty() { Value::Null } else { json!(names) },
                "Layers": image.layers.iter().map(|layer| blob_name(&layer.digest)).collect::<Vec<_>>(),
                "LayerSources": sources.collect::<serde_json::Map<_, _>>(),
            }));
        }
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": index});
        self.file("index.json", to_json(&index)?).await?;
        self.file("manifest.json", to_json(&manifests)?).await?;
        self.file("oci-layout", to_json(&json!({"imageLayoutVersion": "1.0.0"}))?).await?;
        if !repositories.is_empty() {
            self.file("repositories", to_json(&repositories)?).await?;
        }
        // Two empty blocks end an archive.
        self.send(Bytes::from_static(&[0; 2 * BLOCK as usize])).await
    }

    async fn blob(&self, digest: &Digest, bytes: Vec<u8>) -> Result<()> {
        if self.is_new(digest) { self.file(&blob_name(digest), bytes).await } else { Ok(()) }
    }

    async fn file(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let size = bytes.len() as u64;
        self.begin(name, size).await?;
        self.send(bytes.into()).await?;
        self.pad(size).await
    }

    async fn begin(&self, name: &str, size: u64) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).map_err(Error::Read)?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.send(Bytes::copy_from_slice(header.as_bytes())).await
    }

    /// Files are filled up to whole blocks.
    async fn pad(&self, size: u64) -> Result<()> {
        let missing = usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or_default();
        self.send(Bytes::from_static(&[0; BLOCK as usize][..missing])).await
    }

    async fn send(&self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.out.send(Ok(bytes)).await.map_err(|_| Error::Cancelled)
    }

    fn is_new(&self, digest: &Digest) -> bool {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone())
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Read(error.into()))
}

/// The entries of `index.json` for one root: one for each name, or one without.
fn index_entries(root: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![root.clone()];
    }
    let entry = |name: &Reference| {
        let annotations = [
            ("io.containerd.image.name".to_owned(), name.to_string()),
            ("org.opencontainers.image.ref.name".to_owned(), name.tag().unwrap_or_default().to_owned()),
        ];
        Descriptor { annotations: Some(annotations.into()), ..root.clone() }
    };
    names.iter().map(entry).collect()
}
