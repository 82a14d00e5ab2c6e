//! A layer's tar, held against the files that were made of it, in both directions.
//!
//! | the tar has | the directory must have |
//! |---|---|
//! | an entry | a file that looks like it, with these attributes and no others |
//! | `dir/.wh.name` | a whiteout; or what the tar brings under this name itself, a directory then being opaque |
//! | `dir/.wh..wh..opq`, or `dir` with overlay's attribute | `dir`, opaque |
//! | something in a directory that it does not mention | that directory, noted as implied |
//! | an entry for the root | the root's looks, and a note that they count |
//! | nothing | nothing |
//!
//! The first pass goes along the tar and looks for each file; it remembers a number for each name. The second goes along
//! the directory and looks for each number. So the memory that is needed grows with the number of entries, which is
//! limited, and with nothing else.
//!
//! A difference need not be damage: see `Store::layer_problems`, which asks a fresh copy. So each is a number as well, of
//! the entry, the sentence and what was found, by which those of two directories are compared.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::io::{self, BufRead};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags, Stat};

use crate::error::{Error, Result};
use crate::implied;
use crate::overlay::Marks;
use crate::pack;
use crate::tar::{Entry, EntryKind, TarReader};
use crate::tree::{self, CleanPath, Tree};
use crate::unpack::{self, display};

/// Wrong files of one layer that are told; where there are more, the layer is lost anyway.
const MAX_FINDINGS: usize = 100;
/// The number of the entry that is none: what the second pass finds.
const NO_ENTRY: u64 = u64::MAX;

/// A set of numbers that is filled first and asked then.
#[derive(Default)]
pub(super) struct Numbers(Vec<u64>);

impl Numbers {
    fn add(&mut self, number: u64) {
        // Repetitions go before more memory is taken.
        if self.0.len() == self.0.capacity() {
            self.seal();
            self.0.reserve(self.0.len().max(1 << 10));
        }
        self.0.push(number);
    }

    fn seal(&mut self) {
        self.0.sort_unstable();
        self.0.dedup();
    }

    fn has(&self, number: u64) -> bool {
        self.0.binary_search(&number).is_ok()
    }
}

/// What the first pass remembers; the lowest bits of a number.
#[derive(Clone, Copy)]
enum Note {
    /// An entry has this name in this directory.
    Named,
    /// It is one of a directory.
    Mentioned,
    /// A whiteout has, or a directory that is marked in overlay's own spelling.
    Hidden,
    /// Something is in the directory with this path.
    Parent,
    /// This directory is to hide what is below.
    Opaque,
}
const NOTE_BITS: u64 = 7;

/// A sentence, and what was found in numbers.
type Difference = (&'static str, [u64; 2]);

/// What is different.
#[derive(Default)]
pub(super) struct Differences {
    /// In one sentence each, with the path.
    pub(super) texts: BTreeSet<String>,
    /// All of them.
    pub(super) numbers: Numbers,
}

/// How two directories of one layer are compared with its tar.
pub(super) struct Rules<'a> {
    pub(super) marks: Marks,
    /// The tar comes from elsewhere than the files, so what they contain is compared as well.
    pub(super) reads_content: bool,
    /// The same for both.
    pub(super) hasher: &'a RandomState,
    /// Differences that are none.
    pub(super) usual: &'a Numbers,
}

pub(super) struct Comparison<'a> {
    tree: Tree,
    rules: Rules<'a>,
    notes: Numbers,
    /// The directory of the last entry.
    parent: Option<Parent>,
    /// Directories that are noted as implied, and not yet found to be.
    implied: BTreeSet<Vec<u8>>,
    has_root: bool,
    found: Differences,
}

struct Parent {
    path: Vec<u8>,
    fd: OwnedFd,
    inode: u64,
}

impl<'a> Comparison<'a> {
    /// `layer` is the directory with `fs` inside.
    pub(super) fn new(layer: &Path, rules: Rules<'a>) -> Result<Self> {
        let root = layer.join("fs");
        let root = tree::open_root(&root).map_err(Error::file("opening", &root))?;
        let tree = Tree::new(root, b"").map_err(Error::entry("open", "/"))?;
        let (implied, found) = (implied::read(layer)?, Differences::default());
        Ok(Self { tree, rules, notes: Numbers::default(), parent: None, implied, has_root: false, found })
    }

    /// Tells what is different, and whether the tar could be read to its end.
    pub(super) fn run<R: BufRead>(mut self, mut reader: TarReader<R>) -> (Differences, Result<()>) {
        let mut outcome = self.along_the_tar(&mut reader);
        if outcome.is_ok() {
            self.along_the_directory();
            outcome = reader.drain().map(drop).map_err(Error::from);
        }
        self.found.numbers.seal();
        (self.found, outcome)
    }

