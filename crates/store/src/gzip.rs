//! Gzip on all processors: layers that were made here are compressed when they go to a registry.
//!
//! ```text
//! stream ─► blocks of 1 MiB ─► any thread: deflate, each block on its own, ended at a whole byte ─► in order ─► one member
//! ```
//!
//! The result is an ordinary gzip file with one member, the same for the same bytes whatever the number of threads: a
//! layer that is compressed again has the digest that it had.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::error::{Error, Result};
use crate::places::{Place, Places};

/// Blocks that all streams together may have in memory: five layers that are pushed at once need no more than one.
static BLOCKS: Places = Places::new(MAX_BLOCKS);
const MAX_BLOCKS: usize = 24;
/// What one thread compresses at once, in bytes. Matches do not reach over its beginning, which costs about a hundredth.
const BLOCK: usize = 1 << 20;
/// A Debian root file system becomes a fortieth larger than with Docker's level (6), in little more than half the time.
const LEVEL: Compression = Compression::new(3);
/// More threads than this would only take memory from others.
const MAX_THREADS: usize = 8;
/// No name, no time, made anywhere: nothing that differs from run to run (RFC 1952).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last block without content.
const END: [u8; 2] = [3, 0];

/// A block on its way to a thread, and the way back.
struct Job {
    bytes: Vec<u8>,
    done: SyncSender<io::Result<Done>>,
}

struct Done {
    deflated: Vec<u8>,
    crc: Crc,
}

/// The same as [`gzip`]. `made` sees what is written, each time with the number of bytes that were read so far.
pub(crate) fn gzip_watched(source: impl Read, target: impl Write, made: impl FnMut(&[u8], u64)) -> Result<()> {
    let read = Cell::new(0);
    gzip(Counted { source, read: &read }, Watched { target, made, read: &read })
}

struct Counted<'a, R> {
    source: R,
    read: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.read.set(self.read.get() + length as u64);
        Ok(length)
    }
}

struct Watched<'a, W, F> {
    target: W,
    made: F,
    read: &'a Cell<u64>,
}

impl<W: Write, F: FnMut(&[u8], u64)> Write for Watched<'_, W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.target.write(bytes)?;
        (self.made)(bytes.get(..length).unwrap_or(bytes), self.read.get());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

/// Compresses a stream to its end. Fails with [`Error::Read`] or [`Error::Write`], by whose end it was.
fn gzip(mut source: impl Read, mut target: impl Write) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let (jobs, queue) = sync_channel::<Job>(threads);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let named = std::thread::Builder::new().name("gzip".into());
            named.spawn_scoped(scope, || work(&queue)).map_err(|_| Error::Thread)?;
        }
        target.write_all(&HEADER).map_err(Error::Write)?;
        let mut crc = Crc::new();
        let mut pending: VecDeque<(Receiver<io::Result<Done>>, Place)> = VecDeque::new();
        let mut is_end = false;
        while !is_end || !pending.is_empty() {
            // The oldest is waited for when there is enough to do, or nothing more to come.
            let is_full = is_end || pending.len() > 2 * threads;
            let place = match (is_full, pending.is_empty()) {
                (true, _) => None,
                // Who has some already goes on with those.
                (false, false) => BLOCKS.try_take(),
                (false, true) => Some(BLOCKS.take()),
            };
            match place {
                Some(place) => {
                    let bytes = block(&mut source).map_err(Error::Read)?;
                    is_end = bytes.is_empty();
                    if !is_end {
                        let (done, result) = sync_channel(1);
                        jobs.send(Job { bytes, done }).map_err(|_| Error::Thread)?;
                        pending.push_back((result, place));
                    }
                }
                None => {
                    let Some((oldest, _place)) = pending.pop_front() else { break };
                    let done = oldest.recv().map_err(|_| Error::Thread)?.map_err(Error::Write)?;
                    target.write_all(&done.deflated).map_err(Error::Write)?;
                    crc.combine(&done.crc);
                }
            }
        }
        // Without jobs the threads end, also when an error left this early.
        drop(jobs);
        let trailer = [&END[..], &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat();
        target.write_all(&trailer).map_err(Error::Write)
    })
}

/// As many bytes as there are, up to a block; none at the end.
fn block(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(BLOCK);
    source.take(BLOCK as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { bytes, done }) = job else { return };
        // Nobody may want it any more.
        let _ = done.send(deflate(&bytes));
    }
}

/// One block, ended so that another can follow it.
fn deflate(bytes: &[u8]) -> io::Result<Done> {
    let mut compress = Compress::new(LEVEL, false);
    let mut deflated = Vec::with_capacity(bytes.len() / 2 + 1024);
    loop {
        let rest = &bytes[usize::try_from(compress.total_in()).unwrap_or(bytes.len())..];
        let status = compress.compress_vec(rest, &mut deflated, FlushCompress::Sync).map_err(io::Error::other)?;
        let is_whole = compress.total_in() == bytes.len() as u64 && deflated.len() < deflated.capacity();
        if is_whole || status == Status::StreamEnd {
            break;
        }
        deflated.reserve(bytes.len() / 4 + 1024);
    }
    let mut crc = Crc::new();
    crc.update(bytes);
    Ok(Done { deflated, crc })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(&mut next).take(length).collect()
    }

    #[test]
    fn what_goes_in_comes_out() {
        let text = b"some text that is repeated ".repeat(200_000);
        for plain in [Vec::new(), b"x".to_vec(), noise(BLOCK), noise(3 * BLOCK + 7), text] {
            let (mut once, mut twice) = (Vec::new(), Vec::new());
            gzip(&plain[..], &mut once).unwrap();
            gzip(&plain[..], &mut twice).unwrap();
            assert!(once == twice);
            let mut back = Vec::new();
            // One member: readers that know no second one see all of it.
            flate2::read::GzDecoder::new(&once[..]).read_to_end(&mut back).unwrap();
            assert!(back == plain);
        }
    }

    #[test]
    fn what_is_made_is_seen() {
        let (mut written, mut seen, mut read) = (Vec::new(), Vec::new(), 0);
        gzip_watched(&noise(2 * BLOCK + 7)[..], &mut written, |bytes, so_far| {
            seen.extend_from_slice(bytes);
            assert!(so_far >= read);
            read = so_far;
        })
        .unwrap();
        assert!(seen == written && read == 2 * BLOCK as u64 + 7);
    }

    /// More streams at once than there are places for blocks.
    #[test]
    fn many_at_once() {
        let plain = noise(3 * BLOCK);
        std::thread::scope(|scope| {
            for _ in 0..2 * MAX_BLOCKS {
                scope.spawn(|| {
                    let mut made = Vec::new();
                    gzip(&plain[..], &mut made).unwrap();
                    assert!(made.len() > 3 * BLOCK);
                });
            }
        });
    }

    #[test]
    fn errors_of_both_ends() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("full"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let noise = noise(5 * BLOCK);
        let source = (&noise[..]).chain(Broken);
        assert!(matches!(gzip(source, Vec::new()).unwrap_err(), Error::Read(_)));
        assert!(matches!(gzip(&b"x"[..], Broken).unwrap_err(), Error::Write(_)));
    }
}
