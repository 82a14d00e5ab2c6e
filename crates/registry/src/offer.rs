//! An image as a registry has it: the documents and blobs that a push of it would send, for somebody who serves them.

use oci::digest::Digest;
use oci::{Descriptor, Manifest, media_type};
use serde::{Deserialize, Serialize};
use store::{ImageId, Store};

use crate::copy::store::Stored;
use crate::copy::{Image, Platforms, Source, Tree, type_of};
use crate::error::Result;
use crate::remote::Fetched;

/// A manifest or index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OfferedDocument {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes, which are text.
    pub text: String,
}

/// What stands for one image. All of it is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Offer {
    /// What the image's name stands for, then whatever an index names.
    pub documents: Vec<OfferedDocument>,
    /// Configurations and layers.
    pub blobs: Vec<Descriptor>,
}

/// Finds what stands for an image: its index when it is here for all platforms, its manifest as it came, or one that is
/// made now. Layers that never were blobs are compressed, once.
pub async fn offer(store: &Store, id: &ImageId) -> Result<Offer> {
    let mut source = Stored::new(store);
    let mut offer = Offer { documents: Vec::new(), blobs: Vec::new() };
    if let Some(tree) = source.index_of(id, Platforms::All).await? {
        add_tree(&mut offer, &tree);
        return Ok(offer);
    }
    let image = source.image_for_registry(id).await?;
    let mut layers = Vec::new();
    for layer in &image.layers {
        layers.push(source.settle(layer, None).await?);
    }
    let named = |layers: &[Descriptor]| layers.iter().map(|layer| layer.digest.clone()).collect::<Vec<_>>();
    let as_it_came = image.manifest.as_ref().filter(|_| {
        let wanted = image.layers.iter().filter_map(|layer| layer.choices.first()).map(|choice| choice.blob.clone());
        named(&wanted.collect::<Vec<_>>()) == named(&layers)
    });
    match as_it_came {
        Some(manifest) => add_document(&mut offer, manifest),
        None => {
            let config = Descriptor { media_type: media_type::DOCKER_CONFIG.to_owned(), ..image.config.clone() };
            let bytes = Manifest::docker(config, layers.clone()).to_bytes();
            let (digest, kind) = (Digest::of(&bytes), media_type::DOCKER_MANIFEST.to_owned());
            add_document(&mut offer, &Fetched { media_type: kind, digest, bytes });
        }
    }
    offer.blobs.push(image.config);
    offer.blobs.extend(layers);
    Ok(offer)
}

fn add_tree(offer: &mut Offer, tree: &Tree) {
    match tree {
        Tree::Image(image) => add_image(offer, image),
        Tree::Index(index, children) => {
            add_document(offer, index);
            children.iter().for_each(|child| add_tree(offer, child));
        }
    }
}

fn add_image(offer: &mut Offer, image: &Image) {
    if let Some(manifest) = &image.manifest {
        add_document(offer, manifest);
    }
    offer.blobs.push(image.config.clone());
    offer.blobs.extend(image.layers.iter().filter_map(|layer| layer.choices.first()).map(|choice| choice.blob.clone()));
}

fn add_document(offer: &mut Offer, document: &Fetched) {
    // JSON is UTF-8: what is not would have been refused when it came.
    let text = String::from_utf8_lossy(&document.bytes).into_owned();
    offer.documents.push(OfferedDocument { media_type: type_of(document), digest: document.digest.clone(), text });
}
