//! Id-mapped mounts: the translation is that of a user namespace, so one is made for as long as it takes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci::spec::{self, IdMapping};
use rustix::fs::{Mode, OFlags};
use sys::clone;
use sys::namespace::Kinds;

use crate::error::{Error, Result};
use crate::plan::system;

/// Gives a detached mount the id translation of its configuration.
pub(crate) fn apply(tree: BorrowedFd<'_>, mount: &spec::Mount, recursive: bool) -> Result<()> {
    if mount.uid_mappings.is_empty() || mount.gid_mappings.is_empty() {
        return Err(Error::Spec(format!(
            "mounts: {:?}: id-mapped mounts need uidMappings and gidMappings",
            mount.destination
        )));
    }
    let namespace = namespace(&mount.uid_mappings, &mount.gid_mappings)?;
    sys::mount::set_id_mapping(tree, namespace.as_fd(), recursive)
        .map_err(|error| system(format!("id-mapping the mount at {:?}", mount.destination), error))
}

/// A user namespace with these maps. Its process ends with the pipe that it reads from.
fn namespace(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    let what = "user namespace of an id-mapped mount";
    let options = clone::Options { namespaces: Kinds::USER, ..clone::Options::default() };
    let child = clone::spawn(&options, || {
        // It has nothing to do but to be there, and goes with its maker when that is killed.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        loop {
            let _ = rustix::event::poll(&mut [], None);
        }
    })
    .map_err(|e| system(what, e))?;
    let made = write_maps(child.pid, uids, gids).and_then(|()| {
        let path = format!("/proc/{}/ns/user", child.pid);
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| system(what, e))
    });
    let _ = sys::pidfd::send_signal(child.pidfd.as_fd(), rustix::process::Signal::KILL.as_raw());
    let _ = sys::pidfd::reap(child.pidfd.as_fd());
    made
}

/// Writes the maps of the user namespace that a process has just been made in.
pub(crate) fn write_maps(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    for (file, map) in [("uid_map", uids), ("gid_map", gids)] {
        let lines: String =
            map.iter().map(|range| format!("{} {} {}\n", range.container_id, range.host_id, range.size)).collect();
        // The kernel takes a map in one write alone.
        std::fs::write(format!("/proc/{pid}/{file}"), lines)
            .map_err(|error| system(format!("writing {file}"), error))?;
    }
    Ok(())
}
