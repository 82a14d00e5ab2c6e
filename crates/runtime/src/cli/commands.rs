//! The short commands.

use oci::spec::Status;

use crate::{Container, Error};

use super::list::Row;
use super::notify::NotifySocket;
use super::{Context, Failure, Outcome, signals};

/// The container that the first argument names.
pub(super) fn load(context: &Context) -> Result<Container, Failure> {
    match context.arguments.word(0) {
        "" => Err("container id cannot be empty".into()),
        id => Ok(Container::load(&context.root, id)?),
    }
}

pub(super) fn start(context: &Context) -> Outcome {
    let container = load(context)?;
    if container.status()? != Status::Created {
        // Before a socket is made that nobody will use.
        container.start()?;
    }
    let socket = NotifySocket::of_caller(&context.root, container.id()).map(NotifySocket::bind).transpose()?;
    container.start()?;
    if let (Some(socket), Some(process)) = (socket, container.process()?) {
        socket.wait(container.pid(), &process)?;
    }
    Ok(0)
}

pub(super) fn state(context: &Context) -> Outcome {
    let container = load(context)?;
    // Its owner is empty, as with runc; `list` says who it is.
    let row = Row::of(&container, String::new())?;
    println!("{}", serde_json::to_string_pretty(&row)?);
    Ok(0)
}

pub(super) fn kill(context: &Context) -> Outcome {
    let signal = context.arguments.words.get(1).map_or("SIGTERM", String::as_str);
    let signal = signals::parse(signal)?;
    load(context)?.kill(signal, context.arguments.is_set("all"))?;
    Ok(0)
}

pub(super) fn delete(context: &Context) -> Outcome {
    let force = context.arguments.is_set("force");
    let id = context.arguments.word(0);
    if id.is_empty() {
        return Err("container id cannot be empty".into());
    }
    match Container::load(&context.root, id) {
        Ok(container) => container.delete(force)?.iter().for_each(|warning| context.log.warning(warning)),
        // Made halfway by somebody who was killed; whoever deletes it wants it gone.
        Err(Error::NotFound(_)) if Container::remove_leftovers(&context.root, id)? || force => {}
        Err(Error::Damaged { .. }) if force => drop(Container::remove_leftovers(&context.root, id)?),
        Err(error) => return Err(error.into()),
    }
    Ok(0)
}

pub(super) fn pause(context: &Context) -> Outcome {
    load(context)?.pause()?;
    Ok(0)
}

pub(super) fn resume(context: &Context) -> Outcome {
    load(context)?.resume()?;
    Ok(0)
}

pub(super) fn unsupported_checkpoint(_: &Context) -> Outcome {
    Err("checkpoint is not supported yet, it comes with a later version".into())
}

pub(super) fn unsupported_restore(_: &Context) -> Outcome {
    Err("restore is not supported yet, it comes with a later version".into())
}
