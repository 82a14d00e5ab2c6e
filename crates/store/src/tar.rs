//! Tar, as far as images need it: reading every dialect that is about, writing PAX.
//!
//! Written for streams from strangers: no record can make it use more than [`read::MAX_EXTENSION`] bytes of memory,
//! and nothing is believed about a stream that its bytes do not bear out.

pub(crate) mod read;
pub(crate) mod write;

use std::io;

pub(crate) use self::read::{Entry, EntryKind, TarReader, Time};
pub(crate) use self::write::TarWriter;

/// Length of a block: everything in a tar is a multiple of it, in bytes.
pub(crate) const BLOCK: usize = 512;

/// What is wrong with a tar stream. Texts as those of Go's archive/tar, which Docker passes on.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It ends in the middle.
    #[error("unexpected EOF")]
    Truncated,
    /// A header with a wrong checksum or field.
    #[error("archive/tar: invalid tar header")]
    Header,
    /// A record of attributes or a name that is unreasonably long.
    #[error("archive/tar: header field too long")]
    TooLong,
    /// An entry of a type that nothing can be made of.
    #[error("unhandled tar header type {0}")]
    Kind(u8),
    /// Reading the stream failed.
    #[error("reading the tar stream: {0}")]
    Io(#[source] io::Error),
}
