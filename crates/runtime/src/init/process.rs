//! What a process is given before it loses its rights: session, keyring, kernel parameters, limits, directory.

use std::ffi::CString;

use oci::spec::Process;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::thread::CpuSet;
use sys::namespace::Kinds;
use sys::netlink;
use sys::user::{self, Scheduling};

use crate::error::Stage;
use crate::failure::{Context, Failure, Step, plain};
use crate::plan::{Plan, ProcessPlan};

/// A session of its own, without the caller's keys and closed to its neighbours.
pub(super) fn begin(plan: &ProcessPlan) -> Step {
    match rustix::process::setsid() {
        // It leads one already.
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno).context(Stage::Settings, "setsid"),
    }
    hide()?;
    let Some(name) = &plan.keyring else { return Ok(()) };
    let keyring = match user::join_session_keyring(name) {
        // A kernel without keys has none to keep from the container.
        Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => return Ok(()),
        result => result.context(Stage::Settings, "join session keyring")?,
    };
    user::open_keyring_to_owner(keyring).context(Stage::Settings, "mod keyring permissions")
}

/// Others in the pid namespace must not get at the descriptors, the memory and the program's file of this process by
/// `/proc` or ptrace(2), also not once it has no more rights than they (CVE-2016-9962). Executing the program ends it.
pub(crate) fn hide() -> Step {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context(Stage::Settings, "prctl(PR_SET_DUMPABLE)")
}

/// Loopback interface, names and parameters of the new namespaces, by the host's `/proc`.
pub(super) fn settings(plan: &Plan) -> Step {
    let new = plan.namespaces.new;
    if new.contains(Kinds::NETWORK) {
        loopback()
            .map_err(|error| Failure::new(Stage::Settings, format!("setting up the loopback interface: {error}")))?;
    }
    if let Some(name) = plan.spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        rustix::system::sethostname(name.as_bytes()).context(Stage::Settings, "sethostname")?;
    }
    if let Some(name) = plan.spec.domainname.as_deref().filter(|name| !name.is_empty()) {
        rustix::system::setdomainname(name.as_bytes()).context(Stage::Settings, "setdomainname")?;
    }
    for (name, value) in plan.spec.linux.iter().flat_map(|linux| &linux.sysctl) {
        plan.proc
            .open_parameter(&name.replace('.', "/"), OFlags::WRONLY)
            .and_then(|file| sys::file::write_all(&file, value.as_bytes()))
            .with_context(Stage::Settings, || format!("write sysctl key {name}"))?;
    }
    Ok(())
}

/// The first interface of every network namespace.
const LOOPBACK: u32 = 1;

fn loopback() -> Result<(), netlink::Error> {
    netlink::Socket::open(netlink::Family::Route)?.request(&[netlink::link::set_up(LOOPBACK)])
}

/// Scheduling, execution domain, processors.
pub(super) fn schedule(plan: &ProcessPlan) -> Step {
    let process = &plan.process;
    if let Some(persona) = plan.personality {
        user::set_personality(persona).context(Stage::Settings, "personality")?;
    }
    if let Some(scheduler) = &process.scheduler {
        let policy = number_of(POLICIES, &scheduler.policy)
            .ok_or_else(|| Failure::new(Stage::Settings, format!("unknown scheduler policy {:?}", scheduler.policy)))?;
        let mut flags = 0;
        for flag in &scheduler.flags {
            flags |= number_of(SCHEDULER_FLAGS, flag)
                .ok_or_else(|| Failure::new(Stage::Settings, format!("unknown scheduler flag {flag:?}")))?;
        }
        let mut scheduling = Scheduling::default();
        scheduling.policy = policy;
        scheduling.flags = u64::from(flags);
        scheduling.nice = scheduler.nice;
        scheduling.priority = u32::try_from(scheduler.priority).unwrap_or_default();
        scheduling.runtime = scheduler.runtime;
        scheduling.deadline = scheduler.deadline;
        scheduling.period = scheduler.period;
        user::set_scheduling(scheduling).context(Stage::Settings, "setting scheduler")?;
    }
    if let Some(priority) = &process.io_priority {
        let class = number_of(IO_CLASSES, &priority.class)
            .ok_or_else(|| Failure::new(Stage::Settings, format!("unknown io priority class {:?}", priority.class)))?;
        let level = u32::try_from(priority.priority).unwrap_or_default();
        user::set_io_priority(class, level).context(Stage::Settings, "setting io priority")?;
    }
    let list = process.exec_cpu_affinity.as_ref().and_then(|affinity| affinity.finally.as_deref());
    list.map_or(Ok(()), pin)
}

fn number_of(table: &[(&str, u32)], name: &str) -> Option<u32> {
    table.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

const POLICIES: &[(&str, u32)] = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

const SCHEDULER_FLAGS: &[(&str, u32)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

const IO_CLASSES: &[(&str, u32)] = &[("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// Runs on these processors alone; `0-2,7`.
pub(crate) fn pin(list: &str) -> Step {
    let wrong = || Failure::new(Stage::Settings, format!("invalid list of processors {list:?}"));
    let mut set = CpuSet::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= CpuSet::MAX_CPU {
            return Err(wrong());
        }
        (first..=last).for_each(|cpu| set.set(cpu));
    }
    rustix::thread::sched_setaffinity(None, &set).context(Stage::Settings, "setting CPU affinity")
}

/// Resource limits.
pub(super) fn limits(process: &Process) -> Step {
    for limit in &process.rlimits {
        let Some(resource) = user::resource(&limit.kind) else { continue };
        user::set_limit(resource, limit.soft, limit.hard).map_err(|error| {
            let hint = if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
                ", raising a hard limit needs CAP_SYS_RESOURCE"
            } else {
                ""
            };
            let (soft, hard) = (limit.soft, limit.hard);
            Failure {
                stage: Stage::Security,
                message: format!(
                    "error setting rlimits for ready process: error setting rlimit type {} ({} to {soft}:{hard}{hint}): {}",
                    resource as u32,
                    limit.kind,
                    plain(&error)
                ),
                errno: error.raw_os_error(),
            }
        })?;
    }
    Ok(())
}

/// The working directory, as the process's own user. A directory that is not below the root would be a way out.
pub(super) fn enter_directory(process: &Process) -> Step {
    let cwd = CString::new(process.cwd.as_str())
        .map_err(|_| Failure::new(Stage::Program, "the working directory has a NUL byte"))?;
    rustix::process::chdir(&cwd).map_err(|errno| Failure {
        stage: Stage::Program,
        message: format!(
            "chdir to cwd ({:?}) set in config.json failed: {}",
            process.cwd,
            plain(&std::io::Error::from(errno))
        ),
        // Docker's exit code for this is 126, whatever the error.
        errno: Some(Errno::ACCESS.raw_os_error()),
    })?;
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().first() == Some(&b'/') => Ok(()),
        _ => Err(Failure::new(
            Stage::Program,
            "current working directory is outside of container mount namespace root -- possible container breakout detected",
        )),
    }
}
