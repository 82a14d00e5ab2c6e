//! Everything that can be decided, opened or compiled before the new process exists.
//!
//! The root filesystem and all bind mounts become detached mounts here, with the caller's rights: the new process only
//! attaches them, also when its user namespace could not even see where they come from. Since they carry their own
//! propagation, the new mount namespace itself can be private from the start.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::spec::{self, Process, Spec};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use sys::capability::{Set, Sets};
use sys::cgroup::Joiner;
use sys::mount::{self, Propagation};
use sys::namespace::Kinds;

use crate::channel::Channel;
use crate::error::{Error, Result, Stage};
use crate::limits::{self, Filter};
use crate::mount_options::{self, Bind, MountOptions};
use crate::options::Stdio;
use crate::{cgroups, failure, idmap};

/// What the first process does until it waits to be started.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) spec: Spec,
    /// The root filesystem, attached nowhere.
    pub(crate) root: OwnedFd,
    /// What is attached over it before the mounts of the configuration: target and detached mount.
    pub(crate) root_parts: Vec<(PathBuf, OwnedFd)>,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) namespaces: Namespaces,
    pub(crate) process: ProcessPlan,
    pub(crate) no_pivot: bool,
    /// The container's cgroup.
    pub(crate) cgroup: Option<cgroups::View>,
    /// Root on the host, for a mount namespace that is joined.
    pub(crate) root_path: PathBuf,
    /// The process reaches its namespaces through another one, and waits until that has told about it.
    pub(crate) waits_for_introduction: bool,
    /// What hooks get on their standard input; the status in it is `creating`.
    pub(crate) hook_state: spec::State,
}

/// A process on its way to executing its program.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) process: Process,
    pub(crate) capabilities: Sets,
    pub(crate) filter: Option<Filter>,
    pub(crate) stdio: Stdio,
    pub(crate) extra_fds: Vec<OwnedFd>,
    /// Name of the session keyring to join.
    pub(crate) keyring: Option<CString>,
    /// Moves the process into its cgroups; none when it is cloned into them or has none.
    pub(crate) joiner: Option<Joiner>,
    /// Has to be told to the security module by this file and this text, before the program is executed.
    pub(crate) label: Option<Label>,
    /// That file, opened while `/proc` was the host's.
    pub(crate) label_file: Option<OwnedFd>,
    /// Execution domain, as of personality(2).
    pub(crate) personality: Option<u64>,
}

/// A label or profile for execve(2).
#[derive(Debug)]
pub(crate) struct Label {
    /// What it is, for messages.
    pub(crate) kind: &'static str,
    /// Below `/proc/self`.
    pub(crate) file: &'static str,
    pub(crate) value: String,
}

/// Namespaces that are made, and those that are joined.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    pub(crate) new: Kinds,
    pub(crate) joined: Vec<Joined>,
}

/// A namespace that is joined.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) kind: Kinds,
    pub(crate) file: OwnedFd,
    pub(crate) path: String,
}

/// One mount of the configuration.
#[derive(Debug)]
pub(crate) struct MountPlan {
    /// Inside, absolute.
    pub(crate) destination: PathBuf,
    pub(crate) source: MountSource,
    pub(crate) options: MountOptions,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum MountSource {
    /// A detached copy of something of the host, and whether that is a directory.
    Tree(OwnedFd, bool),
    /// A new file system of this type; the text is its source.
    Filesystem(String, PathBuf),
    /// The cgroups, in whatever version the host has.
    Cgroup,
}

impl Plan {
    /// What the first process still needs once it is in its namespaces.
    pub(crate) fn descriptors<'a>(&'a self, channel: &'a Channel, fifo: &'a OwnedFd) -> Vec<BorrowedFd<'a>> {
        let mounts = self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Tree(tree, _) => Some(tree.as_fd()),
            _ => None,
        });
        let parts = self.root_parts.iter().map(|(_, tree)| tree.as_fd());
        let own = [self.root.as_fd(), fifo.as_fd()];
        own.into_iter().chain(parts).chain(mounts).chain(self.process.descriptors(channel)).collect()
    }
}

impl Namespaces {
    /// Opens what is to be joined.
    pub(crate) fn open(linux: &spec::Linux) -> Result<Self> {
        let mut namespaces = Self::default();
        for namespace in &linux.namespaces {
            let Some(kind) = Kinds::from_name(&namespace.kind) else { continue };
            match namespace.path.as_deref().filter(|path| !path.is_empty()) {
                None => namespaces.new |= kind,
                Some(path) => {
                    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                        .map_err(|errno| system(format!("opening namespace {path}"), errno))?;
                    namespaces.joined.push(Joined { kind, file, path: path.to_owned() });
                }
            }
        }
        Ok(namespaces)
    }

    /// Whether the process ends in another user namespace than the caller's.
    pub(crate) fn changes_user(&self) -> bool {
        self.new.contains(Kinds::USER) || self.joins(Kinds::USER)
    }

