//! Device nodes and the links of `/dev`.

use std::os::fd::AsFd;
use std::path::Path;

use oci::spec::Device;
use rustix::fs::{AtFlags, Dev, FileType, Mode, makedev};
use rustix::io::Errno;
use sys::mount;
use sys::path::Root;

use crate::error::Stage;
use crate::failure::{Context, Failure, Step};
use crate::plan::Plan;

/// Every container has these (runtime specification, config-linux.md#default-devices).
const DEFAULT: &[(&str, i64, i64)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Makes all of them below the new root, while the host's `/dev` can still be seen.
pub(super) fn make(plan: &Plan, root: &Root) -> Step {
    let empty = Vec::new();
    let asked = plan.spec.linux.as_ref().map_or(&empty, |linux| &linux.devices);
    // In a user namespace nodes cannot be made.
    let bind = plan.namespaces.changes_user();
    // The permission bits are meant as they are written.
    let before = rustix::process::umask(Mode::empty());
    let made = (|| {
        for (path, major, minor) in DEFAULT {
            if !asked.iter().any(|device| device.path == *path) {
                let device = Device {
                    path: (*path).into(),
                    kind: "c".into(),
                    major: Some(*major),
                    minor: Some(*minor),
                    file_mode: Some(0o666),
                    ..Device::default()
                };
                one(&device, root, bind)?;
            }
        }
        asked.iter().try_for_each(|device| one(device, root, bind))?;
        links(root)
    })();
    rustix::process::umask(before);
    made
}

fn one(device: &Device, root: &Root, bind: bool) -> Step {
    let path = Path::new(&device.path);
    // /dev/ptmx is a link into the container's own devpts.
    if path == Path::new("/dev/ptmx") {
        return Ok(());
    }
    let what = || format!("device {}", device.path);
    let kind = match device.kind.as_str() {
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok()).unwrap_or_default();
    let number = if kind == FileType::Fifo { 0 } else { makedev(number(device.major), number(device.minor)) };
    // A pipe is no device of the machine's.
    if bind && kind != FileType::Fifo {
        return bind_device(path, root, kind, number);
    }
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    let owner = (device.uid.unwrap_or_default(), device.gid.unwrap_or_default());
    match root.make_node(path, kind, mode, number, owner) {
        // What the image or an earlier mount has there stays, if it is that device.
        Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => is_there(path, root, kind, number),
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => bind_device(path, root, kind, number),
        result => result.with_context(Stage::Rootfs, what),
    }
}

/// A file of another kind or number under the name of a device is an error (runtime specification,
/// config-linux.md#devices).
fn is_there(path: &Path, root: &Root, kind: FileType, device: Dev) -> Step {
    let what = || format!("device {}", path.display());
    let (parent, name) = root.parent(path).with_context(Stage::Rootfs, what)?;
    let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).with_context(Stage::Rootfs, what)?;
    let same = FileType::from_raw_mode(found.st_mode) == kind && (kind == FileType::Fifo || found.st_rdev == device);
    // The image may have a link to a device of another name.
    if same || FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
        return Ok(());
    }
    Err(Failure::new(Stage::Rootfs, format!("{}: there is a file of this name that is not the device", what())))
}

/// The host's device, if it is the one that is meant: in a mount namespace that is joined the path is not the host's.
fn bind_device(path: &Path, root: &Root, kind: FileType, device: Dev) -> Step {
    let what = || format!("device {}", path.display());
    let tree = mount::clone_path(path, false).with_context(Stage::Rootfs, what)?;
    let stat = rustix::fs::statat(&tree, "", AtFlags::EMPTY_PATH).with_context(Stage::Rootfs, what)?;
    if FileType::from_raw_mode(stat.st_mode) != kind || (kind != FileType::Fifo && stat.st_rdev != device) {
        return Err(Failure::new(Stage::Rootfs, format!("{}: the host has another file there", what())));
    }
    let target = root.plain_file(path, Mode::from_raw_mode(0o666)).with_context(Stage::Rootfs, what)?;
    super::mounts::refuse_inside_proc(target.as_fd(), path)?;
    mount::attach(tree.as_fd(), target.as_fd()).with_context(Stage::Rootfs, what)
}

fn links(root: &Root) -> Step {
    let mut links = LINKS.to_vec();
    if Path::new("/proc/kcore").exists() {
        links.push(("/proc/kcore", "/dev/core"));
    }
    for (target, path) in links {
        link(target, Path::new(path), root)?;
    }
    // Whatever the image has there, terminals come from the container's own devpts.
    if let Ok((parent, name)) = root.parent(Path::new("/dev/ptmx")) {
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT | Errno::ROFS | Errno::BUSY) => {}
            Err(errno) => return Err(errno).context(Stage::Rootfs, "removing /dev/ptmx"),
        }
    }
    link("pts/ptmx", Path::new("/dev/ptmx"), root)
}

fn link(target: &str, path: &Path, root: &Root) -> Step {
    match root.make_link(Path::new(target), path) {
        Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => Ok(()),
        result => result.with_context(Stage::Rootfs, || format!("link {}", path.display())),
    }
}
