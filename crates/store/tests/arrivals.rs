//! Blobs that break off on their way in: what came is gone on with, nothing is believed of it, and other digests than
//! SHA-256 are as good.

mod support;

use std::io::{Read, Write};
use std::path::PathBuf;

use oci::digest::{Algorithm, Digester};
use oci::{Descriptor, Digest, media_type};
use store::Error;
use support::{Tar, TestStore, gzip, noise};

fn sha512(bytes: &[u8]) -> Digest {
    let mut digester = Digester::new(Algorithm::Sha512);
    digester.update(bytes);
    digester.finish()
}

struct Broken {
    test: TestStore,
    tar: Vec<u8>,
    blob: Vec<u8>,
    descriptor: Descriptor,
}

impl Broken {
    /// A store in which a download ended after so many bytes.
    fn after(length: usize) -> Self {
        let test = TestStore::new();
        let tar = Tar::new().file("f", &noise(300_000)).dir("d", 0o700).file("d/g", b"small").done();
        let blob = gzip(&tar);
        let descriptor = Descriptor::of(media_type::OCI_LAYER_GZIP, &blob);
        let broken = Self { test, tar, blob, descriptor };
        broken.write(length);
        broken
    }

    fn write(&self, length: usize) {
        let lease = self.test.store.lease();
        let mut ingest = self.test.store.layer_ingest(&lease, &self.descriptor, &Digest::of(&self.tar)).unwrap();
        ingest.write_all(&self.blob[..length]).unwrap();
    }

    fn partial(&self) -> PathBuf {
        self.test.root().join("blobs/partial").join(self.descriptor.digest.hex())
    }

    /// Goes on, and returns where it went on.
    fn resume(&self) -> store::Result<u64> {
        let lease = self.test.store.lease();
        let mut ingest = self.test.store.layer_ingest(&lease, &self.descriptor, &Digest::of(&self.tar))?;
        let offset = ingest.offset();
        let _ = ingest.write_all(&self.blob[usize::try_from(offset).unwrap()..]);
        let layer = ingest.finish()?;
        assert_eq!(std::fs::read(self.test.layer_files(&layer.diff_id).join("d/g")).unwrap(), b"small");
        assert!(!self.partial().exists());
        Ok(offset)
    }
}

#[test]
fn a_transfer_goes_on_where_it_broke_off() {
    let broken = Broken::after(200_000);
    assert_eq!(broken.partial().metadata().unwrap().len(), 200_000);
    assert_eq!(broken.resume().unwrap(), 200_000);
    assert_eq!(broken.test.leftovers(), Vec::<String>::new());
}

#[test]
fn also_after_the_store_was_closed_and_when_only_the_end_was_missing() {
    let Broken { test, tar, blob, descriptor } = Broken::after(250_000);
    let broken = Broken { test: test.reopen(), tar, blob, descriptor };
    assert_eq!(broken.resume().unwrap(), 250_000);
    let whole = broken.blob.len();
    broken.write(whole);
    assert_eq!(broken.resume().unwrap(), whole as u64);
}

#[test]
fn little_is_not_kept() {
    assert!(!Broken::after(1000).partial().exists());
}

#[test]
fn what_was_kept_is_not_believed() {
    let broken = Broken::after(200_000);
    let mut bytes = std::fs::read(broken.partial()).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(broken.partial(), &bytes).unwrap();
    let error = broken.resume().unwrap_err();
    assert!(matches!(error, Error::WrongDigest { .. } | Error::Decompress(_)), "{error}");
    assert!(!broken.partial().exists());
    assert_eq!(broken.resume().unwrap(), 0);

    // More than there can be of it.
    std::fs::write(broken.partial(), noise(broken.blob.len() + 1)).unwrap();
    assert_eq!(broken.resume().unwrap(), 0);
}

#[test]
fn two_at_once_do_not_share_a_file() {
    let broken = Broken::after(200_000);
    let (store, diff_id) = (&broken.test.store, Digest::of(&broken.tar));
    let lease = store.lease();
    let first = store.layer_ingest(&lease, &broken.descriptor, &diff_id).unwrap();
    let mut second = store.layer_ingest(&lease, &broken.descriptor, &diff_id).unwrap();
    assert_eq!((first.offset(), second.offset()), (200_000, 0));
    // What is being written is not removed.
    assert_eq!(store.partials_remove(), 0);
    second.write_all(&broken.blob).unwrap();
    second.finish().unwrap();
    drop(first);
    assert_eq!(store.partials_remove(), 200_000);
    assert!(!broken.partial().exists());
}

#[test]
fn a_part_that_nobody_comes_back_for_is_removed() {
    let broken = Broken::after(200_000);
    let file = std::fs::File::options().write(true).open(broken.partial()).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(8 * 24 * 3600)).unwrap();
    let path = broken.partial();
    let test = broken.test.reopen();
    assert!(!path.exists());
    assert_eq!(test.leftovers(), Vec::<String>::new());
}

#[test]
fn sha_512() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let tar = Tar::new().file("f", b"x").done();
    let blob = gzip(&tar);
    let digest = sha512(&blob);
    let descriptor = Descriptor::new(media_type::OCI_LAYER_GZIP, digest.clone(), blob.len() as u64);
    let mut ingest = test.store.layer_ingest(&lease, &descriptor, &sha512(&tar)).unwrap();
    ingest.write_all(&blob).unwrap();
    let layer = ingest.finish().unwrap();
    assert_eq!((&layer.diff_id, layer.blob.as_ref()), (&sha512(&tar), Some(&descriptor)));
    assert_eq!(test.store.blob_read(&digest, 1 << 20).unwrap(), blob);
    let mut read = Vec::new();
    test.store.layer_tar(&layer.diff_id).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, tar);

    let mut bad = test.store.layer_ingest(&lease, &descriptor, &Digest::of(&tar)).unwrap();
    bad.write_all(&blob[..blob.len() - 1]).unwrap();
    bad.write_all(b"!").unwrap_or_default();
    assert!(matches!(bad.finish().unwrap_err(), Error::WrongDigest { expected, .. } if expected == digest));

    let document = b"{\"a\": 1}";
    test.store.blob_put_as(&lease, &sha512(document), document).unwrap();
    assert_eq!(test.store.blob_read(&sha512(document), 100).unwrap(), document);
    assert!(test.store.blob_put_as(&lease, &sha512(b"other"), document).is_err());

    // An image of such a layer, and the same again after everything was closed.
    let image = test.image_of(&lease, vec![layer.diff_id.clone()], "");
    drop(lease);
    let test = test.reopen();
    assert_eq!(test.store.image(&image).unwrap().layers[0].diff_id, layer.diff_id);
    assert_eq!(test.store.blob_size(&digest).unwrap(), Some(blob.len() as u64));
}
