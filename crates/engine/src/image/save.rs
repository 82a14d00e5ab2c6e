//! `docker save`: images as an archive that is both an OCI layout and what older Dockers load.
//!
//! ```text
//! blobs/sha256/<hex>    configurations, layers as plain tar, one OCI manifest for each image
//! index.json            the manifests with their names          oci-layout
//! manifest.json         Docker's own list                       repositories
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use bytes::Bytes;
use futures_util::Stream;
use oci::reference::{self, Reference};
use oci::{Descriptor, Digest, Manifest, media_type};
use serde_json::{Value, json};
use store::{ImageId, Lease, Store};

use crate::archive::flow;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

impl Engine {
    /// An archive of images: all tags of a repository, or one tag, or an image by its id (which has no name then).
    pub async fn image_save(&self, names: &[String]) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
        let (store, names) = (self.store.clone(), names.to_vec());
        let (store, lease, saved) = self
            .blocking(move || {
                // What is being saved is not removed meanwhile.
                let lease = store.lease();
                let saved = choose(&store, &lease, &names)?;
                Ok((store, lease, saved))
            })
            .await?;
        for id in saved.keys() {
            self.image_event("save", id.as_str(), id.as_str()).await;
        }
        let (mut writer, stream) = flow::outwards();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&store, &saved, &mut writer) {
                writer.fail(&error);
            }
            drop(lease);
        });
        Ok(stream)
    }
}

/// Images with the names that they are saved under.
type Saved = BTreeMap<ImageId, BTreeSet<Reference>>;

fn choose(store: &Store, lease: &Lease, names: &[String]) -> Result<Saved> {
    let mut saved = Saved::new();
    for name in names {
        let reference = Reference::parse_normalized(name).ok().filter(|_| !reference::is_identifier(name));
        let all_tags = match &reference {
            Some(reference) if reference.is_name_only() => tags_of(store, reference)?,
            _ => Vec::new(),
        };
        if !all_tags.is_empty() {
            for (tag, id) in all_tags {
                saved.entry(id).or_default().insert(tag);
            }
            continue;
        }
        let id = store.image_resolve(name).map_err(|error| explain(error, name, reference.as_ref()))?;
        let names = saved.entry(id.clone()).or_default();
        if let Some(reference) = reference.filter(|reference| reference.tag().is_some())
            && store.image_named(&reference)? == Some(id)
        {
            names.insert(reference);
        }
    }
    for id in saved.keys() {
        for layer in &store.image(id)?.layers {
            store.layer_hold(lease, &layer.diff_id)?;
        }
    }
    Ok(saved)
}

/// Docker's words for a name that cannot be saved, which are not those of other commands.
fn explain(error: store::Error, name: &str, reference: Option<&Reference>) -> Error {
    match (error.kind(), reference) {
        (store::ErrorKind::NotFound, Some(reference)) if !reference.is_name_only() => {
            Error::not_found("reference does not exist")
        }
        (store::ErrorKind::NotFound, _) => Error::not_found(format!("No such image: {name}")),
        (store::ErrorKind::InvalidParameter, _) => Error::system(error.to_string()),
        _ => error.into(),
    }
}

fn tags_of(store: &Store, repository: &Reference) -> Result<Vec<(Reference, ImageId)>> {
    let mut found = Vec::new();
    for image in store.images()? {
        let tags = image.tags.into_iter().filter(|tag| tag.name() == repository.name());
        found.extend(tags.map(|tag| (tag, image.id.clone())));
    }
    Ok(found)
}

