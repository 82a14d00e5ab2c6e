//! Descriptors that the caller of this program left open under an agreed number (socket activation, readiness pipes).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A close-on-exec copy of a descriptor that was inherited under this number. Numbers above 2 are closed, so that no child
/// inherits them in turn; the standard streams stay. Fails with EBADF when nothing is open there.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes no pointer; on success it returns a new descriptor that nobody else owns.
    let copy = unsafe {
        let copy = libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(copy)
    };
    if number > 2 && number != copy.as_raw_fd() {
        // SAFETY: the number was handed to this program for this purpose alone, so nothing in it owns the descriptor.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::IntoRawFd;

    #[test]
    fn a_taken_descriptor_is_the_only_one_left() {
        let (mut reader, writer) = io::pipe().unwrap();
        let number = OwnedFd::from(writer).into_raw_fd();
        let mut copy = std::fs::File::from(take(number).unwrap());
        copy.write_all(b"hello").unwrap();
        drop(copy);
        let mut text = String::new();
        // The end is seen only when no other copy of the writing side is open.
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert!(take(-1).is_err());
    }
}
