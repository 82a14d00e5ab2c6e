//! Numbers of system calls on the architectures that one machine can run.

use super::Error;
use std::str::FromStr;
use syscalls::{aarch64, arm, x86, x86_64};

/// A calling convention with its own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 64-bit x86 with 32-bit pointers.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
}

/// Names of the specification that this machine's kernel never reports, so that no code is made for them.
const FOREIGN: &[&str] = &[
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PPC64LE",
    "S390",
    "S390X",
    "PARISC",
    "PARISC64",
    "RISCV64",
    "LOONGARCH64",
    "M68K",
    "SH",
    "SHEB",
];

impl Architecture {
    /// The one that this program was compiled for.
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// `SCMP_ARCH_X86`; `None` for one that cannot run here.
    pub fn parse(name: &str) -> Result<Option<Self>, Error> {
        let unknown = || Error::Architecture(name.to_owned());
        let short = name.strip_prefix("SCMP_ARCH_").ok_or_else(unknown)?;
        let found = match short {
            "NATIVE" => Self::NATIVE,
            "X86_64" => Self::X86_64,
            "X86" => Self::X86,
            "X32" => Self::X32,
            "AARCH64" => Self::Aarch64,
            "ARM" => Self::Arm,
            foreign if FOREIGN.contains(&foreign) => return Ok(None),
            _ => return Err(unknown()),
        };
        Ok((found.is_arm() == Self::NATIVE.is_arm()).then_some(found))
    }

    const fn is_arm(self) -> bool {
        matches!(self, Self::Aarch64 | Self::Arm)
    }

    /// All names that [`Architecture::parse`] takes, as `SCMP_ARCH_*`.
    pub fn names() -> Vec<String> {
        let own = ["X86_64", "X86", "X32", "AARCH64", "ARM"];
        let mut names: Vec<String> = own.iter().chain(FOREIGN).map(|name| format!("SCMP_ARCH_{name}")).collect();
        names.sort_unstable();
        names
    }

    /// What the kernel reports for it, `linux/audit.h`; the two 64-bit x86 conventions share one.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }
}

/// Numbers of x32 have this bit.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Calls that x32 numbers differently from 64-bit x86, from 512 on, `arch/x86/entry/syscalls/syscall_64.tbl`.
const X32: &[&str] = &[
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// The number of a call, if the architecture has it.
pub fn number(architecture: Architecture, name: &str) -> Option<u32> {
    let wide = || x86_64::Sysno::from_str(name).ok().map(|n| n.id() as u32);
    match architecture {
        Architecture::X86_64 => wide(),
        Architecture::X86 => x86::Sysno::from_str(name).ok().map(|n| n.id() as u32),
        Architecture::Aarch64 => aarch64::Sysno::from_str(name).ok().map(|n| n.id() as u32),
        Architecture::Arm => arm::Sysno::from_str(name).ok().map(|n| n.id() as u32),
        Architecture::X32 => {
            let own = X32.iter().position(|n| *n == name).map(|at| 512 + at as u32);
            own.or_else(wide).map(|n| n | X32_BIT)
        }
    }
}
