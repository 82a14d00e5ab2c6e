//! A configuration is read and checked: it may be refused in one sentence, and what is taken means the same after it has
//! been written and read again, as it is between two calls of the runtime.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    match runtime::check_config(text) {
        Ok(spec) => {
            let written = serde_json::to_vec(&spec).expect("what was read can be written");
            let again = runtime::check_config(&written).expect("what was taken is taken again");
            assert_eq!(spec, again);
        }
        Err(error) => {
            let sentence = error.to_string();
            assert!(!sentence.is_empty() && !sentence.contains(['\n', '\0']), "{sentence:?}");
        }
    }
});
