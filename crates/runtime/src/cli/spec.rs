//! `spec`: a configuration to begin with.

use std::path::Path;

use super::{Context, Outcome};

pub(super) fn spec(context: &Context) -> Outcome {
    if context.arguments.is_set("rootless") {
        return Err("--rootless is not supported".into());
    }
    let path = Path::new(context.arguments.value("bundle").unwrap_or(".")).join("config.json");
    if path.exists() {
        return Err(format!("File {} exists. Remove it first", path.display()).into());
    }
    std::fs::write(&path, EXAMPLE).map_err(|error| format!("writing {}: {error}", path.display()))?;
    Ok(0)
}

/// A shell with few rights, as runc's example has it.
pub(super) const EXAMPLE: &str = include_str!("example.json");
