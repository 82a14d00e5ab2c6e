//! Digests, descriptors, manifests, image configuration, references and the runtime specification: pure data.
//!
//! The words of the OCI specifications as types. Nothing here touches a file or a socket; whatever is read can be
//! written again without losing fields that are not known here.

pub mod descriptor;
pub mod digest;
pub mod go;
pub mod image_config;
pub mod manifest;
pub mod media_type;
pub mod mount;
pub mod reference;
pub mod spec;
pub mod wildcard;

pub use descriptor::{Descriptor, Platform};
pub use digest::{Digest, Digester};
pub use image_config::ImageConfig;
pub use manifest::{Index, Manifest};
pub use mount::Mount;
pub use reference::Reference;
