//! What a process is given before it loses its rights: session, keyring, kernel parameters, limits, directory.

use std::ffi::CString;

use oci::spec::Process;
use rustix::fs::OFlags;
use rustix::io::Errno;
use sys::namespace::Kinds;
use sys::netlink;
use sys::user;

use crate::channel::{Channel, Message};
use crate::error::Stage;
use crate::failure::{Context, Failure, Step, plain};
use crate::plan::{Plan, ProcessPlan};
use crate::{rlimits, validate};

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
        let path = validate::parameter_path(name).unwrap_or_default();
        plan.proc
            .open_parameter(&path, OFlags::WRONLY)
            .and_then(|file| sys::file::write_all(&file, value.as_bytes()))
            .with_context(Stage::Settings, || format!("linux.sysctl: write sysctl key {name}"))?;
    }
    Ok(())
}

/// The first interface of every network namespace.
const LOOPBACK: u32 = 1;

fn loopback() -> Result<(), netlink::Error> {
    netlink::Socket::open(netlink::Family::Route)?.request(&[netlink::link::set_up(LOOPBACK)])
}

/// Resource limits. A process that has lost the right to raise them, by its user namespace, asks the caller to.
pub(super) fn limits(plan: &ProcessPlan, channel: &Channel) -> Step {
    if let Some(before) = plan.file_limit {
        rustix::process::setrlimit(rustix::process::Resource::Nofile, before).context(Stage::Security, "setrlimit")?;
    }
    match rlimits::set(None, &plan.process.rlimits).map_err(Failure::of) {
        Err(failure) if failure.errno == Some(Errno::PERM.raw_os_error()) => {
            channel.send(&Message::Limits, None).context(Stage::Settings, "asking for resource limits")?;
            channel.wait_for_answer().context(Stage::Settings, "asking for resource limits")
        }
        result => result,
    }
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
