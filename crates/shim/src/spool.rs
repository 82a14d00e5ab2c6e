//! Bytes on their way to a slow client: some in memory, the rest in a nameless file.
//!
//! A client that keeps up never touches the file. One that falls behind costs disk, up to [`LIMIT`], but neither
//! memory nor the container's time. The file has no name, so it vanishes with the shim.

use rustix::fs::{Mode, OFlags};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes in memory before the file is used.
const MEMORY: usize = 128 << 10;

/// Bytes in the file before the client is given up.
const LIMIT: u64 = 4 << 30;

/// A queue of bytes.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    memory: VecDeque<u8>,
    disk: Option<Disk>,
}

#[derive(Debug)]
struct Disk {
    file: File,
    read: u64,
    written: u64,
}

impl Spool {
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.disk.is_none()
    }

    /// Append; an error is the end of this client.
    pub(crate) fn push(&mut self, bytes: &[u8], folder: &Path) -> io::Result<()> {
        if self.disk.is_none() && self.memory.len() + bytes.len() <= MEMORY {
            self.memory.extend(bytes);
            return Ok(());
        }
        let disk = match &mut self.disk {
            Some(disk) => disk,
            none => none.insert(Disk::open(folder)?),
        };
        if disk.written - disk.read + bytes.len() as u64 > LIMIT {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the client is too slow"));
        }
        disk.file.write_all_at(bytes, disk.written)?;
        disk.written += bytes.len() as u64;
        Ok(())
    }

    /// Hand bytes to `write` until it takes no more. It returns how many it took, or `WouldBlock`.
    pub(crate) fn drain(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        loop {
            if self.memory.is_empty() && !self.refill()? {
                return Ok(());
            }
            let (front, _) = self.memory.as_slices();
            match write(front) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => drop(self.memory.drain(..taken)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Move bytes from the file to memory; false when there are none.
    fn refill(&mut self) -> io::Result<bool> {
        let Some(disk) = &mut self.disk else {
            // An empty queue gives its memory back: most clients are idle most of the time.
            self.memory = VecDeque::new();
            return Ok(false);
        };
        let mut chunk = vec![0; (disk.written - disk.read).min(MEMORY as u64) as usize];
        disk.file.read_exact_at(&mut chunk, disk.read)?;
        disk.read += chunk.len() as u64;
        if disk.read == disk.written {
            self.disk = None;
        }
        self.memory.extend(chunk);
        Ok(true)
    }
}

impl Disk {
    fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self { file: file.into(), read: 0, written: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_whatever_the_pace() {
        let mut spool = Spool::default();
        let (mut sent, mut got) = (Vec::<u8>::new(), Vec::<u8>::new());
        for round in 0..200u32 {
            let bytes: Vec<u8> = (0..7001u32).map(|i| (i * round) as u8).collect();
            spool.push(&bytes, Path::new("/var/tmp")).unwrap();
            sent.extend(bytes);
            let mut room = if round % 3 == 0 { 9000 } else { 100 };
            let write = |bytes: &[u8]| {
                if room == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let taken = bytes.len().min(room);
                got.extend(&bytes[..taken]);
                room -= taken;
                Ok(taken)
            };
            spool.drain(write).unwrap();
        }
        let write = |bytes: &[u8]| {
            got.extend(bytes);
            Ok(bytes.len())
        };
        spool.drain(write).unwrap();
        assert!(spool.is_empty());
        assert!(got == sent);
    }
}
