//! A container's root as a directory descriptor, whether it runs or not.
//!
//! Nothing is mounted where the host or another container could see it. Where mounts have to be put together, a thread
//! does it in a mount namespace of its own, and all of it is gone when the thread ends.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use store::{MountedSnapshot, Store};
use sys::mount::{self, Attributes, Propagation};
use sys::namespace::{self, Kinds};
use sys::path::Root;

use crate::container::record::{MountKind, Record};
use crate::container::start::start_time;
use crate::container::{Container, RootShare};
use crate::error::{Error, Kind, Result};

/// The files that the engine mounts into every container.
const NETWORK_FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// A container's root.
pub(super) enum View {
    /// Of its process.
    Live(OwnedFd),
    /// Of its snapshot, with these mounts to be made in it.
    Stopped { snapshot: MountedSnapshot, anchor: PathBuf, mounts: Vec<Extra>, share: RootShare },
}

/// The root of a container that does not run, without mounts in it.
struct Bare {
    snapshot: MountedSnapshot,
    _share: RootShare,
}

impl AsFd for Bare {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.snapshot.as_fd()
    }
}

/// A mount inside the root of a container that does not run.
pub(super) struct Extra {
    source: PathBuf,
    /// Directory in the source; links in it lead nowhere else.
    subpath: PathBuf,
    destination: PathBuf,
    is_writable: bool,
    is_recursive: bool,
}

impl View {
    /// The root with everything in it.
    pub(super) fn of(store: &Store, container: &Container, share: RootShare) -> Result<Self> {
        if let Some(root) = live_root(container)? {
            return Ok(Self::Live(root));
        }
        let record = container.record();
        let snapshot = store.snapshot_mount(container.id())?;
        // Any directory will do to put the root on: in the thread's namespace nobody else looks at it.
        let anchor = store.snapshot_upper(container.id())?;
        let data = &container.directories().data;
        Ok(Self::Stopped { snapshot, anchor, mounts: extras(&record, data), share })
    }

    /// The root file system alone, without anything that is mounted in it.
    pub(super) fn bare(store: &Store, container: &Container, share: RootShare) -> Result<Arc<dyn AsFd + Send + Sync>> {
        let pid = container.record().state.pid;
        if live_root(container)?.is_some() {
            return Ok(Arc::new(clone_root_of(pid)?));
        }
        Ok(Arc::new(Bare { snapshot: store.snapshot_mount(container.id())?, _share: share }))
    }

    /// Does some work with the root.
    pub(super) fn with<T: Send>(self, work: impl FnOnce(BorrowedFd<'_>) -> Result<T> + Send) -> Result<T> {
        match self {
            Self::Live(root) => work(root.as_fd()),
            Self::Stopped { snapshot, anchor, mounts, share } => {
                let worked = if mounts.is_empty() {
                    work(snapshot.as_fd())
                } else {
                    in_thread(|| work(assemble(&snapshot, &anchor, &mounts)?.as_fd()))
                };
                // Before anybody else mounts it.
                drop(snapshot);
                drop(share);
                worked
            }
        }
    }
}

/// The root of the container's process; None if it has none.
fn live_root(container: &Container) -> Result<Option<OwnedFd>> {
    let record = container.record();
    let Some(path) = container.live_root() else { return Ok(None) };
    let opened = rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    // If the process with this id is still the one that we know, it was that one when its root was opened.
    let is_alive = || start_time(record.state.pid.cast_signed()) == Some(record.state.pid_start_time);
    match opened {
        Ok(root) if is_alive() => Ok(Some(root)),
        // It ended just now.
        Ok(_) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH | rustix::io::Errno::ACCESS) => Ok(None),
        Err(error) => Err(Error::caused(Kind::System, format!("opening {}", path.display()), io::Error::from(error))),
    }
}

/// Binds, volumes, and the engine's own files, parents before what is inside them.
fn extras(record: &Record, data: &Path) -> Vec<Extra> {
    let mut extras: Vec<Extra> = record
        .mounts
        .iter()
        .filter(|mount| matches!(mount.kind, MountKind::Bind | MountKind::Volume) && !mount.source.is_empty())
        .map(|mount| Extra {
            source: mount.source.clone().into(),
            subpath: mount.subpath.clone().into(),
            destination: mount.destination.clone().into(),
            is_writable: mount.rw,
            is_recursive: !mount.non_recursive,
        })
        .collect();
    for name in NETWORK_FILES {
        let (source, destination) = (data.join(name), Path::new("/etc").join(name));
        if !extras.iter().any(|extra| extra.destination == destination) && source.exists() {
            extras.push(Extra { source, subpath: PathBuf::new(), destination, is_writable: true, is_recursive: false });
        }
    }
    extras.sort_by_key(|extra| extra.destination.components().count());
    extras
}

