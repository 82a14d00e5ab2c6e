//! Reads a tar stream entry by entry: v7, ustar, GNU (long names, sparse files) and PAX.

use std::collections::BTreeMap;
use std::io::{BufRead, ErrorKind};

use super::{BLOCK, TarError};
use crate::skeleton::Recorder;
use crate::tree::CleanPath;

/// Longest PAX record set, GNU long name or sparse map, in bytes. Docker's own limit is the same.
pub(crate) const MAX_EXTENSION: u64 = 1 << 20;
/// Most segments of a sparse file.
const MAX_SEGMENTS: usize = 1 << 16;

type Result<T> = std::result::Result<T, TarError>;

/// A point in time; seconds may be before 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) sec: i64,
    pub(crate) nsec: u32,
}

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Regular,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry, with everything that its extension headers said already applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Length of the file that it makes, in bytes.
    pub(crate) size: u64,
    /// `SCHILY.xattr.*`.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data belongs in a sparse file: (offset, length), in order and without overlap.
    pub(crate) segments: Option<Vec<(u64, u64)>>,
}

/// Reads entries. After [`TarReader::next_entry`], [`TarReader::fill`] gives the data of the entry piece by piece; what
/// is not read is skipped.
pub(crate) struct TarReader<R> {
    source: R,
    /// Who writes down what is not content of files.
    recorder: Option<Recorder>,
    /// Bytes of data left in this entry.
    data_left: u64,
    /// Zero bytes after the data.
    padding: u64,
}

/// Values from PAX records that apply to the next entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Time>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    sparse: PaxSparse,
}

/// GNU's ways to describe a sparse file in PAX records: versions 0.0, 0.1 and 1.0.
#[derive(Default)]
struct PaxSparse {
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    /// Version 1.0: the map comes first in the data.
    map_in_data: bool,
    /// Offsets and lengths in turn.
    map: Vec<u64>,
}