fn write(store: &Store, saved: &Saved, out: &mut impl Write) -> Result<()> {
    let failed = |error: io::Error| Error::caused(Kind::System, "writing an archive", error);
    let mut archive = Archive { tar: tar::Builder::new(out), written: BTreeSet::new() };
    let (mut manifests, mut index, mut repositories) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (id, names) in saved {
        let layers = archive.layers(store, id)?;
        let config = store.image_config_bytes(id)?;
        let descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
        archive.blob(&descriptor.digest, &config).map_err(failed)?;
        let mut manifest = Manifest::docker(descriptor, layers.clone());
        manifest.media_type = Some(media_type::OCI_MANIFEST.to_owned());
        let manifest = serde_json::to_vec(&manifest).map_err(|error| failed(error.into()))?;
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
        archive.blob(&descriptor.digest, &manifest).map_err(failed)?;
        index.extend(index_entries(&descriptor, names));
        for name in names {
            let tags: &mut BTreeMap<String, String> = repositories.entry(name.familiar_name()).or_default();
            let top = layers.last().map(|layer| layer.digest.hex().to_owned()).unwrap_or_default();
            tags.insert(name.tag().unwrap_or_default().to_owned(), top);
        }
        let names: Vec<String> = names.iter().map(Reference::familiar).collect();
        manifests.push(json!({
            "Config": blob_name(id.digest()),
            "RepoTags": if names.is_empty() { Value::Null } else { json!(names) },
            "Layers": layers.iter().map(|layer| blob_name(&layer.digest)).collect::<Vec<_>>(),
            "LayerSources": layers.iter().map(|layer| (layer.digest.to_string(), json!(layer))).collect::<serde_json::Map<_, _>>(),
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": index});
    archive.document("index.json", &index).map_err(failed)?;
    archive.document("manifest.json", &json!(manifests)).map_err(failed)?;
    archive.document("oci-layout", &json!({"imageLayoutVersion": "1.0.0"})).map_err(failed)?;
    if !repositories.is_empty() {
        archive.document("repositories", &json!(repositories)).map_err(failed)?;
    }
    archive.tar.into_inner().and_then(Write::flush).map_err(failed)
}

/// The entries of the index for one manifest: one for each name, or one without.
fn index_entries(manifest: &Descriptor, names: &BTreeSet<Reference>) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![manifest.clone()];
    }
    let entry = |name: &Reference| {
        let annotations = [
            ("io.containerd.image.name".to_owned(), name.to_string()),
            ("org.opencontainers.image.ref.name".to_owned(), name.tag().unwrap_or_default().to_owned()),
        ];
        Descriptor { annotations: Some(annotations.into()), ..manifest.clone() }
    };
    names.iter().map(entry).collect()
}

struct Archive<W: Write> {
    tar: tar::Builder<W>,
    /// Images share layers, which are written once.
    written: BTreeSet<Digest>,
}

impl<W: Write> Archive<W> {
    /// Writes the layers of an image as plain tars.
    fn layers(&mut self, store: &Store, id: &ImageId) -> Result<Vec<Descriptor>> {
        let lease = store.lease();
        let mut found = Vec::new();
        for layer in store.image(id)?.layers {
            let held = store.layer_hold(&lease, &layer.diff_id)?;
            let held = held.ok_or_else(|| Error::system(format!("layer {} is gone", layer.diff_id)))?;
            found.push(Descriptor::new(media_type::OCI_LAYER, held.diff_id.clone(), held.tar_size));
            if self.written.insert(held.diff_id.clone()) {
                let stream = store.layer_tar(&held.diff_id)?;
                self.file(&blob_name(&held.diff_id), held.tar_size, stream)
                    .map_err(|error| Error::caused(Kind::System, "writing an archive", error))?;
            }
        }
        Ok(found)
    }

    fn blob(&mut self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        if self.written.insert(digest.clone()) {
            self.file(&blob_name(digest), bytes.len() as u64, bytes)?;
        }
        Ok(())
    }

    fn document(&mut self, name: &str, value: &Value) -> io::Result<()> {
        let bytes = serde_json::to_vec(value)?;
        self.file(name, bytes.len() as u64, bytes.as_slice())
    }

    fn file(&mut self, name: &str, size: u64, content: impl io::Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        self.tar.append_data(&mut header, name, content)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
