//! `docker load`: images from an archive that `docker save` or a tool that writes OCI layouts made.
//!
//! The archive is read once, as it comes. Small files that begin like JSON are kept in memory; everything else is taken in as
//! a layer at once, since what it is for stands in a file that may come last. Layers that no image of the archive
//! names go with the lease.

use std::collections::HashMap;
use std::io::{self, Read};

use api::progress::{Message, ProgressDetail};
use bytes::Bytes;
use futures_util::Stream;
use oci::manifest::{Document, Index};
use oci::reference::Reference;
use oci::{Digest, ImageConfig, media_type};
use serde::Deserialize;
use store::{ImageId, Layer, Lease, NewImage, Store};

use super::progress::{self, Lines, ProgressStream};
use super::{LoadOptions, upload};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Of one JSON file and of all together, in bytes.
const MAX_DOCUMENT: u64 = 8 << 20;
const MAX_DOCUMENTS: u64 = 64 << 20;
/// Files in an archive.
const MAX_ENTRIES: usize = 100_000;
/// Indexes may name indexes, but not for ever.
const MAX_DEPTH: usize = 3;

impl Engine {
    /// Takes in the images of an archive, in whatever compression.
    pub async fn image_load(
        &self,
        options: LoadOptions,
        body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> Result<ProgressStream> {
        if !options.platform.is_empty() {
            return Err(Error::not_implemented("loading a single platform is not supported by this engine"));
        }
        let engine = self.arc();
        progress::run(move |lines| async move {
            let store = engine.store.clone();
            let (reader, feeding) = upload::reader(body);
            let told = lines.clone();
            let loading = engine.blocking(move || {
                let told = (!options.quiet).then_some(&told);
                load(&store, reader, told)
            });
            let (loaded, ()) = tokio::join!(loading, feeding);
            engine.has_grown();
            for image in loaded? {
                if image.names.is_empty() {
                    lines.send(stream_line(format!("Loaded image ID: {}\n", image.id))).await?;
                }
                for name in &image.names {
                    lines.send(stream_line(format!("Loaded image: {}\n", name.familiar()))).await?;
                }
                engine.image_event("load", image.id.as_str(), image.id.as_str()).await;
            }
            Ok(())
        })
        .await
    }
}

fn stream_line(text: String) -> Message {
    Message { stream: text, ..Message::default() }
}

struct Loaded {
    id: ImageId,
    names: Vec<Reference>,
}

/// What is in an archive, by cleaned name.
#[derive(Default)]
struct Content {
    documents: HashMap<String, Vec<u8>>,
    layers: HashMap<String, Layer>,
    /// Older archives name a layer that two images have once, and link to it.
    links: HashMap<String, String>,
}

/// An image as an archive describes it.
struct Described {
    config: Vec<u8>,
    layers: Vec<String>,
    names: Vec<Reference>,
}

fn load(store: &Store, stream: impl Read + Send, lines: Option<&Lines>) -> Result<Vec<Loaded>> {
    let lease = store.lease();
    let content = read(store, &lease, store::plain(stream)?, lines)?;
    let described = content.images()?;
    described.into_iter().map(|image| register(store, &lease, &content, image)).collect()
}

fn bad(text: impl Into<String>) -> Error {
    Error::new(Kind::InvalidParameter, text)
}

fn read(store: &Store, lease: &Lease, stream: impl Read, lines: Option<&Lines>) -> Result<Content> {
    let failed = |error: io::Error| Error::caused(Kind::System, "reading the archive", error);
    let mut archive = tar::Archive::new(stream);
    let mut content = Content::default();
    let mut kept = 0;
    for (number, entry) in archive.entries().map_err(failed)?.enumerate() {
        let mut entry = entry.map_err(failed)?;
        if number >= MAX_ENTRIES {
            return Err(bad(format!("the archive has more than {MAX_ENTRIES} files")));
        }
        let name = clean(&entry.path_bytes());
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {}
            tar::EntryType::Symlink | tar::EntryType::Link => {
                if let Some(target) = entry.link_name_bytes() {
                    let is_relative = entry.header().entry_type() == tar::EntryType::Symlink;
                    content.links.insert(name.clone(), resolve(&name, &target, is_relative));
                }
                continue;
            }
            _ => continue,
        }
        let mut head = [0; 1];
        let is_document =
            entry.read(&mut head).map_err(failed)? == 0 || matches!(head[0], b'{' | b'[') || name.ends_with("VERSION");
        let size = entry.size();
        let mut whole = head[..usize::from(size > 0)].chain(&mut entry);
        if is_document {
            kept += size;
            if size > MAX_DOCUMENT || kept > MAX_DOCUMENTS {
                return Err(bad(format!("{name} is too large")));
            }
            let mut bytes = Vec::new();
            whole.read_to_end(&mut bytes).map_err(failed)?;
            content.documents.insert(name, bytes);
        } else {
            let layer = store.layer_import(lease, None, whole)?;
            if let Some(lines) = lines {
                let number = i64::try_from(size).unwrap_or(i64::MAX);
                let id: String = layer.diff_id.hex().chars().take(12).collect();
                lines.offer(Message::action(&id, "Loading layer", ProgressDetail::bytes(number, number)));
            }
            content.layers.insert(name, layer);
        }
    }
    Ok(content)
}

