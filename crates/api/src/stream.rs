//! Docker's framing of stdout and stderr in one stream (`application/vnd.docker.multiplexed-stream`).
//!
//! ```text
//! byte   0        1 2 3   4 5 6 7            8 …
//!        stream   0 0 0   length, big-endian payload
//! ```
//! Streams: 0 stdin, 1 stdout, 2 stderr, 3 an error of the engine itself.

use bytes::{BufMut, Bytes, BytesMut};

/// Length of a frame's header in bytes.
pub const HEADER_LEN: usize = 8;

/// The largest payload that the decoder accepts: a length beyond it is a stream that is not framed at all.
pub const MAX_PAYLOAD: usize = 64 << 20;

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Never sent by engines; accepted, as Docker's own decoder does.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// The payload is an error message of the engine.
    SystemError = 3,
}

/// The header of a frame of `length` bytes.
#[allow(clippy::cast_possible_truncation)] // the assertion is the caller's: frames are cut far below 4 GiB
pub fn header(kind: Kind, length: usize) -> [u8; HEADER_LEN] {
    let length = (length as u32).to_be_bytes();
    [kind as u8, 0, 0, 0, length[0], length[1], length[2], length[3]]
}

/// A whole frame.
pub fn frame(kind: Kind, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_LEN + payload.len());
    frame.put_slice(&header(kind, payload.len()));
    frame.put_slice(payload);
    frame.freeze()
}

/// What is wrong with a framed stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte of a header names no stream.
    #[error("unrecognized stream: {0}")]
    Stream(u8),
    /// The length is beyond [`MAX_PAYLOAD`].
    #[error("a frame of {0} bytes is longer than any engine sends")]
    Length(usize),
}

/// Cuts a byte stream, in whatever pieces it comes, into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more was pushed.
    pub fn next_frame(&mut self) -> Result<Option<(Kind, Bytes)>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let kind = match header[0] {
            0 => Kind::Stdin,
            1 => Kind::Stdout,
            2 => Kind::Stderr,
            3 => Kind::SystemError,
            other => return Err(FrameError::Stream(other)),
        };
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if length > MAX_PAYLOAD {
            return Err(FrameError::Length(length));
        }
        if self.buffer.len() < HEADER_LEN + length {
            return Ok(None);
        }
        let mut whole = self.buffer.split_to(HEADER_LEN + length);
        Ok(Some((kind, whole.split_off(HEADER_LEN).freeze())))
    }

    /// Whether the stream ended between two frames.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut stream = frame(Kind::Stdout, b"out").to_vec();
        stream.extend_from_slice(&frame(Kind::Stderr, b""));
        stream.extend_from_slice(&frame(Kind::Stderr, b"err\n"));
        for piece in 1..stream.len() {
            let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
            for bytes in stream.chunks(piece) {
                decoder.push(bytes);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            let expected = [(Kind::Stdout, "out"), (Kind::Stderr, ""), (Kind::Stderr, "err\n")];
            assert!(decoder.is_empty());
            assert_eq!(frames, expected.map(|(kind, text)| (kind, Bytes::from(text))));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut decoder = Decoder::new();
        decoder.push(b"plain text");
        assert_eq!(decoder.next_frame(), Err(FrameError::Stream(b'p')));
        let mut decoder = Decoder::new();
        decoder.push(&[1, 0, 0, 0, 255, 255, 255, 255]);
        assert!(matches!(decoder.next_frame(), Err(FrameError::Length(_))));
    }
}
