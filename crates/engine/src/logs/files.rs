//! The files of a log, from the oldest to the newest, read a block at a time and cut into lines.
//!
//! Rotation renames `log` to `log.1`, `log.1` to `log.2` and so on, and may do so at any moment. A file is known by its
//! inode: whatever name it has by now, the next one to read is the one that was begun after it.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes read at once.
const BLOCK: usize = 256 << 10;

/// The longest line: sixteen KiB of text in which every byte takes six, and attributes.
const MAX_LINE: usize = 1 << 20;

/// The most rotated files that are looked for.
const MAX_FILES: u32 = 10_000;

/// Files of a log, with a place in them.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// The one being read, then newer ones.
    files: VecDeque<Part>,
    follow: bool,
    /// A block of the first file; what was not used yet begins at 0.
    buffer: Vec<u8>,
    filled: usize,
    /// In the middle of a line that is too long to be one.
    skipping: bool,
}

#[derive(Debug)]
struct Part {
    file: File,
    inode: u64,
    position: u64,
    /// Where reading ends, if the file may grow and growth is not wanted.
    end: Option<u64>,
}

impl Files {
    /// At the first of the last `tail` lines, or at the first line of all. Without `follow`, what is written from now
    /// on is not read. A log that does not exist is empty.
    pub(super) fn open(path: &Path, tail: Option<u64>, follow: bool) -> io::Result<Self> {
        let mut files = VecDeque::new();
        // From the newest on: a file that is renamed meanwhile is met twice, and never missed.
        for_each_file(path, |file, metadata| {
            if files.front().is_some_and(|p: &Part| p.inode == metadata.ino()) {
                return Ok(true);
            }
            let end = (!follow || !files.is_empty()).then_some(metadata.len());
            files.push_front(Part { file, inode: metadata.ino(), position: 0, end });
            Ok(true)
        })?;
        if let Some(lines) = tail {
            seek_tail(&mut files, lines)?;
        }
        Ok(Self { path: path.to_owned(), files, follow, buffer: Vec::new(), filled: 0, skipping: false })
    }

    /// Calls `each` for whole lines, without their ends, of the next block; `false` when there is no more (now).
    pub(super) fn lines(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let count = self.fill()?;
        if count == 0 {
            return self.next_file();
        }
        let filled = &self.buffer[..self.filled];
        let mut from = 0;
        while let Some(length) = memchr::memchr(b'\n', &filled[from..]) {
            if self.skipping {
                self.skipping = false;
            } else {
                each(&filled[from..from + length]);
            }
            from += length + 1;
        }
        self.filled -= from;
        self.buffer.copy_within(from..from + self.filled, 0);
        if self.filled >= MAX_LINE {
            // No line of a log: what a crash or somebody else left there.
            (self.filled, self.skipping) = (0, true);
        }
        Ok(true)
    }

    /// Gives memory back while there is nothing to read.
    pub(super) fn rest(&mut self) {
        self.buffer.truncate(self.filled);
        self.buffer.shrink_to_fit();
    }

    /// Reads on in the first file; 0 at its end.
    fn fill(&mut self) -> io::Result<usize> {
        let Some(part) = self.files.front_mut() else { return Ok(0) };
        if self.buffer.len() < self.filled + BLOCK {
            self.buffer.resize(self.filled + BLOCK, 0);
        }
        let mut room = &mut self.buffer[self.filled..self.filled + BLOCK];
        if let Some(end) = part.end {
            let left = usize::try_from(end.saturating_sub(part.position)).unwrap_or(usize::MAX);
            let length = room.len().min(left);
            room = &mut room[..length];
        }
        let count = loop {
            match part.file.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        part.position += count as u64;
        self.filled += count;
        Ok(count)
    }

    /// Goes on to the next newer file, if there is one.
    fn next_file(&mut self) -> io::Result<bool> {
        if self.files.len() > 1 {
            self.files.pop_front();
            // A line that was not finished in its file never will be.
            (self.filled, self.skipping) = (0, false);
            return Ok(true);
        }
        if !self.follow {
            return Ok(false);
        }
        let now = match std::fs::metadata(&self.path) {
            Ok(now) => now,
            // In the middle of a rotation; a notice follows.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(part) = self.files.front_mut() else {
            return self.newer_files(None);
        };
        if part.inode != now.ino() {
            let inode = part.inode;
            return self.newer_files(Some(inode));
        }
        if now.len() < part.position {
            // A log of one file is emptied instead of being renamed.
            part.position = part.file.seek(SeekFrom::Start(0))?;
            (self.filled, self.skipping) = (0, false);
            return Ok(true);
        }
        Ok(false)
    }

    /// Finds the files that were begun after the current one, which may have got its last lines after we last looked.
    fn newer_files(&mut self, current: Option<u64>) -> io::Result<bool> {
        let mut newer = VecDeque::new();
        for_each_file(&self.path, |file, metadata| {
            let inode = metadata.ino();
            if Some(inode) == current {
                return Ok(false);
            }
            if newer.front().is_none_or(|p: &Part| p.inode != inode) {
                newer.push_front(Part { file, inode, position: 0, end: None });
            }
            Ok(true)
        })?;
        let found = !newer.is_empty();
        self.files.append(&mut newer);
        Ok(found)
    }
}

/// Opens `path`, `path.1`, `path.2`, … while they exist and `each` says so.
fn for_each_file(path: &Path, mut each: impl FnMut(File, Metadata) -> io::Result<bool>) -> io::Result<()> {
    for number in 0..MAX_FILES {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let file = match File::open(&name) {
            Ok(file) => file,
            // Between two renames, the newest is missing for a moment.
            Err(error) if error.kind() == ErrorKind::NotFound && number == 0 => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !each(file, metadata)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Leaves the last `lines` lines to be read: reads backwards, from the newest file on.
fn seek_tail(files: &mut VecDeque<Part>, lines: u64) -> io::Result<()> {
    let mut missing = lines;
    for at in (0..files.len()).rev() {
        let part = &mut files[at];
        let end = match part.end {
            Some(end) => end,
            None => part.file.metadata()?.len(),
        };
        let (start, found) = tail_of(&part.file, end, missing)?;
        part.position = part.file.seek(SeekFrom::Start(start))?;
        missing -= found;
        if missing == 0 {
            files.drain(..at);
            break;
        }
    }
    Ok(())
}

/// Where the last `lines` lines of the first `end` bytes begin, and how many there are.
fn tail_of(file: &File, end: u64, lines: u64) -> io::Result<(u64, u64)> {
    if lines == 0 {
        return Ok((end, 0));
    }
    // The end of the last line is no beginning of another one. (A line without an end does not count: it may be in the
    // middle of being written.)
    let mut ends_seen = 0;
    let mut block = vec![0; BLOCK.min(usize::try_from(end).unwrap_or(BLOCK))];
    let mut at = end;
    while at > 0 {
        let length = usize::try_from(at).unwrap_or(BLOCK).min(block.len());
        at -= length as u64;
        file.read_exact_at(&mut block[..length], at)?;
        for position in memchr::memrchr_iter(b'\n', &block[..length]) {
            ends_seen += 1;
            if ends_seen > lines {
                return Ok((at + position as u64 + 1, lines));
            }
        }
    }
    Ok((0, ends_seen))
}

#[cfg(test)]
#[path = "files/tests.rs"]
mod tests;
