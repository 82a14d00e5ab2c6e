//! Mounts that are made attached nowhere: the root filesystem, and everything that is bound from the host.
//!
//! Whoever first has the right to make one does so. That is the caller where it may mount: its mounts can then come from
//! places that the container's own user could not even see. A caller without that right (an ordinary user) leaves them to
//! the new process, which may mount once it is in its own user and mount namespaces, and sees the same paths there.

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::spec::{self, Spec};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use sys::mount::{self, Propagation};

use crate::error::{Error, Result, Stage};
use crate::failure;
use crate::idmap::Translation;
use crate::mount_options::{Bind, MountOptions};
use crate::overlay;
use crate::plan::system;

/// A detached mount, made or still to be made.
#[derive(Debug)]
pub(crate) struct Detached {
    source: Source,
    made: OnceCell<OwnedFd>,
}

/// What it is made from.
#[derive(Debug)]
enum Source {
    /// A tree of the host.
    Bind {
        path: PathBuf,
        bind: Bind,
        options: MountOptions,
        shared: bool,
        mount: Option<Box<spec::Mount>>,
        translation: Option<Translation>,
    },
    /// A new file system, for the root.
    Filesystem(oci::Mount),
}

impl Detached {
    /// Makes it, unless it has to be left to the new process.
    fn new(source: Source) -> Result<Self> {
        let detached = Self { source, made: OnceCell::new() };
        match detached.fd() {
            Err(error) if is_refusal(&error) => detached.source.refuse_idmapped().map(|()| detached),
            result => result.map(drop).map(|()| detached),
        }
    }

    /// The root filesystem's directory, with everything below.
    fn directory(path: PathBuf, shared: bool) -> Result<Self> {
        let options = MountOptions::default();
        let wrong = |text: String| Error::Spec(format!("root.path: {}: {text}", path.display()));
        let stat = rustix::fs::stat(&path).map_err(|errno| wrong(failure::plain(&errno.into())))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(wrong("not a directory".into()));
        }
        Self::new(Source::Bind { path, bind: Bind::Recursive, options, shared, mount: None, translation: None })
    }

    /// A bind mount of the configuration. `path` is where its source is on the host.
    pub(crate) fn bind(
        path: PathBuf,
        bind: Bind,
        options: MountOptions,
        shared: bool,
        mount: &spec::Mount,
        translation: Option<Translation>,
    ) -> Result<Self> {
        let mount = Some(Box::new(mount.clone()));
        Self::new(Source::Bind { path, bind, options, shared, mount, translation })
    }

    fn part(part: &oci::Mount, shared: bool) -> Result<Self> {
        let mut options = MountOptions::parse(&part.options);
        if part.fstype == "bind" && options.bind.is_none() {
            options.bind = Some(Bind::Alone);
        }
        Self::new(match options.bind {
            Some(bind) => {
                Source::Bind { path: part.source.clone(), bind, options, shared, mount: None, translation: None }
            }
            None => Source::Filesystem(part.clone()),
        })
    }

    /// The mount, which is made now if it is not yet.
    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>> {
        if let Some(made) = self.made.get() {
            return Ok(made.as_fd());
        }
        let made = self.source.make()?;
        Ok(self.made.get_or_init(|| made).as_fd())
    }

    /// The mount, if it has been made.
    pub(crate) fn made(&self) -> Option<BorrowedFd<'_>> {
        self.made.get().map(AsFd::as_fd)
    }

    /// Whether what it shows is a directory.
    pub(crate) fn is_directory(&self) -> Result<bool> {
        let stat = rustix::fs::statat(self.fd()?, "", AtFlags::EMPTY_PATH).map_err(|errno| system("stat", errno))?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }
}

/// Whether the caller lacks the right to mount at all: the kernel says so before it looks at paths.
fn is_refusal(error: &Error) -> bool {
    let errno = match error {
        Error::System { source, .. } => source.raw_os_error(),
        Error::Start { errno, .. } => *errno,
        _ => None,
    };
    errno == Some(Errno::PERM.raw_os_error())
}

