//! From flags and daemon.json to one set of settings.
//!
//! Both become JSON objects under the keys of the file; an option that stands in both is refused, as is a key that nobody
//! knows. What is left is one object, read into [`Settings`].

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use crate::options::{self, Entry, Kind, TABLE};

/// Read when no other is named, and only when it exists.
const DEFAULT_FILE: &str = "/etc/gantry/daemon.json";

/// What is wrong with the flags or the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file cannot be read or says something wrong: dockerd's sentence around the reason.
    #[error("unable to configure the daemon with file {path}: {reason}")]
    File { path: String, reason: String },
    /// A value does not suit its option.
    #[error("invalid argument {value:?} for \"--{flag}\": {reason}")]
    Value { flag: &'static str, value: String, reason: String },
    /// The option has one value here.
    #[error("--{flag} {value:?} is not supported: {reason}")]
    Refused { flag: &'static str, value: String, reason: &'static str },
}

/// Everything the daemon is told, with its defaults.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Settings {
    pub(crate) hosts: Vec<String>,
    pub(crate) group: Option<String>,
    pub(crate) data_root: PathBuf,
    pub(crate) exec_root: PathBuf,
    pub(crate) pidfile: PathBuf,
    pub(crate) debug: bool,
    pub(crate) log_level: String,
    pub(crate) bip: Option<String>,
    pub(crate) bridge_name: Option<String>,
    pub(crate) fixed_cidr: Option<String>,
    pub(crate) default_gateway: Option<Ipv4Addr>,
    pub(crate) ip: IpAddr,
    pub(crate) icc: bool,
    pub(crate) ip_forward: bool,
    pub(crate) ip_masq: bool,
    pub(crate) mtu: Option<u32>,
    pub(crate) cgroup_parent: Option<String>,
    pub(crate) default_cgroupns_mode: Option<String>,
    pub(crate) default_shm_size: Option<i64>,
    pub(crate) default_ulimits: BTreeMap<String, UlimitSetting>,
    /// In bytes; 0: none.
    pub(crate) disk_budget: i64,
    pub(crate) disk_budget_high: i64,
    pub(crate) disk_budget_low: i64,
    pub(crate) dns: Vec<String>,
    pub(crate) dns_opts: Vec<String>,
    pub(crate) dns_search: Vec<String>,
    pub(crate) init: bool,
    pub(crate) insecure_registries: Vec<String>,
    pub(crate) registry_mirrors: Vec<String>,
    pub(crate) labels: Vec<String>,
    pub(crate) log_driver: String,
    pub(crate) log_opts: BTreeMap<String, String>,
    pub(crate) max_concurrent_downloads: usize,
    pub(crate) max_concurrent_uploads: usize,
    pub(crate) max_connections_per_host: usize,
    pub(crate) no_new_privileges: bool,
    pub(crate) policy_file: Option<PathBuf>,
    pub(crate) seccomp_profile: String,
    pub(crate) shutdown_timeout: i64,
    /// `None`: whatever works.
    pub(crate) storage_driver: Option<String>,
    /// `None` when nobody said anything: tcp is refused then.
    pub(crate) tls: Option<bool>,
    pub(crate) tlsverify: bool,
    pub(crate) tlscacert: Option<PathBuf>,
    pub(crate) tlscert: Option<PathBuf>,
    pub(crate) tlskey: Option<PathBuf>,
}

/// `{"Name": "nofile", "Soft": 1024, "Hard": 2048}` of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct UlimitSetting {
    pub(crate) name: String,
    pub(crate) soft: i64,
    pub(crate) hard: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            group: None,
            data_root: "/var/lib/gantry".into(),
            exec_root: "/run/gantry".into(),
            pidfile: "/run/gantry.pid".into(),
            debug: false,
            log_level: "info".into(),
            bip: None,
            bridge_name: None,
            fixed_cidr: None,
            default_gateway: None,
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            icc: true,
            ip_forward: true,
            ip_masq: true,
            mtu: None,
            cgroup_parent: None,
            storage_driver: None,
            default_cgroupns_mode: None,
            default_shm_size: None,
            default_ulimits: BTreeMap::new(),
            disk_budget: 0,
            disk_budget_high: 90,
            disk_budget_low: 75,
            dns: Vec::new(),
            dns_opts: Vec::new(),
            dns_search: Vec::new(),
            init: false,
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            labels: Vec::new(),
            log_driver: "json-file".into(),
            log_opts: BTreeMap::new(),
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_connections_per_host: 6,
            no_new_privileges: false,
            policy_file: None,
            seccomp_profile: "builtin".into(),
            shutdown_timeout: 15,
            tls: None,
            tlsverify: false,
            tlscacert: None,
            tlscert: None,
            tlskey: None,
        }
    }
}

