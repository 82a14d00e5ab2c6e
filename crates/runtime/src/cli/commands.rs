//! The short commands.

use crate::{Container, Error};

use super::{Context, Outcome, signals};

fn load(context: &Context) -> Result<Container, Error> {
    Container::load(&context.root, context.arguments.word(0))
}

pub(super) fn start(context: &Context) -> Outcome {
    load(context)?.start()?;
    Ok(0)
}

pub(super) fn state(context: &Context) -> Outcome {
    let container = load(context)?;
    let state = container.state()?;
    let mut value = serde_json::to_value(&state)?;
    // runc's own fields beside those of the specification.
    if let Some(object) = value.as_object_mut() {
        object.insert("rootfs".into(), container.rootfs().to_string_lossy().into());
        object.insert("created".into(), container.created().into());
        object.insert("owner".into(), "".into());
    }
    println!("{}", serde_json::to_string_pretty(&value)?);
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
    match load(context) {
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
    Err("checkpoint is not supported".into())
}

pub(super) fn unsupported_restore(_: &Context) -> Outcome {
    Err("restore is not supported".into())
}
