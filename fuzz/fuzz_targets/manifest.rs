//! Manifests, indexes and image configurations as a registry may send them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::ImageConfig;
use oci::manifest::Document;

fuzz_target!(|input: (&str, &[u8])| {
    let (media_type, bytes) = input;
    if let Ok(document) = Document::parse(media_type, bytes) {
        let written = match &document {
            Document::Manifest(manifest) => serde_json::to_vec(manifest),
            Document::Index(index) => serde_json::to_vec(index),
        };
        let written = written.expect("what was read can be written");
        assert_eq!(Document::parse(media_type, &written).ok().as_ref(), Some(&document));
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        assert!(ImageConfig::parse(&config.to_bytes()).is_ok());
    }
});
