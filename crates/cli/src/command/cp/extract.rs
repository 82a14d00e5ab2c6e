//! An archive from a container to the local file system.
//!
//! The archive is not ours to trust: names cannot climb out of the directory, neither by `..` nor through a link that an earlier
//! entry made.

use super::Rename;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Entry, EntryType};

/// Why an archive was not extracted.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExtractError {
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    #[error("{path}: {}", crate::error::reason(.source))]
    Write { path: PathBuf, source: io::Error },
    #[error("the archive's entry {0:?} leaves the destination")]
    Outside(String),
    #[error("cannot overwrite directory {path:?} with non-directory {directory:?}")]
    DirectoryInTheWay { path: PathBuf, directory: PathBuf },
    #[error("cannot overwrite non-directory {path:?} with directory {directory:?}")]
    FileInTheWay { path: PathBuf, directory: PathBuf },
}

/// Extracts into a directory that exists; every entry's name goes through the renames first.
pub(super) fn extract(archive: impl Read, directory: &Path, renames: &[Rename]) -> Result<(), ExtractError> {
    let root =
        fs::canonicalize(directory).map_err(|source| ExtractError::Write { path: directory.to_owned(), source })?;
    let mut archive = Archive::new(archive);
    // Times of directories are set last: what is put into them would change them.
    let mut times = Vec::new();
    for entry in archive.entries().map_err(ExtractError::Read)? {
        let mut entry = entry.map_err(ExtractError::Read)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let renamed = renames.iter().fold(name, |name, rename| rename.apply(&name));
        let path = inside(&root, &renamed)?;
        if path == root {
            continue;
        }
        one(&mut entry, &root, &path, renames)?;
        let modified = entry.header().mtime().unwrap_or(0);
        match entry.header().entry_type() {
            EntryType::Directory => times.push((path, modified)),
            EntryType::Link => {}
            _ => set_time(&path, modified)?,
        }
    }
    for (path, modified) in times.iter().rev() {
        set_time(path, *modified)?;
    }
    Ok(())
}

/// The place of an entry; its directory is made, and checked to lie in the root once all links are followed.
fn inside(root: &Path, name: &str) -> Result<PathBuf, ExtractError> {
    let outside = || ExtractError::Outside(name.to_owned());
    let mut path = root.to_owned();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(outside()),
        }
    }
    let Some(parent) = path.parent().filter(|_| path != root) else { return Ok(path) };
    fs::create_dir_all(parent).map_err(|source| ExtractError::Write { path: parent.to_owned(), source })?;
    let real = fs::canonicalize(parent).map_err(|source| ExtractError::Write { path: parent.to_owned(), source })?;
    if real.starts_with(root) { Ok(path) } else { Err(outside()) }
}

fn one(entry: &mut Entry<'_, impl Read>, root: &Path, path: &Path, renames: &[Rename]) -> Result<(), ExtractError> {
    let kind = entry.header().entry_type();
    let mode = entry.header().mode().unwrap_or(0o644) & 0o7777;
    let failed = |source: io::Error| ExtractError::Write { path: path.to_owned(), source };
    let present = fs::symlink_metadata(path).ok();
    match &present {
        Some(found) if found.is_dir() && kind != EntryType::Directory => {
            return Err(ExtractError::DirectoryInTheWay { path: path.to_owned(), directory: root.to_owned() });
        }
        Some(found) if !found.is_dir() && kind == EntryType::Directory => {
            return Err(ExtractError::FileInTheWay { path: path.to_owned(), directory: root.to_owned() });
        }
        Some(found) if !found.is_dir() => fs::remove_file(path).map_err(failed)?,
        _ => {}
    }
    match kind {
        EntryType::Directory => {
            if present.is_none() {
                fs::DirBuilder::new().mode(mode).create(path).map_err(failed)?;
            }
            fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
        }
        EntryType::Symlink => {
            let target = link_name(entry);
            if leaves(path, root, &target) {
                return Err(ExtractError::Outside(target));
            }
            symlink(&target, path).map_err(failed)
        }
        EntryType::Link => {
            let target = renames.iter().fold(link_name(entry), |name, rename| rename.apply(&name));
            fs::hard_link(inside(root, &target)?, path).map_err(failed)
        }
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            let file_type = match kind {
                EntryType::Char => FileType::CharacterDevice,
                EntryType::Block => FileType::BlockDevice,
                _ => FileType::Fifo,
            };
            let number = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
            let device = makedev(number(entry.header().device_major()), number(entry.header().device_minor()));
            mknodat(CWD, path, file_type, Mode::from_raw_mode(mode), device).map_err(|error| failed(error.into()))?;
            fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
        }
        _ => {
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
            io::copy(entry, &mut file).map_err(failed)?;
            file.set_permissions(Permissions::from_mode(mode)).map_err(failed)
        }
    }
}

fn link_name(entry: &Entry<'_, impl Read>) -> String {
    entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default()
}

/// Whether a relative link points out of the root, by its text alone.
fn leaves(path: &Path, root: &Path, target: &str) -> bool {
    if target.starts_with('/') {
        return false;
    }
    let depth = path.strip_prefix(root).map_or(0, |path| path.components().count().saturating_sub(1));
    let mut level = i64::try_from(depth).unwrap_or(0);
    Path::new(target).components().any(|part| {
        level += match part {
            Component::ParentDir => -1,
            Component::Normal(_) => 1,
            _ => 0,
        };
        level < 0
    })
}

fn set_time(path: &Path, modified: u64) -> Result<(), ExtractError> {
    let time = Timespec { tv_sec: i64::try_from(modified).unwrap_or(0), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| ExtractError::Write { path: path.to_owned(), source: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gantry-extract-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o640);
            header.set_mtime(1000);
            let bytes = name.as_bytes();
            header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
            if *kind == EntryType::Regular {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            } else {
                header.set_size(0);
                header.set_link_name_literal(content).unwrap();
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn extracts_and_renames() {
        let directory = Directory::new("good");
        let bytes = archive(&[
            ("d/", EntryType::Directory, ""),
            ("d/f", EntryType::Regular, "text"),
            ("d/l", EntryType::Symlink, "f"),
            ("d/h", EntryType::Link, "d/f"),
        ]);
        let rename = [Rename { from: "d".into(), to: "x".into() }];
        extract(bytes.as_slice(), &directory.0, &rename).unwrap();
        assert_eq!(fs::read_to_string(directory.0.join("x/h")).unwrap(), "text");
        assert_eq!(fs::read_link(directory.0.join("x/l")).unwrap(), Path::new("f"));
        let mode = fs::metadata(directory.0.join("x/f")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn nothing_leaves_the_destination() {
        let directory = Directory::new("bad");
        let outside = Directory::new("outside");
        let link = outside.0.to_string_lossy().into_owned();
        let bad: [&[(&str, EntryType, &str)]; 4] = [
            &[("../x", EntryType::Regular, "text")],
            &[("a/../../x", EntryType::Regular, "text")],
            &[("l", EntryType::Symlink, "../../etc")],
            &[("s", EntryType::Symlink, &link), ("s/x", EntryType::Regular, "text")],
        ];
        for entries in bad {
            let error = extract(archive(entries).as_slice(), &directory.0, &[]).unwrap_err();
            assert!(matches!(error, ExtractError::Outside(_)), "{error}");
        }
        assert_eq!(fs::read_dir(&outside.0).unwrap().count(), 0);
    }
}
