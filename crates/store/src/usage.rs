//! How much a directory tree holds: counted as Docker counts (sizes of files and links, hard links once), and as the disk
//! does.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::snapshot::Usage;

/// Counts everything below a directory. Files that vanish meanwhile are not counted.
pub(crate) fn of_directory(root: &Path) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    let mut pending: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir != root => continue,
            Err(error) => return Err(Error::file("reading", &dir)(error)),
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            usage.inodes += 1;
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.nlink() == 1 || linked.insert(metadata.ino()) {
                usage.size += metadata.len();
            }
        }
    }
    Ok(usage)
}

/// What a directory takes on the disk with everything below it, as `du` counts: whole blocks, hard links once, in bytes.
/// What vanishes meanwhile, or cannot be looked at, is not counted.
#[must_use]
pub fn on_disk(root: &Path) -> u64 {
    let blocks = |metadata: &fs::Metadata| metadata.blocks() * 512;
    let mut total = fs::symlink_metadata(root).map_or(0, |metadata| blocks(&metadata));
    let mut linked = HashSet::new();
    let mut pending: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.nlink() > 1 && !linked.insert(metadata.ino()) {
                continue;
            }
            total += blocks(&metadata);
        }
    }
    total
}
