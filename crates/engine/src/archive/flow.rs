//! Bytes between a blocking thread and a stream, a few pieces at a time.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Length of a piece on its way out, in bytes.
const CHUNK: usize = 64 << 10;
/// Pieces under way before the producer waits.
const DEPTH: usize = 4;

type Piece = io::Result<Bytes>;

/// A stream of bytes that a blocking thread produces. Dropped, it ends the thread at its next write.
#[derive(Debug)]
pub struct ByteStream(Receiver<Piece>);

impl Stream for ByteStream {
    type Item = Piece;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.0.poll_recv(context)
    }
}

/// The end of a [`ByteStream`] that a blocking thread writes into. What is left is sent when it is dropped.
pub(crate) struct ByteWriter {
    pieces: Sender<Piece>,
    buffer: BytesMut,
}

/// From a thread to a stream.
pub(crate) fn outwards() -> (ByteWriter, ByteStream) {
    let (sender, receiver) = channel(DEPTH);
    (ByteWriter { pieces: sender, buffer: BytesMut::new() }, ByteStream(receiver))
}

impl ByteWriter {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Ends the stream with an error, so that its reader does not take it for whole.
    pub(crate) fn fail(&mut self, error: &dyn std::error::Error) {
        self.buffer.clear();
        // The reader may be gone, which is the usual reason to fail.
        let _ = self.pieces.blocking_send(Err(io::Error::other(error.to_string())));
    }
}

impl Write for ByteWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.capacity() < CHUNK {
            self.buffer.reserve(CHUNK);
        }
        let length = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..length]);
        if self.buffer.len() == CHUNK {
            self.send()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Drop for ByteWriter {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.send();
    }
}

/// What a blocking thread reads a stream with.
pub(crate) struct ByteReader {
    pieces: Receiver<Piece>,
    current: Bytes,
}

impl Read for ByteReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(target.len());
        self.current.copy_to_slice(&mut target[..length]);
        Ok(length)
    }
}

/// From a stream to a thread. The future moves the pieces, and has to run beside the thread; it ends with the stream, or
/// when nobody reads any more.
pub(crate) fn inwards(
    mut body: impl Stream<Item = Piece> + Send + Unpin + 'static,
) -> (ByteReader, impl Future<Output = ()>) {
    let (sender, receiver) = channel(DEPTH);
    let feed = async move {
        while let Some(piece) = body.next().await {
            if sender.send(piece).await.is_err() {
                break;
            }
        }
    };
    (ByteReader { pieces: receiver, current: Bytes::new() }, feed)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn out_and_in_again() {
        let sent: Vec<u8> = (0..500_000u32).map(|n| (n % 253) as u8).collect();
        let (mut writer, stream) = outwards();
        let copy = sent.clone();
        let writing = tokio::task::spawn_blocking(move || writer.write_all(&copy));
        let (mut reader, feed) = inwards(stream);
        let reading = tokio::task::spawn_blocking(move || {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).map(|_| got)
        });
        feed.await;
        writing.await.unwrap().unwrap();
        assert!(reading.await.unwrap().unwrap() == sent);
    }

    #[tokio::test]
    async fn errors_go_through() {
        let (mut writer, mut stream) = outwards();
        tokio::task::spawn_blocking(move || writer.fail(&io::Error::other("broken"))).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap_err().to_string(), "broken");
        assert!(stream.next().await.is_none());

        let body = stream::iter([Ok(Bytes::from_static(b"a")), Err(io::Error::other("cut"))]);
        let (mut reader, feed) = inwards(body);
        let reading = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        feed.await;
        assert_eq!(reading.await.unwrap().unwrap_err().to_string(), "cut");
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_ends_the_writer() {
        let (mut writer, stream) = outwards();
        drop(stream);
        let written = tokio::task::spawn_blocking(move || writer.write_all(&vec![0; 10 * CHUNK])).await.unwrap();
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
