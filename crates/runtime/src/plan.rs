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
use crate::mount_options::{self, Bind, MountOptions};
use crate::options::Stdio;

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
    /// A copy of something of the host.
    Tree(Detached),
    /// A new file system of this type; the text is its source.
    Filesystem(String, PathBuf),
    /// The cgroups, in whatever version the host has.
    Cgroup,
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
        Some(bind) => MountSource::Tree(Detached::bind(bundle.join(source), bind, options.clone(), shared, mount)?),
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
        })
    }
}

/// `linux.personality` in the number of personality(2).
pub(crate) fn personality(linux: &spec::Linux) -> Option<u64> {
    const LINUX: u64 = 0;
    const LINUX32: u64 = 8;
    linux.personality.as_ref().map(|personality| if personality.domain == "LINUX32" { LINUX32 } else { LINUX })
}
