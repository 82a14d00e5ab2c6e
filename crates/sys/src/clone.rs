//! New processes by clone3(2), and becoming another program by execve(2).
//!
//! The child is a copy of the caller and runs ordinary Rust code, which may allocate and lock. That is sound only when
//! no other thread can hold a lock at the moment of the copy, so [`spawn`] refuses a process with several threads.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::namespace::Kinds;

/// Of clone3(2) only: it does not fit the type of the other flags.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// This process is the child of a [`spawn`].
static IS_CLONE: AtomicBool = AtomicBool::new(false);

/// What the new process is to differ in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Namespaces that are made for it. All but `USER` belong to a user namespace made in the same call.
    pub namespaces: Kinds,
    /// Directory of a cgroup v2 that it starts in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// It becomes a child of the caller's parent instead of the caller's.
    pub sibling: bool,
}

/// A process that was just made.
#[derive(Debug)]
pub struct Child {
    /// Process id in the caller's namespace.
    pub pid: i32,
    /// The process, whatever happens to that id.
    pub pidfd: OwnedFd,
}

/// Number of threads of this process.
pub fn threads() -> io::Result<u64> {
    // The directory has a link for each thread, beside `.` and `..`.
    Ok(rustix::fs::stat("/proc/self/task")?.st_nlink.saturating_sub(2))
}

/// Makes a process that runs `body` and ends with the exit code that it returns; a panic ends it with 101.
///
/// Nothing of the caller is dropped or flushed there. Its parent gets SIGCHLD when it ends. A caller with more than
/// one thread gets `EDEADLK`.
pub fn spawn(options: &Options<'_>, body: impl FnOnce() -> i32) -> io::Result<Child> {
    // Behind a change of the mount namespace /proc may be another's, or none; a clone begins with one thread.
    if !IS_CLONE.load(Ordering::Relaxed) && threads()? != 1 {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    let mut pidfd: libc::c_int = -1;
    let mut flags = options.namespaces.bits() | libc::CLONE_PIDFD as u64;
    if options.sibling {
        flags |= libc::CLONE_PARENT as u64;
    }
    if options.cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let arguments = libc::clone_args {
        flags,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        // A sibling inherits the signal that its maker tells the common parent with.
        exit_signal: if options.sibling { 0 } else { libc::SIGCHLD as u64 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: options.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: without CLONE_VM the child gets a copy of memory and stack and goes on behind this call, as after fork;
    // there is one thread, so no lock is held by one that is missing there. The kernel writes only to `pidfd`.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            IS_CLONE.store(true, Ordering::Relaxed);
            let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(101);
            // SAFETY: ends the process without running destructors of what belongs to the caller.
            unsafe { libc::_exit(code) }
        }
        // SAFETY: the kernel stored a new descriptor there that nobody else owns.
        pid => Ok(Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// Becomes the program at `path`; returns only with an error.
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Marks every descriptor from `first` on to be closed by execve(2).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers; descriptors stay open, so nothing that owns one is surprised.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor above 2 that is not in `kept`. Only for a clone that works with these alone and then becomes
/// another program: values that it has from its maker lose their descriptors.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    numbers.sort_unstable();
    let mut first = 3;
    for last in numbers.into_iter().map(Some).chain([None]) {
        let end = last.map_or(u32::MAX, |last| last.saturating_sub(1));
        if first <= end && last != Some(0) {
            // SAFETY: takes numbers; the contract above is about who owns them.
            if unsafe { libc::syscall(libc::SYS_close_range, first, end, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = first.max(last.map_or(u32::MAX, |last| last.saturating_add(1)));
    }
    Ok(())
}

/// Puts `descriptors` at the numbers 0, 1, 2, … whatever those are now; they stay open over execve(2).
///
/// What was open at these numbers is closed. Only for a process that is about to become another program: values that
/// own such a descriptor would own the new one afterwards.
pub fn place_descriptors(descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    // First out of the way, so that no number is overwritten that is still needed.
    let above = descriptors.len() as libc::c_int;
    let mut moved = Vec::with_capacity(descriptors.len());
    for descriptor in descriptors {
        // SAFETY: makes a new descriptor from one that is open.
        let copy = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above.max(3)) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        moved.push(copy);
    }
    for (number, copy) in (0..).zip(moved) {
        // SAFETY: `copy` is open and ours; see above for what is overwritten.
        if unsafe { libc::dup2(copy, number) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: nobody else knows this descriptor.
        unsafe { libc::close(copy) };
    }
    Ok(())
}

/// All signals get their default action and none is blocked, as a new program expects.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: sets a disposition without a handler; numbers that cannot be changed give an error, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that sigprocmask reads.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// Runs `body` in a clone. The test runner has threads, so it is a clone of a clone without any that does.
    fn code_of(body: impl FnOnce() -> i32) -> i32 {
        IS_CLONE.store(true, Ordering::Relaxed);
        let child = spawn(&Options::default(), body).unwrap();
        crate::pidfd::reap(child.pidfd.as_fd()).unwrap().code()
    }

    #[test]
    fn a_clone_ends_with_its_code() {
        assert_eq!(code_of(|| 42), 42);
    }

    #[test]
    fn what_is_kept_stays_open() {
        let (a, b) = (std::fs::File::open("/").unwrap(), std::fs::File::open("/").unwrap());
        let code = code_of(|| {
            if close_all_but(&[b.as_fd()]).is_err() {
                return 1;
            }
            let is_open = |file: &std::fs::File| rustix::io::fcntl_getfd(file).is_ok();
            i32::from(is_open(&a)) * 2 + i32::from(!is_open(&b)) * 4
        });
        assert_eq!(code, 0);
    }
}
