//! `Content-Range`: what is taken for a range is one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some((start, total)) = registry::foreign::content_range(text) {
        assert!(text.starts_with("bytes "));
        assert!(total.is_none_or(|total| start < total));
    }
});
