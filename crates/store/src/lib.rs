//! Content by digest, images, overlay snapshots, unpacking and diffing of layers.
//!
//! ```text
//! <root>/gantry.redb             which images, names, layers and blobs exist (see `db`)
//!       /blobs/sha256/<hex>      layers as they came, compressed
//!       /blobs/partial/<hex>     those that broke off on their way, to be gone on with
//!       /layers/<diff-hex>/fs    layers unpacked, each on its own, in overlay format
//!                         /tar.zst    and their tars without the content of files (see `skeleton`)
//!                         /implied    directories that the tars do not mention (see `implied`)
//!       /replaced/…              damaged layers that a good copy took the place of, while containers have them
//!       /inits/<chain-hex>/fs    mount points for the containers of one stack of layers
//!       /snapshots/<id>/{fs,work,record.json}    what a container changed
//!       /removing/…              on its way out
//! ```
//!
//! A pull, in this crate's words:
//!
//! ```text
//! let lease = store.lease();                                   // keeps what follows from garbage collection
//! for (descriptor, diff_id) in layers {                        // in parallel, each on a blocking thread
//!     if store.layer_hold(&lease, &diff_id)?.is_none() {
//!         let mut layer = store.layer_ingest(&lease, &descriptor, &diff_id)?;
//!         layer.write_all(bytes as they come)?;
//!         layer.finish()?;                                     // both digests are right, or an error
//!     }
//! }
//! store.blob_put(&lease, &manifest_bytes)?;
//! store.image_create(&lease, NewImage { config, manifest, tags, repo_digests, .. })?;
//! ```
//!
//! Everything here is synchronous and may block: call it from blocking threads. [`Store`] is a cheap handle that is
//! shared by cloning. All changes of state pass one gate, each is one transaction, and a process that is killed at any
//! instruction leaves a store that opens clean.

pub mod archive;
mod arrival;
mod changes;
mod commit;
mod compression;
mod content;
mod db;
mod durable;
mod error;
mod explore;
mod gc;
mod gzip;
mod image;
mod implied;
mod layer;
mod lease;
mod merge;
mod overlay;
mod pack;
mod pipe;
mod places;
mod reaper;
mod recover;
mod room;
mod skeleton;
mod snapshot;
mod store;
mod tar;
mod tree;
mod unpack;
mod usage;
mod verify;
mod zstd;

/// The reader of what strangers pack, for the targets in `fuzz/`.
#[doc(hidden)]
pub mod foreign {
    /// Reads a tar to its end. Returns how many entries it has, or how it is broken.
    pub fn tar_entries(bytes: &[u8]) -> Result<usize, crate::TarError> {
        let mut reader = crate::tar::TarReader::new(bytes);
        let mut count = 0;
        while reader.next_entry()?.is_some() {
            count += 1;
        }
        reader.drain()?;
        Ok(count)
    }
}

pub use changes::{ChangeKind, PathChange};
pub use compression::plain;
pub use content::{Blob, Ingest};
pub use error::{Error, ErrorKind, Result};
pub use explore::{LayerFile, LayerReport};
pub use image::{HistoryItem, Image, ImageId, ImageLayer, ImageUsers, NewImage, Removal};
pub use layer::{Layer, LayerIngest};
pub use lease::Lease;
pub use room::{DiskUsage, Evicted};
pub use snapshot::mount::MountedSnapshot;
pub use snapshot::{SnapshotOptions, Usage};
pub use store::{Driver, Store};
pub use tar::TarError;
pub use usage::on_disk as disk_size;
pub use verify::{Finding, Verified};
