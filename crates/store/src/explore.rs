//! What is in the layers of an image: which files each one brings, changes and removes, and what that wastes.
//!
//! A file that a later layer replaces or removes is still in every pull and on every disk. Those bytes are wasted, and
//! the layer to be blamed is the one that has them; the later one says what became of them.
//!
//! The layers are read from the lowest up, each from its own directory in overlay's format, beside one picture of what
//! the layers so far amount to.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci::digest::Digest;
use rustix::fs::{FileType, Mode, OFlags, Stat};

use crate::changes::ChangeKind;
use crate::error::{Error, Result};
use crate::image::ImageId;
use crate::implied;
use crate::overlay::Marks;
use crate::store::Store;
use crate::tree;
use crate::unpack::display;

/// Deepest directory that is looked into, in levels; each holds a file descriptor open.
const MAX_DEPTH: usize = 1000;
/// Most files of an image that are told of: each takes some hundred bytes of memory.
const MAX_FILES: u64 = 1_000_000;

/// One layer of an image, as it changes what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerReport {
    /// Digest of its plain tar.
    pub diff_id: Digest,
    /// The sizes of its files together, in bytes.
    pub size: u64,
    /// Of these, what later layers replaced or removed, in bytes.
    pub wasted: u64,
    /// What it brings, changes and removes, sorted by path. Directories are told of when they are new or look otherwise.
    pub files: Vec<LayerFile>,
}

/// What a layer says about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFile {
    /// Absolute, inside the image.
    pub path: PathBuf,
    /// Compared with the layers below.
    pub change: ChangeKind,
    /// `st_mode`; 0 for what is removed.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes, 0 for a further name of a file; of what is removed, what it had.
    pub size: u64,
    /// A later layer replaced or removed it.
    pub is_wasted: bool,
}

impl Store {
    /// What is in each layer of an image, from the lowest up.
    pub fn image_layers(&self, id: &ImageId) -> Result<Vec<LayerReport>> {
        let image = self.image(id)?;
        let lease = self.lease();
        let mut picture = Picture { marks: self.0.marks, ..Picture::default() };
        for layer in &image.layers {
            self.layer_source(&lease, &layer.diff_id)?;
            let root = self.0.layer_path(&layer.diff_id).join("fs");
            let root = tree::open_root(&root).map_err(Error::file("opening", &root))?;
            picture.begin(layer.diff_id.clone(), implied::read(&self.0.layer_path(&layer.diff_id))?);
            picture.directory(root.as_fd(), b".", b"", 0)?;
            picture.end();
        }
        Ok(picture.layers)
    }
}

/// What the layers so far amount to.
#[derive(Default)]
struct Picture {
    layers: Vec<LayerReport>,
    /// By path: which layer has it (and the number among its files, to be told that it is wasted).
    seen: BTreeMap<Vec<u8>, Seen>,
    /// Files of this layer with several names, by inode: they count once.
    linked: HashSet<u64>,
    /// Directories of this layer that look as they do below.
    implied: BTreeSet<Vec<u8>>,
    count: u64,
    marks: Marks,
}

#[derive(Clone, Copy)]
struct Seen {
    layer: usize,
    file: usize,
    is_dir: bool,
    size: u64,
    mode: u32,
    owner: (u32, u32),
}

impl Picture {
    fn begin(&mut self, diff_id: Digest, implied: BTreeSet<Vec<u8>>) {
        self.implied = implied;
        self.linked.clear();
        self.layers.push(LayerReport { diff_id, size: 0, wasted: 0, files: Vec::new() });
    }

