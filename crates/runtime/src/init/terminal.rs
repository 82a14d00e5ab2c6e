//! Standard streams: a terminal of the container's own, or what the caller gave.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use oci::spec::Process;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use sys::clone::place_descriptors;
use sys::path::Root;
use sys::{mount, pty};

use super::rootfs::RootFs;
use crate::channel::{Channel, Message};
use crate::error::Stage;
use crate::failure::{Context, Failure, Step};
use crate::options::Stdio;
use crate::plan::ProcessPlan;

/// Puts them at descriptors 0 to 2. The root is the container's already; the first process has `rootfs` too, and gets
/// `/dev/console`.
pub(super) fn connect(plan: &ProcessPlan, rootfs: Option<&RootFs>, channel: &Channel) -> Step {
    match &plan.stdio {
        Stdio::Terminal => open(plan, rootfs, channel),
        Stdio::Streams { stdin, stdout, stderr } => {
            place_descriptors(&[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]).context(Stage::Terminal, "dup2")?;
            reopen_null()
        }
        Stdio::Inherit => reopen_null(),
    }
}

fn open(plan: &ProcessPlan, rootfs: Option<&RootFs>, channel: &Channel) -> Step {
    let pair = Root::open(Path::new("/"))
        .and_then(|root| root.open_at(Path::new("/dev/pts"), OFlags::PATH | OFlags::DIRECTORY))
        .and_then(|directory| pty::open_in(directory.as_fd()))
        .context(Stage::Terminal, "opening a terminal in /dev/pts")?;
    if let Some(size) = &plan.process.console_size {
        let limit = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        pty::resize(pair.master.as_fd(), limit(size.height), limit(size.width))
            .context(Stage::Terminal, "setting the size of the terminal")?;
    }
    if let Some(rootfs) = rootfs {
        console(pair.slave.as_fd(), rootfs).context(Stage::Terminal, "/dev/console")?;
    }
    channel
        .send(&Message::Terminal, Some(pair.master.as_fd()))
        .context(Stage::Terminal, "handing over the terminal")?;
    pty::control(pair.slave.as_fd()).context(Stage::Terminal, "TIOCSCTTY")?;
    let slave = pair.slave.as_fd();
    place_descriptors(&[slave, slave, slave]).context(Stage::Terminal, "dup2")
}

/// `/dev/console` is the terminal of the first process.
fn console(slave: BorrowedFd<'_>, rootfs: &RootFs) -> std::io::Result<()> {
    let target = rootfs.root.plain_file(Path::new("/dev/console"), Mode::from_raw_mode(0o666))?;
    if mount::filesystem_magic(target.as_fd())? == mount::PROC_MAGIC {
        return Err(Errno::XDEV.into());
    }
    let tree = mount::clone_tree(slave, Path::new(""), false)?;
    mount::attach(tree.as_fd(), target.as_fd())
}

fn standard() -> [BorrowedFd<'static>; 3] {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
}

fn is_null(stream: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(stream).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3)
    })
}

/// A null device of the host would be a way to the host's file system; the container's own takes its place.
fn reopen_null() -> Step {
    let streams = standard();
    if !streams.iter().any(|stream| is_null(*stream)) {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let null = match rustix::fs::open("/dev/null", flags, Mode::empty()) {
        // Without one in the container (a root filesystem without /dev) the host's stays.
        Err(Errno::NOENT) => return Ok(()),
        result => result.context(Stage::Terminal, "/dev/null of the container")?,
    };
    if !is_null(null.as_fd()) {
        return Err(Failure::new(Stage::Terminal, "/dev/null of the container is not the null device"));
    }
    let replaced = streams.map(|stream| if is_null(stream) { null.as_fd() } else { stream });
    place_descriptors(&replaced).context(Stage::Terminal, "dup2")
}

/// The user of the process owns its streams, so that it can open them again by `/dev/stdout` and the like.
pub(super) fn own_streams(process: &Process) -> Step {
    for stream in standard() {
        let Ok(stat) = rustix::fs::fstat(stream) else { continue };
        if stat.st_uid == process.user.uid || is_null(stream) {
            continue;
        }
        let owner = Some(Uid::from_raw(process.user.uid));
        match rustix::fs::chownat(stream, "", owner, None::<Gid>, AtFlags::EMPTY_PATH) {
            // Sockets of some kinds, files on read-only file systems, ids that are not mapped: works without as well.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno).context(Stage::Terminal, "chown of the standard streams"),
        }
    }
    Ok(())
}
