//! The only unsafe code: processes, namespaces, mounts, cgroups, seccomp, netlink, terminals.

pub mod capability;
pub mod cgroup;
pub mod clone;
mod early;
pub mod file;
pub mod inherited;
pub mod inotify;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod path;
pub mod pidfd;
pub mod process;
pub mod procfs;
pub mod pty;
pub mod seccomp;
pub mod signal;
pub mod user;
pub mod xattr;
pub mod xtables;
