//! Writes a tar stream: ustar headers, and PAX records for whatever does not fit into them, as Go's archive/tar does.
//!
//! The same entries always give the same bytes, so that the same changes give the same layer.

use std::io::{self, Write};

use super::{BLOCK, Entry, EntryKind, Time};

/// Writes entries; [`TarWriter::finish`] ends the archive.
pub(crate) struct TarWriter<W> {
    out: W,
    /// Data of the current entry that is still to come, and the zeros after it.
    data_left: u64,
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, data_left: 0, padding: 0 }
    }

    /// Begins an entry. Exactly `entry.size` bytes of [data](Self::data) have to follow if it is a regular file.
    pub(crate) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        debug_assert_eq!(self.data_left, 0, "the data of the last entry is complete");
        let records = pax_records(entry);
        if !records.is_empty() {
            let header = pax_header(entry, records.len());
            self.out.write_all(&header)?;
            self.out.write_all(&records)?;
            self.out.write_all(&[0; BLOCK][..padding_of(records.len() as u64)])?;
        }
        self.out.write_all(&header(entry))?;
        self.data_left = if entry.kind == EntryKind::Regular { entry.size } else { 0 };
        self.padding = padding_of(self.data_left);
        self.pad()
    }

    /// Data of the entry.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        debug_assert!(bytes.len() as u64 <= self.data_left, "more data than announced");
        self.out.write_all(bytes)?;
        self.data_left -= bytes.len() as u64;
        self.pad()
    }

    fn pad(&mut self) -> io::Result<()> {
        if self.data_left == 0 {
            self.out.write_all(&[0; BLOCK][..std::mem::take(&mut self.padding)])?;
        }
        Ok(())
    }

    /// Ends the archive: two blocks of zeros.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn padding_of(length: u64) -> usize {
    // Less than a block.
    ((BLOCK as u64 - length % BLOCK as u64) % BLOCK as u64) as usize
}

fn flag(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Regular => b'0',
        EntryKind::HardLink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::CharDevice => b'3',
        EntryKind::BlockDevice => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}

/// What a header block says.
struct Fields<'a> {
    path: &'a [u8],
    link: &'a [u8],
    flag: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    major: u32,
    minor: u32,
}

fn header(entry: &Entry) -> [u8; BLOCK] {
    block(&Fields {
        path: &entry.path,
        link: &entry.link,
        flag: flag(entry.kind),
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        size: if entry.kind == EntryKind::Regular { entry.size } else { 0 },
        mtime: entry.mtime.sec,
        major: entry.major,
        minor: entry.minor,
    })
}

/// The header of an entry's PAX records, with a name for programs that take it for a file.
fn pax_header(entry: &Entry, length: usize) -> [u8; BLOCK] {
    let trimmed = entry.path.strip_suffix(b"/").unwrap_or(&entry.path);
    let (dir, base) = match trimmed.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => trimmed.split_at(slash + 1),
        None => (&b""[..], trimmed),
    };
    let path: Vec<u8> = [dir, b"PaxHeaders.0/", base].concat().into_iter().filter(u8::is_ascii).collect();
    block(&Fields {
        path: &path,
        link: b"",
        flag: b'x',
        mode: 0,
        uid: 0,
        gid: 0,
        size: length as u64,
        mtime: 0,
        major: 0,
        minor: 0,
    })
}

fn block(fields: &Fields<'_>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    text(&mut block[0..100], fields.path);
    number(&mut block[100..108], u64::from(fields.mode));
    number(&mut block[108..116], u64::from(fields.uid));
    number(&mut block[116..124], u64::from(fields.gid));
    number(&mut block[124..136], fields.size);
    number(&mut block[136..148], u64::try_from(fields.mtime).unwrap_or_default());
    block[156] = fields.flag;
    text(&mut block[157..257], fields.link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    number(&mut block[329..337], u64::from(fields.major));
    number(&mut block[337..345], u64::from(fields.minor));
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    number(&mut block[148..155], sum);
    block
}

/// As much of a text as fits, and only if it is ASCII; otherwise a PAX record has it.
fn text(field: &mut [u8], value: &[u8]) {
    let ascii = value.iter().filter(|byte| byte.is_ascii());
    for (target, byte) in field.iter_mut().zip(ascii) {
        *target = *byte;
    }
}

/// Octal digits and a zero byte. A number that does not fit is written as 0; a PAX record has it.
fn number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let value = if fits(value, digits) { value } else { 0 };
    for (n, target) in field[..digits].iter_mut().enumerate() {
        *target = b'0' + ((value >> (3 * (digits - 1 - n))) & 7) as u8;
    }
    field[digits] = 0;
}

fn fits(value: u64, digits: usize) -> bool {
    3 * digits >= 64 || value >> (3 * digits) == 0
}

/// The records that an entry needs, sorted by key.
fn pax_records(entry: &Entry) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (key, value) in &entry.xattrs {
        // A key with an equals sign cannot be written.
        if !key.contains(&b'=') {
            records.push(([b"SCHILY.xattr.", &key[..]].concat(), value.clone()));
        }
    }
    if !fits(u64::from(entry.gid), 7) {
        records.push((b"gid".to_vec(), entry.gid.to_string().into_bytes()));
    }
    if entry.link.len() > 100 || !entry.link.is_ascii() {
        records.push((b"linkpath".to_vec(), entry.link.clone()));
    }
    if entry.mtime.nsec != 0 || entry.mtime.sec < 0 || !fits(entry.mtime.sec.unsigned_abs(), 11) {
        records.push((b"mtime".to_vec(), pax_time(entry.mtime).into_bytes()));
    }
    if entry.path.len() > 100 || !entry.path.is_ascii() {
        records.push((b"path".to_vec(), entry.path.clone()));
    }
    if entry.kind == EntryKind::Regular && !fits(entry.size, 11) {
        records.push((b"size".to_vec(), entry.size.to_string().into_bytes()));
    }
    if !fits(u64::from(entry.uid), 7) {
        records.push((b"uid".to_vec(), entry.uid.to_string().into_bytes()));
    }
    records.sort();
    let mut bytes = Vec::new();
    for (key, value) in records {
        pax_record(&key, &value, &mut bytes);
    }
    bytes
}

