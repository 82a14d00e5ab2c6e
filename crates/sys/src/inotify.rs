//! Notices of changes to files, inotify(7).

use rustix::fs::inotify;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What happened to a watched file.
pub use rustix::fs::inotify::{ReadFlags as FileEvents, WatchFlags as FileInterest};

/// Watches files; reading never waits.
#[derive(Debug)]
pub struct Inotify {
    fd: OwnedFd,
}

impl Inotify {
    /// Watching nothing.
    pub fn new() -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Self { fd: inotify::init(flags)? })
    }

    /// Watches a file or a directory; the number comes with its events.
    pub fn watch(&self, path: &Path, interest: FileInterest) -> io::Result<i32> {
        Ok(inotify::add_watch(&self.fd, path, interest)?)
    }

    /// Ends a watch. One that ended by itself is no error.
    pub fn unwatch(&self, watch: i32) -> io::Result<()> {
        match inotify::remove_watch(&self.fd, watch) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Calls `each` with watch, events and file name (of a directory's entry) for what has happened; `false` when that is nothing.
    pub fn take(&self, mut each: impl FnMut(i32, FileEvents, Option<&str>)) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        let mut any = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    any = true;
                    each(event.wd(), event.events(), event.file_name().and_then(|name| name.to_str().ok()));
                    if reader.is_buffer_empty() {
                        return Ok(any);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(any),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Inotify> for OwnedFd {
    fn from(inotify: Inotify) -> Self {
        inotify.fd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_files_are_told() {
        let directory = std::env::temp_dir().join(format!("gantry-inotify-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let watcher = Inotify::new().unwrap();
        let watch = watcher.watch(&directory, FileInterest::CREATE | FileInterest::MOVED_TO).unwrap();
        std::fs::write(directory.join("a"), "x").unwrap();
        std::fs::rename(directory.join("a"), directory.join("b")).unwrap();
        let mut seen = Vec::new();
        watcher.take(|w, events, name| seen.push((w, events, name.unwrap_or_default().to_owned()))).unwrap();
        let expected = [(watch, FileEvents::CREATE, "a".to_owned()), (watch, FileEvents::MOVED_TO, "b".to_owned())];
        assert_eq!(seen, expected);
        watcher.unwatch(watch).unwrap();
        watcher.unwatch(watch).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
