//! How long do the steps of a container's life take in the store? `cargo run --example latency`

use std::time::Instant;

use store::{NewImage, SnapshotOptions, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("latency-{}", std::process::id()));
    let start = Instant::now();
    let store = Store::open(&dir)?;
    println!("open      {:?}", start.elapsed());
    let lease = store.lease();
    let layer = store.layer_import(&lease, None, &[0; 1024][..])?;
    let config = format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, layer.diff_id);
    let start = Instant::now();
    let image = store.image_create(&lease, NewImage { config: config.into_bytes(), ..NewImage::default() })?;
    println!("image     {:?}", start.elapsed());
    for n in 0..4 {
        let id = format!("c{n}");
        let start = Instant::now();
        store.image(&store.image_resolve(image.short())?)?;
        let found = start.elapsed();
        store.snapshot_create(&id, Some(&image), SnapshotOptions { ephemeral: n % 2 == 0 })?;
        let created = start.elapsed();
        let mount = store.snapshot_mount(&id)?;
        let mounted = start.elapsed();
        drop(mount);
        let unmounted = start.elapsed();
        store.snapshot_remove(&id)?;
        println!(
            "image {found:?}, create {:?}, mount {:?}, unmount {:?}, remove {:?}",
            created - found,
            mounted - created,
            unmounted - mounted,
            start.elapsed() - unmounted
        );
    }
    drop((lease, store));
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
