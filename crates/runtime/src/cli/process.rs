//! `create`, `run` and `exec`: the commands that make processes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci::spec::{Capabilities, Process, Spec};
use rustix::process::Signal;
use sys::file::Durability;

use super::flags::Parsed;
use super::foreground::Foreground;
use super::{Context, Failure, Outcome};
use crate::config;
use crate::conversation::send_to;
use crate::{Container, CreateOptions, Created, ExecOptions, Stdio};

pub(super) fn create(context: &Context) -> Outcome {
    let named = |failure: Failure| failure.within(&format!("{} create failed", context.name));
    let created = make(context, true).map_err(named)?;
    hand_over(context, &created.pidfd, created.console.as_ref(), created.pid).map_err(|failure| {
        let _ = created.container.delete(true);
        named(failure)
    })?;
    Ok(0)
}

pub(super) fn run(context: &Context) -> Outcome {
    let named = |failure: Failure| failure.within(&format!("{} run failed", context.name));
    let detach = context.arguments.is_set("detach");
    // Signals are caught before there is a process that they could be for.
    let foreground = if detach { None } else { Some(Foreground::prepare()?) };
    let mut created = make(context, detach).map_err(named)?;
    let begun = (|| {
        let terminal = if detach { created.console.as_ref() } else { None };
        hand_over(context, &created.pidfd, terminal, created.pid)?;
        created.container.start()?;
        Ok(())
    })();
    if let Err(failure) = begun {
        let _ = created.container.delete(true);
        return Err(named(failure));
    }
    let Some(foreground) = foreground else { return Ok(0) };
    let code = foreground.follow(&created.pidfd, created.console.take());
    if !context.arguments.is_set("keep") {
        warn(context, &created.container.delete(true)?);
    }
    code
}

/// Makes the container of the bundle.
fn make(context: &Context, detached: bool) -> Result<Created, Failure> {
    let arguments = &context.arguments;
    let bundle = std::path::absolute(arguments.value("bundle").unwrap_or("."))?;
    let mut spec = load_spec(&bundle)?;
    let preserved = preserved_fds(arguments)?;
    let listen = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<u32>().ok()).unwrap_or_default();
    if let (Some(process), 1..) = (&mut spec.process, listen) {
        process.env.push(format!("LISTEN_FDS={listen}"));
        process.env.push("LISTEN_PID=1".into());
    }
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    let stdio = streams(arguments, terminal, detached)?;
    let created = Container::create(CreateOptions {
        id: arguments.word(0).to_owned(),
        bundle,
        spec,
        state_root: context.root.clone(),
        rootfs: Vec::new(),
        stdio,
        extra_fds: preserved,
        no_pivot: arguments.is_set("no-pivot"),
        no_new_keyring: arguments.is_set("no-new-keyring"),
        rootless: context.rootless,
    })?;
    warn(context, &created.warnings);
    Ok(created)
}

fn load_spec(bundle: &Path) -> Result<Spec, Failure> {
    if !bundle.join("config.json").exists() {
        return Err("JSON specification file config.json not found".into());
    }
    Ok(Container::load_spec(bundle)?)
}

fn warn(context: &Context, warnings: &[String]) {
    warnings.iter().for_each(|warning| context.log.warning(warning));
}

/// A terminal needs somebody who holds it: this process, or who listens on the console socket.
fn streams(arguments: &Parsed, terminal: bool, detached: bool) -> Result<Stdio, Failure> {
    let socket = arguments.value("console-socket").is_some();
    if socket && !(terminal && detached) {
        return Err("cannot use console socket if the runtime will not detach or allocate tty".into());
    }
    if terminal && detached && !socket {
        return Err("cannot allocate tty if the runtime will detach without setting console socket".into());
    }
    Ok(if terminal { Stdio::Terminal } else { Stdio::Inherit })
}

/// `--preserve-fds` and the descriptors of socket activation, from 3 on.
fn preserved_fds(arguments: &Parsed) -> Result<Vec<OwnedFd>, Failure> {
    let parse = |text: &str| text.parse::<i32>().map_err(|_| format!("invalid value for preserve-fds: {text:?}"));
    let count = arguments.value("preserve-fds").map(parse).transpose()?.unwrap_or_default();
    let listen = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<i32>().ok()).unwrap_or_default();
    (3..3 + count.clamp(0, 1 << 16) + listen.clamp(0, 1 << 16))
        .map(|number| {
            sys::inherited::take(number).map_err(|_| format!("preserve-fds: descriptor {number} is not open").into())
        })
        .collect()
}

