//! Mounts by descriptor: a file system or a copy of a directory tree is made detached, given its attributes, and only
//! then attached, so that no moment exists in which it can be seen half made.
//!
//! Needs Linux 5.12 (`mount_setattr`); `lowerdir+` of overlay needs 6.5 and is joined into one option before that.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

/// Attributes of one mount (not of the file system), as of mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear; wins over none, `set` is applied afterwards.
    pub clear: u64,
}

impl Attributes {
    /// Read-only.
    pub const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    /// Set-user-id bits have no effect.
    pub const NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
    /// Device nodes cannot be opened.
    pub const NO_DEV: u64 = libc::MOUNT_ATTR_NODEV;
    /// Programs cannot be executed.
    pub const NO_EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    /// Access times are never updated.
    pub const NO_ATIME: u64 = libc::MOUNT_ATTR_NOATIME;
    /// Access times are always updated.
    pub const STRICT_ATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
    /// All bits of the kind of access times; relative is none of them.
    pub const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
    /// Access times of directories are never updated.
    pub const NO_DIR_ATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
    /// Symbolic links are not followed.
    pub const NO_SYMLINK_FOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// How mounts and unmounts below a mount travel between namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// Inwards only.
    Slave,
    /// Not.
    Private,
    /// Not, and the mount cannot be bound.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Private => libc::MS_PRIVATE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A file system is refused.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {source}{}", log(messages))]
pub struct Error {
    /// What was tried, e.g. `option "size=x"`.
    pub operation: String,
    /// The error code.
    pub source: io::Error,
    /// What the kernel says in the file system's context.
    pub messages: Vec<String>,
}

fn log(messages: &[String]) -> String {
    if messages.is_empty() { String::new() } else { format!(" ({})", messages.join("; ")) }
}

/// Makes a mount of a new file system, attached nowhere.
///
/// `options` are the file system's own: `key`, `key=value`, and for overlay repeated `lowerdir+=PATH`. `read_only`
/// makes the file system itself read-only, `attributes` are bits of [`Attributes`].
pub fn new_filesystem(
    fstype: &str,
    source: &Path,
    options: &[String],
    read_only: bool,
    attributes: u64,
) -> Result<OwnedFd, Error> {
    let plain = |operation: String| {
        move |errno: rustix::io::Errno| Error { operation, source: errno.into(), messages: Vec::new() }
    };
    let context = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(plain(format!("{fstype:?}")))?;
    let context = context.as_fd();
    let failed = |operation: String, errno: rustix::io::Errno| Error {
        operation,
        source: errno.into(),
        messages: messages(context),
    };
    if !source.as_os_str().is_empty() {
        rustix::mount::fsconfig_set_string(context, "source", source)
            .map_err(|errno| failed(format!("source {}", source.display()), errno))?;
    }
    set_options(context, options)?;
    if read_only {
        rustix::mount::fsconfig_set_flag(context, "ro").map_err(|errno| failed("option \"ro\"".into(), errno))?;
    }
    rustix::mount::fsconfig_create(context).map_err(|errno| failed(format!("creating {fstype}"), errno))?;
    rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes as u32))
        .map_err(|errno| failed(format!("mounting {fstype}"), errno))
}

fn set_options(context: BorrowedFd<'_>, options: &[String]) -> Result<(), Error> {
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => rustix::mount::fsconfig_set_string(context, key, value),
            None => rustix::mount::fsconfig_set_flag(context, option.as_str()),
        }
        .map_err(|errno| Error {
            operation: format!("option {option:?}"),
            source: errno.into(),
            messages: messages(context),
        })?;
    }
    Ok(())
}

/// Changes options of the file system that `root`, the root of a mount, is open on. All its mounts are affected.
pub fn reconfigure(root: BorrowedFd<'_>, options: &[String]) -> Result<(), Error> {
    let plain = |errno: rustix::io::Errno| Error {
        operation: "remount".to_owned(),
        source: errno.into(),
        messages: Vec::new(),
    };
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = rustix::mount::fspick(root, "", flags).map_err(plain)?;
    let context = context.as_fd();
    set_options(context, options)?;
    rustix::mount::fsconfig_reconfigure(context).map_err(|errno| Error { messages: messages(context), ..plain(errno) })
}

