//! Maps of user namespaces: of the container's own, and of those that translate the ids of a mount.
//!
//! A map is written by this process where it has the right to, which an ordinary user has for the one map of the own id
//! alone. Other maps of such a user are written by `newuidmap` and `newgidmap`, programs with more rights that look into
//! `/etc/subuid` and `/etc/subgid` for what the user has been given: beside hooks, the only programs that are ever executed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci::spec::{self, Hook, IdMapping, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::clone;
use sys::namespace::Kinds;

use crate::error::{Error, Result};
use crate::hooks;
use crate::plan::system;

/// The id translation of a mount of the configuration: its own maps, or else those of the container's user namespace.
#[derive(Debug)]
pub(crate) struct Translation {
    maps: Maps,
    /// Of all mounts below too.
    recursive: bool,
}

#[derive(Debug)]
enum Maps {
    Ids(Vec<IdMapping>, Vec<IdMapping>),
    /// Those of this namespace.
    Of(String),
}

impl Translation {
    /// That of `mount`.
    pub(crate) fn new(container: &Spec, mount: &spec::Mount, recursive: bool) -> Self {
        let user = container.namespace("user").and_then(|user| user.path.clone()).filter(|path| !path.is_empty());
        let maps = match (user, &container.linux) {
            _ if !mount.uid_mappings.is_empty() => Maps::Ids(mount.uid_mappings.clone(), mount.gid_mappings.clone()),
            (Some(path), _) => Maps::Of(path),
            (None, linux) => {
                let linux = linux.clone().unwrap_or_default();
                Maps::Ids(linux.uid_mappings, linux.gid_mappings)
            }
        };
        Self { maps, recursive }
    }

    /// Gives it to a detached mount.
    pub(crate) fn apply(&self, tree: BorrowedFd<'_>) -> Result<()> {
        let namespace = match &self.maps {
            Maps::Of(path) => rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| system(format!("opening namespace {path}"), errno))?,
            Maps::Ids(uids, gids) => namespace(uids, gids)?,
        };
        sys::mount::set_id_mapping(tree, namespace.as_fd(), self.recursive)
            .map_err(|error| system("id-mapping the mount", error))
    }
}

/// The translation of a mount is that of a user namespace, so one is made for as long as it takes: a user namespace
/// with these maps. Its process ends as soon as the namespace has a descriptor.
fn namespace(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    let what = "user namespace of an id-mapped mount";
    let options = clone::Options { namespaces: Kinds::USER, ..clone::Options::default() };
    let maker = rustix::process::getpid();
    let child = clone::spawn(&options, || {
        // It has nothing to do but to be there, and goes with its maker when that is killed.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        if rustix::process::getppid() != Some(maker) {
            // That happened already.
            return 1;
        }
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

/// One of the two maps of a user namespace.
struct Map {
    /// Below `/proc/PID`.
    file: &'static str,
    field: &'static str,
    helper: &'static str,
    /// The one id that its owner may map.
    own: u32,
}

/// Writes the maps of the user namespace that a process has just been made in.
pub(crate) fn write_maps(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let map = Map { file: "uid_map", field: "linux.uidMappings", helper: "newuidmap", own };
    map.write(pid, uids)?;
    let own = rustix::process::getegid().as_raw();
    let map = Map { file: "gid_map", field: "linux.gidMappings", helper: "newgidmap", own };
    map.write(pid, gids)
}

impl Map {
    fn write(&self, pid: i32, ranges: &[IdMapping]) -> Result<()> {
        let alone = matches!(ranges, [one] if one.size == 1 && one.host_id == self.own);
        match self.write_directly(pid, ranges) {
            Err(Errno::PERM) if alone && self.file == "gid_map" => {
                // Who could leave a group of the host could reach what that group is kept out of.
                std::fs::write(format!("/proc/{pid}/setgroups"), "deny")
                    .map_err(|error| system("forbidding setgroups", error))?;
                self.write_directly(pid, ranges).map_err(|errno| self.failed(errno))
            }
            // Root lacks no right, but only has the ids of its own user namespace to give.
            Err(Errno::PERM) if !alone && !rustix::process::geteuid().is_root() => self.write_by_helper(pid, ranges),
            result => result.map_err(|errno| self.failed(errno)),
        }
    }

    fn failed(&self, errno: Errno) -> Error {
        let reason = match errno {
            Errno::PERM => "the caller may not map these ids: they are not all its own user namespace's".to_owned(),
            Errno::INVAL => "the kernel does not take this map: ranges must not be empty or overlap".to_owned(),
            errno => crate::failure::plain(&errno.into()),
        };
        Error::Spec(format!("{}: {reason}", self.field))
    }

    fn write_directly(&self, pid: i32, ranges: &[IdMapping]) -> std::result::Result<(), Errno> {
        let line = |range: &IdMapping| format!("{} {} {}\n", range.container_id, range.host_id, range.size);
        let lines: String = ranges.iter().map(line).collect();
        let file =
            rustix::fs::open(format!("/proc/{pid}/{}", self.file), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        // The kernel takes a map in one write alone.
        rustix::io::write(&file, lines.as_bytes()).map(drop)
    }

    fn write_by_helper(&self, pid: i32, ranges: &[IdMapping]) -> Result<()> {
        let (field, helper) = (self.field, self.helper);
        let Some(path) = find_program(helper) else {
            let own = self.own;
            return Err(Error::Spec(format!(
                "{field}: only the own id {own} can be mapped without {helper}, which is not installed"
            )));
        };
        let numbers = ranges.iter().flat_map(|range| [range.container_id, range.host_id, range.size]);
        let arguments =
            [helper.to_owned(), pid.to_string()].into_iter().chain(numbers.map(|number| number.to_string()));
        let call = Hook { path, args: arguments.collect(), ..Hook::default() };
        hooks::execute(&call, b"").map_err(|message| Error::Spec(format!("{field}: {helper} refuses: {message}")))
    }
}

/// The path of a program by `$PATH`, and where administrators' programs are.
fn find_program(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/sbin".into()]);
    directories
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
        .and_then(|file| file.to_str().map(str::to_owned))
}