/// Reads flags and file into one set of settings.
pub(crate) fn load(matches: &clap::ArgMatches) -> Result<Settings, SettingsError> {
    let flags = from_flags(matches)?;
    let named = matches.get_one::<String>(options::CONFIG_FILE).map(PathBuf::from);
    let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let file = match std::fs::read(&path) {
        Ok(text) => from_file(&path, &text, &flags)?,
        // The default file need not be there, a named one must.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Map::new(),
        Err(error) => return Err(file_error(&path, format!("open {}: {error}", path.display()))),
    };
    let mut merged = file;
    merged.extend(flags);
    refuse(&merged)?;
    let settings: Settings =
        api::json::from_value(&Value::Object(merged)).map_err(|error| file_error(&path, error.to_string()))?;
    check(&settings)?;
    Ok(settings)
}

fn file_error(path: &Path, reason: impl Into<String>) -> SettingsError {
    SettingsError::File { path: path.display().to_string(), reason: reason.into() }
}

/// The flags that were given, under the file's keys.
fn from_flags(matches: &clap::ArgMatches) -> Result<Map<String, Value>, SettingsError> {
    let mut given = Map::new();
    for entry in TABLE {
        if matches.value_source(entry.key) != Some(clap::parser::ValueSource::CommandLine) {
            continue;
        }
        let texts: Vec<&String> = matches.get_many(entry.key).into_iter().flatten().collect();
        given.insert(entry.key.to_owned(), flag_value(entry, &texts)?);
    }
    Ok(given)
}

fn flag_value(entry: &Entry, texts: &[&String]) -> Result<Value, SettingsError> {
    let last = texts.last().map_or("", |text| text.as_str());
    let bad = |value: &str, reason: &str| SettingsError::Value {
        flag: entry.flag,
        value: value.into(),
        reason: reason.into(),
    };
    Ok(match entry.kind {
        // The words of Go's strconv.ParseBool.
        Kind::Switch => match last {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true.into(),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false.into(),
            other => return Err(bad(other, "must be true or false")),
        },
        Kind::Text => last.into(),
        Kind::Number => last.parse::<i64>().map_err(|_| bad(last, "must be a whole number"))?.into(),
        Kind::Size => size(last).ok_or_else(|| bad(last, "must be a size such as 64m"))?.into(),
        Kind::List => texts.iter().map(|text| Value::from(text.as_str())).collect::<Vec<_>>().into(),
        Kind::Pairs => {
            let mut pairs = Map::new();
            for text in texts {
                let (name, value) = text.split_once('=').ok_or_else(|| bad(text, "must be name=value"))?;
                let value = if entry.key == "default-ulimits" {
                    ulimit(name, value).ok_or_else(|| bad(text, "must be name=soft[:hard]"))?
                } else {
                    value.into()
                };
                pairs.insert(name.to_owned(), value);
            }
            pairs.into()
        }
    })
}

/// `64m`, `1g`, `67108864`: powers of 1024.
fn size(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.trim().parse::<i64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes >= 0)
}

fn ulimit(name: &str, text: &str) -> Option<Value> {
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let (soft, hard): (i64, i64) = (soft.parse().ok()?, hard.parse().ok()?);
    Some(serde_json::json!({ "Name": name, "Soft": soft, "Hard": hard }))
}

/// The file's object, after dockerd's checks of it against the flags.
fn from_file(path: &Path, text: &[u8], flags: &Map<String, Value>) -> Result<Map<String, Value>, SettingsError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let mut file: Map<String, Value> =
        api::json::from_slice(text).map_err(|error| file_error(path, error.to_string()))?;
    let known = |key: &str| TABLE.iter().find(|entry| entry.key == key);
    let unknown: Vec<&str> = file.keys().map(String::as_str).filter(|key| known(key).is_none()).collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        return Err(file_error(
            path,
            format!("the following directives don't match any configuration option: {unknown}"),
        ));
    }
    let conflicts: Vec<String> = file
        .iter()
        .filter_map(|(key, value)| flags.get(key).map(|flag| (key, flag, value)))
        .map(|(key, flag, value)| format!("{key}: (from flag: {}, from file: {})", shown(flag), shown(value)))
        .collect();
    if !conflicts.is_empty() {
        let conflicts = conflicts.join(", ");
        return Err(file_error(
            path,
            format!("the following directives are specified both as a flag and in the configuration file: {conflicts}"),
        ));
    }
    for (key, value) in &mut file {
        if let (Some(Kind::Size), Value::String(text)) = (known(key).map(|entry| entry.kind), &*value) {
            *value = size(text).ok_or_else(|| file_error(path, format!("{key}: invalid size: '{text}'")))?.into();
        }
    }
    Ok(file)
}

/// A value as Go's `%v` prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let members: Vec<_> = members.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

/// Options that have one value here refuse the others by name.
fn refuse(merged: &Map<String, Value>) -> Result<(), SettingsError> {
    for entry in TABLE {
        let (Some(refusal), Some(value)) = (&entry.refused, merged.get(entry.key)) else { continue };
        let empty = matches!(value, Value::Null)
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(Map::is_empty);
        if !empty && shown(value) != refusal.only {
            return Err(SettingsError::Refused { flag: entry.flag, value: shown(value), reason: refusal.reason });
        }
    }
    Ok(())
}

