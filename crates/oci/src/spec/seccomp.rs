//! System call filters (runtime specification, config-linux.md#seccomp).

use super::Other;
use serde::{Deserialize, Serialize};

/// A system call filter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seccomp {
    /// What happens to calls that no rule names.
    pub default_action: String,
    /// Error number for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_X86_64` and others.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_*`
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub flags: Vec<String>,
    /// Socket that receives the notification descriptor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// Sent along with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// Rules.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub syscalls: Vec<SyscallRule>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// A rule for some system calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyscallRule {
    /// The calls.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub names: Vec<String>,
    /// `SCMP_ACT_*`
    pub action: String,
    /// Error number for ERRNO and TRACE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Comparisons that must all hold.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::null_as_default")]
    pub args: Vec<SyscallArgument>,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}

/// A comparison of one argument.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyscallArgument {
    /// 0 to 5.
    pub index: u32,
    /// Operand.
    pub value: u64,
    /// Second operand, of SCMP_CMP_MASKED_EQ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_two: Option<u64>,
    /// `SCMP_CMP_*`
    pub op: String,
    /// Fields that are not known here, kept as they came.
    #[serde(flatten)]
    pub other: Other,
}
