//! Directories that a layer has only because something is in them.
//!
//! Some tools write `tmp/file` into a layer and no entry for `tmp`. Unpacked over the layers below, as Docker does it, the
//! file goes into their `tmp` and nothing else changes. Unpacked on its own, as it is here, the layer needs a directory
//! `tmp`, and in a stack it would be that one's mode and owner that count. So it is noted which directories nobody asked
//! for; snapshots give them the looks that they have further down.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};

/// The name beside `fs`: paths, each with a zero byte at its end. Most layers have none.
const NAME: &str = "implied";

/// Notes the directories of a layer; `layer` is the directory with `fs` inside.
pub(crate) fn write(layer: &Path, paths: &BTreeSet<Vec<u8>>) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let bytes: Vec<u8> = paths.iter().flat_map(|path| path.iter().copied().chain([0])).collect();
    let file = layer.join(NAME);
    fs::write(&file, bytes).map_err(Error::file("writing", &file))
}

/// The directories of a layer that nobody asked for.
pub(crate) fn read(layer: &Path) -> Result<BTreeSet<Vec<u8>>> {
    let file = layer.join(NAME);
    match fs::read(&file) {
        Ok(bytes) => Ok(bytes.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(Error::file("reading", &file)(error)),
    }
}
