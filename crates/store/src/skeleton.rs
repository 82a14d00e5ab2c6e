//! The tar of a layer without the content of its files, from which the tar is put together again bit for bit.
//!
//! A layer's tar is needed again when it is pushed elsewhere, saved or verified. Keeping it would be a second copy of
//! every file, and packing the files anew would give other bytes than the ones that were hashed: every tool orders,
//! pads and describes in its own way. So all of a tar that is no content of a file is kept beside the files,
//! compressed:
//!
//! ```text
//! layers/<diff id>/fs         the files
//!                 /tar.zst    records, in the order of the tar:
//!
//!   0  length u32, bytes                                   to be copied as they are: headers, padding, the end
//!   1  length u32, path, count u32, (offset, length u64)…  to be read from a file: the whole or, if it is sparse, parts
//! ```
//!
//! Numbers are little endian. Whether the files still are what they were is not a matter of this module: who reads the
//! tar compares its digest.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;

use crate::tree::{self, CleanPath};

/// The name beside `fs`.
pub(crate) const NAME: &str = "tar.zst";
const RAW: u8 = 0;
const CONTENT: u8 = 1;
/// Bytes of the tar that are collected before they become a record.
const PIECE: usize = 64 << 10;
/// The longest record of either kind that is believed: a path is shorter than a PAX record may be, in bytes.
const MAX_LENGTH: u32 = 2 << 20;
/// Headers repeat themselves: the fastest level makes a tenth or less of them.
const LEVEL: i32 = 1;

/// Writes down what a reader of a tar sees.
pub(crate) struct Recorder {
    out: zstd::Encoder<'static, BufWriter<File>>,
    raw: Vec<u8>,
    /// The first failure (a full disk). Told at the end, so that reading a tar has no second way to fail.
    failed: Option<io::Error>,
}

impl Recorder {
    /// Begins a new file.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let out = zstd::Encoder::new(BufWriter::new(File::create_new(path)?), LEVEL)?;
        Ok(Self { out, raw: Vec::new(), failed: None })
    }

    /// Bytes of the tar that are no content of a file.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            self.raw.extend_from_slice(piece);
            if self.raw.len() >= PIECE {
                self.flush();
            }
        }
    }

    /// What follows is the content of this file: all of these parts of it, one after another.
    pub(crate) fn content(&mut self, path: &CleanPath, parts: &[(u64, u64)]) {
        self.flush();
        let mut record = vec![CONTENT];
        record.extend_from_slice(&length_of(path.as_bytes()).to_le_bytes());
        record.extend_from_slice(path.as_bytes());
        record.extend_from_slice(&u32::try_from(parts.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (offset, length) in parts {
            record.extend_from_slice(&offset.to_le_bytes());
            record.extend_from_slice(&length.to_le_bytes());
        }
        self.write(&record);
    }

    /// Ends the file. Fails if anything could not be written.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush();
        match self.failed {
            Some(error) => Err(error),
            None => self.out.finish()?.flush(),
        }
    }

    fn flush(&mut self) {
        if self.raw.is_empty() {
            return;
        }
        let raw = std::mem::take(&mut self.raw);
        let mut head = vec![RAW];
        head.extend_from_slice(&length_of(&raw).to_le_bytes());
        self.write(&head);
        self.write(&raw);
        self.raw = raw;
        self.raw.clear();
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(bytes).err();
        }
    }
}

/// Pieces and paths are short.
fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Reads the tar of a layer.
pub(crate) struct Rebuilt {
    records: Box<dyn Read + Send>,
    /// Bytes of a raw record that are still to come.
    raw: u64,
    /// The file whose content comes next.
    content: Option<Content>,
    root: OwnedFd,
}

struct Content {
    file: OwnedFd,
    path: Vec<u8>,
    /// What is still to be read: offsets and lengths, the next one last.
    parts: Vec<(u64, u64)>,
}

impl Rebuilt {
    /// The tar of the layer in this directory (the one with `fs` inside).
    pub(crate) fn open(layer: &Path) -> io::Result<Self> {
        let records = zstd::Decoder::new(File::open(layer.join(NAME))?)?;
        let root = tree::open_root(&layer.join("fs"))?;
        Ok(Self { records: Box::new(BufReader::new(records)), raw: 0, content: None, root })
    }

