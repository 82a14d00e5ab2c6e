//! Everything that can be decided, opened or compiled before the new process exists.
//!
//! The root filesystem and all bind mounts become detached mounts here, where the caller has the right to mount: the new
//! process only attaches them, also when its user namespace could not even see where they come from. Since they carry
//! their own propagation, the new mount namespace itself can be private from the start.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::spec::{self, Process, Spec};
use rustix::fs::{Mode, OFlags};
use sys::capability::{Set, Sets};
use sys::cgroup::Joiner;
use sys::mount::Propagation;
use sys::namespace::Kinds;
use sys::procfs::Proc;

use crate::cgroups;
use crate::channel::Channel;
use crate::detached::Detached;
use crate::error::{Error, Result};
use crate::limits::{self, Filter};
use crate::mount_options::{self, MountOptions};
use crate::options::Stdio;
use crate::{failure, idmap, validate};

/// What the first process does until it waits to be started.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) spec: Spec,
    /// The root filesystem, attached nowhere.
    pub(crate) root: Detached,
    /// What is attached over it before the mounts of the configuration: target and detached mount.
    pub(crate) root_parts: Vec<(PathBuf, Detached)>,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) namespaces: Namespaces,
    pub(crate) process: ProcessPlan,
    pub(crate) no_pivot: bool,
    /// The container's cgroup.
    pub(crate) cgroup: Option<cgroups::View>,
    /// Root on the host, for a mount namespace that is joined.
    pub(crate) root_path: PathBuf,
    /// The caller is an ordinary user. It could not add a process while the first one waits to be started if that was
    /// closed to its neighbours: there are none then but what the same user adds, and nothing left in it to be got at.
    pub(crate) open_to_owner: bool,
    /// The process reaches its namespaces through another one, and waits until that has told about it.
    pub(crate) waits_for_introduction: bool,
    /// What hooks get on their standard input; the status in it is `creating`.
    pub(crate) hook_state: spec::State,
    /// The host's `/proc`.
    pub(crate) proc: Proc,
    /// The caller is root: the process can hide from its neighbours from its first moment on. The id maps of others are
    /// written through files that a hidden process does not own.
    pub(crate) hides_at_once: bool,
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
    /// The limit of descriptors that the caller had before it made room for the mounts.
    pub(crate) file_limit: Option<rustix::process::Rlimit>,
    /// Nodes that memory is taken from.
    pub(crate) memory_policy: Option<spec::MemoryPolicy>,
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
    /// Which one of the configuration it is, for messages.
    pub(crate) field: String,
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
    /// A copy of something of the host.
    Tree(Detached),
    /// A new file system of this type; the text is its source.
    Filesystem(String, PathBuf),
    /// The cgroups, in whatever version the host has.
    Cgroup,
    /// Nothing: the mount that is there is changed.
    Present,
}

impl Plan {
    /// What the first process still needs once it is in its namespaces.
    pub(crate) fn descriptors<'a>(&'a self, channel: &'a Channel, fifo: &'a OwnedFd) -> Vec<BorrowedFd<'a>> {
        let mounts = self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Tree(tree) => tree.made(),
            _ => None,
        });
        let parts = self.root_parts.iter().filter_map(|(_, tree)| tree.made());
        let own = self.root.made().into_iter().chain([fifo.as_fd(), self.proc.as_fd()]);
        own.chain(parts).chain(mounts).chain(self.process.descriptors(channel)).collect()
    }
}

