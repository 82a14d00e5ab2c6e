//! What happens before the C library starts: the program moves behind a read-only mount of its own file.
//!
//! A program that makes containers executes itself again, so that they cannot reach its file (`runtime::protect_program`
//! says why, and does it where this did not). The C library asks the processor about its caches at every start, some
//! eighty times, and in a virtual machine each question goes to the hypervisor: half a millisecond, a tenth of what a
//! container takes. So the first of the two executions ends here, at the program's entry, before the library has run.
//!
//! ```text
//! kernel ─► gantry_start ─┬─► open_tree, mount_setattr, execveat ─► kernel ─► gantry_start ─► _start, main
//!                         └─► _start, main        (another command, done already, or not possible)
//! ```
//! The linker makes `gantry_start` the entry (`-e`). Nothing may be called from here that is not in this file: the library's
//! functions are not linked to their variants yet, and there is no thread-local storage. Memory is read as volatile, since
//! the compiler makes calls of `strlen` and `memcmp` out of plain loops.

// The program's entry, raw system calls, and lists that end with zero.
#![allow(unsafe_code)]

use core::ffi::c_char;
use core::mem::MaybeUninit;

use syscalls::{Sysno, syscall};

// The stack pointer is all that the kernel hands over, with a register that `_start` wants (System V ABI, process
// initialization).
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".pushsection .text.gantry_start, \"ax\", @progbits",
    ".globl gantry_start",
    "gantry_start:",
    "xor ebp, ebp",
    "mov r12, rdx",
    "mov rdi, rsp",
    "call {before}",
    "mov rdx, r12",
    "jmp _start",
    ".popsection",
    before = sym before,
);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".pushsection .text.gantry_start, \"ax\", @progbits",
    ".globl gantry_start",
    "gantry_start:",
    "mov x29, #0",
    "mov x19, x0",
    "mov x0, sp",
    "bl {before}",
    "mov x0, x19",
    "b _start",
    ".popsection",
    before = sym before,
);

/// The number of arguments, pointers to them, nothing, pointers to the environment, nothing.
extern "C" fn before(stack: *const usize) {
    // SAFETY: the kernel has laid the stack out like this (System V ABI), and nothing has changed it.
    unsafe {
        let count = stack.read_volatile();
        let arguments = stack.add(1).cast::<*const c_char>();
        let environment = arguments.add(count + 1);
        if makes_containers(arguments, count) && !is_protected() {
            protect(arguments, environment);
        }
    }
}

/// Whether this is the runtime's command line, with a command that makes processes in containers. A word that stands
/// elsewhere, as a container's name, does no harm.
///
/// # Safety
///
/// `arguments` points to `count` texts that end with zero.
unsafe fn makes_containers(arguments: *const *const c_char, count: usize) -> bool {
    let mut at = 0;
    let (mut is_runtime, mut makes) = (false, false);
    while at < count {
        // SAFETY: below the number of them.
        let word = unsafe { arguments.add(at).read_volatile() };
        // SAFETY: the caller's texts end with zero.
        unsafe {
            match at {
                0 => is_runtime = ends_with(word, b"runc") || ends_with(word, b"gantry-runtime"),
                1 if is(word, b"runtime") => is_runtime = true,
                _ => makes = makes || is(word, b"create") || is(word, b"run") || is(word, b"exec"),
            }
        }
        at += 1;
    }
    is_runtime && makes
}

/// # Safety
///
/// `text` ends with zero.
unsafe fn length(text: *const c_char) -> usize {
    let mut length = 0;
    // SAFETY: no byte after the zero is read.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// # Safety
///
/// `text` ends with zero.
unsafe fn ends_with(text: *const c_char, end: &[u8]) -> bool {
    // SAFETY: as the caller says, and the difference is within the text.
    unsafe {
        let length = length(text);
        length >= end.len() && is(text.add(length - end.len()), end)
    }
}

/// # Safety
///
/// `text` ends with zero.
unsafe fn is(text: *const c_char, word: &[u8]) -> bool {
    let (word, length) = (word.as_ptr(), word.len());
    let mut at = 0;
    while at < length {
        // SAFETY: a zero differs from every letter of the word, so that neither is read beyond its end.
        if unsafe { text.add(at).read_volatile() } as u8 != unsafe { word.add(at).read_volatile() } {
            return false;
        }
        at += 1;
    }
    // SAFETY: all before it were letters.
    unsafe { text.add(length).read_volatile() == 0 }
}

const OWN: *const c_char = c"/proc/self/exe".as_ptr();
const HERE: *const c_char = c"".as_ptr();
/// `struct mount_attr`: to set, to clear, propagation, user namespace.
static READ_ONLY: [u64; 4] = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];

/// A read-only mount of this file alone; also where that cannot be found out.
fn is_protected() -> bool {
    let mut found = MaybeUninit::<libc::statx>::uninit();
    // `struct statfs` of machines of 64 bits, whose eleventh word are the flags of the mount (statfs(2)).
    let mut system = MaybeUninit::<[u64; 15]>::uninit();
    // SAFETY: both structures have the size that the kernel fills in, and are read where it has.
    unsafe {
        let (mask, none) = (libc::STATX_TYPE, 0);
        if syscall!(Sysno::statx, libc::AT_FDCWD, OWN, none, mask, found.as_mut_ptr()).is_err()
            || syscall!(Sysno::statfs, OWN, system.as_mut_ptr()).is_err()
        {
            return true;
        }
        let attributes = (&raw const (*found.as_ptr()).stx_attributes).read_volatile();
        let flags = system.as_ptr().cast::<u64>().add(10).read_volatile();
        attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0 && flags & libc::ST_RDONLY != 0
    }
}

/// Returns if it cannot be done; the program says why later, or does it in another way.
///
/// # Safety
///
/// Both lists end with a null pointer.
unsafe fn protect(arguments: *const *const c_char, environment: *const *const c_char) {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: constant texts, a structure of the size that is given, and the lists that the kernel itself made.
    unsafe {
        let Ok(tree) = syscall!(Sysno::open_tree, libc::AT_FDCWD, OWN, flags) else { return };
        let size = size_of_val(&READ_ONLY);
        if syscall!(Sysno::mount_setattr, tree, HERE, libc::AT_EMPTY_PATH, &raw const READ_ONLY, size).is_ok() {
            let _ = syscall!(Sysno::execveat, tree, HERE, arguments, environment, libc::AT_EMPTY_PATH);
        }
        let _ = syscall!(Sysno::close, tree);
    }
}
