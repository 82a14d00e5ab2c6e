//! Making a container, from the caller's side.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::spec::Spec;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use sys::clone;
use sys::namespace::Kinds;
use sys::procfs::Proc;

use crate::channel::{Channel, Message};
use crate::container::Container;
use crate::conversation::{self, Conversation, clone_error};
use crate::error::{Error, Result};
use crate::options::{CreateOptions, Created};
use crate::plan::{self, Namespaces, Plan, ProcessPlan, system};
use crate::rdt::Class;
use crate::record::{Files, Record, current_boot};
use crate::{cgroups, detached, hooks, init, validate};

/// What is removed again when a later step fails.
struct Made {
    files: Files,
    cgroup: Option<sys::cgroup::Cgroup>,
    class: Option<Class>,
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.kill();
            let _ = cgroup.delete();
        }
        if let Some(class) = self.class.take() {
            class.remove();
        }
        let _ = self.files.remove(true);
    }
}

/// Room for a descriptor of each mount, as far as the hard limit goes; the soft one is for programs that could not use
/// many, and is put back when this ends, here and in the container.
struct Room {
    before: Option<Rlimit>,
}

impl Room {
    fn make(mounts: usize) -> Self {
        // Each mount has one, and the work around them a few dozen.
        let needed = mounts as u64 + 256;
        let now = rustix::process::getrlimit(Resource::Nofile);
        if now.current.is_none_or(|soft| soft >= needed) {
            return Self { before: None };
        }
        let more = Rlimit { current: now.maximum.map_or(Some(needed), |hard| Some(needed.min(hard))), ..now };
        let _ = rustix::process::setrlimit(Resource::Nofile, more);
        Self { before: Some(now) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let _ = rustix::process::setrlimit(Resource::Nofile, before);
        }
    }
}

/// See [`Container::create`].
pub(crate) fn create(options: CreateOptions) -> Result<Created> {
    validate::id(&options.id)?;
    validate::spec(&options.spec)?;
    let bundle = std::path::absolute(&options.bundle)
        .map_err(|source| Error::Bundle { path: options.bundle.clone(), source })?;
    let files = Files::new(&options.state_root, &options.id);
    let rootless = cgroups::is_rootless(options.rootless);
    let linux = options.spec.linux.clone().unwrap_or_default();
    let place = cgroups::place(&linux, &options.id, rootless)?;
    files.create()?;
    let mut made = Made { files: files.clone(), cgroup: None, class: None };
    let mut record = Record {
        id: options.id.clone(),
        pid: 0,
        boot: current_boot(),
        start_time: 0,
        bundle: bundle.clone(),
        created: jiff::Timestamp::now().to_string(),
        cgroup: place.clone(),
        class: None,
        owner: rustix::process::geteuid().as_raw(),
        rootfs: detached::root_path(&options.spec, &bundle).unwrap_or_default(),
    };
    // Before the first thing outside of these files, so that whoever finds leftovers knows what they are.
    files.write(&record, &options.spec)?;
    let mut warnings = Vec::new();
    let state_root = options.state_root.clone();
    let room = Room::make(options.spec.mounts.len());
    let mut plan = plan(options, &bundle, &mut warnings)?;
    plan.process.file_limit = room.before;
    match place {
        Some(path) => {
            let view = cgroups::create(&linux, &path, rootless, &mut warnings)?;
            made.cgroup = Some(view.cgroup.clone());
            plan.cgroup = Some(view);
        }
        None => cgroups::do_without(&linux, &mut warnings)?,
    }
    if let Some(rdt) = plan.spec.linux.as_ref().and_then(|linux| linux.intel_rdt.as_ref()) {
        made.class = Some(Class::create(rdt, &record.id)?);
    }
    let fifo = files.wait_at_fifo().map_err(|errno| system("opening exec.fifo", errno))?;
    let spec = plan.spec.clone();
    let state = plan.hook_state.clone();
    let oom_score_adj = plan.process.process.oom_score_adj;
    let rlimits = plan.process.process.rlimits.clone();
    let (channel, child, introduced) = launch(plan, fifo)?;
    let class = made.class.as_ref();
    let conversation =
        Conversation { channel, child, introduced, spec: &spec, state, warnings, oom_score_adj, rlimits, class };
    let ready = conversation.hold().inspect_err(|_| after_failure(&record, &spec))?;
    record.class = made.class.take();
    record.pid = ready.child.pid;
    record.start_time = sys::process::start_time(record.pid).ok().flatten().unwrap_or_default();
    files.write_record(&record)?;
    // From here on it is the container that owns them.
    made.cgroup = None;
    let made = std::mem::ManuallyDrop::new(made);
    let container = Container::new(state_root, made.files.clone(), record, spec);
    Ok(Created {
        pid: ready.child.pid,
        pidfd: ready.child.pidfd,
        console: ready.console,
        warnings: ready.warnings,
        container,
    })
}