    fn along_the_tar<R: BufRead>(&mut self, reader: &mut TarReader<R>) -> Result<()> {
        let mut number = 0;
        while let Some(entry) = reader.next_entry()? {
            number += 1;
            if number > unpack::MAX_ENTRIES {
                return Err(Error::TooMany("entries", unpack::MAX_ENTRIES));
            }
            // What leads out of the layer is never unpacked.
            if let Some(path) = CleanPath::new(&entry.path) {
                self.entry(number, &entry, &path, reader)?;
            }
        }
        Ok(())
    }

    fn entry<R: BufRead>(
        &mut self,
        number: u64,
        entry: &Entry,
        path: &CleanPath,
        reader: &mut TarReader<R>,
    ) -> Result<()> {
        if path.is_root() && entry.kind != EntryKind::Directory {
            return Ok(());
        }
        let whiteout = unpack::whiteout_of(path);
        let (dir, name) = path.split();
        if matches!(whiteout, Some(None)) && name != unpack::WHITEOUT_OPAQUE {
            return Ok(());
        }
        let Some(inode) = self.enter(dir) else {
            self.differ(number, path.as_bytes(), ("is missing", [0; 2]));
            return Ok(());
        };
        let difference = match &whiteout {
            None if path.is_root() => {
                self.has_root = true;
                self.difference(entry, path, b".", reader)?
            }
            None => {
                self.note(Note::Named, (inode, name));
                if entry.kind == EntryKind::Directory {
                    self.note(Note::Mentioned, (inode, name));
                    if Marks::are_opaque(entry.xattrs.iter().map(|(key, value)| (&key[..], &value[..]))) {
                        self.note(Note::Hidden, (inode, name));
                    }
                }
                self.difference(entry, path, name, reader)?
            }
            Some(None) => {
                self.note(Note::Opaque, inode);
                None
            }
            Some(Some(hidden)) => {
                let (_, name) = hidden.split();
                self.note(Note::Hidden, (inode, name));
                self.look(name).is_none().then_some(("is missing", [0; 2]))
            }
        };
        if let Some(difference) = difference {
            let path = whiteout.flatten().unwrap_or_else(|| path.clone());
            self.differ(number, path.as_bytes(), difference);
        }
        Ok(())
    }

