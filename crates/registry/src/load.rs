//! `docker load`: the images of an archive into the store.

use std::io::Read;

use oci::{Platform, Reference};
use store::{ImageId, Store};
use tokio::sync::mpsc;

use crate::copy::archive::read::{Found, Layout};
use crate::copy::store::{Contents, Images};
use crate::copy::{Platforms, Tree, copy};
use crate::error::{Error, Result};
use crate::{Client, QUEUE, blocking};

/// An image that was in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image.
    pub image_id: ImageId,
    /// What it is called now.
    pub names: Vec<Reference>,
    /// Which of these names other images had before.
    pub replaced: Vec<(Reference, ImageId)>,
}

impl Client {
    /// Takes in the images of an archive, in whatever compression: Docker's own format of any age, or an OCI layout.
    ///
    /// The archive is read on a blocking thread. `tell` hears there how far each layer is: an id to show,
    /// and so many bytes of so many.
    /// Of an index the image for `platform` (none: this machine's) is unpacked; all others are kept with it unless a
    /// platform was named.
    pub async fn load(
        &self,
        store: &Store,
        archive: impl Read + Send + 'static,
        platform: Option<&Platform>,
        tell: impl FnMut(&str, u64, u64) + Send + 'static,
    ) -> Result<Vec<Loaded>> {
        let taken = store.clone();
        let layout = blocking(move || Layout::read(&taken, archive, tell)).await?;
        let host = Platform::host();
        let chosen = Platforms::One(platform.unwrap_or(&host));
        let mut loaded = Vec::new();
        let images = layout.content(chosen).await?;
        if let Some(platform) = platform.filter(|_| images.is_empty()) {
            return Err(Error::NotFound(format!("the archive has no image for platform {platform}")));
        }
        for image in images {
            let whole = match &image.tree {
                Tree::Index(index, _) if platform.is_none() => layout.whole(index).await?,
                _ => None,
            };
            loaded.push(self.load_one(store, &layout, image, whole).await?);
        }
        Ok(loaded)
    }

    async fn load_one(&self, store: &Store, layout: &Layout, image: Found, whole: Option<Tree>) -> Result<Loaded> {
        // What a destination tells of layers is said of those that come from elsewhere. These came with the archive.
        let (progress, mut events) = mpsc::channel(QUEUE);
        let work = async move {
            let images = Images::new(store, &self.options, &self.flights, &progress);
            let placed = copy(layout, &images, &image.tree).await?;
            let documents = match whole {
                Some(tree) => {
                    let (lease, options, flights) = (images.lease(), &self.options, &*self.flights);
                    copy(layout, &Contents { store, lease, options, flights, progress: &progress }, &tree).await?
                }
                None => Vec::new(),
            };
            let digests = match image.tree.document() {
                // By its digest the image finds its index again.
                Some(root) if !documents.is_empty() => {
                    image.names.iter().map(|name| name.with_digest(root.digest.clone())).collect()
                }
                _ => Vec::new(),
            };
            let (known, names) = (store.clone(), image.names.clone());
            let before = move || {
                let named = |name: Reference| Ok(known.image_named(&name)?.map(|id| (name, id)));
                names.into_iter().filter_map(|name| named(name).transpose()).collect::<Result<Vec<_>>>()
            };
            let mut replaced = blocking(before).await?;
            let (image_id, _) = images.register(placed, image.names.clone(), digests, documents).await?;
            drop(images.settle().await);
            replaced.retain(|(_, id)| *id != image_id);
            Ok(Loaded { image_id, names: image.names, replaced })
        };
        let drained = async { while events.recv().await.is_some() {} };
        tokio::join!(work, drained).0
    }
}
