//! Credentials of registries: in the file itself, or in a helper program that the file names (Docker's protocol for keychains).

use super::Config;
use crate::error::{Error, reason};
use api::auth::AuthConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::reference::Reference;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

/// The key of Docker Hub, which is no host name for historical reasons.
pub(crate) const DEFAULT_REGISTRY: &str = "https://index.docker.io/v1/";

/// What a helper says when it knows nothing of a registry.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The key under which a registry's credentials are kept.
pub(crate) fn registry_key(domain: &str) -> String {
    match domain {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        other => other.to_owned(),
    }
}

/// A host name out of a key: `https://host/v1/` → `host`.
fn host(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or_default()
}

impl Config {
    /// The credentials for an image's registry, as the header that pull and push send; `None` when there are none.
    pub(crate) fn header_for(&self, reference: &Reference) -> Option<String> {
        let auth = self.credentials(&registry_key(reference.domain()));
        (!auth.is_empty()).then(|| auth.to_header())
    }

    /// The credentials under a key, empty when there are none. A helper that fails is said and taken for empty.
    pub(crate) fn credentials(&self, key: &str) -> AuthConfig {
        if let Some(helper) = self.helper(key) {
            return match from_helper(&helper, key) {
                Ok(found) => found.unwrap_or_default(),
                Err(error) => {
                    crate::terminal::print_error(&format!("WARNING: {error}\n"));
                    AuthConfig::default()
                }
            };
        }
        let entries = self.members.get("auths").and_then(Value::as_object);
        let entry = entries.and_then(|entries| {
            entries
                .get(key)
                .or_else(|| entries.iter().find(|(other, _)| host(other) == host(key)).map(|(_, entry)| entry))
        });
        let mut auth = entry.and_then(|entry| api::json::from_value::<AuthConfig>(entry).ok()).unwrap_or_default();
        if let Some((user, password)) = decode(&auth.auth) {
            (auth.username, auth.password) = (user, password);
            auth.auth = String::new();
        }
        if !auth.is_empty() || !auth.username.is_empty() {
            auth.serveraddress = key.to_owned();
        }
        auth
    }

    /// Keeps credentials; `None` removes them.
    pub(crate) fn keep(&mut self, key: &str, auth: Option<&AuthConfig>) -> Result<(), Error> {
        if let Some(helper) = self.helper(key) {
            match auth {
                Some(auth) => {
                    let (user, secret) = if auth.identitytoken.is_empty() {
                        (auth.username.as_str(), &auth.password)
                    } else {
                        ("<token>", &auth.identitytoken)
                    };
                    let text = json!({"ServerURL": key, "Username": user, "Secret": secret}).to_string();
                    run(&helper, "store", &text)?;
                }
                None => {
                    run(&helper, "erase", key)?;
                }
            }
        }
        let stored_outside = self.helper(key).is_some();
        let auths = self.members.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(auths) = auths else {
            return Err(Error::plain("the member \"auths\" of config.json is no object"));
        };
        match auth {
            Some(_) if stored_outside => auths.insert(key.to_owned(), json!({})),
            Some(auth) => {
                let mut entry = Map::new();
                if auth.identitytoken.is_empty() {
                    let pair = STANDARD.encode(format!("{}:{}", auth.username, auth.password));
                    entry.insert("auth".into(), pair.into());
                } else {
                    entry.insert("auth".into(), STANDARD.encode(format!("{}:", auth.username)).into());
                    entry.insert("identitytoken".into(), auth.identitytoken.clone().into());
                }
                auths.insert(key.to_owned(), Value::Object(entry))
            }
            None => auths.remove(key),
        };
        self.save().map_err(Error::io("Error saving credentials"))
    }

    /// Whether anything is kept under a key.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.members.get("auths").and_then(|auths| auths.get(key)).is_some()
    }

    /// Where credentials go, for the warning that login gives about the plain file.
    pub(crate) fn plain_file(&self, key: &str) -> Option<String> {
        self.helper(key).is_none().then(|| self.directory.join(super::FILE).to_string_lossy().into_owned())
    }

    fn helper(&self, key: &str) -> Option<String> {
        let own =
            self.members.get("credHelpers").and_then(|helpers| helpers.get(host(key)).or_else(|| helpers.get(key)));
        let name = own.and_then(Value::as_str).unwrap_or_else(|| self.text("credsStore"));
        (!name.is_empty()).then(|| name.to_owned())
    }
}

fn decode(pair: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(pair.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

fn from_helper(helper: &str, key: &str) -> Result<Option<AuthConfig>, Error> {
    let text = match run(helper, "get", key) {
        Err(error) if error.to_string().contains(NOT_FOUND) => return Ok(None),
        other => other?,
    };
    let answer: Value = serde_json::from_str(&text).map_err(|error| {
        Error::plain(format!(
            "error getting credentials - the answer of docker-credential-{helper} cannot be read: {error}"
        ))
    })?;
    let member = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (username, secret) = (member("Username"), member("Secret"));
    let token = username == "<token>";
    Ok(Some(AuthConfig {
        serveraddress: key.to_owned(),
        identitytoken: if token { secret.clone() } else { String::new() },
        username: if token { String::new() } else { username },
        password: if token { String::new() } else { secret },
        ..AuthConfig::default()
    }))
}

/// Runs `docker-credential-HELPER ACTION` with the input on its standard input, as Docker's protocol has it.
fn run(helper: &str, action: &str, input: &str) -> Result<String, Error> {
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| Error::plain(format!("error {action}ing credentials - err: {why}"));
    if helper.contains('/') {
        return Err(failed(format!("{helper:?} is no name of a credential helper")));
    }
    let mut command = Command::new(&program);
    let output =
        talk(command.arg(action), input).map_err(|error| failed(format!("exec: \"{program}\": {}", reason(&error))))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(failed(format!("{}, out: `{text}`", output.status))) }
}

/// Runs a program to its end with this on its standard input.
fn talk(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // A program need not read what it has no use for; how it ended tells more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_does_not_read_what_it_is_told() {
        // More than a pipe holds, so the program has ended before all of it is written.
        let output = talk(Command::new("echo").arg("fine"), &"x".repeat(1 << 20)).unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"fine\n");
    }

    #[test]
    fn file_credentials() {
        let members = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("me:se:cret")},
            "registry.example:5000": {"auth": STANDARD.encode("you:x")}
        }});
        let Value::Object(members) = members else { unreachable!() };
        let config = Config { members, ..Config::default() };
        let hub = config.credentials(&registry_key("docker.io"));
        assert_eq!((hub.username.as_str(), hub.password.as_str()), ("me", "se:cret"));
        assert_eq!(config.credentials("registry.example:5000").username, "you");
        assert!(config.credentials("other").is_empty());
    }
}
