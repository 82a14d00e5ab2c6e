//! `docker save`: images of the store as a stream of an archive.

use std::io;

use bytes::Bytes;
use oci::{Platform, Reference};
use store::{ImageId, Store};
use tokio::sync::mpsc;

use crate::blocking;
use crate::copy::archive::Archive;
use crate::copy::store::Stored;
use crate::copy::{Platforms, Tree, copy};
use crate::error::{Error, Result};

/// Pieces of the archive between the disk and who reads it; each up to 256 KiB.
const QUEUE: usize = 4;

/// Writes an archive of images, each under its names, into the returned queue while that is read. The future does the
/// work; an error is its last piece too, so that nobody takes what came for the whole.
///
/// An image that is here for all its platforms is saved with its index and as it came, others as Docker saves them.
/// `platform` chooses from an index; an image for another platform is an error.
pub fn save(
    store: &Store,
    images: Vec<(ImageId, Vec<Reference>)>,
    platform: Option<Platform>,
) -> (mpsc::Receiver<io::Result<Bytes>>, impl Future<Output = Result<()>> + Send + use<>) {
    let (out, pieces) = mpsc::channel(QUEUE);
    let mut source = Stored::new(store);
    let store = store.clone();
    let work = async move {
        let archive = Archive::new(out.clone());
        let written = async {
            let mut saved = Vec::new();
            for (id, names) in images {
                let tree = tree(&store, &mut source, &id, platform.as_ref()).await?;
                saved.push((copy(&source, &archive, &tree).await?, names));
            }
            archive.finish(saved).await
        };
        let result = written.await;
        if let Err(error) = &result {
            // The reader may be gone, which is the usual reason to fail.
            let _ = out.send(Err(io::Error::other(error.to_string()))).await;
        }
        result
    };
    (pieces, work)
}

async fn tree(store: &Store, source: &mut Stored, id: &ImageId, platform: Option<&Platform>) -> Result<Tree> {
    let Some(platform) = platform else {
        return Ok(match source.index_of(id, Platforms::All).await? {
            Some(whole @ Tree::Index(..)) if whole.images().len() > 1 => whole,
            _ => Tree::Image(Box::new(source.image_for_archive(id).await?)),
        });
    };
    let (store, wanted) = (store.clone(), id.clone());
    let own = blocking(move || Ok(store.image(&wanted)?.config.platform())).await?;
    if own.satisfies(platform) {
        return Ok(Tree::Image(Box::new(source.image_for_archive(id).await?)));
    }
    match source.index_of(id, Platforms::One(platform)).await? {
        Some(Tree::Index(_, mut children)) if children.len() == 1 => Ok(children.remove(0)),
        _ => Err(Error::NotFound(format!("image {id} is not here for platform {platform}: it is for {own}"))),
    }
}
