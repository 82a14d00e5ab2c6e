//! Digests, descriptors, manifests, image configuration, references and the runtime specification: pure data.
