//! Bytes on their way to a slow client: some in memory, the rest in a nameless file.
//!
//! A client that keeps up never touches the file. One that falls behind costs disk, up to [`LIMIT`], but neither
//! memory nor the container's time. The file has no name, so it vanishes with the shim; from it the kernel sends by itself.

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes in memory before the file is used.
const MEMORY: usize = 256 << 10;

/// Bytes in the file before the client is given up.
const LIMIT: u64 = 4 << 30;

/// The most bytes sent from the file with one call.
const PIECE: u64 = 1 << 20;

/// What was sent from the file is given back to the disk whenever it is so much.
const HOLE: u64 = 64 << 20;

/// A queue of bytes.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    /// The oldest bytes.
    memory: VecDeque<u8>,
    /// Kept while it is empty: a client that fell behind will do so again.
    disk: Option<Disk>,
}

#[derive(Debug)]
struct Disk {
    file: File,
    read: u64,
    written: u64,
    /// Up to here the file takes no room any more.
    freed: u64,
}

impl Spool {
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.on_disk() == 0
    }

    fn on_disk(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.written - disk.read)
    }

    /// Append; an error is the end of this client.
    pub(crate) fn push(&mut self, bytes: &[u8], folder: &Path) -> io::Result<()> {
        let waiting = self.on_disk();
        if waiting == 0 && self.memory.len() + bytes.len() <= MEMORY {
            self.memory.extend(bytes);
            return Ok(());
        }
        let disk = match &mut self.disk {
            Some(disk) => disk,
            none => none.insert(Disk::open(folder)?),
        };
        if waiting + bytes.len() as u64 > LIMIT {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the client is too slow"));
        }
        disk.file.write_all_at(bytes, disk.written)?;
        disk.written += bytes.len() as u64;
        Ok(())
    }

    /// Sends until `to` takes no more.
    pub(crate) fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            let sent = if !self.memory.is_empty() {
                rustix::io::write(to, self.memory.as_slices().0).inspect(|sent| drop(self.memory.drain(..*sent)))
            } else if let Some(disk) = self.disk.as_mut().filter(|disk| disk.read < disk.written) {
                disk.send(to)
            } else {
                return Ok(());
            };
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives back what an empty queue has: most clients are idle most of the time.
    pub(crate) fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

impl Disk {
    fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self { file: file.into(), read: 0, written: 0, freed: 0 })
    }

    fn send(&mut self, to: BorrowedFd<'_>) -> rustix::io::Result<usize> {
        let count = (self.written - self.read).min(PIECE) as usize;
        let sent = rustix::fs::sendfile(to, &self.file, Some(&mut self.read), count)?;
        if self.read - self.freed >= HOLE {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // A file system without holes keeps it all until the client has caught up.
            let _ = rustix::fs::fallocate(&self.file, flags, self.freed, self.read - self.freed);
            self.freed = self.read;
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn bytes_come_out_in_order_whatever_the_pace() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut spool = Spool::default();
        let (mut sent, mut got) = (Vec::<u8>::new(), Vec::<u8>::new());
        let mut read = |got: &mut Vec<u8>, most: usize| {
            let mut buffer = vec![0; most];
            if let Ok(count) = theirs.read(&mut buffer) {
                got.extend(&buffer[..count]);
            }
        };
        let mut used_disk = false;
        for round in 0..400_u32 {
            let bytes: Vec<u8> = (0..7001_u32).map(|i| (i * round) as u8).collect();
            spool.push(&bytes, Path::new("/var/tmp")).unwrap();
            sent.extend(bytes);
            used_disk |= spool.on_disk() > 0;
            spool.drain(ours.as_fd()).unwrap();
            read(&mut got, if round % 3 == 0 { 9000 } else { 100 });
        }
        assert!(used_disk);
        while !spool.is_empty() {
            spool.drain(ours.as_fd()).unwrap();
            read(&mut got, 1 << 20);
        }
        spool.rest();
        assert!(spool.disk.is_none());
        drop(ours);
        theirs.set_nonblocking(false).unwrap();
        theirs.read_to_end(&mut got).unwrap();
        assert!(got == sent);
    }
}
