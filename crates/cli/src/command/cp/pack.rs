//! A local path as an archive.

use super::Rename;
use bytes::Bytes;
use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

/// Size of the pieces that are sent.
const PIECE: usize = 64 << 10;
/// The extended attribute that is worth carrying: a program's capabilities.
const CAPABILITY: &str = "security.capability";

/// What is packed, and the name of its first entry.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) name: String,
}

impl Source {
    /// A path under its own name.
    pub(super) fn new(path: PathBuf) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { path, name }
    }
}

/// Packs into pieces; a failure is the last of them. `count` grows by the bytes of the files.
pub(super) fn pack(source: &Source, renames: &[Rename], pieces: &mpsc::Sender<io::Result<Bytes>>, count: &AtomicU64) {
    let mut packer = Packer {
        builder: Builder::new(Sink { pieces, buffer: Vec::with_capacity(PIECE), count }),
        renames,
        seen: HashMap::new(),
    };
    let packed = packer.tree(&source.path, &source.name).and_then(|()| packer.builder.into_inner()?.flush());
    if let Err(error) = packed {
        // Nobody listens any more when the request has failed already.
        let _ = pieces.blocking_send(Err(error));
    }
}

struct Packer<'a> {
    builder: Builder<Sink<'a>>,
    renames: &'a [Rename],
    /// Names of files that have more than one, by device and inode.
    seen: HashMap<(u64, u64), String>,
}

impl Packer<'_> {
    fn tree(&mut self, path: &Path, name: &str) -> io::Result<()> {
        // The pending directories; names are those of the entries. A stack, so that depth costs no stack of ours.
        let mut pending = vec![(path.to_owned(), name.to_owned())];
        while let Some((path, name)) = pending.pop() {
            // What lies behind a final `/.` is a directory, whatever the link that leads there is.
            let inside = name == "." || name.is_empty();
            let metadata = if inside { fs::metadata(&path)? } else { fs::symlink_metadata(&path)? };
            self.entry(&path, &name, &metadata)?;
            if metadata.is_dir() {
                let mut children: Vec<_> = fs::read_dir(&path)?.collect::<io::Result<Vec<_>>>()?;
                children.sort_by_key(|child| std::cmp::Reverse(child.file_name()));
                for child in children {
                    let own = child.file_name().to_string_lossy().into_owned();
                    let name = if name.is_empty() { own } else { format!("{name}/{own}") };
                    pending.push((child.path(), name));
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &str, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        // A socket cannot be copied, and a directory may hold one.
        if kind.is_socket() {
            return Ok(());
        }
        let renamed = self.renames.iter().fold(name.to_owned(), |name, rename| rename.apply(&name));
        let renamed = renamed.trim_start_matches('/');
        if renamed.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        header.set_metadata(metadata);
        header.set_size(0);
        if metadata.is_dir() {
            header.set_entry_type(EntryType::Directory);
            return self.builder.append_data(&mut header, format!("{}/", renamed.trim_end_matches('/')), io::empty());
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            return self.builder.append_link(&mut header, renamed, fs::read_link(path)?);
        }
        if metadata.nlink() > 1 {
            if let Some(first) = self.seen.get(&(metadata.dev(), metadata.ino())) {
                header.set_entry_type(EntryType::Link);
                let first = first.clone();
                return self.builder.append_link(&mut header, renamed, first);
            }
            self.seen.insert((metadata.dev(), metadata.ino()), renamed.to_owned());
        }
        if kind.is_char_device() || kind.is_block_device() {
            header.set_entry_type(if kind.is_char_device() { EntryType::Char } else { EntryType::Block });
            let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
            return self.builder.append_data(&mut header, renamed, io::empty());
        }
        if kind.is_fifo() {
            header.set_entry_type(EntryType::Fifo);
            return self.builder.append_data(&mut header, renamed, io::empty());
        }
        self.file(path, renamed, &mut header)
    }

    fn file(&mut self, path: &Path, name: &str, header: &mut Header) -> io::Result<()> {
        let file = fs::File::open(path)?;
        // The size of the opened file: it may have changed since it was looked at.
        let size = file.metadata()?.len();
        let mut value = [0; 64];
        if let Ok(length) = rustix::fs::fgetxattr(&file, CAPABILITY, &mut value) {
            let key = format!("SCHILY.xattr.{CAPABILITY}");
            self.builder.append_pax_extensions([(key.as_str(), &value[..length])])?;
        }
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        // A file that shrinks while it is read is filled up, one that grows is cut: the archive stays whole.
        let filled = io::Read::take(io::Read::chain(file, io::repeat(0)), size);
        self.builder.append_data(header, name, filled)
    }
}

/// Collects small writes into pieces.
struct Sink<'a> {
    pieces: &'a mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
    count: &'a AtomicU64,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
