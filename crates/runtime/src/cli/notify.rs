//! `$NOTIFY_SOCKET`: a service manager that waits for a container to be ready, sd_notify(3).
//!
//! The socket of the manager is not for the container: it would let it speak for the whole service, and name processes
//! that are not its own. The container gets a socket of its own at `/run/notify/notify.sock`, in a read-only directory
//! that is made below `--root` when the container is. Whoever starts the container listens there and tells the manager
//! of `READY=` alone, and who the main process is. A command that returns waits until that has been said, or the
//! container has ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use oci::spec::{Mount, Process, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Failure;
use crate::channel::send_bytes;
use crate::record::Files;
use crate::validate;

/// Inside the container.
const DIRECTORY: &str = "/run/notify";
const SOCKET: &str = "notify.sock";

/// How long a manager may take to say that it has read everything.
const BARRIER_TIMEOUT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The manager's socket, and where the container's own is.
#[derive(Debug)]
pub(super) struct NotifySocket {
    manager: OsString,
    directory: PathBuf,
}

impl NotifySocket {
    /// What the environment of this program says; `None` when nobody waits.
    pub(super) fn of_caller(root: &Path, id: &str) -> Option<Self> {
        let manager = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())?;
        Some(Self { manager, directory: Files::new(root, id).notify() })
    }

    /// Makes the directory of a container to be, and adds it to the configuration.
    pub(super) fn add_to(&self, id: &str, spec: &mut Spec) -> Result<Made<'_>, Failure> {
        validate::id(id)?;
        let parent = self.directory.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(|error| format!("creating {}: {error}", parent.display()))?;
        let made = match rustix::fs::mkdir(&self.directory, Mode::from_raw_mode(0o755)) {
            Ok(()) => Made(Some(&self.directory)),
            // Whose it is shows when the container is made.
            Err(rustix::io::Errno::EXIST) => Made(None),
            Err(errno) => return Err(format!("creating {}: {errno}", self.directory.display()).into()),
        };
        spec.mounts.push(Mount {
            destination: DIRECTORY.into(),
            kind: Some("bind".into()),
            source: Some(self.directory.to_string_lossy().into_owned()),
            options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).into(),
            ..Mount::default()
        });
        let process = spec.process.get_or_insert_with(Process::default);
        process.env.push(format!("NOTIFY_SOCKET={DIRECTORY}/{SOCKET}"));
        Ok(made)
    }

    /// Listens; to be done before the program runs.
    pub(super) fn bind(self) -> Result<Listening, Failure> {
        let failed = |error: io::Error| format!("notify socket {}: {error}", self.directory.display());
        // By its descriptor, since the path of a socket must be short.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(&self.directory, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", std::os::fd::AsRawFd::as_raw_fd(&directory)));
        let socket = UnixDatagram::bind(&path).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        // Whatever user of the container may say that it is ready.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&path, mode).map_err(failed)?;
        Ok(Listening { manager: self.manager, socket })
    }
}

/// A directory that goes again unless the container comes to be.
#[derive(Debug)]
pub(super) struct Made<'a>(Option<&'a Path>);

impl Made<'_> {
    /// From here on it is the container's.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if let Some(directory) = self.0 {
            let _ = std::fs::remove_dir(directory);
        }
    }
}

/// The container's socket, listened on.
#[derive(Debug)]
pub(super) struct Listening {
    manager: OsString,
    socket: UnixDatagram,
}

impl Listening {
    /// Waits for the container to be ready, or to end, and tells the manager that `pid` is the main process.
    pub(super) fn wait(&self, pid: i32, process: &OwnedFd) -> Result<(), Failure> {
        loop {
            let mut watched = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(process, PollFlags::IN)];
            match poll(&mut watched, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ended = !watched[1].revents().is_empty();
            if self.pass_on(pid)? || ended {
                return Ok(());
            }
        }
    }

    /// Tells the manager of what has come; whether it was that the container is ready.
    pub(super) fn pass_on(&self, pid: i32) -> Result<bool, Failure> {
        let mut buffer = [0; 4096];
        loop {
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let message = buffer.get(..length).unwrap_or_default();
            if let Some(line) = message.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY=")) {
                self.tell(line, pid).map_err(|error| format!("telling {}: {error}", self.manager.display()))?;
                return Ok(true);
            }
        }
    }

    fn tell(&self, ready: &[u8], pid: i32) -> io::Result<()> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let name = self.manager.as_encoded_bytes();
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name)?,
            None => SocketAddrUnix::new(name)?,
        };
        rustix::net::connect(&socket, &address)?;
        send_bytes(socket.as_fd(), &[ready, b"\n"].concat(), None)?;
        send_bytes(socket.as_fd(), format!("MAINPID={pid}\n").as_bytes(), None)?;
        // A manager that ended meanwhile, or does not know of barriers, has been told all the same.
        let _ = barrier(socket.as_fd());
        Ok(())
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until the manager has read what was sent: it may ask who sent it, and this process is about to end. The manager
/// closes the descriptor that comes with the message (sd_notify_barrier(3)); one that does not know of that does so too,
/// by not taking it.
fn barrier(socket: BorrowedFd<'_>) -> io::Result<()> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    send_bytes(socket, b"BARRIER=1", Some(writer.as_fd()))?;
    drop(writer);
    rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&BARRIER_TIMEOUT)))?;
    Ok(())
}
