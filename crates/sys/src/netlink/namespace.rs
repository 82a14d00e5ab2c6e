//! Fresh network namespaces.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;

/// Makes a network namespace that lives as long as the descriptor (or whoever enters it). The calling thread stays
/// where it is.
pub fn new_namespace() -> io::Result<OwnedFd> {
    let make = || {
        // SAFETY: unshare takes no pointers. CLONE_NEWNET concerns this thread alone, which ends right after; nothing
        // else of the process is unshared.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
    };
    let thread = thread::Builder::new().name("new-namespace".into()).spawn(make)?;
    thread.join().map_err(|_| io::Error::other("the thread panicked"))?
}