/// What was begun is undone, and the hooks that end a life are run (runtime.md, Lifecycle, steps 3 to 5, 12 and 13).
fn after_failure(record: &Record, spec: &Spec) {
    let mut state = conversation::creating(&record.id, &record.bundle, spec);
    state.status = oci::spec::Status::Stopped;
    if let Some(all) = &spec.hooks {
        // That something went wrong is being said already.
        let _ = hooks::run_all("poststop", &all.poststop, &state);
    }
}

/// Opens and decides everything that the process needs.
fn plan(options: CreateOptions, bundle: &Path, warnings: &mut Vec<String>) -> Result<Plan> {
    let CreateOptions { id, spec, rootfs, stdio, extra_fds, no_pivot, no_new_keyring, .. } = options;
    let linux = spec.linux.as_ref().ok_or_else(|| Error::Spec("linux: missing".into()))?;
    let process = spec.process.clone().ok_or_else(|| Error::Spec("process: missing".into()))?;
    let shared = plan::is_shared(linux);
    let namespaces = Namespaces::open(linux)?;
    if namespaces.joins(Kinds::MOUNT) && !rootfs.is_empty() {
        return Err(Error::Spec("a joined mount namespace needs root.path".into()));
    }
    let (root, root_parts) = detached::root(&rootfs, &spec, bundle, shared)?;
    let mounts = plan::mounts(&spec, bundle, shared)?;
    let capabilities = process.capabilities.clone();
    let mut process = ProcessPlan::new(process, capabilities.as_ref(), linux.seccomp.as_ref(), stdio, warnings)?;
    process.extra_fds = extra_fds;
    process.personality = plan::personality(linux);
    process.memory_policy = linux.memory_policy.clone();
    if !no_new_keyring {
        process.keyring = CString::new(format!("_ses.{id}")).ok();
    }
    let proc = Proc::open().map_err(|error| system("opening /proc", error))?;
    let waits_for_introduction = !namespaces.joined.is_empty();
    let hook_state = conversation::creating(&id, bundle, &spec);
    let root_path = detached::root_path(&spec, bundle).unwrap_or_else(|_| PathBuf::new());
    Ok(Plan {
        root,
        root_parts,
        mounts,
        namespaces,
        process,
        no_pivot,
        cgroup: None,
        root_path,
        open_to_owner: !rustix::process::geteuid().is_root(),
        waits_for_introduction,
        hook_state,
        proc,
        hides_at_once: rustix::process::geteuid().is_root(),
        spec,
    })
}

/// Clones the process: directly, or by one between that joins namespaces and makes it as a child of the caller.
fn launch(mut plan: Plan, fifo: OwnedFd) -> Result<(Channel, clone::Child, bool)> {
    let (ours, theirs) = Channel::pair().map_err(|error| system("socketpair", error))?;
    let (directory, joiner) = match &plan.cgroup {
        None => (None, None),
        Some(view) => {
            let directory = view.cgroup.directory().map_err(cgroups::failed)?;
            let joiner = view.cgroup.joiner(directory.is_some()).map_err(cgroups::failed)?;
            (directory, Some(joiner))
        }
    };
    plan.process.joiner = joiner;
    let new = plan.namespaces.new.without(Kinds::CGROUP | Kinds::TIME);
    let cgroup = directory.as_ref().map(AsFd::as_fd);
    let introduced = plan.waits_for_introduction;
    let first = clone::Options { namespaces: new, cgroup, sibling: false };
    let child = if introduced {
        clone::spawn(&clone::Options { namespaces: Kinds::default(), ..first }, move || {
            if let Err(failure) = init::enter_namespaces(&plan, &theirs, &fifo) {
                failure.report(&theirs);
                return 1;
            }
            introduce(&theirs, new, move |channel| init::first(plan, channel, fifo))
        })
    } else {
        clone::spawn(&first, move || init::first(plan, theirs, fifo))
    };
    Ok((ours, child.map_err(|error| no_process(error, new))?, introduced))
}

/// A machine can keep users from making user namespaces: by a limit, or by its security module.
fn no_process(error: std::io::Error, new: Kinds) -> Error {
    let refusals = [Errno::NOSPC, Errno::USERS, Errno::PERM, Errno::ACCESS];
    if new.contains(Kinds::USER) && refusals.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
        let text = "linux.namespaces: this machine does not let the caller make a user namespace (see user.max_user_namespaces)";
        return system(text, error);
    }
    clone_error(error)
}

/// Makes the process that is meant as a sibling, and says who it is.
pub(crate) fn introduce(channel: &Channel, namespaces: Kinds, body: impl FnOnce(Channel) -> i32) -> i32 {
    let Ok(copy) = channel.try_clone() else { return 1 };
    let options = clone::Options { namespaces, cgroup: None, sibling: true };
    match clone::spawn(&options, move || body(copy)) {
        Ok(child) => i32::from(channel.send(&Message::Child(child.pid), None).is_err()),
        Err(error) => {
            let text = format!("clone: {}", crate::failure::plain(&error));
            let _ = channel.fail(crate::error::Stage::Namespaces, text, error.raw_os_error());
            1
        }
    }
}