    /// Reads the head of the next record; `false` at the end.
    fn next(&mut self) -> io::Result<bool> {
        let mut kind = [0];
        if self.records.read(&mut kind)? == 0 {
            return Ok(false);
        }
        let length = self.number()?;
        match kind[0] {
            RAW => self.raw = length.into(),
            CONTENT => self.content = Some(self.content(length)?),
            _ => return Err(damaged()),
        }
        Ok(true)
    }

    fn content(&mut self, length: u32) -> io::Result<Content> {
        let mut path = vec![0; usize::try_from(length).map_err(|_| damaged())?];
        self.records.read_exact(&mut path)?;
        let mut parts = Vec::new();
        for _ in 0..self.number()? {
            let mut part = [[0; 8]; 2];
            self.records.read_exact(part.as_flattened_mut())?;
            let [offset, length] = part.map(u64::from_le_bytes);
            parts.push((offset, length));
        }
        parts.reverse();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = tree::open_in_root(&self.root, &path, flags).map_err(|error| at(&path, error))?;
        Ok(Content { file, path, parts })
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.records.read_exact(&mut bytes)?;
        Some(u32::from_le_bytes(bytes)).filter(|number| *number <= MAX_LENGTH).ok_or_else(damaged)
    }
}

impl Content {
    /// As a file is read; 0 when all parts are.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some((offset, left)) = self.parts.last_mut() {
            if *left == 0 {
                self.parts.pop();
                continue;
            }
            let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
            let length =
                rustix::io::pread(&self.file, &mut buffer[..wanted], *offset).map_err(|error| at(&self.path, error))?;
            if length == 0 {
                return Err(at(&self.path, io::ErrorKind::UnexpectedEof));
            }
            *offset += length as u64;
            *left -= length as u64;
            return Ok(length);
        }
        Ok(0)
    }
}

impl Read for Rebuilt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.raw > 0 {
                let wanted = usize::try_from(self.raw).unwrap_or(usize::MAX).min(buffer.len());
                let length = self.records.read(&mut buffer[..wanted])?;
                if length == 0 {
                    return Err(damaged());
                }
                self.raw -= length as u64;
                return Ok(length);
            }
            if let Some(content) = &mut self.content {
                match content.read(buffer)? {
                    0 => self.content = None,
                    length => return Ok(length),
                }
            } else if !self.next()? {
                return Ok(0);
            }
        }
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kept metadata of the layer's tar is damaged")
}

fn at(path: &[u8], error: impl Into<io::Error>) -> io::Error {
    let (path, error) = (crate::unpack::display(path), error.into());
    io::Error::new(error.kind(), format!("reading {} of a layer: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn raw_bytes_and_contents_come_back_in_order() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("fs/d")).unwrap();
        std::fs::write(temp.path().join("fs/d/f"), b"0123456789").unwrap();
        let mut recorder = Recorder::create(&temp.path().join(NAME)).unwrap();
        let long: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        recorder.raw(&long);
        recorder.content(&CleanPath::new(b"d/f").unwrap(), &[(0, 10)]);
        recorder.raw(b"between");
        recorder.content(&CleanPath::new(b"d/f").unwrap(), &[(2, 3), (7, 1)]);
        recorder.raw(b"end");
        recorder.finish().unwrap();
        let mut read = Vec::new();
        Rebuilt::open(temp.path()).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, [&long[..], b"0123456789", b"between", b"2347", b"end"].concat());

        // A file that is shorter than it was, and one that is gone.
        std::fs::write(temp.path().join("fs/d/f"), b"0123").unwrap();
        let error = Rebuilt::open(temp.path()).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        std::fs::remove_file(temp.path().join("fs/d/f")).unwrap();
        let error = Rebuilt::open(temp.path()).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("reading d/f of a layer: "), "{error}");
    }

    proptest! {
        #[test]
        fn damaged_records_are_an_error_or_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let temp = tempfile::tempdir().unwrap();
            std::fs::create_dir(temp.path().join("fs")).unwrap();
            std::fs::write(temp.path().join(NAME), zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
            // Whatever is read is no more than what is there.
            let mut read = Vec::new();
            let _ = Rebuilt::open(temp.path()).unwrap().take(1 << 20).read_to_end(&mut read);
            prop_assert!(read.len() <= bytes.len());
        }
    }
}
