//! Reading a configuration: at once when it is right, and once more with the name of the field when it is not.
//!
//! Keeping track of where a parser is costs time, and a configuration is right nearly always. So the
//! slow way is taken only when the fast one has failed, to say which field it was.

use std::io::Read;
use std::path::Path;

use oci::spec::Spec;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::{limits, validate};

/// Longer files are refused before they are read: what is parsed takes several times the memory of its text.
pub(crate) const MAX_LENGTH: u64 = 32 << 20;

/// The value of a JSON text, or a sentence that begins with the field that is wrong.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> std::result::Result<T, String> {
    serde_json::from_slice(text).map_err(|error| {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
            // `.` is the whole text, `?` what could not even be named.
            Err(traced) if ![".", "?"].contains(&traced.path().to_string().as_str()) => {
                format!("{}: {}", printable(&traced.path().to_string()), traced.inner())
            }
            _ => error.to_string(),
        }
    })
}

/// Keys may be anything, and the message is one line.
fn printable(path: &str) -> String {
    let escape =
        |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() };
    path.chars().map(escape).collect()
}

/// The content of a file of at most [`MAX_LENGTH`] bytes.
pub(crate) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let mut text = Vec::with_capacity(usize::try_from(length.min(MAX_LENGTH)).unwrap_or_default() + 1);
    file.take(MAX_LENGTH + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_LENGTH {
        return Err(std::io::Error::other(format!("longer than {} MiB, which is the limit", MAX_LENGTH >> 20)));
    }
    Ok(text)
}

/// The configuration of a bundle.
pub(crate) fn load(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let text = read(&path).map_err(|source| Error::Bundle { path: path.clone(), source })?;
    parse(&text).map_err(Error::Spec)
}

/// Reads a configuration and checks everything about it that can be checked without the machine that it is for.
///
/// What [`crate::Container::create`] refuses beyond this depends on the kernel, on files, or on rights.
pub fn check(text: &[u8]) -> Result<Spec> {
    let spec: Spec = parse(text).map_err(Error::Spec)?;
    validate::spec(&spec)?;
    for index in 0..spec.mounts.len() {
        validate::mount(&spec, index)?;
    }
    if let Some(linux) = &spec.linux {
        linux.resources.as_ref().map(limits::resources).transpose()?;
        linux.seccomp.as_ref().map(limits::filter).transpose()?;
    }
    Ok(spec)
}

#[cfg(test)]
mod tests;
