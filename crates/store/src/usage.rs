//! How much a directory tree holds, counted as Docker counts: sizes of files and links, hard links once.

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
