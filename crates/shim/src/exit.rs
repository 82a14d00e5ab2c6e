//! The exit record: on disk before anyone is told.

use crate::protocol::Exit;
use std::io;
use std::path::Path;

/// Replace the record atomically.
pub(crate) fn write(path: &Path, exit: &Exit) -> io::Result<()> {
    let text = serde_json::to_vec(exit)?;
    let part = path.with_extension("part");
    std::fs::write(&part, text)?;
    std::fs::rename(&part, path)
}

/// Read a record; none when the container has not ended by itself.
pub fn read(path: &Path) -> io::Result<Option<Exit>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