/// Values that are well formed but cannot be meant.
fn check(settings: &Settings) -> Result<(), SettingsError> {
    let bad = |flag, value: &str, reason: &str| {
        Err(SettingsError::Value { flag, value: value.into(), reason: reason.into() })
    };
    if !["debug", "info", "warn", "error", "fatal"].contains(&settings.log_level.as_str()) {
        return bad("log-level", &settings.log_level, "invalid logging level");
    }
    if let Some(label) = settings.labels.iter().find(|label| !label.contains('=')) {
        return bad("label", label, "bad attribute format: must be name=value");
    }
    if let Some(server) = settings.dns.iter().find(|server| server.parse::<IpAddr>().is_err()) {
        return bad("dns", server, "invalid IP address");
    }
    if settings.max_concurrent_downloads == 0 {
        return bad("max-concurrent-downloads", "0", "must be at least 1");
    }
    if settings.max_concurrent_uploads == 0 {
        return bad("max-concurrent-uploads", "0", "must be at least 1");
    }
    if !(1..=100).contains(&settings.disk_budget_high) {
        return bad("disk-budget-high", &settings.disk_budget_high.to_string(), "must be a percentage, 1 to 100");
    }
    if !(0..=settings.disk_budget_high).contains(&settings.disk_budget_low) {
        let reason = "must be a percentage, no higher than disk-budget-high";
        return bad("disk-budget-low", &settings.disk_budget_low.to_string(), reason);
    }
    if settings.max_connections_per_host < 2 {
        let given = settings.max_connections_per_host.to_string();
        return bad("max-connections-per-host", &given, "must be at least 2");
    }
    if let Some(other) = settings.storage_driver.as_deref().filter(|name| engine::storage_driver(name).is_none()) {
        return bad("storage-driver", other, "must be overlay2 or vfs");
    }
    match settings.default_cgroupns_mode.as_deref() {
        None | Some("host" | "private") => Ok(()),
        Some(other) => bad("default-cgroupns-mode", other, "must be host or private"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str], file: Option<&str>) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.json");
        std::fs::write(&path, file.unwrap_or("{}")).unwrap();
        let name = path.to_str().unwrap();
        let all = ["daemon", "--config-file", name].into_iter().chain(arguments.iter().copied());
        let matches = options::command().try_get_matches_from(all).map_err(|error| error.to_string())?;
        load(&matches).map_err(|error| error.to_string().replace(name, "FILE"))
    }

    #[test]
    fn flags_and_file_make_one() {
        let settings = parse(
            &["-D", "-H", "unix:///a", "--host=unix:///b", "--log-opt", "max-size=1m", "--icc=false", "--default-ulimit", "nofile=1:2"],
            Some(r#"{"bip":"10.9.0.1/24","labels":["a=b"],"default-shm-size":"128M","unknown":null}"#.replace(",\"unknown\":null", "").as_str()),
        )
        .unwrap();
        assert!(settings.debug && !settings.icc);
        assert_eq!(settings.hosts, ["unix:///a", "unix:///b"]);
        assert_eq!(settings.bip.as_deref(), Some("10.9.0.1/24"));
        assert_eq!(settings.default_shm_size, Some(128 << 20));
        assert_eq!(settings.log_opts["max-size"], "1m");
        assert_eq!((settings.default_ulimits["nofile"].soft, settings.default_ulimits["nofile"].hard), (1, 2));
    }

    #[test]
    fn what_contradicts_is_refused_in_dockerd_s_words() {
        assert_eq!(
            parse(&["--debug"], Some(r#"{"debug":false}"#)).unwrap_err(),
            "unable to configure the daemon with file FILE: the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: false)"
        );
        assert_eq!(
            parse(&[], Some(r#"{"foo":1}"#)).unwrap_err(),
            "unable to configure the daemon with file FILE: the following directives don't match any configuration option: foo"
        );
        assert!(
            parse(&[], Some("{x"))
                .unwrap_err()
                .contains("invalid character 'x' looking for beginning of object key string")
        );
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        for (arguments, part) in [
            (&["--storage-opt", "size=1g"][..], "--storage-opt"),
            (&["--userns-remap=default"], "--userns-remap"),
            (&["--live-restore=false"], "--live-restore"),
            (&["--iptables=false"], "--iptables"),
            (&["--label", "x"], "--label"),
            (&["--mtu", "x"], "--mtu"),
            (&["--log-level", "loud"], "--log-level"),
        ] {
            let error = parse(arguments, None).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(parse(&["--live-restore", "--storage-driver=overlay2"], None).is_ok());
    }

    #[test]
    fn the_table_is_sound() {
        options::command().debug_assert();
        let empty: Settings = api::json::from_str("{}").unwrap();
        assert_eq!(empty, Settings::default());
    }
}
