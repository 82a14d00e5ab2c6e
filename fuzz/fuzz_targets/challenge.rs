//! `WWW-Authenticate`: any header is read to its end, and no challenge comes from nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|headers: Vec<&str>| {
    for (scheme, parameters) in registry::foreign::challenges(&headers) {
        assert!(!scheme.is_empty() && scheme == scheme.to_ascii_lowercase());
        assert!(parameters.iter().all(|(name, _)| !name.is_empty()));
    }
});
