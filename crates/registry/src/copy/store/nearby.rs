//! A registry as a source whose documents may be here already: what was pulled before is not asked for again.

use oci::digest::Digest;
use oci::{Descriptor, Manifest};
use store::Store;

use super::super::{Content, Image, Layer, Source, Tap};
use crate::blocking;
use crate::error::Result;
use crate::remote::{Fetched, Remote};

/// A repository, and the store in front of it.
pub(crate) struct Nearby<'a> {
    pub(crate) remote: &'a Remote,
    pub(crate) store: &'a Store,
}

impl Source for Nearby<'_> {
    async fn document(&self, digest: &Digest) -> Result<Fetched> {
        let (store, wanted) = (self.store.clone(), digest.clone());
        let known = blocking(move || match store.blob_read(&wanted, oci::manifest::MAX_SIZE as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(store::Error::NoSuchBlob(_)) => Ok(None),
            Err(error) => Err(error.into()),
        });
        match known.await? {
            Some(bytes) => Ok(Fetched { media_type: String::new(), digest: digest.clone(), bytes }),
            None => self.remote.document(digest).await,
        }
    }

    async fn image(&self, fetched: Fetched, manifest: Manifest) -> Result<Image> {
        self.remote.image(fetched, manifest).await
    }

    async fn open(&self, blob: &Descriptor, offset: u64) -> Result<Content> {
        self.remote.open(blob, offset).await
    }

    async fn settle(&self, layer: &Layer, tap: Option<Tap>) -> Result<Descriptor> {
        self.remote.settle(layer, tap).await
    }
}
