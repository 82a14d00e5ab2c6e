//! Reading: once, as the stream comes.
//!
//! Small files that begin like JSON are kept in memory; everything else is taken in as a layer at once, since what it is
//! for stands in a file that may come last. Layers that no image of the archive names go with the lease.

use std::collections::HashMap;
use std::io::{self, Read};
use std::time::Instant;

use oci::digest::Digest;
use oci::manifest::{Document, Index};
use oci::{Descriptor, ImageConfig, Manifest, Reference, media_type};
use serde::Deserialize;
use store::{Lease, Store};

use super::super::{Choice, Content, Image, Layer, Platforms, Source, Tap, Tree, best_match, check_is_image, parse};
use super::blob_name;
use crate::blocking;
use crate::error::{Error, Result};
use crate::progress::COUNT_INTERVAL;
use crate::remote::Fetched;

/// Of one JSON file and of all together, in bytes.
const MAX_DOCUMENT: u64 = 8 << 20;
const MAX_DOCUMENTS: u64 = 64 << 20;
/// Length of a block of a tar archive, in bytes.
const BLOCK: u64 = 512;
/// Files in an archive.
const MAX_ENTRIES: usize = 100_000;

/// What is in an archive, by cleaned name. Its layers are in the store.
pub(crate) struct Layout {
    store: Store,
    lease: Lease,
    documents: HashMap<String, Vec<u8>>,
    layers: HashMap<String, store::Layer>,
    /// Older archives name a layer that two images have once, and link to it.
    links: HashMap<String, String>,
}

