//! Which key holds what. The same for a directory and for object storage.
//!
//! ```text
//! times                                                    how long what nothing points to is kept
//! data/<xx>/<id>                                           bytes of a part: written once, never changed
//! uploads/<id>                                             an upload that goes on: its parts, and the hash so far
//! blobs/<alg>/<xx>/<hex>/<size>.<gen>[.<id>]               a record: of which parts a blob consists (<id>: of this alone)
//! repositories/<name>/_blobs/<alg>/<hex>/<size>.<gen>      a link: the blob is visible in this repository
//! repositories/<name>/_manifests/<alg>/<hex>/<size>.<gen>  a manifest, byte for byte
//! repositories/<name>/_tags/<tag>                          the digest that a tag stands for
//! repositories/<name>/_referrers/<alg>/<hex>/<alg>.<hex>.<gen>
//!                                                          the descriptor of a manifest that has this subject
//! ```
//!
//! Parts of a repository's name never begin with `_`. What others rely on has generations (`<gen>`, random): renewing it means
//! writing the next, so whoever removes an old one never removes a new one by mistake. See module `gc`.

use object_store::path::Path;
use oci::digest::{Algorithm, Digest};

use super::record::Part;
use crate::name::Name;

/// Everything below here is data of parts.
pub(crate) const DATA: &str = "data";
/// Everything below here is an upload that goes on.
pub(crate) const UPLOADS: &str = "uploads";
/// Everything below here is a record of a blob.
pub(crate) const BLOBS: &str = "blobs";
/// Where object storage is asked for its time: each object is removed at once, unless its process is killed.
pub(crate) const CLOCK: &str = "clock";
/// Everything below here is a repository.
pub(crate) const REPOSITORIES: &str = "repositories";

/// A random id: of parts, uploads and generations.
pub(crate) fn random_id() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(hex::encode(bytes))
}

/// Is this an id as [`random_id`] makes them? Clients send them back in paths.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn data(id: &str) -> Path {
    Path::from_iter([DATA, &id[..2.min(id.len())], id])
}

pub(crate) fn upload(id: &str) -> Path {
    Path::from_iter([UPLOADS, id])
}

/// The directory of a blob's records.
pub(crate) fn records(digest: &Digest) -> Path {
    let hex = digest.hex();
    Path::from_iter([BLOBS, digest.algorithm().name(), &hex[..2], hex])
}

fn inside(name: &Name, kind: &str) -> Path {
    let parts = [REPOSITORIES].into_iter().chain(name.as_str().split('/')).chain([kind]);
    Path::from_iter(parts)
}

fn hashed(name: &Name, kind: &str, digest: &Digest) -> Path {
    inside(name, kind).join(digest.algorithm().name()).join(digest.hex())
}

/// The directory of all links of a repository.
pub(crate) fn all_links(name: &Name) -> Path {
    inside(name, "_blobs")
}

/// The directory of a blob's links in a repository.
pub(crate) fn links(name: &Name, digest: &Digest) -> Path {
    hashed(name, "_blobs", digest)
}

/// The directory of all manifests of a repository.
pub(crate) fn manifests(name: &Name) -> Path {
    inside(name, "_manifests")
}

/// The directory of a manifest's generations.
pub(crate) fn manifest(name: &Name, digest: &Digest) -> Path {
    hashed(name, "_manifests", digest)
}

/// The directory of a repository's tags.
pub(crate) fn tags(name: &Name) -> Path {
    inside(name, "_tags")
}

pub(crate) fn tag(name: &Name, tag: &str) -> Path {
    tags(name).join(tag)
}

/// The directory of the descriptors of all manifests that have this subject.
pub(crate) fn referrers(name: &Name, subject: &Digest) -> Path {
    hashed(name, "_referrers", subject)
}

pub(crate) fn referrer(name: &Name, subject: &Digest, manifest: &Digest, generation: &str) -> Path {
    referrers(name, subject).join(format!("{}.{}.{generation}", manifest.algorithm().name(), manifest.hex()))
}

/// The manifest that a referrer's key says.
pub(crate) fn referrer_of(generation: &str) -> Option<Digest> {
    let mut parts = generation.split('.');
    digest(parts.next()?, parts.next()?)
}