impl<R: BufRead> TarReader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, recorder: None, data_left: 0, padding: 0 }
    }

    /// A reader that records everything but the data that is [announced](Self::content) and consumed.
    pub(crate) fn recording(source: R, recorder: Recorder) -> Self {
        Self { recorder: Some(recorder), ..Self::new(source) }
    }

    /// Announces that the data of this entry becomes the content of a file, all of it.
    pub(crate) fn content(&mut self, path: &CleanPath, entry: &Entry) {
        if let Some(recorder) = &mut self.recorder
            && entry.size > 0
        {
            let whole = [(0, entry.size)];
            recorder.content(path, entry.segments.as_deref().unwrap_or(&whole));
        }
    }

    /// The next entry; None at the end of the archive.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_data()?;
        let mut extensions = Extensions::default();
        // What GNU's own headers say.
        let (mut path, mut link) = (None, None);
        loop {
            let Some(block) = self.header_block()? else { return Ok(None) };
            let header = Header(&block);
            let size = header.number(124..136)?;
            match block[156] {
                b'x' => {
                    let bytes = self.extension(size)?;
                    // Of several the last one counts, as in Go; what it does not say is the header's.
                    extensions = Extensions::default();
                    parse_pax(&bytes, &mut extensions)?;
                }
                // Docker ignores what is said for all entries.
                b'g' => drop(self.extension(size)?),
                b'L' => path = Some(self.long_name(size)?),
                b'K' => link = Some(self.long_name(size)?),
                _ => {
                    extensions.path = path.or(extensions.path);
                    extensions.link = link.or(extensions.link);
                    return self.entry(&block, extensions).map(Some);
                }
            }
        }
    }

    /// The next piece of the entry's data; empty at its end. What was used is to be [consumed](Self::consume).
    pub(crate) fn fill(&mut self) -> Result<&[u8]> {
        if self.data_left == 0 {
            return Ok(&[]);
        }
        let available = fill(&mut self.source)?;
        if available.is_empty() {
            return Err(TarError::Truncated);
        }
        let length = usize::try_from(self.data_left).unwrap_or(usize::MAX).min(available.len());
        Ok(&available[..length])
    }

    /// Marks this many bytes of the data as used, as content of a file.
    pub(crate) fn consume(&mut self, length: usize) {
        self.data_left = self.data_left.saturating_sub(length as u64);
        self.source.consume(length);
    }

    /// Reads everything after the end of the archive, and returns the recorder.
    pub(crate) fn drain(mut self) -> Result<Option<Recorder>> {
        while !self.take(usize::MAX, |_| {})? {}
        Ok(self.recorder)
    }

    /// Uses up at most this many bytes that are no content, and shows them; says whether the stream has ended.
    fn take(&mut self, wanted: usize, show: impl FnOnce(&[u8])) -> Result<bool> {
        let available = fill(&mut self.source)?;
        let length = available.len().min(wanted);
        show(&available[..length]);
        if let Some(recorder) = &mut self.recorder {
            recorder.raw(&available[..length]);
        }
        self.source.consume(length);
        Ok(length == 0)
    }

    /// Skips what is left of the entry's data, and its padding. As in Go, a stream may end within the padding.
    fn skip_data(&mut self) -> Result<()> {
        let mut left = self.data_left.saturating_add(self.padding);
        let padding = std::mem::take(&mut self.padding);
        self.data_left = 0;
        while left > 0 {
            let before = left;
            let wanted = usize::try_from(left).unwrap_or(usize::MAX);
            if self.take(wanted, |bytes| left -= bytes.len() as u64)? {
                return if before <= padding { Ok(()) } else { Err(TarError::Truncated) };
            }
        }
        Ok(())
    }

    /// A block that is a header. None at the end, which is two blocks of zeros or, as Go has it, the end of the stream.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        if self.read_block(&mut block)? == 0 {
            return Ok(None);
        }
        if block == [0; BLOCK] {
            let second = self.read_block(&mut block)?;
            return if second == 0 || block == [0; BLOCK] { Ok(None) } else { Err(TarError::Header) };
        }
        Header(&block).check()?;
        Ok(Some(block))
    }

    /// Fills a block; returns 0 at the end of the stream.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<usize> {
        let mut filled = 0;
        while filled < BLOCK {
            let is_end = self.take(BLOCK - filled, |bytes| {
                block[filled..filled + bytes.len()].copy_from_slice(bytes);
                filled += bytes.len();
            })?;
            if is_end {
                return if filled == 0 { Ok(0) } else { Err(TarError::Truncated) };
            }
        }
        Ok(BLOCK)
    }

    /// The data of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(TarError::TooLong);
        }
        self.set_data(size);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        while self.data_left > 0 {
            let wanted = usize::try_from(self.data_left).unwrap_or(usize::MAX);
            let before = bytes.len();
            if self.take(wanted, |piece| bytes.extend_from_slice(piece))? {
                return Err(TarError::Truncated);
            }
            self.data_left -= (bytes.len() - before) as u64;
        }
        self.skip_data()?;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.extension(size)?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn set_data(&mut self, size: u64) {
        self.data_left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn entry(&mut self, block: &[u8; BLOCK], extensions: Extensions) -> Result<Entry> {
        let header = Header(block);
        let path = extensions.path.unwrap_or_else(|| header.path());
        let flag = block[156];
        let kind = match flag {
            // Before ustar a directory was a file whose name ends with a slash.
            0 | b'0' | b'7' | b'S' if path.ends_with(b"/") && flag != b'S' => EntryKind::Directory,
            0 | b'0' | b'7' | b'S' => EntryKind::Regular,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(TarError::Kind(other)),
        };
        let mut size = match extensions.size {
            Some(size) => size,
            None => header.number(124..136)?,
        };
        // Of other types only the header counts, whatever size they claim (Go does the same).
        if kind != EntryKind::Regular {
            size = 0;
        }
        self.set_data(size);
        let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let mut entry = Entry {
            path,
            link: extensions.link.unwrap_or_else(|| header.text(157..257)),
            kind,
            mode: u32::try_from(header.number(100..108)? & 0o7777).unwrap_or_default(),
            uid: extensions.uid.map_or_else(|| header.id(108..116), Ok)?,
            gid: extensions.gid.map_or_else(|| header.id(116..124), Ok)?,
            mtime: extensions.mtime.map_or_else(|| header.time(), Ok)?,
            major: if is_device { header.id(329..337)? } else { 0 },
            minor: if is_device { header.id(337..345)? } else { 0 },
            size,
            xattrs: extensions.xattrs.into_iter().collect(),
            segments: None,
        };
        if flag == b'S' {
            self.gnu_sparse(&header, &mut entry)?;
        } else if kind == EntryKind::Regular && extensions.sparse.real_size.is_some() {
            self.pax_sparse(extensions.sparse, &mut entry)?;
        }
        Ok(entry)
    }

    /// GNU's own sparse files: four segments in the header, more in blocks that follow it.
    fn gnu_sparse(&mut self, header: &Header<'_>, entry: &mut Entry) -> Result<()> {
        let real_size = header.number(483..495)?;
        let mut segments = Vec::new();
        header.segments(386, 4, &mut segments)?;
        let mut more = header.0[482] != 0;
        while more {
            let mut block = [0; BLOCK];
            // These blocks are not counted in the size.
            if self.read_block(&mut block)? == 0 {
                return Err(TarError::Truncated);
            }
            Header(&block).segments(0, 21, &mut segments)?;
            if segments.len() > MAX_SEGMENTS {
                return Err(TarError::TooLong);
            }
            more = block[504] != 0;
        }
        set_segments(entry, segments, real_size)
    }

    fn pax_sparse(&mut self, sparse: PaxSparse, entry: &mut Entry) -> Result<()> {
        if let Some(name) = sparse.name {
            entry.path = name;
        }
        let map = if sparse.map_in_data { self.map_in_data()? } else { sparse.map };
        if map.len() % 2 != 0 || map.len() / 2 > MAX_SEGMENTS {
            return Err(TarError::Header);
        }
        entry.size = self.data_left;
        let segments = map.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        set_segments(entry, segments, sparse.real_size.unwrap_or_default())
    }

    /// Version 1.0: decimal numbers, a line each, padded to whole blocks: how many segments, then offset and length of
    /// each.
    fn map_in_data(&mut self) -> Result<Vec<u64>> {
        let mut text = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        let mut wanted = 1;
        while numbers.len() < wanted {
            let mut block = [0; BLOCK];
            if self.data_left < BLOCK as u64 || text.len() as u64 > MAX_EXTENSION {
                return Err(TarError::Header);
            }
            if self.read_block(&mut block)? == 0 {
                return Err(TarError::Truncated);
            }
            self.data_left -= BLOCK as u64;
            text.extend_from_slice(&block);
            while numbers.len() < wanted {
                let Some(end) = text.iter().position(|byte| *byte == b'\n') else { break };
                numbers.push(decimal(&text[..end]).ok_or(TarError::Header)?);
                text.drain(..=end);
                if numbers.len() == 1 {
                    let count = usize::try_from(numbers[0]).unwrap_or(usize::MAX);
                    if count > MAX_SEGMENTS {
                        return Err(TarError::TooLong);
                    }
                    wanted = 1 + 2 * count;
                }
            }
        }
        numbers.remove(0);
        Ok(numbers)
    }
}