/// Tells the caller of this program about the process: terminal, pidfd, number.
fn hand_over(context: &Context, pidfd: &OwnedFd, console: Option<&OwnedFd>, pid: i32) -> Result<(), Failure> {
    let arguments = &context.arguments;
    if let (Some(path), Some(console)) = (arguments.value("console-socket"), console) {
        send_to(Path::new(path), b"/dev/ptmx", console).map_err(|error| format!("console socket {path}: {error}"))?;
    }
    if let Some(path) = arguments.value("pidfd-socket") {
        send_to(Path::new(path), b"pidfd", pidfd).map_err(|error| format!("pidfd socket {path}: {error}"))?;
    }
    if let Some(path) = arguments.value("pid-file") {
        sys::file::replace(Path::new(path), pid.to_string().as_bytes(), 0o644, Durability::Process)
            .map_err(|error| format!("pid file {path}: {error}"))?;
    }
    context.log.debug(&format!("process {pid} of container {}", arguments.word(0)));
    Ok(())
}

pub(super) fn exec(context: &Context) -> Outcome {
    // runc's exit code for everything that fails before the program runs.
    let named = |failure: Failure| Failure { code: 255, ..failure.within("exec failed") };
    let arguments = &context.arguments;
    let detach = arguments.is_set("detach");
    let foreground = if detach { None } else { Some(Foreground::prepare()?) };
    let mut added = (|| {
        let container = Container::load(&context.root, arguments.word(0))?;
        let process = exec_process(arguments, container.spec())?;
        let stdio = streams(arguments, process.terminal, detach)?;
        let sub_cgroup = arguments.value("cgroup").unwrap_or_default();
        // `controller:path` is for hosts whose controllers differ; here one path is for all.
        let sub_cgroup = sub_cgroup.rsplit(':').next().unwrap_or_default();
        let options = ExecOptions {
            extra_fds: preserved_fds(arguments)?,
            sub_cgroup: sub_cgroup.into(),
            ignore_paused: arguments.is_set("ignore-paused"),
            ..ExecOptions::new(process, stdio)
        };
        Ok(container.exec(options)?)
    })()
    .map_err(named)?;
    warn(context, &added.warnings);
    let terminal = if detach { added.console.as_ref() } else { None };
    if let Err(failure) = hand_over(context, &added.pidfd, terminal, added.pid) {
        let _ = sys::pidfd::send_signal(added.pidfd.as_fd(), Signal::KILL.as_raw());
        return Err(named(failure));
    }
    match foreground {
        None => Ok(0),
        Some(foreground) => foreground.follow(&added.pidfd, added.console.take()),
    }
}

/// The process of `--process`, or the container's own with what the flags change.
fn exec_process(arguments: &Parsed, spec: &Spec) -> Result<Process, Failure> {
    if let Some(path) = arguments.value("process") {
        let bytes = config::read(Path::new(path)).map_err(|error| format!("{path}: {error}"))?;
        return Ok(config::parse(&bytes).map_err(|error| format!("{path}: process.{error}"))?);
    }
    let Some((_, command @ [_, ..])) = arguments.words.split_first() else {
        return Err("process args cannot be empty".into());
    };
    let mut process = spec.process.clone().unwrap_or_default();
    process.args = command.to_vec();
    process.terminal = arguments.is_set("tty");
    process.env.extend(arguments.values("env").map(str::to_owned));
    // The score is the first process's alone, as with runc.
    process.oom_score_adj = None;
    if let Some(cwd) = arguments.value("cwd") {
        process.cwd = cwd.to_owned();
    }
    if let Some(label) = arguments.value("process-label") {
        process.selinux_label = Some(label.to_owned());
    }
    if let Some(profile) = arguments.value("apparmor") {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if arguments.is_set("no-new-privs") {
        process.no_new_privileges = true;
    }
    let id = |text: &str| text.parse::<u32>().map_err(|_| Failure::from(format!("invalid id {text:?}")));
    if let Some(user) = arguments.value("user") {
        let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
        process.user.uid = id(uid)?;
        if let Some(gid) = gid {
            process.user.gid = id(gid)?;
        }
    }
    for gid in arguments.values("additional-gids") {
        process.user.additional_gids.push(id(gid)?);
    }
    let added: Vec<String> = arguments.values("cap").map(str::to_owned).collect();
    if !added.is_empty() {
        add_capabilities(process.capabilities.get_or_insert_default(), &added);
    }
    Ok(process)
}

fn add_capabilities(sets: &mut Capabilities, added: &[String]) {
    // As runc: everything but inheritable, and ambient where it can be.
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend_from_slice(added);
    }
}
