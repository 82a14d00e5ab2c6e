//! Classic BPF as seccomp uses it: instructions, and handing a program to the kernel (seccomp(2)).
#![allow(unsafe_code)]

use super::Error;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One instruction, `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Class, size, mode and operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jump_true: u8,
    /// Instructions to skip when false.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

/// The most instructions that the kernel takes, BPF_MAXINSNS.
pub(super) const MAX: usize = 4096;

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(pub(super) Vec<Instruction>);

/// `SECCOMP_FILTER_FLAG_*` by name.
const FLAGS: &[(&str, libc::c_ulong)] = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", libc::SECCOMP_FILTER_FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV),
];

impl Program {
    /// The instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// Bits of the named flags.
    pub fn flags<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<u64, Error> {
        names.into_iter().try_fold(0, |bits, name| {
            let found = FLAGS.iter().find(|(n, _)| *n == name.as_ref());
            found.map(|(_, bit)| bits | bit).ok_or_else(|| Error::Flag(name.as_ref().to_owned()))
        })
    }

    /// Put the filter over the calling thread. It needs no_new_privs or `CAP_SYS_ADMIN`. With `notify`, the descriptor
    /// that receives notifications is returned.
    pub fn load(&self, flags: u64, notify: bool) -> io::Result<Option<OwnedFd>> {
        let filter = libc::sock_fprog {
            len: u16::try_from(self.0.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
            filter: self.0.as_ptr().cast_mut().cast(),
        };
        let flags = flags | if notify { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
        // SAFETY: the program lives until the call returns, and the kernel copies it without changing it; the layout of
        // Instruction is that of sock_filter.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags as libc::c_uint, &raw const filter)
        };
        match (result, notify) {
            (..0, _) => Err(io::Error::last_os_error()),
            // SAFETY: with NEW_LISTENER the kernel returns a descriptor that nobody else owns.
            (fd, true) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })),
            (_, false) => Ok(None),
        }
    }
}
