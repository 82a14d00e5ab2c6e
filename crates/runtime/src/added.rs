//! Adding a process to a running container, from the caller's side.
//!
//! A process between joins the container's namespaces, which a process cannot do to its children alone, and makes the
//! one that is meant as its sibling: a child of the caller, inside the container's pid namespace.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use oci::spec::Spec;
use rustix::fs::OFlags;
use sys::cgroup::Cgroup;
use sys::clone;
use sys::namespace::{self, Kinds};
use sys::procfs::Proc;

use crate::channel::Channel;
use crate::container::Container;
use crate::conversation::{self, Conversation, clone_error};
use crate::error::{Result, Stage};
use crate::failure::{Context, Failure, Step};
use crate::options::{ExecOptions, ExecProcess};
use crate::plan::{self, ProcessPlan, system};
use crate::{cgroups, create, init, validate};

/// See [`Container::exec`].
pub(crate) fn add(container: &Container, first: OwnedFd, options: ExecOptions) -> Result<ExecProcess> {
    validate::process(&options.process)?;
    let mut warnings = Vec::new();
    let spec = container.spec();
    if let Some(linux) = &spec.linux {
        validate::user_is_mapped(&options.process, linux)?;
    }
    let plan = process_plan(spec, container.id(), &options, &mut warnings);
    let mut plan = plan.map(|plan| ProcessPlan { stdio: options.stdio, extra_fds: options.extra_fds, ..plan })?;
    let cgroup = enterable(cgroup(container, &options.sub_cgroups)?, &mut warnings);
    let directory = cgroup.as_ref().map(Cgroup::directory).transpose().map_err(cgroups::failed)?.flatten();
    let joiner = cgroup.map(|cgroup| cgroup.joiner(directory.is_some())).transpose().map_err(cgroups::failed)?;
    let kinds = different_namespaces(spec, container.pid())?;
    let (ours, theirs) = Channel::pair().map_err(|error| system("socketpair", error))?;
    let proc = Proc::open().map_err(|error| system("opening /proc", error))?;
    plan.joiner = joiner;
    let between = clone::Options { cgroup: directory.as_ref().map(AsFd::as_fd), ..clone::Options::default() };
    let initial = plan.process.exec_cpu_affinity.as_ref().and_then(|affinity| affinity.initial.clone());
    let initial = initial.filter(|list| !list.is_empty());
    let oom_score_adj = plan.process.oom_score_adj;
    let rlimits = plan.process.rlimits.clone();
    let child = clone::spawn(&between, move || {
        // Both keep their numbers until this process ends: what is closed below is not theirs.
        let (first, proc) = (ManuallyDrop::new(first), ManuallyDrop::new(proc));
        if let Err(failure) = join(&first, &proc, kinds, initial.as_deref(), &mut plan, &theirs) {
            failure.report(&theirs);
            return 1;
        }
        create::introduce(&theirs, Kinds::default(), move |channel| init::added(plan, channel))
    })
    .map_err(clone_error)?;
    let state = conversation::creating(container.id(), container.bundle(), spec);
    let class = container.class();
    let conversation =
        Conversation { channel: ours, child, introduced: true, spec, state, warnings, oom_score_adj, rlimits, class };
    let ready = conversation.hold()?;
    Ok(ExecProcess { pid: ready.child.pid, pidfd: ready.child.pidfd, console: ready.console, warnings: ready.warnings })
}

fn process_plan(spec: &Spec, id: &str, options: &ExecOptions, warnings: &mut Vec<String>) -> Result<ProcessPlan> {
    let process = options.process.clone();
    let container = spec.process.as_ref().and_then(|process| process.capabilities.as_ref());
    let capabilities = process.capabilities.clone();
    let linux = spec.linux.as_ref();
    let seccomp = linux.and_then(|linux| linux.seccomp.as_ref());
    // The streams are given to the plan by the caller of this function; only their kind matters here.
    let kind = match options.stdio {
        crate::Stdio::Terminal => crate::Stdio::Terminal,
        _ => crate::Stdio::Inherit,
    };
    let mut plan = ProcessPlan::new(process, capabilities.as_ref().or(container), seccomp, kind, warnings)?;
    plan.personality = linux.and_then(plan::personality);
    plan.memory_policy = linux.and_then(|linux| linux.memory_policy.clone());
    plan.keyring = CString::new(format!("_ses.{id}")).ok();
    Ok(plan)
}

/// The container's group, or groups below it that exist. `None`: the container has no group.
fn cgroup(container: &Container, below: &BTreeMap<String, PathBuf>) -> Result<Option<Cgroup>> {
    if !below.is_empty() {
        return container.cgroup()?.below(below).map(Some).map_err(cgroups::failed);
    }
    container.cgroup_if_any()?.map(|cgroup| cgroups::for_added(cgroup, container.pid())).transpose()
}

/// A user who comes from another session may not move processes to the group that was made in the first one.
fn enterable(cgroup: Option<Cgroup>, warnings: &mut Vec<String>) -> Option<Cgroup> {
    let group = cgroup?;
    if !cgroups::is_rootless(None) || cgroups::may_enter(&group) {
        return Some(group);
    }
    let path = group.path().display();
    warnings.push(format!("the process is outside of cgroup {path}, to which the caller may not move processes"));
    None
}

/// Namespaces of the container that are not the caller's own: joining one's own user namespace is an error, and the
/// others cost time.
fn different_namespaces(spec: &Spec, pid: i32) -> Result<Kinds> {
    let mut kinds = Kinds::default();
    for wanted in spec.linux.iter().flat_map(|linux| &linux.namespaces) {
        let name = namespace::proc_name(&wanted.kind);
        let inode = |who: &str| {
            let path = format!("/proc/{who}/ns/{name}");
            rustix::fs::stat(&path).map(|stat| stat.st_ino).map_err(|errno| system(path, errno))
        };
        if inode("self")? != inode(&pid.to_string())?
            && let Some(kind) = Kinds::from_name(&wanted.kind)
        {
            kinds |= kind;
        }
    }
    Ok(kinds)
}

/// Into the container. Its processes see this one, or the one that it makes, from then on; so before that it does all
/// that needs something of the host's, closes everything of the host's and hides.
fn join(
    first: &OwnedFd,
    proc: &Proc,
    kinds: Kinds,
    initial: Option<&str>,
    plan: &mut ProcessPlan,
    channel: &Channel,
) -> Step {
    if let Some(list) = initial {
        init::pin(list)?;
    }
    if let Some(joiner) = plan.joiner.take() {
        joiner.join().map_err(|error| Failure::new(Stage::Namespaces, format!("joining the cgroup: {error}")))?;
    }
    plan.label_file = init::open_label(plan.label.as_ref(), proc)?;
    if let Some(score) = plan.process.oom_score_adj {
        // Whether it was applied is checked, and said, by the caller.
        let _ = proc
            .open_own("oom_score_adj", OFlags::WRONLY)
            .and_then(|file| sys::file::write_all(&file, score.to_string().as_bytes()));
    }
    let kept = plan.descriptors(channel).into_iter().chain([first.as_fd()]);
    clone::close_all_but(&kept.collect::<Vec<_>>()).context(Stage::Namespaces, "close_range")?;
    init::hide()?;
    if kinds.is_empty() {
        return Ok(());
    }
    namespace::enter(first.as_fd(), kinds).context(Stage::Namespaces, "joining the namespaces of the container")?;
    if kinds.contains(Kinds::USER) {
        init::become_root()?;
    }
    Ok(())
}
