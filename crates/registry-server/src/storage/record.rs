//! Records: of which parts a blob or an upload consists.

use oci::digest::{Algorithm, Digester};
use serde::{Deserialize, Serialize};
use std::ops::Range;

use super::layout;
use object_store::path::Path;

/// A part: an object under `data/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) id: String,
    /// In bytes.
    pub(crate) size: u64,
}

/// A blob: its parts in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) parts: Vec<Part>,
}

/// An upload that goes on. The hash stands beside the parts that it was made from, in one document, so that the two can
/// never disagree, whoever writes it last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UploadState {
    /// The repository it was begun in.
    pub(crate) repository: String,
    pub(crate) parts: Vec<Part>,
    /// SHA-256 of the parts so far ([`Digester::state`]), hex.
    hash: String,
}

impl Record {
    pub(crate) fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }

    /// The keys of the parts that a range of the blob lies in, and which bytes of each.
    pub(crate) fn slices(&self, range: &Range<u64>) -> Vec<(Path, Range<u64>)> {
        let mut start = 0;
        let mut slices = Vec::new();
        for part in &self.parts {
            let end = start + part.size;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                slices.push((layout::data(&part.id), from - start..to - start));
            }
            start = end;
        }
        slices
    }
}

impl UploadState {
    pub(crate) fn new(repository: &str) -> Self {
        Self { repository: repository.to_owned(), parts: Vec::new(), hash: hex::encode(Digester::sha256().state()) }
    }

    /// Bytes that arrived.
    pub(crate) fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }

    /// The hash so far; None when another version of the program wrote it, and the parts must be read again.
    pub(crate) fn digester(&self) -> Option<Digester> {
        Digester::resume(Algorithm::Sha256, &hex::decode(&self.hash).ok()?)
    }

    /// Adds a part that the digester has seen.
    pub(crate) fn add(&mut self, part: Part, digester: &Digester) {
        if part.size > 0 {
            self.parts.push(part);
        }
        self.hash = hex::encode(digester.state());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_finds_its_parts() {
        let part = |id: &str, size| Part { id: id.into(), size };
        let record = Record { parts: vec![part("aa", 10), part("bb", 5), part("cc", 1)] };
        let slices = |range| record.slices(&range).into_iter().map(|(_, range)| range).collect::<Vec<_>>();
        assert_eq!(record.size(), 16);
        assert_eq!(slices(0..16), [0..10, 0..5, 0..1]);
        assert_eq!(slices(9..11), [9..10, 0..1]);
        assert_eq!(slices(15..16), vec![0..1; 1]);
        assert_eq!(slices(16..16), []);
    }
}