impl Source {
    /// Translating ids needs rights over the file system itself, which no user namespace gives.
    fn refuse_idmapped(&self) -> Result<()> {
        let Self::Bind { mount: Some(mount), translation: Some(_), .. } = self else { return Ok(()) };
        let name = &mount.destination;
        Err(Error::Spec(format!("mounts: {name:?}: only root of the machine can make id-mapped mounts")))
    }

    fn make(&self) -> Result<OwnedFd> {
        match self {
            Self::Filesystem(part) => filesystem(part),
            Self::Bind { path, bind, options, shared, mount, translation } => {
                let tree = tree(path, *bind, options, *shared).and_then(|tree| match translation {
                    Some(translation) => translation.apply(tree.as_fd()).map(|()| tree),
                    None => Ok(tree),
                });
                tree.map_err(|error| match mount {
                    Some(mount) => within(error, mount),
                    None => error,
                })
            }
        }
    }
}

/// Says which mount of the configuration could not be made.
fn within(error: Error, mount: &spec::Mount) -> Error {
    let Error::System { source: error, .. } = error else { return error };
    let source = mount.source.as_deref().unwrap_or_default();
    let message = format!("error mounting {source:?} to rootfs at {:?}: {}", mount.destination, failure::plain(&error));
    Error::Start { stage: Stage::Rootfs, message, errno: error.raw_os_error() }
}

/// A detached copy with its attributes and propagation. Unless asked otherwise it receives mounts from where it came
/// from and gives none back.
fn tree(path: &Path, bind: Bind, options: &MountOptions, shared: bool) -> Result<OwnedFd> {
    let io = |error: std::io::Error| system(path.display().to_string(), error);
    let tree = mount::clone_path(path, bind == Bind::Recursive).map_err(io)?;
    if !shared {
        mount::set_propagation(tree.as_fd(), Propagation::Slave, true).map_err(io)?;
    }
    finish(tree.as_fd(), options).map_err(io)?;
    Ok(tree)
}

/// Gives a detached mount what its options say of mounts.
pub(crate) fn finish(tree: BorrowedFd<'_>, options: &MountOptions) -> std::io::Result<()> {
    if !options.attributes.is_empty() {
        mount::set_attributes(tree, options.attributes, false)?;
    }
    if !options.recursive.is_empty() {
        mount::set_attributes(tree, options.recursive, true)?;
    }
    for (propagation, recursive) in &options.propagation {
        mount::set_propagation(tree, *propagation, *recursive)?;
    }
    Ok(())
}

/// The root filesystem, and what belongs over it before the mounts of the configuration: where, and what.
pub(crate) fn root(
    rootfs: &[oci::Mount],
    spec: &Spec,
    bundle: &Path,
    shared: bool,
) -> Result<(Detached, Vec<(PathBuf, Detached)>)> {
    let Some((first, rest)) = rootfs.split_first() else {
        return Ok((Detached::directory(root_path(spec, bundle)?, shared)?, Vec::new()));
    };
    let parts = rest.iter().map(|part| Ok((Path::new("/").join(&part.target), Detached::part(part, shared)?)));
    Ok((Detached::part(first, shared)?, parts.collect::<Result<_>>()?))
}

/// Where the root filesystem is on the host.
pub(crate) fn root_path(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    match spec.root.as_ref().map(|root| root.path.as_str()) {
        None | Some("") => Err(Error::Spec("root.path: missing".into())),
        Some(path) => Ok(bundle.join(path)),
    }
}

fn filesystem(part: &oci::Mount) -> Result<OwnedFd> {
    let options = MountOptions::parse(&part.options);
    let failed = |error: mount::Error| Error::System {
        operation: format!("mounting the {} of the root filesystem: {}", part.fstype, detail(&error)),
        source: error.source,
    };
    let data = [options.filesystem.as_slice(), options.data.as_slice()].concat();
    let made = overlay::new_filesystem(&part.fstype, &part.source, &data, false, options.attributes.set);
    let tree = made.map_err(failed)?;
    for (propagation, recursive) in &options.propagation {
        mount::set_propagation(tree.as_fd(), *propagation, *recursive)
            .map_err(|error| system("propagation of the root filesystem", error))?;
    }
    Ok(tree)
}

fn detail(error: &mount::Error) -> String {
    if error.messages.is_empty() {
        error.operation.clone()
    } else {
        format!("{} ({})", error.operation, error.messages.join("; "))
    }
}
