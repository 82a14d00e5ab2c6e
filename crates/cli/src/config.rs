//! The user's configuration, `config.json`: credentials, formats, detach keys, headers.

mod credentials;

pub(crate) use credentials::{DEFAULT_REGISTRY, registry_key};

use crate::error::reason;
use crate::terminal;
use serde_json::{Map, Value};
use std::io;
use std::path::PathBuf;

/// Name of the file in the configuration's directory.
const FILE: &str = "config.json";

/// The configuration, with members that are not ours kept for writing it back.
#[derive(Debug, Default)]
pub(crate) struct Config {
    directory: PathBuf,
    members: Map<String, Value>,
}

/// The directory as help pages show it.
pub(crate) fn directory_shown() -> String {
    directory(None).to_string_lossy().into_owned()
}

/// The directory of `--config`, `DOCKER_CONFIG` or the home directory.
pub(crate) fn directory(named: Option<&str>) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directory) = named.map(PathBuf::from).or_else(|| variable("DOCKER_CONFIG").map(PathBuf::from)) {
        return directory;
    }
    // Without a home the root directory is as good as any: nothing will be found there.
    PathBuf::from(variable("HOME").unwrap_or_else(|| "/".into())).join(".docker")
}

impl Config {
    /// Reads the file of `--config`, `DOCKER_CONFIG` or the home directory. A missing file is an empty configuration.
    pub(crate) fn load(named: Option<&str>) -> Self {
        let directory = directory(named);
        let path = directory.join(FILE);
        let warn = |why: String| {
            terminal::print_error(&format!("WARNING: Error loading config file: {}: {why}\n", path.display()));
        };
        let members = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => {
                warn(reason(&error));
                Map::new()
            }
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(Value::Object(members)) => members,
                Ok(_) => Map::new(),
                Err(error) => {
                    warn(error.to_string());
                    Map::new()
                }
            },
        };
        Self { directory, members }
    }

    /// A member that is text: `detachKeys`, `psFormat`, …; empty when it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.members.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// `HttpHeaders`: sent with every request.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let headers = self.members.get("HttpHeaders").and_then(Value::as_object);
        let pairs =
            headers.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        // The agent is ours to say.
        pairs.filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent")).collect()
    }

    /// Writes the file, readable by its owner only, in one step.
    fn save(&self) -> io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let path = self.directory.join(FILE);
        // A link is followed, as Docker does: people keep the file elsewhere.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let temporary = path.with_extension(format!("json.{}", std::process::id()));
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let compact = serde_json::to_string(&self.members).unwrap_or_default();
        let text = crate::format::go::indent(&compact).replace("    ", "\t");
        let written = file.write_all(text.as_bytes()).and_then(|()| std::fs::rename(&temporary, &path));
        if written.is_err() {
            // The old file is untouched; the new one is of no use.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}
