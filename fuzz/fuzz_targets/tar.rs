//! Tars: any bytes are read to their end or to an error, and no entry comes from less than a block.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // Nothing is read of a header whose sum is wrong, and no fuzzer guesses a right one.
    let mut summed = bytes.to_vec();
    summed.chunks_exact_mut(512).filter(|block| block.iter().any(|byte| *byte != 0)).for_each(sum);
    read(&summed);
});

fn read(bytes: &[u8]) {
    if let Ok(count) = store::foreign::tar_entries(bytes) {
        assert!(count <= bytes.len() / 512);
    }
}

/// Puts the sum of all bytes where it belongs, which counts as eight spaces (POSIX ustar, `chksum`).
fn sum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    block[154] = 0;
}
