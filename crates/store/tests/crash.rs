//! A process that is killed at any moment leaves a store that opens clean.
//!
//! The test runs itself as a child that works without pause, and kills it again and again.

mod support;

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci::{Descriptor, Digest, Reference, media_type};
use store::{ImageUsers, NewImage, SnapshotOptions, Store};
use support::{Tar, config, gzip, path_of};

const DIRECTORY: &str = "STORE_CRASH_TEST_DIRECTORY";
const ROUNDS: u32 = 150;

/// Not a test by itself: the child's work, without end.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let store = Store::open(&dir).unwrap();
    println!("open");
    for round in 0u32.. {
        work(&store, round).unwrap();
    }
}

fn tar(mark: u32) -> Vec<u8> {
    let mut tar = Tar::new().dir("d/", 0o755).file("d/mark", mark.to_string().as_bytes());
    for n in 0..30 {
        tar = tar.file(&format!("d/file{n}"), &vec![n; 3000]);
    }
    // Large enough for a part of it to be kept.
    let noise = support::noise(100_000);
    tar.file("noise", &noise).symlink("l", "d/mark").hardlink("h", "d/mark").file("etc/.wh.gone", b"").done()
}

fn work(store: &Store, round: u32) -> store::Result<()> {
    let mark = round % 3;
    let (name, id) = (format!("image{mark}"), format!("c{round}-{}", std::process::id()));
    let lease = store.lease();
    let tar = tar(mark);
    let (blob, diff_id) = (gzip(&tar), Digest::of(&tar));
    if store.layer_hold(&lease, &diff_id)?.is_none() {
        let mut ingest = store.layer_ingest(&lease, &Descriptor::of(media_type::OCI_LAYER_GZIP, &blob), &diff_id)?;
        // An earlier process may have been killed in the middle of this blob.
        let offset = usize::try_from(ingest.offset()).unwrap();
        for piece in blob[offset..].chunks(20_000) {
            std::io::Write::write_all(&mut ingest, piece).unwrap();
        }
        ingest.finish()?;
    }
    let manifest = format!("manifest {mark}");
    store.blob_put(&lease, manifest.as_bytes())?;
    let reference: Reference = name.parse().unwrap();
    let new = NewImage {
        config: config(vec![diff_id.clone()], &name),
        manifest: Some(Descriptor::of(media_type::OCI_MANIFEST, manifest.as_bytes())),
        tags: vec![reference],
        ..NewImage::default()
    };
    let image = store.image_create(&lease, new)?;
    store.snapshot_create(&id, Some(&image), SnapshotOptions { ephemeral: true })?;
    let mount = store.snapshot_mount(&id)?;
    std::fs::write(path_of(&mount).join("d/file3"), b"changed").unwrap();
    std::fs::create_dir(path_of(&mount).join("new")).unwrap();
    std::fs::write(path_of(&mount).join("new/x"), round.to_string()).unwrap();
    drop(mount);
    let layer = store.snapshot_commit(&lease, &id)?;
    let committed = NewImage {
        config: config(vec![diff_id, layer.diff_id.clone()], &round.to_string()),
        parent: Some(image),
        tags: vec![format!("committed{mark}").parse().unwrap()],
        ..NewImage::default()
    };
    let committed = store.image_create(&lease, committed)?;
    if round.is_multiple_of(2) {
        store.layer_blob(&lease, &layer.diff_id, |_, _| {})?;
    }
    drop(lease);
    store.snapshot_remove(&id)?;
    let nobody = |_: &store::ImageId| ImageUsers::default();
    store.image_remove(committed.digest().hex(), true, true, &nobody)?;
    Ok(())
}

/// Everything that is there belongs to something, and everything that belongs is there.
fn check(dir: &Path) {
    let store = Store::open(dir).unwrap();
    store.drain();
    let mut layers = BTreeSet::new();
    for image in store.images().unwrap() {
        assert!(image.config.comment.len() < 10);
        layers.extend(image.layers.iter().map(|layer| layer.diff_id.clone()));
        if let Some(manifest) = &image.manifest {
            assert!(store.blob_size(&manifest.digest).unwrap().is_some());
        }
    }
    let names = |sub: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(dir.join(sub)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    for (id, _) in store.snapshots() {
        // A container whose engine died: it can be used, and removed.
        drop(store.snapshot_mount(&id).unwrap());
        store.snapshot_remove(&id).unwrap();
    }
    store.collect_garbage().unwrap();
    store.drain();
    for diff_id in &layers {
        store.layer_tar(diff_id).unwrap().read_to_end(&mut Vec::new()).unwrap();
        // Its files are whole as well.
        let path = dir.join("layers").join(diff_id.hex()).join("fs");
        assert!(path.join("d/mark").exists() || path.join("new/x").exists());
    }
    let mut expected: BTreeSet<String> = layers.iter().map(|diff_id| diff_id.hex().to_owned()).collect();
    expected.insert("unpacking".to_owned());
    assert_eq!(names("layers"), expected);
    for empty in ["blobs/ingest", "layers/unpacking", "removing", "snapshots"] {
        assert_eq!(names(empty), BTreeSet::new(), "{empty}");
    }
    let lease = store.lease();
    let blobs: BTreeSet<String> = layers
        .iter()
        .filter_map(|diff_id| store.layer_hold(&lease, diff_id).unwrap().unwrap().blob)
        .map(|blob| blob.digest.hex().to_owned())
        .collect();
    assert_eq!(names("blobs/sha256"), blobs);
}

#[test]
fn killed_at_any_moment() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("store");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let started = Instant::now();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(DIRECTORY, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Every third time it is killed while it opens the store and cleans up; otherwise in its work.
        if round % 3 != 0 {
            let mut output = child.stdout.take().unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"open\n") {
                let mut byte = [0];
                assert_eq!(output.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&seen));
                seen.push(byte[0]);
            }
        }
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // The moment itself is what is random here: there is no event to wait for.
        std::thread::sleep(Duration::from_micros(seed % 60_000));
        child.kill().unwrap();
        // What ends by itself has failed.
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        check(&dir);
    }
    println!("{ROUNDS} kills in {:?}", started.elapsed());
}
