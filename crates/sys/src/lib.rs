//! The only unsafe code: processes, namespaces, mounts, cgroups, seccomp, netlink, terminals.

pub mod netlink;
