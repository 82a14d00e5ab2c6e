//! Bodies of answers: nothing, a document, or a blob.
//!
//! A blob is read in pieces of at most [`PIECE`](crate::wire::PIECE) bytes, the next one when hyper asks for it, so that a
//! connection holds one piece at most. Without TLS a piece of a file is not even read: see module `wire`. The kernel would
//! make a worker wait for the disk then, so what is not in its cache yet is brought there on a blocking thread first.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use object_store::path::Path;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::storage::{Objects, Part};
use crate::wire::{Outbox, PIECE, Piece};

/// Bytes that are read at once where they have to pass through this process.
const READ: usize = 256 << 10;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Piece, io::Error>;

/// A body in memory.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    let pieces = (!bytes.is_empty()).then(|| Ok(Frame::data(Piece::Bytes(bytes))));
    // A stream has no known length; answers say it in their head.
    BodyExt::boxed_unsync(StreamBody::new(stream::iter(pieces)))
}

/// No body.
pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

/// Parts of a blob, one after the other. With an outbox, files are left to the kernel.
pub(crate) fn blob(objects: Objects, slices: Vec<(Path, Range<u64>)>, first: Part, outbox: Option<Outbox>) -> Body {
    let reader = Reader { objects, slices: slices.into(), next: Some(first), outbox };
    let parts = stream::try_unfold(reader, |mut reader| async move {
        Ok::<_, io::Error>(reader.next_part().await?.map(|part| (part, reader)))
    });
    BodyExt::boxed_unsync(StreamBody::new(parts.try_flatten().map_ok(Frame::data)))
}

/// Bytes from elsewhere, as they come.
pub(crate) fn bytes(stream: BoxStream<'static, io::Result<Bytes>>) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(stream.map_ok(|bytes| Frame::data(Piece::Bytes(bytes)))))
}

/// Whatever comes.
pub(crate) fn frames(stream: BoxStream<'static, io::Result<Frame<Piece>>>) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(stream))
}

/// A part of a file.
pub(crate) fn file(file: File, range: Range<u64>, outbox: Option<Outbox>) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(pieces(Arc::new(file), range, outbox).map_ok(Frame::data)))
}

struct Reader {
    objects: Objects,
    slices: VecDeque<(Path, Range<u64>)>,
    /// The first part is open already: that is how it was known to be there.
    next: Option<Part>,
    outbox: Option<Outbox>,
}

type Pieces = BoxStream<'static, io::Result<Piece>>;

impl Reader {
    async fn next_part(&mut self) -> io::Result<Option<Pieces>> {
        let Some((key, range)) = self.slices.pop_front() else { return Ok(None) };
        let part = match self.next.take() {
            Some(part) => part,
            None => self.objects.open_part(&key, range.clone()).await.map_err(io::Error::other)?,
        };
        Ok(Some(match part {
            Part::File(file) => pieces(Arc::new(file), range, self.outbox.clone()),
            Part::Stream(stream) => stream.map_ok(Piece::Bytes).map_err(io::Error::other).boxed(),
        }))
    }
}

/// Pieces of a file.
fn pieces(file: Arc<File>, range: Range<u64>, outbox: Option<Outbox>) -> Pieces {
    let state = (file, range, outbox);
    let pieces = stream::try_unfold(state, |(file, mut range, outbox)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let most = if outbox.is_some() { PIECE } else { READ };
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(most);
        let (handle, offset) = (Arc::clone(&file), range.start);
        let piece = if let Some(outbox) = &outbox {
            if !is_cached(&file, offset, length) {
                blocking(move || warm(&handle, offset, length)).await?;
            }
            outbox.piece(&file, offset, length)
        } else {
            let bytes = blocking(move || {
                let mut buffer = vec![0; length];
                handle.read_exact_at(&mut buffer, offset)?;
                Ok(buffer)
            });
            Piece::Bytes(bytes.await?.into())
        };
        range.start += length as u64;
        Ok(Some((piece, (file, range, outbox))))
    });
    pieces.boxed()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Would the kernel send these bytes without waiting for the disk? Their two ends are asked for; what lies between is
/// read ahead with them.
fn is_cached(file: &File, offset: u64, length: usize) -> bool {
    let is_there = |at: u64| {
        let mut byte = [0];
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, flags) == Ok(1)
    };
    is_there(offset) && is_there(offset + length.saturating_sub(1) as u64)
}

/// Brings bytes of a file into the kernel's cache.
fn warm(file: &File, offset: u64, length: usize) -> io::Result<()> {
    let mut buffer = vec![0; READ.min(length)];
    let mut done = 0;
    while done < length {
        let wanted = buffer.len().min(length - done);
        match file.read_at(&mut buffer[..wanted], offset + done as u64)? {
            0 => return Ok(()),
            n => done += n,
        }
    }
    Ok(())
}
