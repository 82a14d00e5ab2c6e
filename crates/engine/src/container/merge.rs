//! What the user asked for, completed by what the image says: dockerd's rules, one field at a time.

use std::collections::BTreeMap;

use api::container::{Config, EmptyObject, HealthConfig};
use oci::image_config;

use crate::error::{Error, Result};

/// Completes `user` with the defaults of an image.
pub(crate) fn with_image(user: &mut Config, image: &image_config::Config) {
    if user.user.is_empty() {
        user.user.clone_from(&image.user);
    }
    for port in image.exposed_ports.iter().flat_map(BTreeMap::keys) {
        user.exposed_ports.entry(port.clone()).or_default();
    }
    merge_env(&mut user.env, image.env.as_deref().unwrap_or_default());
    let labels = user.labels.get_or_insert_default();
    for (key, value) in image.labels.iter().flatten() {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    // A new entry point makes the image's command meaningless, so it is only inherited without one.
    if user.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if user.cmd.as_ref().is_none_or(Vec::is_empty) {
            user.cmd.clone_from(&image.cmd);
        }
        if user.entrypoint.is_none() {
            user.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if let Some(check) = &image.healthcheck {
        merge_health(&mut user.healthcheck, check);
    }
    if user.working_dir.is_empty() {
        user.working_dir.clone_from(&image.working_dir);
    }
    // No volumes and an empty set of them are the same.
    user.volumes = user.volumes.take().filter(|volumes| !volumes.is_empty());
    if let Some(volumes) = image.volumes.as_ref().filter(|volumes| !volumes.is_empty()) {
        let own = user.volumes.get_or_insert_default();
        own.extend(volumes.keys().map(|path| (path.clone(), EmptyObject {})));
    }
    if user.stop_signal.is_empty() {
        user.stop_signal = image.stop_signal.clone().unwrap_or_default();
    }
    if user.shell.is_none() {
        user.shell.clone_from(&image.shell);
    }
    if user.on_build.is_none() {
        user.on_build.clone_from(&image.on_build);
    }
}

fn merge_env(user: &mut Option<Vec<String>>, image: &[String]) {
    let Some(own) = user.as_mut().filter(|own| !own.is_empty()) else {
        if !image.is_empty() {
            *user = Some(image.to_vec());
        }
        return;
    };
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    for variable in image {
        let key = name(variable);
        if !own.iter().any(|other| name(other) == key) {
            own.push(variable.clone());
        }
    }
}

fn merge_health(user: &mut Option<HealthConfig>, image: &image_config::Healthcheck) {
    let own = user.get_or_insert_default();
    if own.test.as_ref().is_none_or(Vec::is_empty) {
        own.test = Some(image.test.clone());
    }
    for (field, default) in [
        (&mut own.interval, image.interval),
        (&mut own.timeout, image.timeout),
        (&mut own.start_period, image.start_period),
        (&mut own.start_interval, image.start_interval),
        (&mut own.retries, image.retries),
    ] {
        if *field == 0 {
            *field = default;
        }
    }
}

/// Program and arguments: entry point, then command. `[""]` as entry point asks for none.
pub(crate) fn command(config: &mut Config) -> Result<(String, Vec<String>)> {
    if config.entrypoint.as_deref().is_some_and(|words| matches!(words, [only] if only.is_empty())) {
        config.entrypoint = None;
    }
    let words: Vec<String> = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned().collect();
    let mut words = words.into_iter();
    match words.next() {
        Some(program) => Ok((program, words.collect())),
        None => Err(Error::invalid("no command specified")),
    }
}

/// The environment of a process in a container: Docker's own variables, replaced or removed by the container's.
pub(crate) fn environment(config: &Config, tty: bool) -> Vec<String> {
    let mut env = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={}", config.hostname),
    ];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    replace_or_append(&mut env, config.env.as_deref().unwrap_or_default());
    env
}

/// Sets the variables of `changes` in place where they exist; a bare name removes one.
pub(crate) fn replace_or_append(env: &mut Vec<String>, changes: &[String]) {
    for change in changes {
        let (name, value) = change.split_once('=').map_or((change.as_str(), None), |(name, value)| (name, Some(value)));
        let position = env.iter().position(|e| e.split('=').next() == Some(name));
        match (position, value) {
            (Some(at), Some(_)) => env[at].clone_from(change),
            (None, Some(_)) => env.push(change.clone()),
            (Some(at), None) => drop(env.remove(at)),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|w| (*w).to_owned()).collect())
    }

    #[test]
    fn the_image_completes_the_request() {
        let image = image_config::Config {
            cmd: list(&["sh"]),
            entrypoint: list(&["/entry"]),
            env: list(&["PATH=/bin", "A=1"]),
            working_dir: "/w".into(),
            ..Default::default()
        };
        let mut own = Config { env: list(&["A=2"]), ..Default::default() };
        with_image(&mut own, &image);
        assert_eq!(own.env, list(&["A=2", "PATH=/bin"]));
        assert_eq!(command(&mut own).unwrap(), ("/entry".to_owned(), vec!["sh".to_owned()]));

        let mut other = Config { entrypoint: list(&[""]), cmd: list(&["ls"]), ..Default::default() };
        with_image(&mut other, &image);
        assert_eq!(command(&mut other).unwrap(), ("ls".to_owned(), vec![]));
        assert_eq!(other.entrypoint, None);

        let mut entry = Config { entrypoint: list(&["/mine"]), ..Default::default() };
        with_image(&mut entry, &image);
        assert_eq!(entry.cmd, None, "an own entry point drops the image's command");
        assert_eq!(command(&mut Config::default()).unwrap_err().message(), "no command specified");
    }

    #[test]
    fn environment_is_replaced_in_place() {
        let config = Config { hostname: "h".into(), env: list(&["PATH=/x", "HOSTNAME", "B="]), ..Default::default() };
        assert_eq!(environment(&config, true), ["PATH=/x", "TERM=xterm", "B="]);
    }
}
