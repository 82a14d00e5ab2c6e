//! System call filters: a profile in the runtime specification's words, compiled to classic BPF and loaded.
//!
//! ```text
//! Filter ──compile──► Program (BPF, at most 4096 instructions) ──load──► the calling thread, for good
//! ```
//!
//! The program looks at the architecture first, then finds the call's number in a balanced tree of ranges, so that an
//! allowed call costs about ten instructions however long the profile is.

mod bpf;
mod compile;
mod number;

pub use bpf::{Instruction, Program};
pub use compile::compile;
pub use number::{Architecture, number};

use std::str::FromStr;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process ends with SIGSYS.
    KillProcess,
    /// The thread ends with SIGSYS.
    KillThread,
    /// SIGSYS is sent, and may be handled.
    Trap,
    /// The call fails with this error number.
    Errno(u16),
    /// A tracer is asked; without one the call fails with ENOSYS.
    Trace(u16),
    /// The call is made and logged.
    Log,
    /// The holder of the notification descriptor decides.
    Notify,
    /// The call is made.
    Allow,
}

impl Action {
    /// `SCMP_ACT_*` with the error number that goes with it (EPERM when none is given, as runc has it).
    pub fn parse(name: &str, errno: Option<u32>) -> Result<Self, Error> {
        let number = || {
            let errno = errno.unwrap_or(libc::EPERM as u32);
            // The kernel caps error numbers at MAX_ERRNO.
            u16::try_from(errno).ok().filter(|n| *n <= 4095).ok_or(Error::Errno(errno))
        };
        Ok(match name {
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self::KillThread,
            "SCMP_ACT_KILL_PROCESS" => Self::KillProcess,
            "SCMP_ACT_TRAP" => Self::Trap,
            "SCMP_ACT_ERRNO" => Self::Errno(number()?),
            "SCMP_ACT_TRACE" => Self::Trace(number()?),
            "SCMP_ACT_LOG" => Self::Log,
            "SCMP_ACT_NOTIFY" => Self::Notify,
            "SCMP_ACT_ALLOW" => Self::Allow,
            other => return Err(Error::Action(other.to_owned())),
        })
    }

    /// The value that a filter returns for it, `linux/seccomp.h`.
    pub fn value(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(number) => 0x0005_0000 | u32::from(number),
            Self::Trace(number) => 0x7ff0_0000 | u32::from(number),
            Self::Log => 0x7ffc_0000,
            Self::Notify => 0x7fc0_0000,
            Self::Allow => 0x7fff_0000,
        }
    }
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Not equal.
    NotEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessEqual,
    /// Equal.
    Equal,
    /// Greater or equal.
    GreaterEqual,
    /// Greater.
    Greater,
    /// `argument & value == value_two`.
    MaskedEqual,
}

impl FromStr for Comparison {
    type Err = Error;

    /// `SCMP_CMP_*`
    fn from_str(name: &str) -> Result<Self, Error> {
        Ok(match name {
            "SCMP_CMP_NE" => Self::NotEqual,
            "SCMP_CMP_LT" => Self::Less,
            "SCMP_CMP_LE" => Self::LessEqual,
            "SCMP_CMP_EQ" => Self::Equal,
            "SCMP_CMP_GE" => Self::GreaterEqual,
            "SCMP_CMP_GT" => Self::Greater,
            "SCMP_CMP_MASKED_EQ" => Self::MaskedEqual,
            other => return Err(Error::Comparison(other.to_owned())),
        })
    }
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    /// 0 to 5.
    pub index: u8,
    /// How.
    pub comparison: Comparison,
    /// Against what, or the mask.
    pub value: u64,
    /// What remains behind the mask.
    pub value_two: u64,
}

/// What happens to some calls; all conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Names of calls; one that an architecture does not have is left out there.
    pub names: Vec<String>,
    /// What happens.
    pub action: Action,
    /// On which arguments; none is always.
    pub arguments: Vec<Argument>,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// For calls without a rule that holds.
    pub default_action: Action,
    /// Architectures besides the machine's own, as `SCMP_ARCH_*`.
    pub architectures: Vec<String>,
    /// Rules; the first that holds decides.
    pub rules: Vec<Rule>,
}

/// Why a profile cannot be compiled.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A word that is no action.
    #[error("unknown seccomp action {0:?}")]
    Action(String),
    /// A word that is no comparison.
    #[error("unknown seccomp comparison {0:?}")]
    Comparison(String),
    /// A word that is no architecture.
    #[error("unknown seccomp architecture {0:?}")]
    Architecture(String),
    /// A word that is no flag, or one that this kernel lacks.
    #[error("unknown seccomp flag {0:?}")]
    Flag(String),
    /// An error number beyond the kernel's.
    #[error("seccomp error number {0} is over 4095")]
    Errno(u32),
    /// An argument beyond the sixth.
    #[error("seccomp argument index {0} is over 5")]
    Index(u32),
    /// More conditions than a call has arguments.
    #[error("a seccomp rule has {0} conditions, over 6")]
    Conditions(usize),
    /// More instructions than the kernel takes.
    #[error("the seccomp profile compiles to {0} instructions, and the kernel takes 4096")]
    TooLong(usize),
}
