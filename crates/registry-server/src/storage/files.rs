//! Files in a directory whose empty directories may be removed at any moment: whoever removes the last file in one removes
//! it as well.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How often directories are made again that vanish before there is a file in them.
const TRIES: usize = 100;

/// Creates a file that is not there, and the directories that it is in. With `sync`, these are on the disk then.
pub(super) fn create(path: &Path, sync: bool) -> io::Result<File> {
    for _ in 0..TRIES {
        match File::create_new(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            file => return file,
        }
        match directories(path.parent().unwrap_or(path), sync) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Err(ErrorKind::NotFound.into())
}

/// Writes a file or replaces it: others see the old bytes or the new ones. Gives up when the time is over before they
/// could be seen, however long the disk took.
pub(super) fn replace(path: &Path, bytes: &[u8], sync: bool, until: Option<Instant>) -> io::Result<()> {
    let (mut file, staged) = stage(path, sync)?;
    let written = file.write_all(bytes).and_then(|()| if sync { file.sync_data() } else { Ok(()) });
    let published = written.and_then(|()| match until {
        Some(until) if Instant::now() > until => Err(ErrorKind::TimedOut.into()),
        _ => std::fs::rename(&staged, path),
    });
    if let Err(error) = published {
        // What cannot be removed now goes as what killed processes leave.
        let _ = std::fs::remove_file(&staged);
        return Err(error);
    }
    if sync { sync_parent(path) } else { Ok(()) }
}

/// A new file beside the one that is written, `<name>#<number>`: listings leave these out.
fn stage(path: &Path, sync: bool) -> io::Result<(File, PathBuf)> {
    for number in 1_u64.. {
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{number}"));
        let staged = PathBuf::from(staged);
        match create(&staged, sync) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            file => return Ok((file?, staged)),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn directories(path: &Path, sync: bool) -> io::Result<()> {
    let mut made = std::fs::create_dir(path);
    if let (Err(error), Some(parent)) = (&made, path.parent())
        && error.kind() == ErrorKind::NotFound
    {
        directories(parent, sync)?;
        made = std::fs::create_dir(path);
    }
    match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Ok(()) if sync => sync_parent(path),
        made => made,
    }
}

/// The name of a file is in its directory: that must survive as well.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match File::open(path.parent().unwrap_or(path)) {
        // Whoever removed the directory has removed before what was to survive.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        directory => directory?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_comes_too_late_does_not_come() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        let now = Instant::now();
        replace(&path, b"in time", true, Some(now + Duration::from_secs(600))).unwrap();
        let late = replace(&path, b"late", true, now.checked_sub(Duration::from_millis(1)));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(std::fs::read(&path).unwrap(), b"in time");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
