//! One table of options: it makes the parser, the help, and the reading of the configuration file.
//!
//! Every option is a flag and a key of the file (JSON), with the same words as values. A list in the file is a flag that is
//! repeated. What stands in both is refused, as is a key that nobody knows.

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::PathBuf;

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or `=true` and `=false`.
    Switch,
    /// One value; the word stands for it in the help.
    One(&'static str),
    /// Any number of values, one for each time the flag is given.
    List(&'static str),
}

/// One option.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// One line of help.
    pub(crate) help: &'static str,
}

use Kind::{List, One, Switch};

const fn entry(name: &'static str, kind: Kind, help: &'static str) -> Entry {
    Entry { name, kind, help }
}

/// All options of `serve`.
pub(crate) const TABLE: &[Entry] = &[
    entry("listen", List("address"), "Serve on this address and port (default 127.0.0.1:5000)"),
    entry(
        "storage",
        One("place"),
        "Keep everything in this directory, or in s3://, gs:// or az:// BUCKET[/PREFIX] (default /var/lib/gantry-registry)",
    ),
    entry(
        "storage-opt",
        List("key=value"),
        "Option of the object storage, e.g. aws_endpoint=http://…; secrets are better left in its usual environment variables",
    ),
    entry("read-only", Switch, "Refuse everything that changes content"),
    entry("tls-cert", One("file"), "Speak TLS with this certificate and its chain (PEM)"),
    entry("tls-key", One("file"), "The key of the certificate (PEM)"),
    entry("htpasswd", One("file"), "Users and their passwords, as htpasswd -B writes them"),
    entry(
        "allow",
        List("rule"),
        "WHO:REPOSITORIES:RIGHTS, e.g. alice:team/*:pull,push or *:*:pull; * is all users, anonymous everybody (default *:*:* when there are users)",
    ),
    entry(
        "token-service",
        Switch,
        "Have clients fetch a token at /token instead of sending their password with each request",
    ),
    entry(
        "token-key",
        One("file"),
        "The key that these tokens are signed with, made when missing (default token.key in the storage directory)",
    ),
    entry("token-expiry", One("time"), "How long a token is good (default 5m)"),
    entry("token-issuer", One("name"), "Accept tokens that this issuer signed"),
    entry("token-issuer-keys", One("file"), "Its public keys: a JSON web key set, or one key in PEM form"),
    entry("token-audience", One("name"), "The name of this service in tokens (default gantry-registry)"),
    entry("token-realm", One("url"), "Where clients fetch tokens (default /token of this registry)"),
    entry(
        "quota",
        List("pattern=size"),
        "Bytes that the repositories of a pattern may hold together, e.g. team/*=10g; total=1t is the limit of all that is stored",
    ),
    entry(
        "chunk-min-length",
        One("size"),
        "Smallest chunk of an upload that clients are asked for (default 1m; 0 says nothing)",
    ),
    entry(
        "grace",
        One("time"),
        "What nothing points to is removed when it is this old; also how long an upload may take twice (default what the storage says, or 24h)",
    ),
    entry(
        "settle",
        One("time"),
        "What garbage collection allows for one slow step of another process (default what the storage says, or 1m)",
    ),
    entry("from-engine", Switch, "Serve the images of a running engine, out of its own store"),
    entry("engine-socket", One("path"), "Where that engine listens (default /run/gantry.sock)"),
    entry("pull-through", One("registry"), "Be a cache of this registry, e.g. docker.io or registry.example:5000"),
    entry("pull-through-expiry", One("time"), "Remove what nobody pulled for so long (default 7d)"),
    entry(
        "pull-through-insecure",
        Switch,
        "Speak to that registry without verified TLS; to this host that is so anyway",
    ),
    entry("pull-through-user", One("name"), "Log in to that registry with this name"),
    entry("pull-through-password-file", One("file"), "and with the password that is in this file"),
    entry("gc-interval", One("time"), "Collect garbage at the start and then so often (default 1h; 0s never)"),
    entry("gc-untagged", Switch, "Garbage is also a manifest that no tag, index or subject leads to any more"),
    entry("stall-timeout", One("time"), "End a request whose client sends or takes nothing for so long (default 1m)"),
    entry("max-connections", One("number"), "Connections at once; further ones wait (default 4096)"),
    entry("max-uploads", One("number"), "Uploads at once; further ones are told to come back (default 256)"),
    entry(
        "access-log",
        One("file"),
        "Write a line of JSON for each request to this file, or to stdout (default), stderr or none",
    ),
    entry("log-level", One("level"), "debug, info, warn or error, for the log on standard error (default info)"),
];

/// The flag that names the file.
pub(crate) const CONFIG: &str = "config";

/// The parser of `gantry registry`.
pub(crate) fn command() -> Command {
    let serve = with_options(Command::new("serve").about("Serve a registry"), |_| true);
    let gc = Command::new("gc").about("Collect garbage once, while others serve the same storage or not");
    let gc = with_options(gc, |entry| OF_GC.contains(&entry.name));
    Command::new("registry")
        .bin_name("gantry registry")
        .about("The registry: images and other artifacts for every client of the distribution protocol")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve)
        .subcommand(gc)
}

