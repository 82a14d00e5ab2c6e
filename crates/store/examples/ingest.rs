//! How long does it take to take in a layer? `cargo run --example ingest -- LAYER.tar.gz [COUNT]`
//!
//! The file is verified and unpacked into a store in a temporary directory, as a pull does without the network.

use std::io::{Read, Write};
use std::time::Instant;

use oci::digest::Digest;
use oci::{Descriptor, media_type};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("which layer?")?;
    let count: usize = args.next().map_or(Ok(3), |text| text.parse())?;
    let bytes = std::fs::read(&path)?;
    let mut plain = Vec::new();
    let mut digester = oci::Digester::sha256();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain)?;
    digester.update(&plain);
    let (diff_id, size) = (digester.finish(), plain.len());
    drop(plain);
    let blob = Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::of(&bytes), bytes.len() as u64);
    for _ in 0..count {
        let dir = std::env::temp_dir().join(format!("ingest-{}", std::process::id()));
        let store = store::Store::open(&dir)?;
        let lease = store.lease();
        let start = Instant::now();
        let mut ingest = store.layer_ingest(&lease, &blob, &diff_id)?;
        for piece in bytes.chunks(64 << 10) {
            ingest.write_all(piece)?;
        }
        let layer = ingest.finish()?;
        let spent = start.elapsed();
        println!("{spent:?}: {} compressed, {size} plain, {} in files", bytes.len(), layer.size);
        drop((lease, store));
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}
