//! Names of images: what is read is written again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::Reference;

fuzz_target!(|text: &str| {
    let Ok(reference) = Reference::parse_normalized(text) else { return };
    let whole = reference.to_string();
    assert_eq!(Reference::parse_normalized(&whole).as_ref(), Ok(&reference), "{text:?} became {whole:?}");
    // What users see means the same image, but for the short form of a digest with a tag.
    let familiar = Reference::parse_normalized(&reference.familiar());
    assert!(familiar.is_ok_and(|familiar| familiar.name() == reference.name()), "{text:?}");
    assert!(!reference.path().contains("..") && !reference.domain().contains('/'), "{text:?}");
});
