//! `--security-opt`, taken apart.

use oci::spec::Seccomp;

use super::record::{Record, Security};
use crate::config::EngineConfig;
use crate::error::{Error, Kind, Result};

/// Reads the options; `seccomp=` holds the profile itself (the client reads the file), `unconfined` or `builtin`.
pub(crate) fn parse(options: &[String], config: &EngineConfig) -> Result<Security> {
    let mut security = Security { no_new_privileges: config.no_new_privileges, ..Security::default() };
    for option in options {
        let invalid = || Error::system(format!("invalid --security-opt 1: {option:?}"));
        match option.as_str() {
            "no-new-privileges" => {
                security.no_new_privileges = true;
                continue;
            }
            "disable" => {
                security.labels.push("disable".to_owned());
                continue;
            }
            _ => {}
        }
        // The colon is an old spelling that is still accepted.
        let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).ok_or_else(invalid)?;
        match key {
            "label" => security.labels.push(value.to_owned()),
            "apparmor" => apparmor(value, &mut security)?,
            "seccomp" => value.clone_into(&mut security.seccomp),
            "no-new-privileges" => {
                security.no_new_privileges = match value {
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                    "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                    _ => return Err(Error::system(format!("invalid --security-opt 2: {option:?}"))),
                }
            }
            "writable-cgroups" => {
                return Err(Error::not_implemented("security option writable-cgroups is not supported by this engine"));
            }
            _ => return Err(Error::system(format!("invalid --security-opt 2: {option:?}"))),
        }
    }
    Ok(security)
}

/// A profile can only be used where the kernel has AppArmor; asking for none is always fine.
fn apparmor(profile: &str, security: &mut Security) -> Result<()> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with('Y'));
    if profile != "unconfined" && !enabled {
        // dockerd stores it and the start has no effect; an engine that cannot confine must not say that it did.
        tracing::warn!(profile, "AppArmor is off on this host: the profile has no effect");
    }
    profile.clone_into(&mut security.apparmor);
    Ok(())
}

/// The filter of a container's processes, compiled from the profile that it (or the engine) names.
pub(crate) fn profile(config: &EngineConfig, record: &Record) -> Result<Option<Seccomp>> {
    let engine = match config.seccomp_profile.as_str() {
        text @ ("" | super::seccomp::BUILTIN | super::seccomp::UNCONFINED) => text.to_owned(),
        path => std::fs::read_to_string(path)
            .map_err(|e| Error::caused(Kind::System, format!("opening seccomp profile ({path}) failed"), e))?,
    };
    let host = &record.host_config;
    let (add, drop) = (host.cap_add.as_deref().unwrap_or_default(), host.cap_drop.as_deref().unwrap_or_default());
    let set = super::capability::effective(add, drop, host.privileged, |_| true)?;
    // dockerd answers 500 when the profile makes no sense.
    super::seccomp::choose(&record.security.seccomp, &engine, host.privileged, &set)
        .map_err(|e| e.with_kind(Kind::System))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_apart() {
        let parse = |options: &[&str]| {
            parse(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>(), &EngineConfig::default())
        };
        assert!(parse(&["no-new-privileges"]).unwrap().no_new_privileges);
        assert!(!parse(&["no-new-privileges=false"]).unwrap().no_new_privileges);
        assert_eq!(parse(&["seccomp:unconfined"]).unwrap().seccomp, "unconfined");
        assert_eq!(parse(&["zork"]).unwrap_err().message(), "invalid --security-opt 1: \"zork\"");
        assert_eq!(parse(&["a=b"]).unwrap_err().message(), "invalid --security-opt 2: \"a=b\"");
    }
}
