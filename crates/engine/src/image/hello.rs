//! The image `hello`: one file, the program that is running.
//!
//! A fresh machine has something to run before it has reached a registry: the engine puts its own executable into a layer and
//! names it `hello:latest`. It is made when it is first asked for, never fetched, and made anew after an upgrade.

use std::fs::File;
use std::io::{self, Read};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use oci::image_config::{Config, History};
use oci::reference::Reference;
use oci::{Descriptor, Digest, ImageConfig, Manifest, media_type};
use store::{NewImage, Store};

use crate::error::{Error, Kind, Result};

/// The only tag.
pub(super) const TAG: &str = "latest";
/// Where the program is in the image.
const PATH: &str = "gantry";

/// What making the image gave.
#[derive(Debug)]
pub(super) struct Made {
    /// Of its manifest.
    pub(super) digest: Digest,
    /// The name led to it before.
    pub(super) up_to_date: bool,
}

/// `docker.io/library/hello:latest`.
pub(super) fn reference() -> Reference {
    // A constant that the tests parse.
    Reference::parse_normalized("hello").expect("hello is a name").with_default_tag()
}

/// Does this reference mean the image that comes with the program?
pub(super) fn is_meant(reference: &Reference) -> bool {
    reference.clone().with_default_tag() == self::reference()
}

/// Makes the image from the running program, unless it is here.
pub(super) fn create(store: &Store) -> Result<Made> {
    let failed = |error: io::Error| Error::caused(Kind::System, "reading the running program", error);
    let program = File::open("/proc/self/exe").map_err(failed)?;
    let metadata = program.metadata().map_err(failed)?;
    let built = metadata.modified().unwrap_or(UNIX_EPOCH);
    let lease = store.lease();
    let layer = store.layer_import(&lease, None, tar_of(program, metadata.len(), built).map_err(failed)?)?;
    let config = configuration(&layer.diff_id, built);
    // A plain tar is not kept as a blob: it is put together again from the files.
    let plain = || Descriptor::new(media_type::OCI_LAYER, layer.diff_id.clone(), layer.tar_size);
    let blob = layer.blob.clone().unwrap_or_else(plain);
    let documents = vec![blob.digest.clone()];
    // Plain tar: OCI's types have a name for that.
    let mut manifest = Manifest::docker(Descriptor::of(media_type::OCI_CONFIG, &config), vec![blob]);
    manifest.media_type = Some(media_type::OCI_MANIFEST.to_owned());
    let manifest = manifest.to_bytes();
    let digest = store.blob_put(&lease, &manifest)?;
    let name = reference();
    let before = store.image_named(&name)?;
    let image = NewImage {
        config,
        manifest: Some(Descriptor::of(media_type::OCI_MANIFEST, &manifest)),
        repo_digests: vec![name.with_digest(digest.clone())],
        tags: vec![name],
        documents,
        ..NewImage::default()
    };
    let id = store.image_create(&lease, image)?;
    Ok(Made { digest, up_to_date: before == Some(id) })
}

/// A tar with the program as its only file, read from the disk as it is needed.
fn tar_of(program: File, size: u64, built: SystemTime) -> io::Result<impl Read> {
    let mut header = tar::Header::new_gnu();
    header.set_path(PATH)?;
    header.set_size(size);
    header.set_mode(0o755);
    header.set_mtime(built.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let head = io::Cursor::new(header.as_bytes().to_vec());
    // Files are filled up to whole blocks of 512 bytes, and two empty blocks end the archive.
    let padding = (512 - size % 512) % 512 + 1024;
    Ok(head.chain(program.take(size)).chain(io::repeat(0).take(padding)))
}

fn configuration(diff_id: &Digest, built: SystemTime) -> Vec<u8> {
    let created = Timestamp::try_from(built).unwrap_or_default();
    // Whole seconds, as in the layer.
    let created = api::time::rfc3339(Timestamp::from_second(created.as_second()).unwrap_or_default());
    let mut image = ImageConfig {
        architecture: crate::system::architecture().to_owned(),
        os: "linux".to_owned(),
        created: Some(created.clone()),
        author: "Gantry".to_owned(),
        config: Some(Config {
            entrypoint: Some(vec![format!("/{PATH}"), "hello-inside".to_owned()]),
            ..Config::default()
        }),
        history: vec![History {
            created: Some(created),
            created_by: "the running program, copied into a layer".to_owned(),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    image.rootfs.diff_ids.push(diff_id.clone());
    image.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hello_is_meant() {
        let means = |text: &str| is_meant(&Reference::parse_normalized(text).unwrap());
        assert!(means("hello") && means("hello:latest") && means("docker.io/library/hello"));
        assert!(!means("hello:1") && !means("a/hello") && !means("localhost:5000/hello"));
    }

    #[test]
    fn it_is_made_once() {
        let dir = std::env::temp_dir().join(format!("gantry-hello-{}", crate::engine::random_id()));
        let store = Store::open(&dir).unwrap();
        let first = create(&store).unwrap();
        let again = create(&store).unwrap();
        assert_eq!((first.up_to_date, again.up_to_date), (false, true));
        assert_eq!(first.digest, again.digest);
        let image = store.image(&store.image_resolve("hello").unwrap()).unwrap();
        let file = store.root().join("layers").join(image.layers[0].diff_id.hex()).join("fs").join(PATH);
        let (inside, running) = (std::fs::metadata(file).unwrap(), std::fs::metadata("/proc/self/exe").unwrap());
        assert_eq!(inside.len(), running.len());
        drop(store);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
