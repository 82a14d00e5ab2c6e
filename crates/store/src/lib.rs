//! Content by digest, images, overlay snapshots, unpacking and diffing of layers.
