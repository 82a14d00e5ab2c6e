//! `--security-opt`, and the log and storage options that are checked like it.

use crate::error::reason;
use crate::format::go;
use std::collections::{BTreeMap, BTreeSet};

/// What `--security-opt` says, apart from what means paths.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Security {
    pub(crate) options: Vec<String>,
    /// `systempaths=unconfined`: nothing in /proc and /sys is hidden.
    pub(crate) unconfined_paths: bool,
}

/// Reads all values. A seccomp profile is sent as its text: the engine may not see our files.
pub(crate) fn parse(values: &[String]) -> Result<Security, String> {
    let mut security = Security::default();
    for value in values {
        if value == "systempaths=unconfined" {
            security.unconfined_paths = true;
            continue;
        }
        let (key, setting) = value.split_once('=').or_else(|| value.split_once(':')).unwrap_or((value, ""));
        if setting.is_empty() && key != "no-new-privileges" {
            return Err(format!("Invalid --security-opt: {}", go::quote(value)));
        }
        if key == "seccomp" && !matches!(setting, "unconfined" | "builtin") {
            let text = std::fs::read(setting).map_err(|error| {
                format!("opening seccomp profile ({setting}) failed: open {setting}: {}", reason(&error))
            })?;
            let profile: serde_json::Value = api::json::from_slice(&text)
                .map_err(|error| format!("compacting json for seccomp profile ({setting}) failed: {error}"))?;
            security.options.push(format!("seccomp={profile}"));
            continue;
        }
        security.options.push(value.clone());
    }
    Ok(security)
}

/// `--cap-add` and `--cap-drop` with whole names, each once: what is added is not dropped, and `ALL` stands for the rest.
pub(crate) fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let whole = |name: &String| {
        let name = name.trim().to_uppercase();
        if matches!(name.as_str(), "ALL" | "RESET") || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    let set = |names: &[String]| {
        let names: BTreeSet<String> = names.iter().map(whole).collect();
        if names.contains("ALL") { BTreeSet::from(["ALL".to_owned()]) } else { names }
    };
    let (add, drop) = (set(add), set(drop));
    let drop = drop.difference(&add).cloned().collect();
    (add.into_iter().collect(), drop)
}

/// `--log-opt`.
pub(crate) fn log_options(driver: &str, values: &[String]) -> Result<BTreeMap<String, String>, String> {
    if driver == "none" && !values.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    let pairs = values.iter().map(|value| value.split_once('=').unwrap_or((value, "")));
    Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// `--storage-opt`.
pub(crate) fn storage_options(values: &[String]) -> Result<BTreeMap<String, String>, String> {
    let pair = |value: &String| value.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    values.iter().map(pair).collect::<Option<_>>().ok_or_else(|| "invalid storage option".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_options() {
        let all = ["apparmor=unconfined", "no-new-privileges", "systempaths=unconfined", "seccomp=unconfined"]
            .map(String::from);
        let security = parse(&all).unwrap();
        assert_eq!(security.options, ["apparmor=unconfined", "no-new-privileges", "seccomp=unconfined"]);
        assert!(security.unconfined_paths);
        assert_eq!(parse(&["foo".into()]).unwrap_err(), "Invalid --security-opt: \"foo\"");
        assert_eq!(
            parse(&["seccomp=/nosuch".into()]).unwrap_err(),
            "opening seccomp profile (/nosuch) failed: open /nosuch: no such file or directory"
        );
    }
}