/// The options that `gc` has, with the meaning that they have for `serve`.
const OF_GC: [&str; 6] = ["storage", "storage-opt", "grace", "settle", "gc-untagged", "log-level"];

fn with_options(command: Command, wanted: impl Fn(&Entry) -> bool) -> Command {
    let config = Arg::new(CONFIG).long(CONFIG).value_name("file");
    let command = command.arg(config.help("Read options from this file: a JSON object of the flags of serve"));
    TABLE.iter().filter(|entry| wanted(entry)).fold(command, |command, entry| {
        let arg = Arg::new(entry.name).long(entry.name).help(entry.help);
        command.arg(match entry.kind {
            Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("bool"),
            Kind::One(word) => arg.value_name(word),
            Kind::List(word) => arg.action(ArgAction::Append).value_name(word),
        })
    })
}

/// What is wrong with flags or file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptionError {
    #[error("configuration {0}: {1}")]
    File(PathBuf, String),
    #[error("--{name} {value:?}: {reason}")]
    Value { name: &'static str, value: String, reason: String },
}

/// The values that were given, as texts.
#[derive(Debug, Default)]
pub(crate) struct Values(HashMap<&'static str, Vec<String>>);

impl Values {
    /// Reads flags, and the file that they name.
    pub(crate) fn read(matches: &ArgMatches) -> Result<Self, OptionError> {
        let mut values = Self::default();
        for entry in TABLE {
            // `gc` has a part of the options.
            let given = matches.try_get_many::<String>(entry.name).ok().flatten();
            let texts: Vec<String> = given.into_iter().flatten().cloned().collect();
            if !texts.is_empty() {
                values.0.insert(entry.name, texts);
            }
        }
        if let Some(path) = matches.get_one::<String>(CONFIG) {
            let path = PathBuf::from(path);
            values.add_file(&path).map_err(|reason| OptionError::File(path, reason))?;
        }
        Ok(values)
    }

    fn add_file(&mut self, path: &std::path::Path) -> Result<(), String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let file: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        for (key, value) in file {
            let entry = TABLE.iter().find(|entry| entry.name == key).ok_or(format!("there is no option {key:?}"))?;
            let texts = match (value, entry.kind) {
                (Value::Array(values), Kind::List(_)) => values.iter().map(text).collect::<Result<Vec<_>, _>>()?,
                (value, _) => vec![text(&value).map_err(|reason| format!("{key}: {reason}"))?],
            };
            if self.0.insert(entry.name, texts).is_some() {
                return Err(format!("{key} is given here and as a flag"));
            }
        }
        Ok(())
    }

    /// All values of an option.
    pub(crate) fn list(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of an option, the last when it was given more than once.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.list(name).last().map(String::as_str)
    }

    /// Reads the value of an option, or takes what it is when nobody says.
    pub(crate) fn parse<T>(
        &self,
        name: &'static str,
        otherwise: T,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, OptionError> {
        self.one(name).map_or(Ok(otherwise), |value| read(value).map_err(|reason| bad(name, value, reason)))
    }

    /// Reads all values of an option.
    pub(crate) fn parse_all<T>(
        &self,
        name: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, OptionError> {
        self.list(name).iter().map(|value| read(value).map_err(|reason| bad(name, value, reason))).collect()
    }
}

pub(crate) fn bad(name: &'static str, value: &str, reason: impl Into<String>) -> OptionError {
    OptionError::Value { name, value: value.to_owned(), reason: reason.into() }
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(value) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err("a text, a number, true or false is meant".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(arguments: &[&str]) -> Result<Values, OptionError> {
        let arguments = ["registry", "serve"].iter().chain(arguments);
        let matches = command().try_get_matches_from(arguments).unwrap();
        Values::read(matches.subcommand().unwrap().1)
    }

    #[test]
    fn flags_and_file_are_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.json");
        std::fs::write(&path, r#"{"listen": ["a:1", "b:2"], "read-only": true, "max-uploads": 3}"#).unwrap();
        let path = path.to_str().unwrap();
        let read = values(&["--config", path, "--storage", "/x"]).unwrap();
        assert_eq!(read.list("listen"), ["a:1", "b:2"]);
        assert_eq!(
            (read.one("read-only"), read.one("max-uploads"), read.one("storage")),
            (Some("true"), Some("3"), Some("/x"))
        );
        let error = values(&["--config", path, "--listen", "c:3"]).unwrap_err().to_string();
        assert!(error.ends_with("listen is given here and as a flag"), "{error}");
        std::fs::write(path, r#"{"lissen": "a"}"#).unwrap();
        let error = values(&["--config", path]).unwrap_err().to_string();
        assert!(error.ends_with("there is no option \"lissen\""), "{error}");
    }
}