impl Namespaces {
    /// Opens what is to be joined.
    pub(crate) fn open(linux: &spec::Linux) -> Result<Self> {
        let mut namespaces = Self::default();
        for (index, namespace) in linux.namespaces.iter().enumerate() {
            let Some(kind) = Kinds::from_name(&namespace.kind) else { continue };
            match namespace.path.as_deref().filter(|path| !path.is_empty()) {
                None => namespaces.new |= kind,
                Some(path) => {
                    let field = format!("linux.namespaces[{index}].path: {path:?}");
                    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                        .map_err(|errno| Error::Spec(format!("{field}: {}", failure::plain(&errno.into()))))?;
                    namespaces.joined.push(Joined { kind, file, field });
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
    let label = mount_label(spec)?;
    (0..spec.mounts.len()).map(|index| mount_plan(spec, index, bundle, shared, label)).collect()
}

fn mount_plan(spec: &Spec, index: usize, bundle: &Path, shared: bool, label: Option<&str>) -> Result<MountPlan> {
    let mut options = validate::mount(spec, index)?;
    let Some(mount) = spec.mounts.get(index) else { return Err(Error::Spec(format!("mounts[{index}]: missing"))) };
    let kind = mount.kind.as_deref().unwrap_or_default();
    let source = mount.source.as_deref().unwrap_or_default();
    let source = match options.bind {
        _ if options.remount => MountSource::Present,
        Some(bind) => {
            let translation = options.id_mapped.map(|recursive| idmap::Translation::new(spec, mount, recursive));
            MountSource::Tree(Detached::bind(bundle.join(source), bind, options.clone(), shared, mount, translation)?)
        }
        None if kind == "cgroup" || kind == "cgroup2" => MountSource::Cgroup,
        None => MountSource::Filesystem(kind.to_owned(), source.into()),
    };
    if let (MountSource::Filesystem(..), Some(label)) = (&source, label) {
        // Those of the kernel's own have the labels that the policy gives them.
        if !["proc", "sysfs", "mqueue"].contains(&kind) {
            options.data.push(format!("context={label}"));
        }
    }
    Ok(MountPlan { destination: Path::new("/").join(&mount.destination), source, options })
}

/// `linux.mountLabel`; refused where nobody would look at it.
fn mount_label(spec: &Spec) -> Result<Option<&str>> {
    let label = spec.linux.as_ref().and_then(|linux| linux.mount_label.as_deref()).filter(|label| !label.is_empty());
    if label.is_some() && !has_selinux() {
        return Err(Error::Spec("linux.mountLabel: selinux is disabled or not supported by this kernel".into()));
    }
    Ok(label)
}

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
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
    let without_right = Set(sets.ambient.0 & !sets.ambient.and(sets.permitted).and(sets.inheritable).0);
    if without_right != Set::default() {
        let names = without_right.names().collect::<Vec<_>>().join(", ");
        warnings.push(format!("ignoring ambient capabilities that are not permitted and inheritable: {names}"));
    }
    Ok(sets)
}

/// What the security modules have to be told; refused when the module that it is for is not there.
pub(crate) fn label(process: &Process) -> Result<Option<Label>> {
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    if let Some(value) = named(&process.selinux_label) {
        if !has_selinux() {
            return Err(Error::Spec(
                "process.selinuxLabel: selinux label is specified in config, but selinux is disabled or not supported"
                    .into(),
            ));
        }
        return Ok(Some(Label { kind: "selinux label", file: "attr/exec", value }));
    }
    if let Some(profile) = named(&process.apparmor_profile).filter(|profile| profile != "unconfined") {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if !enabled.is_ok_and(|text| text.starts_with('Y')) {
            return Err(Error::Spec(
                "process.apparmorProfile: apparmor profile specified in config, but apparmor is disabled or not supported"
                    .into(),
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
        descriptors.extend(self.joiner.iter().flat_map(Joiner::descriptors));
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
            file_limit: None,
            memory_policy: None,
        })
    }
}

/// `linux.personality` in the number of personality(2).
pub(crate) fn personality(linux: &spec::Linux) -> Option<u64> {
    const LINUX: u64 = 0;
    const LINUX32: u64 = 8;
    linux.personality.as_ref().map(|personality| if personality.domain == "LINUX32" { LINUX32 } else { LINUX })
}