/// The kernel's own sentences about a context, e.g. `e overlay: …` without their first letter.
fn messages(context: BorrowedFd<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut buffer = [0_u8; 1024];
    // One message for each read; the kernel keeps at most eight.
    while found.len() < 8 {
        let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) else { break };
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).trim().to_owned();
        found.push(text.get(2..).unwrap_or_default().to_owned());
    }
    found
}

/// A copy of the mount at a path, with everything mounted below it when `recursive`, attached nowhere.
pub fn clone_tree(directory: BorrowedFd<'_>, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    Ok(rustix::mount::open_tree(directory, path, flags)?)
}

/// [`clone_tree`] of a path of this process.
pub fn clone_path(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    clone_tree(CWD, path, recursive)
}

/// Attaches a mount over the directory or file that `target` is open on.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// Changes a mount, and all below it when `recursive`.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> io::Result<()> {
    set(mount, libc_attributes(attributes, None, None), recursive)
}

/// Changes the propagation of a mount, and of all below it when `recursive`.
pub fn set_propagation(mount: BorrowedFd<'_>, propagation: Propagation, recursive: bool) -> io::Result<()> {
    set(mount, libc_attributes(Attributes::default(), Some(propagation), None), recursive)
}

/// Shows the files of a detached mount with ids translated as in the user namespace `namespace`.
pub fn set_id_mapping(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    set(mount, libc_attributes(Attributes::default(), None, Some(namespace)), recursive)
}

fn libc_attributes(
    attributes: Attributes,
    propagation: Option<Propagation>,
    namespace: Option<BorrowedFd<'_>>,
) -> libc::mount_attr {
    libc::mount_attr {
        attr_set: attributes.set | namespace.map_or(0, |_| libc::MOUNT_ATTR_IDMAP),
        attr_clr: attributes.clear,
        propagation: propagation.map_or(0, Propagation::bits),
        userns_fd: namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
    }
}

fn set(mount: BorrowedFd<'_>, attributes: libc::mount_attr, recursive: bool) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    // SAFETY: the path is an empty C string; the kernel reads one `mount_attr` of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Detaches the topmost mount at `path`, with all below it; it goes when the last user is gone.
pub fn detach(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

/// Makes the mount that `root` is open on the root of this mount namespace, and drops the old one.
///
/// The caller ends in the new root. Nothing that happens to the old root is seen outside.
pub fn pivot(root: BorrowedFd<'_>) -> io::Result<()> {
    let old = rustix::fs::open(
        "/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::process::fchdir(root)?;
    // Both at one place: the old root comes to lie over the new one, and is found again through its descriptor.
    rustix::process::pivot_root(".", ".")?;
    rustix::process::fchdir(&old)?;
    // Unmounting must not travel back to the host, new mounts of the host may still arrive until it is done.
    set_propagation(old.as_fd(), Propagation::Slave, true)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// For a host whose root cannot be pivoted away (an initramfs): changes the root to a mount that lies over `/`. Whoever
/// climbs out of it comes to `/`, and so to the mount again.
pub fn enter_over_root(root: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// Whether the directory that a descriptor is open on is the root of a mount.
pub fn is_mount_root(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    let found = rustix::fs::statx(descriptor, "", AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::empty())?;
    Ok(found.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

/// The magic number of the file system that a descriptor is open on, e.g. [`PROC_MAGIC`].
pub fn filesystem_magic(descriptor: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::fstatfs(descriptor)?.f_type as u64)
}

/// procfs.
pub const PROC_MAGIC: u64 = libc::PROC_SUPER_MAGIC as u64;
/// sysfs.
pub const SYSFS_MAGIC: u64 = 0x6265_6572;
/// cgroup v1.
pub const CGROUP_MAGIC: u64 = libc::CGROUP_SUPER_MAGIC as u64;
/// cgroup v2.
pub const CGROUP2_MAGIC: u64 = libc::CGROUP2_SUPER_MAGIC as u64;

/// A C string from a path; a path with a NUL byte is `EINVAL`.
pub fn c_path(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
