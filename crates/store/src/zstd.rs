//! Reading zstd, with a limit on the memory of all readers together.
//!
//! A frame says how far back its matches reach, which is what a reader has to keep of what it has read. Up to level 19 of
//! zstd that is 8 MiB; `--ultra` and `--long` want up to 128 MiB, which may not come together with the other layers of a
//! pull. So there is one large window for everybody, and whoever needs it waits until it is free.

use std::io::{self, BufRead, Read};

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use crate::places::{Place, Places};

/// The largest window that is taken, as a power of two: 128 MiB, zstd's own default.
const MAX_WINDOW_LOG: u32 = 27;
/// What a reader may keep without waiting for the large window, in bytes: a window of 8 MiB and its buffers.
const USUAL: usize = 12 << 20;

/// The large window. Held by a reader from the frame that needs it to its own end.
static LARGE: Places = Places::new(1);

/// The plain bytes of any number of frames, one after another.
pub(crate) struct Reader<R> {
    source: R,
    context: DCtx<'static>,
    /// A frame has ended, and no other has begun.
    is_between: bool,
    large: Option<Place>,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(source: R) -> io::Result<Self> {
        let mut context = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        context.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG)).map_err(failed)?;
        Ok(Self { source, context, is_between: true, large: None })
    }
}

impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            let available = self.source.fill_buf()?;
            let is_end = available.is_empty();
            if is_end && self.is_between {
                return Ok(0);
            }
            let (mut input, mut output) = (InBuffer::around(available), OutBuffer::around(&mut *buffer));
            let left = self.context.decompress_stream(&mut output, &mut input).map_err(failed)?;
            let (used, made) = (input.pos(), output.pos());
            self.source.consume(used);
            // The window is there, but nothing is in it yet: memory that was not written to takes no room.
            if self.large.is_none() && self.context.sizeof() > USUAL {
                self.large = Some(LARGE.take());
            }
            self.is_between = left == 0;
            if made > 0 {
                return Ok(made);
            }
            if is_end && !self.is_between {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete frame"));
            }
        }
        Ok(0)
    }
}

fn failed(code: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, get_error_name(code))
}