/// An image or index of an archive, and what it is called there.
pub(crate) struct Found {
    pub(crate) tree: Tree,
    pub(crate) names: Vec<Reference>,
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

fn bad(text: impl Into<String>) -> Error {
    Error::Archive(text.into())
}

impl Layout {
    /// Takes in a whole archive, in whatever compression. Blocking. `tell` hears how far each layer is: what its file is
    /// called, and so many bytes of so many.
    pub(crate) fn read(store: &Store, stream: impl Read + Send, mut tell: impl FnMut(&str, u64, u64)) -> Result<Self> {
        let (documents, layers, links) = Default::default();
        let mut layout = Self { store: store.clone(), lease: store.lease(), documents, layers, links };
        let mut archive = tar::Archive::new(store::plain(stream)?);
        let mut kept = 0;
        for (number, entry) in archive.entries().map_err(Error::ReadArchive)?.enumerate() {
            let mut entry = entry.map_err(Error::ReadArchive)?;
            if number >= MAX_ENTRIES {
                return Err(bad(format!("the archive has more than {MAX_ENTRIES} files")));
            }
            let name = clean(&entry.path_bytes());
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    layout.take_in(name, &mut entry, &mut kept, &mut tell)?;
                }
                kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                    if let Some(target) = entry.link_name_bytes() {
                        let target = resolve(&name, &target, kind == tar::EntryType::Symlink);
                        layout.links.insert(name, target);
                    }
                }
                _ => {}
            }
        }
        Ok(layout)
    }

    fn take_in<R: Read>(
        &mut self,
        name: String,
        entry: &mut tar::Entry<'_, R>,
        kept: &mut u64,
        tell: &mut impl FnMut(&str, u64, u64),
    ) -> Result<()> {
        let size = entry.size();
        let mut head = Vec::new();
        entry.by_ref().take(BLOCK).read_to_end(&mut head).map_err(Error::ReadArchive)?;
        let is_document = is_document(&head) || name.ends_with("VERSION");
        let mut whole = head.as_slice().chain(entry);
        if !is_document {
            let counted = Counted { inner: whole, id: shown(&name), position: (0, size), next: Instant::now(), tell };
            let layer = self.store.layer_import(&self.lease, None, counted)?;
            self.layers.insert(name, layer);
            return Ok(());
        }
        *kept += size;
        if size > MAX_DOCUMENT || *kept > MAX_DOCUMENTS {
            return Err(bad(format!("{name} is too large")));
        }
        let mut bytes = Vec::new();
        whole.read_to_end(&mut bytes).map_err(Error::ReadArchive)?;
        self.documents.insert(name, bytes);
        Ok(())
    }

    /// Everything that the archive names. An index is there as a whole, or as the image for one platform.
    pub(crate) async fn content(&self, platforms: Platforms<'_>) -> Result<Vec<Found>> {
        let index = self.documents.get("index.json");
        let index: Option<Index> = index
            .map(|bytes| serde_json::from_slice(bytes).map_err(|error| bad(format!("index.json: {error}"))))
            .transpose()?;
        // Docker's list has one image of each index at most, so an archive with an index is read OCI's way.
        let has_index = index.as_ref().is_some_and(|index| self.names_an_index(index));
        match (self.documents.get("manifest.json"), index) {
            (Some(list), _) if !has_index => self.listed(list),
            (_, Some(index)) => self.indexed(&index, platforms).await,
            _ => Err(bad("invalid archive: does not contain a manifest.json")),
        }
    }

    /// Everything below an index, if all of it is in the archive.
    pub(crate) async fn whole(&self, index: &Fetched) -> Result<Option<Tree>> {
        match Tree::read(self, index.clone(), parse(index)?, Platforms::All).await {
            Ok(tree) => Ok(Some(tree)),
            // Tools leave out the platforms that they do not have.
            Err(Error::Archive(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn names_an_index(&self, index: &Index) -> bool {
        let is_index = |entry: &Descriptor| {
            self.document(&blob_name(&entry.digest))
                .is_ok_and(|bytes| matches!(Document::parse(&entry.media_type, bytes), Ok(Document::Index(_))))
        };
        index.manifests.iter().any(is_index)
    }

    /// Docker's list.
    fn listed(&self, list: &[u8]) -> Result<Vec<Found>> {
        let list: Vec<Listed> = serde_json::from_slice(list).map_err(|error| bad(format!("manifest.json: {error}")))?;
        let one = |image: Listed| {
            let names = image.repo_tags.unwrap_or_default();
            let names = names.iter().map(|name| Reference::parse_normalized(name).map(Reference::with_default_tag));
            let names = names.collect::<Result<_, _>>().map_err(|error| bad(error.to_string()))?;
            let bytes = self.document(&image.config)?;
            let layers = self.checked(bytes, &image.layers.unwrap_or_default())?;
            let config = Descriptor::of(media_type::OCI_CONFIG, bytes);
            Ok(Found { tree: Tree::Image(Box::new(Image { manifest: None, config, layers })), names })
        };
        list.into_iter().map(one).collect()
    }

    /// The layers of an image, by the names of their files, if they are what its configuration says.
    fn checked(&self, config: &[u8], files: &[String]) -> Result<Vec<Layer>> {
        let config = ImageConfig::parse(config).map_err(|error| bad(error.to_string()))?;
        let expected = &config.rootfs.diff_ids;
        if expected.len() != files.len() {
            let (expected, found) = (expected.len(), files.len());
            return Err(bad(format!("invalid manifest, layers length mismatch: expected {expected}, got {found}")));
        }
        let mut layers = Vec::new();
        for (diff_id, name) in expected.iter().zip(files) {
            let found = &self.layer(name)?.diff_id;
            if found != diff_id {
                return Err(bad(format!("invalid diffID for layer: expected \"{diff_id}\", got \"{found}\"")));
            }
            layers.push(Layer { choices: Vec::new(), diff_id: Some(diff_id.clone()) });
        }
        Ok(layers)
    }

    /// The index of an OCI layout.
    async fn indexed(&self, index: &Index, platforms: Platforms<'_>) -> Result<Vec<Found>> {
        let mut found: Vec<Found> = Vec::new();
        let mut seen: HashMap<&Digest, usize> = HashMap::new();
        let host = oci::Platform::host();
        let wanted = match platforms {
            Platforms::One(platform) => platform,
            Platforms::All => &host,
        };
        for entry in &index.manifests {
            // A layout may hold one image for each platform without an index of its own around them.
            let runs = entry.platform.as_ref().is_none_or(|own| own.os.is_empty() || own.satisfies(wanted));
            if !runs {
                continue;
            }
            let annotation = |key: &str| entry.annotations.as_ref().and_then(|all| all.get(key));
            let name = annotation("io.containerd.image.name").or(annotation("org.opencontainers.image.ref.name"));
            let name = name.and_then(|name| Reference::parse_normalized(name).ok()).map(Reference::with_default_tag);
            if let Some(at) = seen.get(&entry.digest) {
                found[*at].names.extend(name);
                continue;
            }
            let mut root = self.fetched(&entry.digest)?;
            root.media_type.clone_from(&entry.media_type);
            let document = parse(&root).map_err(|error| bad(error.to_string()))?;
            match &document {
                Document::Manifest(manifest) if check_is_image(manifest).is_err() => continue,
                Document::Index(index) if best_match(index, wanted).is_none() => continue,
                _ => {}
            }
            let tree = Tree::read(self, root, document, platforms).await?;
            seen.insert(&entry.digest, found.len());
            found.push(Found { tree, names: name.into_iter().collect() });
        }
        Ok(found)
    }

    /// A document of an OCI layout, which must be what its name says.
    fn fetched(&self, digest: &Digest) -> Result<Fetched> {
        let bytes = self.document(&blob_name(digest))?.to_vec();
        if !digest.verifies(&bytes) {
            return Err(Error::ManifestDigest(digest.clone()));
        }
        Ok(Fetched { media_type: String::new(), digest: digest.clone(), bytes })
    }

    fn document(&self, name: &str) -> Result<&[u8]> {
        let name = self.follow(name);
        let found = self.documents.get(&name).ok_or_else(|| bad(format!("invalid archive: {name} is missing")))?;
        Ok(found)
    }

    fn layer(&self, name: &str) -> Result<&store::Layer> {
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

impl Source for Layout {
    async fn document(&self, digest: &Digest) -> Result<Fetched> {
        self.fetched(digest)
    }

    async fn image(&self, fetched: Fetched, manifest: Manifest) -> Result<Image> {
        let files: Vec<String> = manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
        if files.iter().all(|name| self.layer(name).is_ok()) {
            self.checked(self.document(&blob_name(&manifest.config.digest))?, &files)?;
        }
        let (store, lease, wanted) = (self.store.clone(), self.lease.clone(), manifest.layers.clone());
        let hold = move || wanted.iter().map(|blob| Ok(store.blob_hold(&lease, &blob.digest)?)).collect();
        let held: Vec<bool> = blocking(hold).await?;
        let mut layers = Vec::new();
        let mut is_whole = true;
        for ((blob, name), is_held) in manifest.layers.into_iter().zip(&files).zip(held) {
            let diff_id = self.layer(name).map(|layer| layer.diff_id.clone()).ok();
            // What is no layer is a document, of an attestation for example.
            if diff_id.is_none() {
                self.document(name)?;
            }
            is_whole &= is_held || diff_id.is_none();
            layers.push(Layer { choices: vec![Choice { blob, repositories: Vec::new() }], diff_id });
        }
        if !is_whole {
            // The store keeps one blob of a layer. If that is another than this manifest names, the manifest is of no use.
            layers.iter_mut().for_each(|layer| layer.choices.clear());
        }
        Ok(Image { manifest: is_whole.then_some(fetched), config: manifest.config, layers })
    }

    async fn open(&self, blob: &Descriptor, offset: u64) -> Result<Content> {
        if let Some(bytes) = self.documents.get(&blob_name(&blob.digest)) {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            return Ok(Content::of(io::Cursor::new(bytes[from..].to_vec())));
        }
        if let Some(bytes) = self.documents.values().find(|bytes| blob.digest.verifies(bytes)) {
            // In Docker's own format a configuration may be called anything.
            return Ok(Content::of(io::Cursor::new(bytes.clone())));
        }
        let (store, wanted) = (self.store.clone(), blob.digest.clone());
        blocking(move || Content::of_blob(store.blob_open(&wanted)?, offset)).await
    }

    async fn settle(&self, layer: &Layer, _: Option<Tap>) -> Result<Descriptor> {
        layer.choices.first().map(|choice| choice.blob.clone()).ok_or(Error::UnknownBlob)
    }
}

/// Does a file that begins so hold JSON, or nothing? A plain tar begins with the name of its first file, which may begin
/// like JSON as well, and says further on that it is one (POSIX, ustar).
fn is_document(head: &[u8]) -> bool {
    let is_tar = head.get(257..262) == Some(b"ustar");
    !is_tar && matches!(head.first(), None | Some(b'{' | b'['))
}

/// What is shown of a layer while it comes. Its diff id is known at its end; the names of files are made of digests.
fn shown(name: &str) -> String {
    let mut parts = name.rsplit('/').map(|part| part.strip_suffix(".tar").unwrap_or(part));
    let part = parts.find(|part| *part != "layer").unwrap_or(name);
    part.chars().take(12).collect()
}

/// The file of a layer, which tells how far it is.
struct Counted<'a, R, F> {
    inner: R,
    id: String,
    position: (u64, u64),
    next: Instant,
    tell: &'a mut F,
}

impl<R: Read, F: FnMut(&str, u64, u64)> Read for Counted<'_, R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let (current, total) = (self.position.0 + length as u64, self.position.1);
        self.position.0 = current;
        if length > 0 && (current == total || Instant::now() >= self.next) {
            (self.tell)(&self.id, current, total);
            self.next = Instant::now() + COUNT_INTERVAL;
        }
        Ok(length)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for (name, expected) in [("./a/b", "a/b"), ("/a//b/../c", "a/c"), ("../../x", "x"), ("", "")] {
            assert_eq!(clean(name.as_bytes()), expected);
        }
        for name in ["blobs/sha256/0123456789abcdef", "0123456789abcdef/layer.tar", "0123456789abcdef.tar"] {
            assert_eq!(shown(name), "0123456789ab");
        }
        assert_eq!((shown("layer.tar"), shown("layer/layer")), ("layer.tar".into(), "layer/layer".into()));
        assert_eq!(resolve("x/layer.tar", b"../y/layer.tar", true), "y/layer.tar");
        assert_eq!(resolve("x/layer.tar", b"y/layer.tar", false), "y/layer.tar");
    }
}
