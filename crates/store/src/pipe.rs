//! A bounded pipe of bytes between two threads, in large pieces.
//!
//! Unlike a pipe of the kernel it copies nothing twice: a piece is a vector that changes hands, and goes back to the
//! writer to be filled again.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Length of a piece, in bytes.
pub(crate) const CHUNK: usize = 256 << 10;
/// Pieces under way before the writer has to wait.
const DEPTH: usize = 4;

/// Makes a pipe.
pub(crate) fn new() -> (PipeWriter, PipeReader) {
    let (full, filled) = sync_channel(DEPTH);
    let (empty, emptied) = channel();
    (
        PipeWriter { buffer: Vec::new(), used: 0, full, emptied },
        PipeReader { buffer: Vec::new(), length: 0, position: 0, filled, empty, ended: false },
    )
}

/// What the writer says: a buffer with this many bytes in it, or that it has ended as it should.
enum Piece {
    Bytes(Vec<u8>, usize),
    End,
}

/// The end that bytes go into. Dropped without [`PipeWriter::finish`], the reader gets an error instead of an end.
pub(crate) struct PipeWriter {
    /// Always [`CHUNK`] long once it is used, so that it is zeroed once and not for each piece.
    buffer: Vec<u8>,
    used: usize,
    full: SyncSender<Piece>,
    emptied: Receiver<Vec<u8>>,
}

impl PipeWriter {
    fn send(&mut self) -> io::Result<()> {
        let next = self.emptied.try_recv().unwrap_or_default();
        let full = std::mem::replace(&mut self.buffer, next);
        let used = std::mem::take(&mut self.used);
        self.full.send(Piece::Bytes(full, used)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Room for more bytes.
    fn space(&mut self) -> &mut [u8] {
        self.buffer.resize(CHUNK, 0);
        &mut self.buffer[self.used..]
    }

    fn advance(&mut self, length: usize) -> io::Result<()> {
        self.used += length;
        if self.used == CHUNK { self.send() } else { Ok(()) }
    }

    /// Reads once from a source straight into the pipe, and shows the bytes to `look`. Returns how many; 0 at the end.
    ///
    /// The outer error is the source's, the inner one says that nobody reads any more.
    pub(crate) fn read_from(
        &mut self,
        source: &mut impl Read,
        look: impl FnOnce(&[u8]),
    ) -> io::Result<Result<usize, io::Error>> {
        let space = self.space();
        let length = source.read(space)?;
        look(&space[..length]);
        Ok(self.advance(length).map(|()| length))
    }

    /// Sends what is left, and the end. Fails if nobody reads any more.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.full.send(Piece::End).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let space = self.space();
        let length = bytes.len().min(space.len());
        space[..length].copy_from_slice(&bytes[..length]);
        self.advance(length)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.used == 0 { Ok(()) } else { self.send() }
    }
}

/// The end that bytes come out of.
pub(crate) struct PipeReader {
    buffer: Vec<u8>,
    length: usize,
    position: usize,
    filled: Receiver<Piece>,
    empty: Sender<Vec<u8>>,
    ended: bool,
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.length && !self.ended {
            match self.filled.recv() {
                Ok(Piece::Bytes(next, length)) => {
                    let used = std::mem::replace(&mut self.buffer, next);
                    (self.position, self.length) = (0, length);
                    // The writer may have ended already.
                    let _ = self.empty.send(used);
                }
                Ok(Piece::End) => self.ended = true,
                Err(_) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream was cut off")),
            }
        }
        Ok(&self.buffer[self.position..self.length])
    }

    fn consume(&mut self, length: usize) {
        self.position = (self.position + length).min(self.length);
    }
}

impl Read for PipeReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(target.len());
        target[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_everything_in_order() {
        let (mut writer, mut reader) = new();
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let thread = std::thread::spawn(move || {
            for piece in copy.chunks(70_001) {
                writer.write_all(piece).unwrap();
            }
            writer.finish().unwrap();
        });
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        thread.join().unwrap();
        assert!(got == sent);
    }

    #[test]
    fn a_writer_that_vanishes_is_no_end() {
        let (mut writer, mut reader) = new();
        writer.write_all(b"abc").unwrap();
        drop(writer);
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_reader_that_vanishes_stops_the_writer() {
        let (mut writer, reader) = new();
        drop(reader);
        assert!(writer.write_all(&vec![0; 8 * CHUNK]).is_err());
    }
}
