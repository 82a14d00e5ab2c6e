//! `docker login` and `docker logout`.

use crate::client::Client;
use crate::config::{Config, DEFAULT_REGISTRY, registry_key};
use crate::error::Error;
use crate::{Invocation, terminal};
use api::auth::{AuthConfig, AuthResponse};
use std::io::{self, Read};

/// The key of a server as the user names it.
fn key(server: Option<&String>) -> String {
    let Some(server) = server.filter(|server| !server.is_empty()) else { return DEFAULT_REGISTRY.to_owned() };
    if server == DEFAULT_REGISTRY {
        return server.clone();
    }
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    registry_key(bare.split('/').next().unwrap_or_default())
}

/// `docker login`.
pub(crate) async fn login(call: Invocation) -> Result<u8, Error> {
    let values = &call.values;
    let (mut user, mut password) = (values.text("username").to_owned(), values.text("password").to_owned());
    if values.is_set("password") {
        if values.on("password-stdin") {
            return Err(Error::plain("conflicting options: cannot specify both --password and --password-stdin"));
        }
        terminal::print_error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
    }
    if values.on("password-stdin") {
        if user.is_empty() {
            return Err(Error::plain("Must provide --username with --password-stdin"));
        }
        password = String::new();
        io::stdin().read_to_string(&mut password).map_err(Error::io("cannot read the password"))?;
        password.truncate(password.trim_end_matches(['\r', '\n']).len());
    }
    let key = key(call.words.first());
    let mut config = call.config();
    let known = config.credentials(&key);
    let client = call.client()?;
    let has_known = !known.username.is_empty() && !known.password.is_empty();
    let stored = if user.is_empty() && password.is_empty() && has_known {
        terminal::print("Authenticating with existing credentials...\n");
        let attempt = authenticate(&client, &key, known.username.clone(), known.password.clone()).await;
        attempt.inspect_err(|error| terminal::print_error(&no_longer_good(error))).ok()
    } else {
        None
    };
    let (auth, answer) = match stored {
        Some(done) => done,
        None => {
            if user.is_empty() || password.is_empty() {
                (user, password) = ask(&key, &known, user, password)?;
            }
            authenticate(&client, &key, user, password).await?
        }
    };
    let kept = if answer.identity_token.is_empty() {
        auth
    } else {
        AuthConfig { identitytoken: answer.identity_token, password: String::new(), ..auth }
    };
    store(&mut config, &key, &kept)?;
    let status = if answer.status.is_empty() { "Login Succeeded" } else { &answer.status };
    terminal::print(&format!("{status}\n"));
    Ok(0)
}

/// Shows credentials to the registry. Returns them, and what the engine says.
async fn authenticate(
    client: &Client,
    key: &str,
    username: String,
    password: String,
) -> Result<(AuthConfig, AuthResponse), Error> {
    let auth = AuthConfig { username, password, serveraddress: key.to_owned(), ..AuthConfig::default() };
    let answer = client.post_json("/auth", &crate::client::Query::new(), &auth).await?;
    Ok((auth, answer))
}

/// What is said of stored credentials that did not do, before the user is asked for others.
fn no_longer_good(error: &Error) -> String {
    match error {
        Error::Daemon(refused) if refused.status == 401 => "Stored credentials invalid or expired\n".to_owned(),
        other => format!("Login did not succeed, error: {other}\n"),
    }
}

fn store(config: &mut Config, key: &str, auth: &AuthConfig) -> Result<(), Error> {
    if let Some(path) = config.plain_file(key) {
        terminal::print_error(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{path}'.\n\
             Configure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n\n"
        ));
    }
    config.keep(key, Some(auth))
}

fn ask(key: &str, known: &AuthConfig, user: String, password: String) -> Result<(String, String), Error> {
    if !terminal::input_is_terminal() {
        return Err(Error::plain("Error: Cannot perform an interactive login from a non TTY device"));
    }
    let user = if user.is_empty() {
        let default = if known.username.is_empty() { String::new() } else { format!(" ({})", known.username) };
        if key == DEFAULT_REGISTRY {
            terminal::print("Log in with your Docker ID or email address to push and pull images from Docker Hub.\n");
        }
        terminal::print(&format!("Username{default}: "));
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(Error::io("cannot read the user's name"))?;
        let line = line.trim();
        if line.is_empty() { known.username.clone() } else { line.to_owned() }
    } else {
        user
    };
    if user.is_empty() {
        return Err(Error::plain("Error: Non-null Username Required"));
    }
    let password = if password.is_empty() {
        terminal::read_secret("Password: ").map_err(Error::io("cannot read the password"))?
    } else {
        password
    };
    if password.is_empty() {
        return Err(Error::plain("Error: Password Required"));
    }
    Ok((user, password))
}

/// `docker logout`.
pub(crate) async fn logout(call: Invocation) -> Result<u8, Error> {
    let key = key(call.words.first());
    let mut config = call.config();
    terminal::print(&format!("Removing login credentials for {key}\n"));
    if config.knows(&key) || config.plain_file(&key).is_none() {
        config
            .keep(&key, None)
            .map_err(|error| Error::plain(format!("WARNING: could not erase credentials:\n{key}: {error}")))?;
    }
    Ok(0)
}