    /// Goes to a directory of the tar. Returns its inode; None: it is not there.
    fn enter(&mut self, path: &[u8]) -> Option<u64> {
        if let Some(parent) = self.parent.as_ref().filter(|parent| parent.path == path) {
            return Some(parent.inode);
        }
        let fd = self.tree.open_dir(path).ok()?;
        let inode = rustix::fs::fstat(&fd).ok()?.st_ino;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            self.note(Note::Parent, &path[..end]);
        }
        self.parent = Some(Parent { path: path.to_vec(), fd, inode });
        Some(inode)
    }

    /// Looks at a name in the directory that was entered last.
    fn look(&self, name: &[u8]) -> Option<Stat> {
        tree::look(&self.parent.as_ref()?.fd, name).ok()?
    }

    fn note(&mut self, note: Note, value: impl Hash) {
        self.notes.add(self.rules.hasher.hash_one(value) & !NOTE_BITS | note as u64);
    }

    fn has(&self, note: Note, value: impl Hash) -> bool {
        self.notes.has(self.rules.hasher.hash_one(value) & !NOTE_BITS | note as u64)
    }

    fn differ(&mut self, entry: u64, path: &[u8], (text, detail): Difference) {
        let number = self.rules.hasher.hash_one((entry, path, text, detail));
        if self.rules.usual.has(number) {
            return;
        }
        self.found.numbers.add(number);
        if self.found.texts.len() < MAX_FINDINGS {
            self.found.texts.insert(format!("/{}: {text}", display(path).display()));
        }
    }

    /// How a file in the directory that was entered last differs from what its entry says.
    fn difference<R: BufRead>(
        &self,
        entry: &Entry,
        path: &CleanPath,
        name: &[u8],
        reader: &mut TarReader<R>,
    ) -> Result<Option<Difference>> {
        let missing = Ok(Some(("is missing", [0; 2])));
        let Some(dir) = self.parent.as_ref().map(|parent| parent.fd.as_fd()) else { return missing };
        let Ok(Some(stat)) = tree::look(dir, name) else { return missing };
        if let Some(difference) = difference_of_stat(entry, &stat) {
            return Ok(Some(difference));
        }
        let difference = match entry.kind {
            EntryKind::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new());
                target.map_or(true, |target| target.as_bytes() != entry.link).then_some("is a link to elsewhere")
            }
            EntryKind::HardLink => (!self.is_same(entry, &stat)).then_some("is no link to the file that it was"),
            EntryKind::Regular if self.rules.reads_content => self.difference_of_content(entry, path, reader)?,
            _ => None,
        };
        let difference = difference.map(|text| (text, [0; 2]));
        Ok(difference.or_else(|| self.difference_of_xattrs(Some(entry), dir, name)))
    }

    fn is_same(&self, entry: &Entry, stat: &Stat) -> bool {
        let Some(target) = CleanPath::new(&entry.link) else { return false };
        let (dir, name) = target.split();
        let target = self.tree.open_dir(dir).and_then(|dir| tree::look(dir, name));
        matches!(target, Ok(Some(target)) if target.st_ino == stat.st_ino)
    }

    fn difference_of_content<R: BufRead>(
        &self,
        entry: &Entry,
        path: &CleanPath,
        reader: &mut TarReader<R>,
    ) -> Result<Option<&'static str>> {
        let file = self.tree.open(path.as_bytes(), OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK);
        let file = file.map_err(Error::entry("open", display(path.as_bytes())))?;
        let whole = [(0, entry.size)];
        let mut buffer = vec![0; 64 << 10];
        for (offset, length) in entry.segments.as_deref().unwrap_or(&whole) {
            let mut done = 0;
            while done < *length {
                let piece = reader.fill()?;
                let wanted = piece.len().min(buffer.len()).min(usize::try_from(length - done).unwrap_or(usize::MAX));
                let count = rustix::io::pread(&file, &mut buffer[..wanted], offset + done)
                    .map_err(Error::entry("read", display(path.as_bytes())))?;
                if count == 0 || buffer[..count] != piece[..count] {
                    return Ok(Some("has other content"));
                }
                reader.consume(count);
                done += count as u64;
            }
        }
        Ok(None)
    }

    /// Attributes beside those of the entry (None: an entry without any) are looked for as well, but for the host's own.
    fn difference_of_xattrs(&self, entry: Option<&Entry>, dir: BorrowedFd<'_>, name: &[u8]) -> Option<Difference> {
        let has_mark = entry.is_none_or(|entry| entry.kind == EntryKind::Directory);
        let is_compared = |key: &[u8]| {
            let is_mark = has_mark && key == self.rules.marks.name().as_bytes();
            pack::is_portable(key) || unpack::is_overlays(key) && !is_mark
        };
        let mut found = match pack::xattrs(dir, name, is_compared) {
            Ok(found) => found,
            Err(error) => return Some(("has attributes that cannot be read", [errno(error), 0])),
        };
        let wanted = || entry.into_iter().flat_map(unpack::wanted_xattrs).filter(|(key, _)| pack::is_portable(key));
        if entry.is_some_and(|entry| entry.kind == EntryKind::HardLink) {
            // All that is said of the file is said of its first name.
            found.retain(|(key, _)| wanted().any(|(wanted, _)| wanted == key));
        }
        let path = tree::fd_path(dir, name);
        let is_found = |(key, value): (&[u8], &[u8])| {
            let known = found.iter().find(|(found, _)| found == key);
            known.map_or_else(
                // What this file system does not take was left out when the layer was unpacked.
                || rustix::fs::lgetxattr(&path[..], key, &mut [0; 1][..]) == Err(rustix::io::Errno::NOTSUP),
                |(_, found)| found == value,
            )
        };
        let is_wanted = |(found, _): &(Vec<u8>, Vec<u8>)| wanted().any(|(key, _)| key == found);
        let is_alike = wanted().all(is_found) && found.iter().all(is_wanted);
        (!is_alike).then(|| ("has other attributes", [self.rules.hasher.hash_one(&found), 0]))
    }

    /// The second pass.
    fn along_the_directory(&mut self) {
        self.notes.seal();
        self.parent = None;
        let is_root_noted = !self.implied.remove(implied::ROOT_PATH);
        match (self.has_root, is_root_noted) {
            (true, false) => self.differ(NO_ENTRY, b"", ("is noted as not mentioned", [0; 2])),
            (false, true) => self.differ(NO_ENTRY, b"", ("is noted as mentioned", [0; 2])),
            (true, true) => {}
            (false, false) => {
                let difference = self.difference_of_implied(self.tree.top(), b".", Some(0o755));
                difference.into_iter().for_each(|difference| self.differ(NO_ENTRY, b"", difference));
            }
        }
        let mut left = vec![(Vec::new(), false)];
        while let Some((path, is_hidden)) = left.pop() {
            if let Err(error) = self.directory(&path, is_hidden, &mut left) {
                let number = u64::try_from(error.raw_os_error().unwrap_or_default()).unwrap_or_default();
                self.differ(NO_ENTRY, &path, ("cannot be read", [number, 0]));
            }
        }
        for path in std::mem::take(&mut self.implied) {
            self.differ(NO_ENTRY, &path, ("is noted as implied", [0; 2]));
        }
    }

    /// Looks at what is in a directory, and notes those that are still to be looked at.
    fn directory(&mut self, path: &[u8], is_hidden: bool, left: &mut Vec<(Vec<u8>, bool)>) -> io::Result<()> {
        let dir = self.tree.open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let inode = rustix::fs::fstat(&dir)?.st_ino;
        match (is_hidden || self.has(Note::Opaque, inode), self.rules.marks.is_opaque(&dir, b".")) {
            (true, false) => self.differ(NO_ENTRY, path, ("does not hide what is below it", [0; 2])),
            (false, true) => self.differ(NO_ENTRY, path, ("hides what is below it", [0; 2])),
            _ => {}
        }
        for (name, kind) in tree::list(dir.as_fd())? {
            let full = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
            let is_dir = match kind {
                FileType::Unknown => {
                    tree::look(&dir, &name)?.is_some_and(|stat| tree::kind_of(&stat) == FileType::Directory)
                }
                kind => kind == FileType::Directory,
            };
            let is_hidden = self.has(Note::Hidden, (inode, &name[..]));
            if is_dir && self.is_expected(inode, &name, &full) {
                if !self.has(Note::Mentioned, (inode, &name[..])) {
                    self.implied(dir.as_fd(), &name, &full);
                }
                left.push((full, is_hidden));
            } else if !self.has(Note::Named, (inode, &name[..])) {
                let is_whiteout = tree::look(&dir, &name)?.is_some_and(|stat| tree::is_whiteout(&stat));
                match (is_hidden, is_whiteout) {
                    (true, true) => {}
                    (true, false) => self.differ(NO_ENTRY, &full, ("is there, and the layer removes it", [0; 2])),
                    (false, _) => self.differ(NO_ENTRY, &full, ("is not in the layer's tar", [0; 2])),
                }
            }
        }
        Ok(())
    }

    fn is_expected(&self, inode: u64, name: &[u8], path: &[u8]) -> bool {
        self.has(Note::Named, (inode, name)) || self.has(Note::Parent, path)
    }

    /// A directory that the tar does not mention.
    fn implied(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) {
        if !self.implied.remove(path) {
            self.differ(NO_ENTRY, path, ("is not noted as implied", [0; 2]));
        }
        if let Some(difference) = self.difference_of_implied(dir, name, None) {
            self.differ(NO_ENTRY, path, difference);
        }
    }

    /// The mode of an implied directory depended on the umask, and what is below it has the say.
    fn difference_of_implied(&self, dir: BorrowedFd<'_>, name: &[u8], mode: Option<u32>) -> Option<Difference> {
        let Ok(Some(stat)) = tree::look(dir, name) else { return Some(("is missing", [0; 2])) };
        if mode.is_some_and(|mode| stat.st_mode & 0o7777 != mode) {
            return Some(("has another mode", [stat.st_mode.into(), 0]));
        }
        if (stat.st_uid, stat.st_gid) != (0, 0) {
            return Some(("has another owner", [stat.st_uid.into(), stat.st_gid.into()]));
        }
        self.difference_of_xattrs(None, dir, name)
    }
}