/// Checks that the segments are in order, inside the file, and as long together as the data.
fn set_segments(entry: &mut Entry, segments: Vec<(u64, u64)>, real_size: u64) -> Result<()> {
    let mut end = 0u64;
    let mut total = 0u64;
    for (offset, length) in &segments {
        if *offset < end {
            return Err(TarError::Header);
        }
        end = offset.checked_add(*length).ok_or(TarError::Header)?;
        total += length;
    }
    if end > real_size || total != entry.size {
        return Err(TarError::Header);
    }
    entry.size = real_size;
    entry.segments = Some(segments);
    Ok(())
}

fn fill<R: BufRead>(source: &mut R) -> Result<&[u8]> {
    // Twice, because the borrow of a first successful call cannot be returned from a loop.
    while let Err(error) = source.fill_buf() {
        if error.kind() != ErrorKind::Interrupted {
            return Err(TarError::Io(error));
        }
    }
    source.fill_buf().map_err(TarError::Io)
}

/// The fields of a header block.
struct Header<'a>(&'a [u8; BLOCK]);

impl Header<'_> {
    /// The checksum counts its own field as blanks; some old programs summed signed bytes.
    fn check(&self) -> Result<()> {
        let expected = self.number(148..156)?;
        let bytes = self.0.iter().enumerate().map(|(n, byte)| if (148..156).contains(&n) { b' ' } else { *byte });
        let unsigned: u64 = bytes.clone().map(u64::from).sum();
        let signed: i64 = bytes.map(|byte| i64::from(byte.cast_signed())).sum();
        let is_right = expected == unsigned || i64::try_from(expected) == Ok(signed);
        if is_right { Ok(()) } else { Err(TarError::Header) }
    }

    /// Text up to the first zero byte.
    fn text(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        let field = &self.0[range];
        field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())].to_vec()
    }

    /// The name, with ustar's prefix in front.
    fn path(&self) -> Vec<u8> {
        let name = self.text(0..100);
        // GNU has times and the sparse map where ustar has the prefix.
        let is_ustar = &self.0[257..263] == b"ustar\0";
        let prefix = if is_ustar { self.text(345..500) } else { Vec::new() };
        if prefix.is_empty() { name } else { [&prefix[..], b"/", &name].concat() }
    }

    /// A number that cannot be negative: octal, or base 256 if the first bit is set.
    fn number(&self, range: std::ops::Range<usize>) -> Result<u64> {
        u64::try_from(self.signed(range)?).map_err(|_| TarError::Header)
    }

    fn signed(&self, range: std::ops::Range<usize>) -> Result<i64> {
        let field = &self.0[range];
        if field[0] & 0x80 != 0 {
            // Two's complement, big endian, with the top bit used up as the mark.
            let is_negative = field[0] & 0x40 != 0;
            let mut value: i64 = if is_negative { -1 } else { 0 };
            for (n, byte) in field.iter().enumerate() {
                let byte = if n > 0 {
                    *byte
                } else if is_negative {
                    *byte | 0x80
                } else {
                    *byte & 0x7f
                };
                value = value.checked_mul(256).ok_or(TarError::Header)? | i64::from(byte);
            }
            return Ok(value);
        }
        let is_filler = |byte: &u8| *byte == b' ' || *byte == 0;
        let start = field.iter().position(|byte| !is_filler(byte)).unwrap_or(field.len());
        let digits = &field[start..];
        let digits = &digits[..digits.iter().position(is_filler).unwrap_or(digits.len())];
        digits.iter().try_fold(0i64, |value, byte| match byte {
            b'0'..=b'7' => value.checked_mul(8).map(|value| value + i64::from(byte - b'0')).ok_or(TarError::Header),
            _ => Err(TarError::Header),
        })
    }

    fn id(&self, range: std::ops::Range<usize>) -> Result<u32> {
        u32::try_from(self.number(range)?).map_err(|_| TarError::Header)
    }

    fn time(&self) -> Result<Time> {
        Ok(Time { sec: self.signed(136..148)?, nsec: 0 })
    }

    /// Pairs of 12 byte numbers, up to the first empty one.
    fn segments(&self, start: usize, count: usize, segments: &mut Vec<(u64, u64)>) -> Result<()> {
        for n in 0..count {
            let at = start + 24 * n;
            if self.0[at] == 0 {
                break;
            }
            segments.push((self.number(at..at + 12)?, self.number(at + 12..at + 24)?));
        }
        Ok(())
    }
}

