//! The files of a log: whole lines are appended, and a file that is full makes way for the next.

use crate::protocol::LogConfig;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An open log file, with those before it beside it.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    max_size: Option<u64>,
    max_file: u32,
    file: File,
    size: u64,
    /// The first complaint is enough: a full disk would repeat it for each line.
    complained: bool,
}

impl LogFile {
    /// Open for appending, as a restarted container goes on in the same file.
    pub(super) fn open(config: &LogConfig) -> io::Result<Self> {
        let file = append(&config.path)?;
        let size = file.metadata()?.len();
        let (max_size, max_file) = (config.max_size, config.max_file);
        Ok(Self { path: config.path.clone(), max_size, max_file, file, size, complained: false })
    }

    /// The open file, for a process that keeps nothing else.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Appends whole lines. Errors are said once and then suffered: a log on a full disk must not end the container.
    pub(super) fn append(&mut self, mut lines: &[u8]) {
        while !lines.is_empty() {
            // Before a line and not after it, as dockerd does: the newest file is never empty for long.
            if self.max_size.is_some_and(|max| self.size >= max)
                && let Err(error) = self.rotate()
            {
                self.complain("rotate", &error);
                return self.write(lines);
            }
            let (fitting, rest) = lines.split_at(self.fitting(lines));
            self.write(fitting);
            lines = rest;
        }
    }

    /// How many bytes still go into this file: to the end of the line with which it reaches its size.
    fn fitting(&self, lines: &[u8]) -> usize {
        let room = self.max_size.and_then(|max| usize::try_from(max.saturating_sub(self.size)).ok());
        match room {
            Some(room) if room <= lines.len() => {
                let last = room.saturating_sub(1);
                memchr::memchr(b'\n', &lines[last..]).map_or(lines.len(), |end| last + end + 1)
            }
            _ => lines.len(),
        }
    }

    fn write(&mut self, lines: &[u8]) {
        match self.file.write_all(lines) {
            Ok(()) => self.size += lines.len() as u64,
            Err(error) => self.complain("write", &error),
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.path;
        if self.max_file < 2 {
            self.file = File::create(path)?;
        } else {
            for number in (1..self.max_file - 1).rev() {
                rename(&numbered(path, number), &numbered(path, number + 1))?;
            }
            rename(path, &numbered(path, 1))?;
            self.file = append(path)?;
        }
        self.size = 0;
        Ok(())
    }

    fn complain(&mut self, what: &str, error: &io::Error) {
        if !self.complained {
            eprintln!("gantry shim: cannot {what} the log {}: {error}", self.path.display());
            self.complained = true;
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o640).open(path)
}

/// Move a file that may not be there.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
