//! `docker save`: images as an archive that is both an OCI layout and what older Dockers load.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use oci::reference::{self, Reference};
use store::{ImageId, Lease, Store};
use tokio::sync::mpsc;

use super::platform_of;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// An archive on its way out. Dropped, it ends the work.
#[derive(Debug)]
pub struct ArchiveStream(pub(super) mpsc::Receiver<io::Result<Bytes>>);

impl Stream for ArchiveStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

impl Engine {
    /// An archive of images: all tags of a repository, or one tag, or an image by its id (which has no name then).
    ///
    /// `platform` is JSON (since 1.48); empty is everything that there is of each image.
    pub async fn image_save(&self, names: &[String], platform: &str) -> Result<ArchiveStream> {
        let platform = platform_of(platform)?;
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
        let images = saved.into_iter().map(|(id, names)| (id, names.into_iter().collect())).collect();
        let (pieces, work) = registry::save(&store, images, platform);
        tokio::spawn(async move {
            if let Err(error) = work.await {
                tracing::debug!(%error, "an archive was not written to its end");
            }
            drop(lease);
        });
        Ok(ArchiveStream(pieces))
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