fn errno(error: rustix::io::Errno) -> u64 {
    u64::try_from(error.raw_os_error()).unwrap_or_default()
}

fn difference_of_stat(entry: &Entry, stat: &Stat) -> Option<Difference> {
    let kind = match entry.kind {
        EntryKind::Regular => FileType::RegularFile,
        EntryKind::Directory => FileType::Directory,
        EntryKind::Symlink => FileType::Symlink,
        EntryKind::CharDevice => FileType::CharacterDevice,
        EntryKind::BlockDevice => FileType::BlockDevice,
        EntryKind::Fifo => FileType::Fifo,
        // All that is said of it is said of the first name.
        EntryKind::HardLink => return None,
    };
    let times = tree::times_of(stat).last_modification;
    let device = rustix::fs::makedev(entry.major, entry.minor);
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let (mode, uid, gid) = (stat.st_mode, stat.st_uid, stat.st_gid);
    let checks: [(bool, Difference); 6] = [
        (tree::kind_of(stat) != kind, ("is another kind of file", [mode.into(), 0])),
        (kind != FileType::Symlink && mode & 0o7777 != entry.mode, ("has another mode", [mode.into(), 0])),
        ((uid, gid) != (entry.uid, entry.gid), ("has another owner", [uid.into(), gid.into()])),
        (kind == FileType::RegularFile && size != entry.size, ("has another size", [size, 0])),
        (is_device && stat.st_rdev != device, ("is another device", [stat.st_rdev, 0])),
        // A directory whose entry does not set its time has that of its making: no number that a fresh copy has too.
        ((times.tv_sec, times.tv_nsec) != (entry.mtime.sec, entry.mtime.nsec.into()), ("has another time", [0; 2])),
    ];
    checks.into_iter().find(|(differs, _)| *differs).map(|(_, difference)| difference)
}