    pub(crate) fn joins(&self, kind: Kinds) -> bool {
        self.joined.iter().any(|joined| joined.kind == kind)
    }
}

pub(crate) fn system(operation: impl Into<String>, source: impl Into<std::io::Error>) -> Error {
    Error::System { operation: operation.into(), source: source.into() }
}

/// The mounts of the configuration, with bind mounts opened.
pub(crate) fn mounts(spec: &Spec, bundle: &Path, shared: bool) -> Result<Vec<MountPlan>> {
    spec.mounts.iter().map(|mount| mount_plan(mount, bundle, shared)).collect()
}

fn mount_plan(mount: &spec::Mount, bundle: &Path, shared: bool) -> Result<MountPlan> {
    let mut options = MountOptions::parse(&mount.options)
        .map_err(|message| Error::Spec(format!("mounts: {:?}: {message}", mount.destination)))?;
    let kind = mount.kind.as_deref().unwrap_or_default();
    if kind == "bind" && options.bind.is_none() {
        options.bind = Some(Bind::Alone);
    }
    let source = mount.source.as_deref().unwrap_or_default();
    let idmapped = options.id_mapped.is_some() || !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    let source = match options.bind {
        Some(bind) => {
            let failed = |error: Error| match error {
                Error::System { source: error, .. } => Error::Start {
                    stage: Stage::Rootfs,
                    message: format!(
                        "error mounting {source:?} to rootfs at {:?}: {}",
                        mount.destination,
                        failure::plain(&error)
                    ),
                    errno: error.raw_os_error(),
                },
                other => other,
            };
            let path = bundle.join(source);
            let tree = bind_tree(&path, bind, &options, shared).map_err(failed)?;
            if idmapped {
                idmap::apply(tree.as_fd(), mount, options.id_mapped.unwrap_or(bind == Bind::Recursive))?;
            }
            let found = rustix::fs::statat(&tree, "", AtFlags::EMPTY_PATH).map_err(|errno| system(source, errno))?;
            MountSource::Tree(tree, FileType::from_raw_mode(found.st_mode) == FileType::Directory)
        }
        None if idmapped => {
            return Err(Error::Spec(format!("mounts: {:?}: only bind mounts can be id-mapped", mount.destination)));
        }
        None if kind.is_empty() => {
            return Err(Error::Spec(format!("mounts: {:?} has no type", mount.destination)));
        }
        None if kind == "cgroup" || kind == "cgroup2" => MountSource::Cgroup,
        None => MountSource::Filesystem(kind.to_owned(), source.into()),
    };
    Ok(MountPlan { destination: Path::new("/").join(&mount.destination), source, options })
}

/// A detached copy with its attributes and propagation. Unless asked otherwise it receives mounts from where it came
/// from and gives none back.
fn bind_tree(path: &Path, bind: Bind, options: &MountOptions, shared: bool) -> Result<OwnedFd> {
    let io = |error: std::io::Error| system(path.display().to_string(), error);
    let tree = mount::clone_path(path, bind == Bind::Recursive).map_err(io)?;
    if !shared {
        mount::set_propagation(tree.as_fd(), Propagation::Slave, true).map_err(io)?;
    }
    finish_mount(tree.as_fd(), options).map_err(io)?;
    Ok(tree)
}