/// A name inside the archive without `.`, `..` and empty parts.
fn clean(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn resolve(name: &str, target: &[u8], is_relative: bool) -> String {
    match name.rsplit_once('/') {
        Some((dir, _)) if is_relative => clean(&[dir.as_bytes(), b"/", target].concat()),
        _ => clean(target),
    }
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Content {
    fn images(&self) -> Result<Vec<Described>> {
        match (self.documents.get("manifest.json"), self.documents.get("index.json")) {
            (Some(list), _) => self.listed(list),
            (None, Some(index)) => {
                let mut found = Vec::new();
                self.indexed(index, None, MAX_DEPTH, &mut found)?;
                Ok(found)
            }
            (None, None) => Err(bad("invalid archive: does not contain a manifest.json")),
        }
    }

    /// Docker's list.
    fn listed(&self, list: &[u8]) -> Result<Vec<Described>> {
        let list: Vec<Listed> = serde_json::from_slice(list).map_err(|error| bad(format!("manifest.json: {error}")))?;
        list.into_iter()
            .map(|image| {
                let names = image.repo_tags.unwrap_or_default();
                let names = names.iter().map(|name| Reference::parse_normalized(name).map(Reference::with_default_tag));
                Ok(Described {
                    config: self.document(&image.config)?.to_vec(),
                    layers: image.layers.unwrap_or_default(),
                    names: names.collect::<Result<_, _>>().map_err(|error| bad(error.to_string()))?,
                })
            })
            .collect()
    }

    /// The index of an OCI layout.
    fn indexed(&self, bytes: &[u8], name: Option<&Reference>, depth: usize, found: &mut Vec<Described>) -> Result<()> {
        let index: Index = serde_json::from_slice(bytes).map_err(|error| bad(format!("index.json: {error}")))?;
        let host = oci::Platform::host();
        for entry in &index.manifests {
            if entry.platform.as_ref().is_some_and(|platform| !platform.os.is_empty() && !platform.satisfies(&host)) {
                continue;
            }
            let annotation = |key: &str| entry.annotations.as_ref().and_then(|all| all.get(key));
            let own =
                annotation("io.containerd.image.name").or_else(|| annotation("org.opencontainers.image.ref.name"));
            let own = own.and_then(|name| Reference::parse_normalized(name).ok()).map(Reference::with_default_tag);
            let name = own.as_ref().or(name);
            let bytes = self.document(&blob_name(&entry.digest))?;
            match Document::parse(&entry.media_type, bytes).map_err(|error| bad(error.to_string()))? {
                Document::Index(_) if depth > 0 => self.indexed(bytes, name, depth - 1, found)?,
                Document::Index(_) => return Err(bad("indexes in the archive are nested too deeply")),
                Document::Manifest(manifest) if media_type::is_config(&manifest.config.media_type) => {
                    found.push(Described {
                        config: self.document(&blob_name(&manifest.config.digest))?.to_vec(),
                        layers: manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
                        names: name.cloned().into_iter().collect(),
                    });
                }
                Document::Manifest(_) => {}
            }
        }
        Ok(())
    }

    fn document(&self, name: &str) -> Result<&[u8]> {
        let name = self.follow(name);
        let found = self.documents.get(&name).ok_or_else(|| bad(format!("invalid archive: {name} is missing")))?;
        Ok(found)
    }

    fn layer(&self, name: &str) -> Result<&Layer> {
        let name = self.follow(name);
        self.layers.get(&name).ok_or_else(|| bad(format!("invalid archive: {name} is missing")))
    }

    fn follow(&self, name: &str) -> String {
        let mut name = clean(name.as_bytes());
        // A link may lead to a link, but not in a circle.
        for _ in 0..8 {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        name
    }
}

fn register(store: &Store, lease: &Lease, content: &Content, image: Described) -> Result<Loaded> {
    let config = ImageConfig::parse(&image.config).map_err(|error| bad(error.to_string()))?;
    let expected = &config.rootfs.diff_ids;
    if expected.len() != image.layers.len() {
        let text = format!(
            "invalid manifest, layers length mismatch: expected {}, got {}",
            expected.len(),
            image.layers.len()
        );
        return Err(bad(text));
    }
    for (diff_id, name) in expected.iter().zip(&image.layers) {
        let found = &content.layer(name)?.diff_id;
        if found != diff_id {
            return Err(bad(format!("invalid diffID for layer: expected \"{diff_id}\", got \"{found}\"")));
        }
    }
    let new = NewImage { config: image.config, tags: image.names.clone(), ..NewImage::default() };
    Ok(Loaded { id: store.image_create(lease, new)?, names: image.names })
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for (name, expected) in [("./a/b", "a/b"), ("/a//b/../c", "a/c"), ("../../x", "x"), ("", "")] {
            assert_eq!(clean(name.as_bytes()), expected);
        }
        assert_eq!(resolve("x/layer.tar", b"../y/layer.tar", true), "y/layer.tar");
        assert_eq!(resolve("x/layer.tar", b"y/layer.tar", false), "y/layer.tar");
    }
}
