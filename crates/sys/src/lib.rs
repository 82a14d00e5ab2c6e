//! The only unsafe code: processes, namespaces, mounts, cgroups, seccomp, netlink, terminals.

pub mod capability;
pub mod netlink;
pub mod seccomp;