impl Extra {
    /// Opens what is to be mounted; None if it does not exist.
    fn open(&self) -> io::Result<Option<OwnedFd>> {
        let opened = if self.subpath.as_os_str().is_empty() {
            rustix::fs::open(&self.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(io::Error::from)
        } else {
            Root::open(&self.source).and_then(|volume| volume.resolve(&self.subpath))
        };
        match opened {
            Ok(source) => Ok(Some(source)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Runs on a thread of its own, whose namespaces may be changed.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("archive".to_owned()).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::caused(Kind::System, "starting a thread", error))?;
        thread.join().map_err(|_| Error::system("a thread ended unexpectedly"))?
    })
}

/// Puts a container's root together in a new mount namespace of the calling thread.
fn assemble(snapshot: &MountedSnapshot, anchor: &Path, mounts: &[Extra]) -> Result<OwnedFd> {
    let failed = |what: String| move |error: io::Error| Error::caused(Kind::System, what, error);
    namespace::unshare(Kinds::MOUNT).map_err(failed("making a mount namespace".to_owned()))?;
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let host = open(Path::new("/")).map_err(|error| failed("opening /".to_owned())(error.into()))?;
    mount::set_propagation(host.as_fd(), Propagation::Private, true)
        .map_err(failed("making mounts private".to_owned()))?;
    // A clone, because others may use the same mount at the same time.
    let root = match snapshot.directory() {
        Some(directory) => mount::clone_path(directory, false),
        None => mount::clone_tree(snapshot.as_fd(), Path::new(""), false),
    };
    let root = root.map_err(failed("cloning the root of the container".to_owned()))?;
    let at = open(anchor).map_err(|error| failed(format!("opening {}", anchor.display()))(error.into()))?;
    mount::attach(root.as_fd(), at.as_fd()).map_err(failed("mounting the root of the container".to_owned()))?;
    let inside = Root::from_fd(root.try_clone().map_err(failed("opening the root".to_owned()))?);
    for extra in mounts {
        let what = || format!("mounting {} in the container", extra.destination.display());
        // A source that is gone by now is an empty place; when the container starts it will be an error.
        let Some(source) = extra.open().map_err(failed(what()))? else { continue };
        let stat = rustix::fs::fstat(&source).map_err(|error| failed(what())(error.into()))?;
        let target = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            inside.create_directories(&extra.destination, Mode::from_raw_mode(0o755))
        } else {
            inside.create_file(&extra.destination, Mode::from_raw_mode(0o644))
        };
        let target = target.map_err(failed(what()))?;
        let source = mount::clone_tree(source.as_fd(), Path::new(""), extra.is_recursive).map_err(failed(what()))?;
        if !extra.is_writable {
            let read_only = Attributes { set: Attributes::READ_ONLY, clear: 0 };
            mount::set_attributes(source.as_fd(), read_only, false).map_err(failed(what()))?;
        }
        mount::attach(source.as_fd(), target.as_fd()).map_err(failed(what()))?;
    }
    Ok(root)
}

/// A copy of the mount that is a process's root, without those inside it.
///
/// The kernel lets a mount be copied only from inside its namespace. A thread goes there for this one call; the copy
/// is then used from outside, where /proc is the host's.
fn clone_root_of(pid: u32) -> Result<OwnedFd> {
    let failed = |what: &'static str| move |error: io::Error| Error::caused(Kind::System, what, error);
    in_thread(move || {
        let path = format!("/proc/{pid}/ns/mnt");
        let other = fs::File::open(path).map_err(failed("opening the container's mount namespace"))?;
        // A thread that shares its working directory with others may not change namespaces.
        namespace::unshare(Kinds::MOUNT).map_err(failed("making a mount namespace"))?;
        namespace::enter(other.as_fd(), Kinds::MOUNT).map_err(failed("entering the container's mount namespace"))?;
        mount::clone_path(Path::new("/"), false).map_err(failed("cloning the root of the container"))
    })
}
