//! Who a process is and what it may use: ids, groups, limits, keyring, scheduling. Everything is about the calling
//! thread and survives execve(2).
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;

use rustix::process::{Gid, Pid, Resource, Rlimit, Uid};

/// Sets real, effective, saved and file-system user ids.
pub fn set_user(uid: u32) -> io::Result<()> {
    let uid = id(uid).map(Uid::from_raw)?;
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
}

/// Sets real, effective, saved and file-system group ids.
pub fn set_group(gid: u32) -> io::Result<()> {
    let gid = id(gid).map(Gid::from_raw)?;
    Ok(rustix::thread::set_thread_res_gid(gid, gid, gid)?)
}

/// Replaces the supplementary groups.
pub fn set_groups(gids: &[u32]) -> io::Result<()> {
    let gids = gids.iter().map(|gid| id(*gid).map(Gid::from_raw)).collect::<io::Result<Vec<_>>>()?;
    Ok(rustix::thread::set_thread_groups(&gids)?)
}

/// Whether this process is in another user namespace than that of the machine, so that its root is not the machine's.
#[must_use]
pub fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let everything = ["0", "0", "4294967295"];
    !map.is_empty() && !map.split_whitespace().eq(everything)
}

/// -1 means 'leave it' to the kernel, and is no id.
fn id(id: u32) -> io::Result<u32> {
    if id == u32::MAX { Err(rustix::io::Errno::INVAL.into()) } else { Ok(id) }
}

/// The resource with a name such as `RLIMIT_NOFILE`.
#[must_use]
pub fn resource(name: &str) -> Option<Resource> {
    Some(match name.strip_prefix("RLIMIT_")? {
        "AS" => Resource::As,
        "CORE" => Resource::Core,
        "CPU" => Resource::Cpu,
        "DATA" => Resource::Data,
        "FSIZE" => Resource::Fsize,
        "LOCKS" => Resource::Locks,
        "MEMLOCK" => Resource::Memlock,
        "MSGQUEUE" => Resource::Msgqueue,
        "NICE" => Resource::Nice,
        "NOFILE" => Resource::Nofile,
        "NPROC" => Resource::Nproc,
        "RSS" => Resource::Rss,
        "RTPRIO" => Resource::Rtprio,
        "RTTIME" => Resource::Rttime,
        "SIGPENDING" => Resource::Sigpending,
        "STACK" => Resource::Stack,
        _ => return None,
    })
}

/// Sets a limit of the process `pid`, or of this one; `u64::MAX` is none. `EPERM`: raising `hard` needs
/// `CAP_SYS_RESOURCE` in the first user namespace.
pub fn set_limit(pid: Option<Pid>, resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let value = |value: u64| (value != u64::MAX).then_some(value);
    rustix::process::prlimit(pid, resource, Rlimit { current: value(soft), maximum: value(hard) })?;
    Ok(())
}

/// Joins, or makes, the session keyring `name`, so that the keys of the caller are left behind. Returns its id.
pub fn join_session_keyring(name: &CStr) -> io::Result<i64> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the kernel reads the name.
    let id = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    if id < 0 { Err(io::Error::last_os_error()) } else { Ok(id) }
}

/// Lets the user and group that own a keyring search it, and find it by name; leaves other permissions.
pub fn open_keyring_to_owner(keyring: i64) -> io::Result<()> {
    const DESCRIBE: libc::c_int = 6;
    const SET_PERMISSIONS: libc::c_int = 5;
    const USER_ALL: u32 = 0x3f_0000;
    let mut text = [0_u8; 256];
    // SAFETY: the kernel writes at most the length given.
    let length = unsafe { libc::syscall(libc::SYS_keyctl, DESCRIBE, keyring, text.as_mut_ptr(), text.len()) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    // type;uid;gid;permissions;description
    let text = String::from_utf8_lossy(&text);
    let permissions = text.split(';').nth(3).and_then(|field| u32::from_str_radix(field, 16).ok());
    let permissions = permissions.ok_or(rustix::io::Errno::INVAL)? | USER_ALL;
    // SAFETY: takes numbers.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, SET_PERMISSIONS, keyring, permissions) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Domain of execution, as of personality(2).
pub fn set_personality(persona: u64) -> io::Result<()> {
    // SAFETY: takes a number.
    if unsafe { libc::personality(persona) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Class (1 real-time, 2 best-effort, 3 idle) and level (0 first, to 7) of the I/O priority.
pub fn set_io_priority(class: u32, level: u32) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: takes numbers.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, class << 13 | level) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A scheduling policy, as of sched_setattr(2).
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Scheduling {
    size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// Real-time priority.
    pub priority: u32,
    /// Nanoseconds of `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
    /// Bounds of utilisation, which the specification has flags and no values for.
    clamps: [u32; 2],
}

/// Sets the scheduling policy.
pub fn set_scheduling(mut scheduling: Scheduling) -> io::Result<()> {
    scheduling.size = size_of::<Scheduling>() as u32;
    // SAFETY: the kernel reads a `sched_attr` of the size that its first field says.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const scheduling, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where memory of the calling thread is taken from, set_mempolicy(2): `MPOL_*` with its flags, and numbers of nodes.
pub fn set_memory_policy(mode: u32, nodes: &[usize]) -> io::Result<()> {
    let bits = usize::BITS as usize;
    let words = nodes.iter().max().map_or(0, |highest| highest / bits + 1);
    let mut mask = vec![0_usize; words];
    for node in nodes {
        if let Some(word) = mask.get_mut(node / bits) {
            *word |= 1 << (node % bits);
        }
    }
    // The kernel counts the bits from 1.
    let count = if mask.is_empty() { 0 } else { words * bits + 1 };
    let pointer = if mask.is_empty() { std::ptr::null() } else { mask.as_ptr() };
    // SAFETY: the kernel reads as many bits as `count` says, less one.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode as libc::c_int, pointer, count) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