/// Gives a detached mount what its options say of mounts.
pub(crate) fn finish_mount(tree: BorrowedFd<'_>, options: &MountOptions) -> std::io::Result<()> {
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

/// The root filesystem as a detached mount, and what belongs over it.
pub(crate) fn root(
    rootfs: &[oci::Mount],
    spec: &Spec,
    bundle: &Path,
    shared: bool,
) -> Result<(OwnedFd, Vec<(PathBuf, OwnedFd)>)> {
    let Some((first, rest)) = rootfs.split_first() else {
        let path = root_path(spec, bundle)?;
        let options = MountOptions::default();
        return Ok((bind_tree(&path, Bind::Recursive, &options, shared)?, Vec::new()));
    };
    let parts = rest.iter().map(|part| Ok((Path::new("/").join(&part.target), root_mount(part, shared)?)));
    Ok((root_mount(first, shared)?, parts.collect::<Result<_>>()?))
}

/// Where the root filesystem is on the host.
pub(crate) fn root_path(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    match spec.root.as_ref().map(|root| root.path.as_str()) {
        None | Some("") => Err(Error::Spec("root.path: missing".into())),
        Some(path) => Ok(bundle.join(path)),
    }
}

fn root_mount(part: &oci::Mount, shared: bool) -> Result<OwnedFd> {
    let mut options = MountOptions::parse(&part.options).map_err(Error::Spec)?;
    if part.fstype == "bind" && options.bind.is_none() {
        options.bind = Some(Bind::Alone);
    }
    if let Some(bind) = options.bind {
        return bind_tree(&part.source, bind, &options, shared);
    }
    let failed = |error: mount::Error| Error::System {
        operation: format!("mounting the {} of the root filesystem: {}", part.fstype, detail(&error)),
        source: error.source,
    };
    let mut data = [options.filesystem.as_slice(), options.data.as_slice()].concat();
    let attributes = options.attributes.set;
    let made = mount::new_filesystem(&part.fstype, &part.source, &data, false, attributes);
    let made = match made {
        // Before Linux 6.5 all lower directories go into one option.
        Err(error) if error.operation.contains("lowerdir+") => {
            join_lower_directories(&mut data);
            mount::new_filesystem(&part.fstype, &part.source, &data, false, attributes)
        }
        made => made,
    };
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

fn join_lower_directories(data: &mut Vec<String>) {
    let lower: Vec<String> =
        data.iter().filter_map(|option| option.strip_prefix("lowerdir+=")).map(|dir| dir.replace(':', "\\:")).collect();
    data.retain(|option| !option.starts_with("lowerdir+="));
    data.push(format!("lowerdir={}", lower.join(":")));
}

/// Whether `linux.rootfsPropagation` lets mounts travel outwards.
pub(crate) fn is_shared(linux: &spec::Linux) -> bool {
    let word = linux.rootfs_propagation.as_deref().unwrap_or_default();
    mount_options::propagation(word).is_some_and(|(propagation, _)| propagation == Propagation::Shared)
}

/// The five sets. Names that this kernel does not know are left out, with a warning each.
pub(crate) fn capabilities(from: &spec::Capabilities, warnings: &mut Vec<String>) -> Result<Sets> {
    let supported = sys::capability::supported();
    let mut unknown = Vec::new();
    let mut set = |names: &[String]| {
        let mut bits = Set::default();
        for name in names {
            match Set::from_names([name]) {
                Ok(one) if one.and(supported) == one => bits.0 |= one.0,
                _ if !unknown.contains(name) => unknown.push(name.clone()),
                _ => {}
            }
        }
        bits
    };
    let sets = Sets {
        bounding: set(&from.bounding),
        effective: set(&from.effective),
        permitted: set(&from.permitted),
        inheritable: set(&from.inheritable),
        ambient: set(&from.ambient),
    };
    if !unknown.is_empty() {
        warnings.push(format!("ignoring unknown or unavailable capabilities: {}", unknown.join(", ")));
    }
    Ok(sets)
}

/// What the security modules have to be told; refused when the module that it is for is not there.
pub(crate) fn label(process: &Process) -> Result<Option<Label>> {
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    if let Some(value) = named(&process.selinux_label) {
        if !Path::new("/sys/fs/selinux/enforce").exists() {
            return Err(Error::Spec(
                "selinux label is specified in config, but selinux is disabled or not supported".into(),
            ));
        }
        return Ok(Some(Label { kind: "selinux label", file: "attr/exec", value }));
    }
    if let Some(profile) = named(&process.apparmor_profile).filter(|profile| profile != "unconfined") {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if !enabled.is_ok_and(|text| text.starts_with('Y')) {
            return Err(Error::Spec(
                "apparmor profile specified in config, but apparmor is disabled or not supported".into(),
            ));
        }
        return Ok(Some(Label {
            kind: "apparmor profile",
            file: "attr/apparmor/exec",
            value: format!("exec {profile}"),
        }));
    }
    Ok(None)
}

impl ProcessPlan {
    /// What the process still needs once it is in its namespaces.
    pub(crate) fn descriptors<'a>(&'a self, channel: &'a Channel) -> Vec<BorrowedFd<'a>> {
        let mut descriptors = vec![channel.as_fd()];
        if let Stdio::Streams { stdin, stdout, stderr } = &self.stdio {
            descriptors.extend([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
        }
        descriptors.extend(self.extra_fds.iter().chain(&self.label_file).map(AsFd::as_fd));
        descriptors
    }

    /// What is decided from the process alone.
    pub(crate) fn new(
        process: Process,
        capabilities: Option<&spec::Capabilities>,
        seccomp: Option<&spec::Seccomp>,
        stdio: Stdio,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        if process.terminal != matches!(stdio, Stdio::Terminal) {
            return Err(Error::Spec(
                "process.terminal and the standard streams of the caller contradict each other".into(),
            ));
        }
        let capabilities = capabilities.map(|from| self::capabilities(from, warnings)).transpose()?.unwrap_or_default();
        let filter = seccomp.map(limits::filter).transpose()?.flatten();
        let label = label(&process)?;
        Ok(Self {
            process,
            capabilities,
            filter,
            stdio,
            extra_fds: Vec::new(),
            keyring: None,
            joiner: None,
            label,
            label_file: None,
            personality: None,
        })
    }
}

/// `linux.personality` in the number of personality(2).
pub(crate) fn personality(linux: &spec::Linux) -> Option<u64> {
    const LINUX: u64 = 0;
    const LINUX32: u64 = 8;
    linux.personality.as_ref().map(|personality| if personality.domain == "LINUX32" { LINUX32 } else { LINUX })
}
