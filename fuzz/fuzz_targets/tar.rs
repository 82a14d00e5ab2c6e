//! Tars: any bytes are read to their end or to an error, and no entry comes from less than a block.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(count) = store::foreign::tar_entries(bytes) {
        assert!(count <= bytes.len() / 512);
    }
});
