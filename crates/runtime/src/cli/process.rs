//! `create`, `run` and `exec`: the commands that make processes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::spec::{Capabilities, Process, Spec};
use rustix::process::Signal;
use sys::clone::Child;
use sys::file::Durability;

use super::commands::load;
use super::foreground::Foreground;
use super::grammar::Parsed;
use super::inherited::Inherited;
use super::notify::NotifySocket;
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
    let arguments = &context.arguments;
    let detach = arguments.is_set("detach");
    // Signals are caught before there is a process that they could be for.
    let foreground = if detach { None } else { Some(Foreground::prepare(!arguments.is_set("no-subreaper"))?) };
    let mut created = make(context, detach).map_err(named)?;
    let begun = (|| {
        let terminal = if detach { created.console.as_ref() } else { None };
        hand_over(context, &created.pidfd, terminal, created.pid)?;
        let socket = NotifySocket::of_caller(&context.root, arguments.word(0)).map(NotifySocket::bind).transpose()?;
        created.container.start()?;
        if let (Some(socket), true) = (&socket, detach) {
            socket.wait(created.pid, &created.pidfd)?;
        }
        Ok(socket)
    })();
    let socket = match begun {
        Ok(socket) => socket,
        Err(failure) => {
            let _ = created.container.delete(true);
            return Err(named(failure));
        }
    };
    let Some(foreground) = foreground else { return Ok(0) };
    let child = Child { pid: created.pid, pidfd: created.pidfd };
    let code = foreground.follow(&child, created.console.take(), socket.as_ref());
    if !arguments.is_set("keep") {
        warn(context, &created.container.delete(true)?);
    }
    code
}

/// Makes the container of the bundle.
fn make(context: &Context, detached: bool) -> Result<Created, Failure> {
    let arguments = &context.arguments;
    let bundle = std::path::absolute(arguments.value("bundle").unwrap_or("."))?;
    let mut spec = load_spec(&bundle)?;
    let id = arguments.word(0).to_owned();
    if id.is_empty() {
        return Err("container id cannot be empty".into());
    }
    let inherited = context.inherited.take();
    let (environment, preserved) = match inherited {
        Some(inherited) => (inherited.environment(), inherited.descriptors()?),
        None => Default::default(),
    };
    if let Some(process) = &mut spec.process {
        process.env.extend(environment);
    }
    let socket = NotifySocket::of_caller(&context.root, &id);
    let directory = socket.as_ref().map(|socket| socket.add_to(&id, &mut spec)).transpose()?;
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    let stdio = streams(arguments, terminal, detached)?;
    let created = Container::create(CreateOptions {
        id,
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
    if let Some(directory) = directory {
        directory.keep();
    }
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
    let socket = arguments.text("console-socket").is_some();
    if socket && !(terminal && detached) {
        return Err("cannot use console socket if the runtime will not detach or allocate tty".into());
    }
    if terminal && detached && !socket {
        return Err("cannot allocate tty if the runtime will detach without setting console socket".into());
    }
    Ok(if terminal { Stdio::Terminal } else { Stdio::Inherit })
}

/// Tells the caller of this program about the process: terminal, pidfd, number.
fn hand_over(context: &Context, pidfd: &OwnedFd, console: Option<&OwnedFd>, pid: i32) -> Result<(), Failure> {
    let arguments = &context.arguments;
    if let (Some(path), Some(console)) = (arguments.text("console-socket"), console) {
        send_to(Path::new(path), b"/dev/ptmx", console).map_err(|error| format!("console socket {path}: {error}"))?;
    }
    if let Some(path) = arguments.text("pidfd-socket") {
        send_to(Path::new(path), b"pidfd", pidfd).map_err(|error| format!("pidfd socket {path}: {error}"))?;
    }
    if let Some(path) = arguments.text("pid-file") {
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
    let foreground = if detach { None } else { Some(Foreground::prepare(false)?) };
    let mut added = (|| {
        let container = load(context)?;
        let process = exec_process(arguments, &container)?;
        let stdio = streams(arguments, process.terminal, detach)?;
        let options = ExecOptions {
            extra_fds: context.inherited.take().map_or(Ok(Vec::new()), Inherited::descriptors)?,
            sub_cgroups: sub_cgroups(arguments)?,
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
        Some(foreground) => {
            let child = Child { pid: added.pid, pidfd: added.pidfd };
            foreground.follow(&child, added.console.take(), None)
        }
    }
}

/// `--cgroup [CONTROLLER[,CONTROLLER…]:]PATH`, as controller and path; no controller is all of them.
fn sub_cgroups(arguments: &Parsed) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let values: Vec<&str> = arguments.values("cgroup").collect();
    let mut places = BTreeMap::new();
    for value in &values {
        match value.split(':').collect::<Vec<_>>()[..] {
            [path] if values.len() == 1 => drop(places.insert(String::new(), path.into())),
            [_] => return Err(format!("invalid --cgroup argument: {value} (missing <controller>: prefix)").into()),
            [controllers, path] => {
                places.extend(controllers.split(',').map(|controller| (controller.to_owned(), PathBuf::from(path))));
            }
            _ => return Err(format!("invalid --cgroup argument: {value}").into()),
        }
    }
    Ok(places)
}

/// The process of `--process`, or that of the bundle's `config.json` as it is now with what the flags change.
fn exec_process(arguments: &Parsed, container: &Container) -> Result<Process, Failure> {
    if let Some(path) = arguments.text("process") {
        let bytes = config::read(Path::new(path)).map_err(|error| format!("{path}: {error}"))?;
        return Ok(config::parse(&bytes).map_err(|error| format!("{path}: process.{error}"))?);
    }
    let Some((_, command @ [_, ..])) = arguments.words.split_first() else {
        return Err("process args cannot be empty".into());
    };
    // The file, not what was made of it: variables that were for the first process alone are not in it.
    let spec = load_spec(container.bundle()).unwrap_or_else(|_| container.spec().clone());
    let mut process = spec.process.unwrap_or_default();
    process.args = command.to_vec();
    process.terminal = arguments.is_set("tty");
    process.env.extend(arguments.values("env").map(str::to_owned));
    // The score is the first process's alone, as with runc.
    process.oom_score_adj = None;
    if let Some(cwd) = arguments.text("cwd") {
        process.cwd = cwd.to_owned();
    }
    if let Some(label) = arguments.text("process-label") {
        process.selinux_label = Some(label.to_owned());
    }
    if let Some(profile) = arguments.text("apparmor") {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if arguments.value("no-new-privs").is_some() {
        process.no_new_privileges = arguments.is_set("no-new-privs");
    }
    let id =
        |text: &str| text.parse::<u32>().map_err(|_| Failure::from(format!("{text:?} is no id of a user or group")));
    if let Some(user) = arguments.text("user") {
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
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend_from_slice(added);
    }
    // The kernel lets none become ambient that is not inheritable too.
    sets.ambient.extend(added.iter().filter(|name| sets.inheritable.contains(name)).cloned());
}
