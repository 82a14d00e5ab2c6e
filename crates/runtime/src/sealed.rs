//! The program's own file, out of reach of containers (CVE-2019-5736).
//!
//! A process on its way into a container still runs this program: by `/proc/PID/exe`, or by an image whose program is
//! `#!/proc/self/exe`, a container gets a descriptor of the host's binary, and as root could write to it once nobody
//! executes it. So the program executes itself again from a read-only mount of its own file that is attached nowhere:
//! the descriptor leads to that mount, and nothing in any namespace can make it writable.
//!
//! An ordinary user's containers run with that user's rights, so that a file of root's is in no danger from them. Where the
//! file is the user's own, the mount is made in a user namespace for the purpose: that takes as much time as the mount, while
//! a copy in memory would take its size.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use sys::mount::{self, Attributes};
use sys::namespace::Kinds;
use sys::{clone, path};

use crate::channel::{Channel, Message};

/// Executes this program again from a read-only mount of its file, with the same arguments and environment, unless
/// that is where it comes from. To be called before there are threads, by whoever makes containers.
///
/// Returns without having done it when it is not needed or not possible (without privilege, without `/proc`): the
/// error then says why, and is no reason to stop.
pub fn protect_program() -> io::Result<()> {
    let own = Path::new("/proc/self/exe");
    if is_protected(own)? {
        restore_name();
        return Ok(());
    }
    let tree = match read_only_mount(own) {
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            if !is_in_danger(own)? {
                return Ok(());
            }
            read_only_mount_by_namespace(own)?
        }
        tree => tree?,
    };
    let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| io::Error::from(rustix::io::Errno::INVAL));
    let arguments = std::env::args_os().map(|word| c_string(word.into_vec())).collect::<io::Result<Vec<_>>>()?;
    let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        c_string([name.as_bytes(), b"=", value.as_bytes()].concat())
    };
    let environment = std::env::vars_os().map(variable).collect::<io::Result<Vec<_>>>()?;
    let program = mount::c_path(&path::of_descriptor(tree.as_fd()))?;
    Err(clone::execute(&program, &arguments, &environment))
}

/// A mount of this file alone. One that is read-only for other reasons may become writable one day, with a descriptor of
/// the file still in a container's hands.
fn is_protected(own: &Path) -> io::Result<bool> {
    let own = rustix::fs::open(own, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let read_only = rustix::fs::fstatvfs(&own)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    Ok(read_only && mount::is_mount_root(own.as_fd())?)
}

/// A read-only mount of a program's file, attached nowhere. Executed by its descriptor, the program is what
/// [`protect_program`] makes of it. Needs the right to mount.
pub fn read_only_mount(file: &Path) -> io::Result<OwnedFd> {
    let tree = mount::clone_path(file, false)?;
    mount::set_attributes(tree.as_fd(), Attributes { set: Attributes::READ_ONLY, clear: 0 }, false)?;
    Ok(tree)
}

/// Whether somebody with the ids that a container of this caller can have could write to the file: not to one of root's
/// or of an id that this user namespace does not know, unless its permissions allow it.
fn is_in_danger(file: &Path) -> io::Result<bool> {
    const UNKNOWN: u32 = 65534;
    let owner = rustix::fs::stat(file)?.st_uid;
    let own = rustix::process::geteuid().as_raw();
    let foreign = owner != own && [0, UNKNOWN].contains(&owner);
    Ok(!foreign || rustix::fs::access(file, rustix::fs::Access::WRITE_OK).is_ok())
}

/// The same by a process that may mount, since it has a mount namespace of its own.
fn read_only_mount_by_namespace(file: &Path) -> io::Result<OwnedFd> {
    // By name: the link of /proc leads to the mount of this namespace, which that process cannot copy.
    let path = std::fs::read_link(file)?;
    let (ours, theirs) = Channel::pair()?;
    let options = clone::Options { namespaces: Kinds::USER | Kinds::MOUNT, ..clone::Options::default() };
    let child = clone::spawn(&options, || {
        let sent = read_only_mount(&path).and_then(|tree| theirs.send(&Message::Ready, Some(tree.as_fd())));
        i32::from(sent.is_err())
    })?;
    drop(theirs);
    let received = ours.receive();
    sys::pidfd::reap(child.pidfd.as_fd())?;
    let Some((_, Some(tree))) = received? else {
        return Err(io::Error::other("its file cannot be mounted in a user namespace"));
    };
    let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    if identity(rustix::fs::stat(file)?) != identity(rustix::fs::statat(&tree, "", AtFlags::EMPTY_PATH)?) {
        return Err(io::Error::other("its file has been replaced"));
    }
    Ok(tree)
}

/// A program that was executed by descriptor is called by its number in `ps`.
fn restore_name() {
    let is_number = rustix::thread::name().is_ok_and(|name| name.to_bytes().iter().all(u8::is_ascii_digit));
    let own = std::env::args_os().next().and_then(|word| Path::new(&word).file_name()?.to_str().map(str::to_owned));
    if let (true, Some(own)) = (is_number, own) {
        let _ = sys::process::set_name(&own);
    }
}