    /// Sorting moves the files, so the places that were noted for them are noted anew.
    fn end(&mut self) {
        let current = self.current();
        let files = &mut self.layers[current].files;
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by(|one, other| files[*one].path.cmp(&files[*other].path));
        let mut place = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old] = new;
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        for seen in self.seen.values_mut().filter(|seen| seen.layer == current) {
            seen.file = place[seen.file];
        }
    }

    fn current(&self) -> usize {
        self.layers.len() - 1
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8], depth: usize) -> Result<()> {
        let failed = |error: rustix::io::Errno| Error::entry("open", display(path))(error);
        if depth > MAX_DEPTH {
            return Err(failed(rustix::io::Errno::NAMETOOLONG));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir: OwnedFd = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed)?;
        if self.marks.is_opaque(&dir, b".") {
            self.hide_below(path);
        }
        for (name, _) in tree::list(dir.as_fd()).map_err(Error::entry("open", display(path)))? {
            let path = [path, b"/", &name].concat();
            let stat = tree::look(&dir, &name).map_err(Error::entry("lstat", display(&path)))?;
            let Some(stat) = stat else { continue };
            self.count += 1;
            if self.count > MAX_FILES {
                return Err(Error::TooMany("files to list", MAX_FILES));
            }
            self.name(&path, &stat);
            if tree::kind_of(&stat) == FileType::Directory {
                self.directory(dir.as_fd(), &name, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn name(&mut self, path: &[u8], stat: &Stat) {
        if tree::is_whiteout(stat) {
            self.hide(path);
            return;
        }
        let is_dir = tree::kind_of(stat) == FileType::Directory;
        let is_further_name = !is_dir && stat.st_nlink > 1 && !self.linked.insert(stat.st_ino);
        let size = if is_dir || is_further_name { 0 } else { u64::try_from(stat.st_size).unwrap_or_default() };
        let (mode, owner) = (stat.st_mode, (stat.st_uid, stat.st_gid));
        let before = self.seen.get(path).copied();
        let change = match before {
            // Another file of this path in this layer cannot be: it has been hidden by the layer itself.
            None => ChangeKind::Added,
            Some(seen) if is_dir && seen.is_dir && (seen.mode, seen.owner) == (mode, owner) => return,
            Some(seen) if is_dir && seen.is_dir && self.implied.contains(&path[1..]) => return,
            Some(_) => ChangeKind::Modified,
        };
        if let Some(seen) = before {
            if seen.is_dir && !is_dir {
                self.waste_below(path);
            }
            self.waste(seen);
        }
        let current = self.current();
        let layer = &mut self.layers[current];
        layer.size += size;
        let seen = Seen { layer: current, file: layer.files.len(), is_dir, size, mode, owner };
        layer.files.push(LayerFile {
            path: display(path),
            change,
            mode,
            uid: owner.0,
            gid: owner.1,
            size,
            is_wasted: false,
        });
        self.seen.insert(path.to_vec(), seen);
    }

    /// A path is removed, with everything below it.
    fn hide(&mut self, path: &[u8]) {
        let Some(seen) = self.seen.remove(path) else { return };
        self.remove(path, seen);
        self.waste_below(path);
    }

    /// What is below a directory is removed; the directory itself stays.
    fn hide_below(&mut self, path: &[u8]) {
        for (path, seen) in self.take_below(path) {
            self.remove(&path, seen);
        }
    }

    fn waste_below(&mut self, path: &[u8]) {
        for (_, seen) in self.take_below(path) {
            self.waste(seen);
        }
    }

    fn remove(&mut self, path: &[u8], seen: Seen) {
        self.waste(seen);
        let (mode, uid, gid) = (0, seen.owner.0, seen.owner.1);
        let change = ChangeKind::Deleted;
        let file = LayerFile { path: display(path), change, mode, uid, gid, size: seen.size, is_wasted: false };
        let current = self.current();
        self.layers[current].files.push(file);
    }

    fn take_below(&mut self, path: &[u8]) -> Vec<(Vec<u8>, Seen)> {
        let prefix = [path, b"/"].concat();
        let current = self.current();
        let below = self.seen.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let below: Vec<Vec<u8>> =
            below.filter(|(_, seen)| seen.layer != current).map(|(path, _)| path.clone()).collect();
        below.into_iter().filter_map(|path| self.seen.remove_entry(&path)).collect()
    }

    fn waste(&mut self, seen: Seen) {
        let layer = &mut self.layers[seen.layer];
        if let Some(file) = layer.files.get_mut(seen.file) {
            file.is_wasted = true;
            layer.wasted += seen.size;
        }
    }
}
