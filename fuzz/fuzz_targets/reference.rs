//! Names of images: what is read is written again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::Reference;

fuzz_target!(|text: &str| {
    let Ok(reference) = Reference::parse_normalized(text) else { return };
    let whole = reference.to_string();
    assert_eq!(Reference::parse_normalized(&whole).as_ref(), Ok(&reference), "{text:?} became {whole:?}");
    // What users see is a name too. It may be another one, as in Docker: `docker.io/a.b/c` is shown as `a.b/c`.
    assert!(Reference::parse_normalized(&reference.familiar()).is_ok(), "{text:?}");
    assert!(!reference.path().contains("..") && !reference.domain().contains('/'), "{text:?}");
});