/// Reads PAX records, each `length key=value\n`.
fn parse_pax(mut bytes: &[u8], extensions: &mut Extensions) -> Result<()> {
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ').ok_or(TarError::Header)?;
        let length = decimal(&bytes[..blank]).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length > blank + 1 && *length <= bytes.len()).ok_or(TarError::Header)?;
        let (record, rest) = bytes.split_at(length);
        bytes = rest;
        let record = record[blank + 1..].strip_suffix(b"\n").ok_or(TarError::Header)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(TarError::Header)?;
        pax_record(&record[..equals], &record[equals + 1..], extensions)?;
    }
    Ok(())
}

fn pax_record(key: &[u8], value: &[u8], extensions: &mut Extensions) -> Result<()> {
    let number = || decimal(value).ok_or(TarError::Header);
    let id = || number().and_then(|id| u32::try_from(id).map_err(|_| TarError::Header));
    let is_name = matches!(key, b"path" | b"linkpath" | b"GNU.sparse.name");
    if is_name && value.contains(&0) {
        return Err(TarError::Header);
    }
    // An empty value takes an earlier one back.
    let given = !value.is_empty();
    let sparse = &mut extensions.sparse;
    match key {
        b"path" => extensions.path = given.then(|| value.to_vec()),
        b"linkpath" => extensions.link = given.then(|| value.to_vec()),
        b"size" => extensions.size = given.then(number).transpose()?,
        b"uid" => extensions.uid = given.then(id).transpose()?,
        b"gid" => extensions.gid = given.then(id).transpose()?,
        b"mtime" => extensions.mtime = if given { Some(pax_time(value).ok_or(TarError::Header)?) } else { None },
        b"GNU.sparse.name" => sparse.name = Some(value.to_vec()),
        b"GNU.sparse.realsize" => {
            sparse.real_size = Some(number()?);
            sparse.map_in_data = true;
        }
        // In versions 0.x the map is in the records, and this is the real size.
        b"GNU.sparse.size" => sparse.real_size = Some(number()?),
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => sparse.map.push(number()?),
        b"GNU.sparse.map" => {
            sparse.map = value
                .split(|byte| *byte == b',')
                .filter(|text| !text.is_empty())
                .map(|text| decimal(text).ok_or(TarError::Header))
                .collect::<Result<_>>()?;
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                && !name.is_empty()
            {
                extensions.xattrs.insert(name.to_vec(), value.to_vec());
            }
        }
    }
    Ok(())
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `[-]seconds[.fraction]`
fn pax_time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (is_negative, digits) = whole.strip_prefix('-').map_or((false, whole), |digits| (true, digits));
    let sec = i64::try_from(decimal(digits.as_bytes())?).ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nsec =
        fraction.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |n, byte| n * 10 + u32::from(byte - b'0'));
    Some(match (is_negative, nsec) {
        (false, _) => Time { sec, nsec },
        (true, 0) => Time { sec: -sec, nsec: 0 },
        // -1.25 is 0.75 after -2.
        (true, _) => Time { sec: -sec - 1, nsec: 1_000_000_000 - nsec },
    })
}
