//! The only unsafe code: processes, namespaces, mounts, cgroups, seccomp, netlink, terminals.

pub mod capability;
pub mod clone;
pub mod file;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod path;
pub mod pidfd;
pub mod pty;
pub mod seccomp;
pub mod user;
pub mod xattr;
