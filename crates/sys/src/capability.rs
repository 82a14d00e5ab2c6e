//! Capabilities (capabilities(7)): names, sets, and putting a thread's five sets into force.
//!
//! The order of putting them into force matters and is the caller's: the bounding set is cut while the thread may
//! still do so (`CAP_SETPCAP`), the user changes with [`keep_over_user_change`] in effect, then the three classic sets
//! are set at once, and the ambient set last, since it is limited by permitted and inheritable.
#![allow(unsafe_code)]

use std::io;

/// Names in the order of their numbers, `linux/capability.h`.
const NAMES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Every name that is known here, in the order of the kernel's numbers.
pub fn names() -> &'static [&'static str] {
    NAMES
}

/// A set of capabilities, one bit for each number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Set(pub u64);

/// A name that is no capability.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown capability {0:?}")]
pub struct Unknown(pub String);

impl Set {
    /// From names with `CAP_`, in capitals as the runtime specification has them.
    pub fn from_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, Unknown> {
        let mut bits = 0;
        for name in names {
            let number = NAMES.iter().position(|n| *n == name.as_ref());
            bits |= 1 << number.ok_or_else(|| Unknown(name.as_ref().to_owned()))?;
        }
        Ok(Self(bits))
    }

    /// Names of the members.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(number, _)| self.0 >> number & 1 == 1).map(|(_, name)| *name)
    }

    /// All that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The five sets of a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sets {
    /// The most that an exec can gain.
    pub bounding: Set,
    /// What is checked.
    pub effective: Set,
    /// What may be made effective.
    pub permitted: Set,
    /// What survives the exec of a program with the same in its file.
    pub inheritable: Set,
    /// What survives the exec of any program.
    pub ambient: Set,
}

/// Every capability that the running kernel has.
pub fn supported() -> Set {
    let mut bits = 0;
    for number in 0..64 {
        // SAFETY: PR_CAPBSET_READ takes a number and touches no memory of ours.
        if unsafe { libc::prctl(libc::PR_CAPBSET_READ, number as libc::c_ulong, 0, 0, 0) } < 0 {
            break;
        }
        bits |= 1 << number;
    }
    Set(bits)
}

/// The calling thread's sets.
pub fn current() -> io::Result<Sets> {
    let mut data = [Data::default(); 2];
    let mut header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: header and data have the layout of capget(2) version 3 and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| Set(u64::from(low) | u64::from(high) << 32);
    let collect = |option, operation: libc::c_ulong| {
        let mut bits = 0;
        for number in 0..NAMES.len() as libc::c_ulong {
            let (a, b) = if operation == 0 { (number, 0) } else { (operation, number) };
            // SAFETY: these operations take numbers and touch no memory of ours.
            if unsafe { libc::prctl(option, a, b, 0, 0) } == 1 {
                bits |= 1 << number;
            }
        }
        Set(bits)
    };
    Ok(Sets {
        bounding: collect(libc::PR_CAPBSET_READ, 0),
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
        ambient: collect(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET as libc::c_ulong),
    })
}

/// Remove everything else from the bounding set; needs `CAP_SETPCAP` unless nothing is to be removed.
pub fn limit_bounding(keep: Set) -> io::Result<()> {
    for number in 0..64 {
        // SAFETY: takes a number and touches no memory of ours.
        let present = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number as libc::c_ulong, 0, 0, 0) };
        if present < 0 {
            break;
        }
        if present == 1 && keep.0 >> number & 1 == 0 {
            // SAFETY: takes a number and touches no memory of ours.
            check(i64::from(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number as libc::c_ulong, 0, 0, 0) }))?;
        }
    }
    Ok(())
}

/// Keep permitted capabilities when the thread leaves user 0; an exec ends it.
pub fn keep_over_user_change(keep: bool) -> io::Result<()> {
    // SAFETY: takes numbers and touches no memory of ours.
    check(i64::from(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep), 0, 0, 0) }))
}

/// Set effective, permitted and inheritable of the calling thread, capset(2).
pub fn set(effective: Set, permitted: Set, inheritable: Set) -> io::Result<()> {
    let half = |shift: u32| {
        let part = |set: Set| (set.0 >> shift) as u32;
        Data { effective: part(effective), permitted: part(permitted), inheritable: part(inheritable) }
    };
    let data = [half(0), half(32)];
    let header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: header and data have the layout of capset(2) version 3 and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
}

/// Replace the ambient set; a capability that is not permitted and inheritable is an error (EPERM).
pub fn set_ambient(set: Set) -> io::Result<()> {
    let prctl = |operation, number: libc::c_ulong| {
        // SAFETY: takes numbers and touches no memory of ours.
        let result = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, operation as libc::c_ulong, number, 0, 0) };
        check(i64::from(result))
    };
    prctl(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    let members = (0..NAMES.len() as libc::c_ulong).filter(|number| set.0 >> number & 1 == 1);
    for number in members {
        prctl(libc::PR_CAP_AMBIENT_RAISE, number)?;
    }
    Ok(())
}

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let set = Set::from_names(["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]).unwrap();
        assert_eq!(set.0, 1 | 1 << 40);
        assert_eq!(set.names().collect::<Vec<_>>(), ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]);
        assert_eq!(Set::from_names(["CHOWN"]), Err(Unknown("CHOWN".into())));
    }

    #[test]
    fn a_thread_gives_up_what_is_not_listed() {
        // Capabilities belong to threads, so this one cannot harm other tests.
        std::thread::spawn(|| {
            let kept = Set::from_names(["CAP_CHOWN", "CAP_KILL"]).unwrap();
            limit_bounding(kept).unwrap();
            set(kept, kept, kept).unwrap();
            set_ambient(Set::from_names(["CAP_KILL"]).unwrap()).unwrap();
            let now = current().unwrap();
            assert_eq!((now.bounding, now.effective, now.permitted), (kept, kept, kept));
            assert_eq!(now.ambient.names().collect::<Vec<_>>(), ["CAP_KILL"]);
            assert!(set_ambient(Set::from_names(["CAP_SYS_ADMIN"]).unwrap()).is_err());
        })
        .join()
        .unwrap();
    }
}
