//! Archives that are Docker's own format and an OCI layout at once.
//!
//! ```text
//! blobs/sha256/<hex>    configurations, layers, manifests and indexes
//! index.json            what is in it by name, OCI's way          oci-layout
//! manifest.json         the same, Docker's way                    repositories
//! ```
//!
//! An archive is a stream, and the two directions are not alike. Writing is a destination like any other, that takes one
//! file after another. Reading happens once, in the order of the stream, and what a file is for may stand in one that
//! comes later: so everything is taken into the store while it comes ([`read::Layout`]), and copied from there.

pub(crate) mod read;
mod write;

pub(crate) use write::Archive;

use oci::digest::Digest;

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}
