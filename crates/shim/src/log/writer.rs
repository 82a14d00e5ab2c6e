//! A log that the container never waits for (`mode=non-blocking`): a process of its own writes it.
//!
//! ```text
//!  output ─► lines ─► queue ─► pipe ─► writer ─► files
//!                       └─ full: what comes now is left out, as in dockerd
//! ```
//! The kernel has no way of writing an ordinary file that does not wait for a slow disk, so in this mode, and in no other, the shim
//! has a child that waits in its place. It ends with the pipe: also when the shim was killed, what was in the pipe is written.

use super::file::LogFile;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// What the writer reads at once; grows for a line that is longer.
const BLOCK: usize = 128 << 10;

/// The shim's side.
#[derive(Debug)]
pub(super) struct Writer {
    /// Gone once everything was handed over.
    pipe: Option<File>,
    queue: VecDeque<u8>,
    /// The most bytes in the queue.
    limit: usize,
    /// No more will come.
    closing: bool,
    pid: i32,
    ended: bool,
    complained: bool,
}

impl Writer {
    /// Starts the process. `limit` bytes wait for it at most, besides what the pipe holds.
    pub(super) fn start(mut file: LogFile, limit: usize) -> io::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        let reader = File::from(reader);
        let child = sys::clone::spawn(&sys::clone::Options::default(), || {
            let _ = sys::process::set_name("gantry-log");
            // Above all not the container's streams: a program must notice that nobody reads them.
            let kept = [reader.as_fd(), file.file().as_fd()];
            match sys::clone::close_all_but(&kept).and_then(|()| copy(&reader, &mut file)) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("gantry shim: the writer of the log cannot go on: {error}");
                    1
                }
            }
        })?;
        Ok(Self {
            pipe: Some(writer.into()),
            queue: VecDeque::new(),
            limit,
            closing: false,
            pid: child.pid,
            ended: false,
            complained: false,
        })
    }

    /// Takes whole lines, or as many of them as there is room for.
    pub(super) fn push(&mut self, mut lines: &[u8]) {
        if self.queue.is_empty()
            && let Some(pipe) = &mut self.pipe
        {
            match pipe.write(lines) {
                Ok(count) => lines = &lines[count..],
                Err(error) if is_for_later(&error) => {}
                Err(error) => return self.give_up(&error),
            }
        }
        let room = self.limit.saturating_sub(self.queue.len());
        let mut fitting = lines.len();
        if fitting > room {
            fitting = memchr::memrchr(b'\n', &lines[..room]).map_or(0, |end| end + 1);
        }
        if fitting == 0 && self.queue.is_empty() {
            // A line that is alone is taken whatever its length; it may also be the rest of one that the pipe has begun.
            fitting = memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
        }
        self.queue.extend(&lines[..fitting]);
        if fitting < lines.len() {
            self.complain("the log is slower than the container: lines are left out");
        }
    }

    /// The pipe, while it is waited for.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| !self.queue.is_empty()).map(File::as_fd)
    }

    /// Hands over what the pipe has room for.
    pub(super) fn flush(&mut self) {
        while let (Some(pipe), false) = (&mut self.pipe, self.queue.is_empty()) {
            match pipe.write(self.queue.as_slices().0) {
                Ok(count) => drop(self.queue.drain(..count)),
                Err(error) if is_for_later(&error) => return,
                Err(error) => self.give_up(&error),
            }
        }
        self.queue = VecDeque::new();
        if self.closing {
            self.pipe = None;
        }
    }

    /// No more will come.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.flush();
    }

    /// Whether all is in the file.
    pub(super) fn is_done(&self) -> bool {
        self.ended
    }

    /// A child has ended: perhaps this one.
    pub(super) fn child_ended(&mut self, pid: i32) {
        if pid == self.pid && !self.ended {
            self.ended = true;
            if !self.closing {
                self.give_up(&io::ErrorKind::BrokenPipe.into());
            }
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        self.pipe = None;
        self.queue = VecDeque::new();
        self.complain(&format!("the writer of the log is gone, and with it what would have been logged: {error}"));
    }

    fn complain(&mut self, what: &str) {
        if !self.complained {
            eprintln!("gantry shim: {what}");
            self.complained = true;
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The writer's side: from the pipe to the file, until the pipe ends.
fn copy(mut pipe: &File, file: &mut LogFile) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK];
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
        match pipe.read(&mut buffer[filled..]) {
            // A line without an end is one that the shim had no time for.
            Ok(0) => return Ok(()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if let Some(end) = memchr::memrchr(b'\n', &buffer[..filled]) {
            file.append(&buffer[..=end]);
            buffer.copy_within(end + 1..filled, 0);
            filled -= end + 1;
        }
    }
}