/// The directory of the referrers of all manifests of a repository.
pub(crate) fn all_referrers(name: &Name) -> Path {
    inside(name, "_referrers")
}

/// The last part of a link's key, and of a record's with several parts.
pub(crate) fn generation(size: u64) -> std::io::Result<String> {
    Ok(format!("{size}.{}", random_id()?))
}

/// The last part of the key of a record with one part: a listing tells all there is to know.
pub(crate) fn generation_of_part(part: &Part) -> std::io::Result<String> {
    Ok(format!("{}.{}", generation(part.size)?, part.id))
}

/// The one part that a record's key says, if it does.
pub(crate) fn part_of(generation: &str) -> Option<Part> {
    let id = generation.splitn(3, '.').nth(2)?;
    is_id(id).then(|| Part { id: id.to_owned(), size: size_of(generation).unwrap_or(0) })
}

/// The size that a record's or link's key says.
pub(crate) fn size_of(generation: &str) -> Option<u64> {
    generation.split_once('.')?.0.parse().ok()
}

/// What a key below [`REPOSITORIES`] is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// A link, with its generation.
    Link(Digest, String),
    /// A manifest, with its generation.
    Manifest(Digest, String),
    /// A tag.
    Tag(String),
    /// A referrer: subject, and the manifest that has it.
    Referrer(Digest, Digest),
}

/// Reads a key below [`REPOSITORIES`]; None for what Gantry did not write.
pub(crate) fn parse(key: &Path) -> Option<(Name, Inside)> {
    let text = key.as_ref().strip_prefix(REPOSITORIES)?.strip_prefix('/')?;
    let (name, rest) = text.split_once("/_")?;
    let name = Name::parse(name)?;
    let parts: Vec<&str> = rest.split('/').collect();
    let inside = match parts[..] {
        ["blobs", algorithm, hex, generation] => Inside::Link(digest(algorithm, hex)?, generation.to_owned()),
        ["manifests", algorithm, hex, generation] => Inside::Manifest(digest(algorithm, hex)?, generation.to_owned()),
        ["tags", tag] => Inside::Tag(tag.to_owned()),
        ["referrers", algorithm, hex, manifest] => Inside::Referrer(digest(algorithm, hex)?, referrer_of(manifest)?),
        _ => return None,
    };
    Some((name, inside))
}

/// Reads the key of a record: which blob, and the generation.
pub(crate) fn parse_record(key: &Path) -> Option<(Digest, String)> {
    let parts: Vec<&str> = key.as_ref().split('/').collect();
    match parts[..] {
        [BLOBS, algorithm, _, hex, generation] => Some((digest(algorithm, hex)?, generation.to_owned())),
        _ => None,
    }
}

/// A digest whose algorithm and hex digits stand in different parts of a key.
pub(crate) fn digest(algorithm: &str, hex: &str) -> Option<Digest> {
    format!("{algorithm}:{hex}").parse().ok()
}

/// The algorithms that content may be pushed under: the two of the OCI image specification.
pub(crate) fn is_supported(digest: &Digest) -> bool {
    matches!(digest.algorithm(), Algorithm::Sha256 | Algorithm::Sha512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let name = Name::parse("team/app").unwrap();
        let (blob, other) = (Digest::of(b"a"), Digest::of(b"b"));
        let link = generation(7).unwrap();
        assert_eq!(size_of(&link), Some(7));
        for (key, inside) in [
            (links(&name, &blob).join(link.as_str()), Inside::Link(blob.clone(), link.clone())),
            (manifest(&name, &blob).join(link.as_str()), Inside::Manifest(blob.clone(), link)),
            (tag(&name, "v1"), Inside::Tag("v1".into())),
            (referrer(&name, &blob, &other, "x"), Inside::Referrer(blob.clone(), other.clone())),
        ] {
            assert_eq!(parse(&key), Some((name.clone(), inside)), "{key}");
        }
        let part = Part { id: random_id().unwrap(), size: 9 };
        let generation = generation_of_part(&part).unwrap();
        assert_eq!((size_of(&generation), part_of(&generation)), (Some(9), Some(part)));
        assert_eq!(part_of("9.abc"), None);
        let record = records(&blob).join("3.x");
        assert_eq!(parse_record(&record), Some((blob, "3.x".into())));
    }
}
