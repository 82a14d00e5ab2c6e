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
/// Beside `fs` where the root is mentioned (`./`): an empty file. Most layers do not mention it.
const ROOT: &str = "root";
/// The path of the root in sets of paths.
pub(crate) const ROOT_PATH: &[u8] = b"";

/// Notes the directories of a layer; `layer` is the directory with `fs` inside.
pub(crate) fn write(layer: &Path, paths: &BTreeSet<Vec<u8>>, has_root: bool) -> Result<()> {
    if has_root {
        let file = layer.join(ROOT);
        fs::write(&file, b"").map_err(Error::file("writing", &file))?;
    }
    if paths.is_empty() {
        return Ok(());
    }
    let bytes: Vec<u8> = paths.iter().flat_map(|path| path.iter().copied().chain([0])).collect();
    let file = layer.join(NAME);
    fs::write(&file, bytes).map_err(Error::file("writing", &file))
}

/// Does a layer say what the root looks like?
pub(crate) fn has_root(layer: &Path) -> bool {
    layer.join(ROOT).exists()
}

/// The directories of a layer that nobody asked for, the root among them as an empty path.
pub(crate) fn read(layer: &Path) -> Result<BTreeSet<Vec<u8>>> {
    let file = layer.join(NAME);
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::file("reading", &file)(error)),
    };
    let paths = bytes.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec);
    let root = (!has_root(layer)).then(|| ROOT_PATH.to_vec());
    Ok(paths.chain(root).collect())
}