/// `length key=value\n`, where the length counts its own digits.
fn pax_record(key: &[u8], value: &[u8], bytes: &mut Vec<u8>) {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    bytes.extend_from_slice(format!("{length} ").as_bytes());
    bytes.extend_from_slice(key);
    bytes.push(b'=');
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
}

/// Seconds with as many decimals as needed; before 1970 the fraction counts towards the past.
fn pax_time(time: Time) -> String {
    let (sign, sec, nsec) = match (time.sec, time.nsec) {
        (sec, 0) => return sec.to_string(),
        (sec, nsec) if sec < 0 => ("-", (sec + 1).unsigned_abs(), 1_000_000_000 - nsec),
        (sec, nsec) => ("", sec.unsigned_abs(), nsec),
    };
    let text = format!("{sign}{sec}.{nsec:09}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::TarReader;
    use super::*;

    fn entry_strategy() -> impl Strategy<Value = (Entry, Vec<u8>)> {
        let kind = prop_oneof![
            Just(EntryKind::Regular),
            Just(EntryKind::HardLink),
            Just(EntryKind::Symlink),
            Just(EntryKind::CharDevice),
            Just(EntryKind::Directory),
            Just(EntryKind::Fifo),
        ];
        let name = proptest::collection::vec(1u8..=255, 1..200);
        let xattrs = proptest::collection::btree_map(
            "[a-z]{1,5}\\.[a-z]{1,8}",
            proptest::collection::vec(any::<u8>(), 0..30),
            0..3,
        );
        let data = proptest::collection::vec(any::<u8>(), 0..2000);
        let time = (-5_000_000_000i64..20_000_000_000, prop_oneof![Just(0u32), 0u32..1_000_000_000]);
        (kind, name.clone(), name, 0u32..0o10000, any::<(u32, u32)>(), time, 0u32..4000, xattrs, data).prop_map(
            |(kind, mut path, link, mode, (uid, gid), (sec, nsec), device, xattrs, data)| {
                // The name of a regular file that ends with a slash is a directory to readers.
                while path.last() == Some(&b'/') {
                    path.pop();
                }
                path.push(b'x');
                let is_link = matches!(kind, EntryKind::HardLink | EntryKind::Symlink);
                let is_device = kind == EntryKind::CharDevice;
                let data = if kind == EntryKind::Regular { data } else { Vec::new() };
                let entry = Entry {
                    path,
                    link: if is_link { link } else { Vec::new() },
                    kind,
                    mode,
                    uid,
                    gid,
                    mtime: Time { sec, nsec },
                    major: if is_device { device } else { 0 },
                    minor: if is_device { device / 2 } else { 0 },
                    size: data.len() as u64,
                    xattrs: xattrs.into_iter().map(|(key, value)| (key.into_bytes(), value)).collect(),
                    segments: None,
                };
                (entry, data)
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entries in proptest::collection::vec(entry_strategy(), 0..6)) {
            let mut writer = TarWriter::new(Vec::new());
            for (entry, data) in &entries {
                writer.entry(entry).unwrap();
                writer.data(data).unwrap();
            }
            let bytes = writer.finish().unwrap();
            let mut reader = TarReader::new(&bytes[..]);
            for (entry, data) in &entries {
                let found = reader.next_entry().unwrap().unwrap();
                prop_assert_eq!(&found, entry);
                let mut read = Vec::new();
                loop {
                    let piece = reader.fill().unwrap().to_vec();
                    if piece.is_empty() {
                        break;
                    }
                    reader.consume(piece.len());
                    read.extend(piece);
                }
                prop_assert_eq!(&read, data);
            }
            prop_assert!(reader.next_entry().unwrap().is_none());
            // Another implementation agrees about the names, but for line feeds, which it takes for the end of a record.
            let has_line_feed = |bytes: &Vec<u8>| bytes.contains(&b'\n');
            prop_assume!(!entries.iter().any(|(entry, _)| has_line_feed(&entry.path)
                || has_line_feed(&entry.link)
                || entry.xattrs.iter().any(|(_, value)| has_line_feed(value))));
            let mut other = tar::Archive::new(&bytes[..]);
            let names: Vec<Vec<u8>> = other.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned()).collect();
            prop_assert_eq!(names, entries.iter().map(|(entry, _)| entry.path.clone()).collect::<Vec<_>>());
        }

        #[test]
        fn reading_garbage_ends(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let mut reader = TarReader::new(&bytes[..]);
            while let Ok(Some(_)) = reader.next_entry() {}
        }

        #[test]
        fn reading_flipped_bits_ends(flips in proptest::collection::vec((0usize..4096, 0u8..8), 1..8), (entry, data) in entry_strategy()) {
            let mut writer = TarWriter::new(Vec::new());
            for _ in 0..2 {
                writer.entry(&entry).unwrap();
                writer.data(&data).unwrap();
            }
            let mut bytes = writer.finish().unwrap();
            for (at, bit) in flips {
                let length = bytes.len();
                bytes[at % length] ^= 1 << bit;
            }
            let mut reader = TarReader::new(&bytes[..]);
            while let Ok(Some(_)) = reader.next_entry() {}
        }
    }
}
