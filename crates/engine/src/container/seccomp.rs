//! Docker's seccomp profiles: rules that hold for some architectures, capabilities or kernels only, resolved into the
//! filter of a runtime specification.
//!
//! The default profile is data, `seccomp-default.json`, as Docker publishes it.

use oci::spec::{Seccomp, SyscallArgument, SyscallRule};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Kind, Result};

const DEFAULT: &str = include_str!("seccomp-default.json");

/// Word for the default profile.
pub(crate) const BUILTIN: &str = "builtin";
/// Word for no filter at all.
pub(crate) const UNCONFINED: &str = "unconfined";

/// The filter of a container, chosen as dockerd does.
///
/// `asked` is what the container says and `engine_default` what the engine was started with: empty, [`BUILTIN`],
/// [`UNCONFINED`], or a profile as JSON. A privileged container has a filter only when it asks for one.
/// `capabilities` are those of the bounding set.
pub(crate) fn choose(
    asked: &str,
    engine_default: &str,
    privileged: bool,
    capabilities: &[String],
) -> Result<Option<Seccomp>> {
    let profile = match asked {
        "" if privileged => return Ok(None),
        "" => engine_default,
        asked => asked,
    };
    match profile {
        UNCONFINED => Ok(None),
        "" | BUILTIN => resolve(DEFAULT, capabilities).map(Some),
        json => resolve(json, capabilities).map(Some),
    }
}

/// Reads a profile, Docker's or that of the runtime specification, and keeps the rules that hold on this host for a
/// container with these capabilities.
pub(crate) fn resolve(json: &str, capabilities: &[String]) -> Result<Seccomp> {
    let profile: Profile = serde_json::from_str(json)
        .map_err(|e| Error::caused(Kind::InvalidParameter, "Decoding seccomp profile failed", e))?;
    let host = Host { architecture: go_architecture(), kernel: kernel(), capabilities };
    host.resolve(profile)
}

/// Docker's own format: that of the runtime specification with conditions.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_as_default")]
    architectures: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    arch_map: Vec<Architecture>,
    #[serde(default, deserialize_with = "null_as_default")]
    flags: Vec<String>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    syscalls: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default, deserialize_with = "null_as_default")]
    sub_architectures: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// The old spelling, for one call.
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_as_default")]
    args: Vec<SyscallArgument>,
    #[serde(default, deserialize_with = "null_as_default")]
    includes: Conditions,
    #[serde(default, deserialize_with = "null_as_default")]
    excludes: Conditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conditions {
    #[serde(default, deserialize_with = "null_as_default")]
    caps: Vec<String>,
    /// In Go's words: `amd64`.
    #[serde(default, deserialize_with = "null_as_default")]
    arches: Vec<String>,
    /// `4.8`
    #[serde(default, deserialize_with = "null_as_default")]
    min_kernel: String,
}

/// Go writes `null` for an empty list.
fn null_as_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What the conditions are about.
struct Host<'a> {
    architecture: &'static str,
    kernel: (u32, u32),
    capabilities: &'a [String],
}

impl Host<'_> {
    fn resolve(&self, profile: Profile) -> Result<Seccomp> {
        if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
            return Err(Error::invalid(
                "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
            ));
        }
        let mut architectures = profile.architectures;
        let native = profile.arch_map.into_iter().find(|a| a.architecture == seccomp_architecture(self.architecture));
        if let Some(native) = native {
            architectures.push(native.architecture);
            architectures.extend(native.sub_architectures);
        }
        let mut syscalls = Vec::new();
        for rule in profile.syscalls {
            if !rule.name.is_empty() && !rule.names.is_empty() {
                return Err(Error::invalid(
                    "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
                ));
            }
            if self.holds(&rule)? {
                let names = if rule.name.is_empty() { rule.names } else { vec![rule.name] };
                let (action, errno_ret, args) = (rule.action, rule.errno_ret, rule.args);
                syscalls.push(SyscallRule { names, action, errno_ret, args, ..SyscallRule::default() });
            }
        }
        Ok(Seccomp {
            default_action: profile.default_action,
            default_errno_ret: profile.default_errno_ret,
            architectures,
            flags: profile.flags,
            listener_path: profile.listener_path,
            listener_metadata: profile.listener_metadata,
            syscalls,
            ..Seccomp::default()
        })
    }

    /// All that is included must be there, and nothing that is excluded.
    fn holds(&self, rule: &Rule) -> Result<bool> {
        let has = |capability: &String| self.capabilities.contains(capability);
        let here = |arches: &[String]| arches.iter().any(|a| a == self.architecture);
        let since = |version: &str| Ok::<_, Error>(self.kernel >= parse_version(version)?);
        let (includes, excludes) = (&rule.includes, &rule.excludes);
        let excluded = here(&excludes.arches)
            || excludes.caps.iter().any(has)
            || (!excludes.min_kernel.is_empty() && since(&excludes.min_kernel)?);
        let included = (includes.arches.is_empty() || here(&includes.arches))
            && includes.caps.iter().all(has)
            && (includes.min_kernel.is_empty() || since(&includes.min_kernel)?);
        Ok(included && !excluded)
    }
}

/// What Go calls this machine.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn seccomp_architecture(go: &str) -> &'static str {
    match go {
        "amd64" => "SCMP_ARCH_X86_64",
        "arm64" => "SCMP_ARCH_AARCH64",
        "386" => "SCMP_ARCH_X86",
        "riscv64" => "SCMP_ARCH_RISCV64",
        "s390x" => "SCMP_ARCH_S390X",
        _ => "",
    }
}

/// Major and minor version of the running kernel.
fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn parse_version(text: &str) -> Result<(u32, u32)> {
    let wrong = || Error::invalid(format!("invalid kernel version: {text:?}"));
    let (major, minor) = text.split_once('.').ok_or_else(wrong)?;
    Ok((major.parse().map_err(|_| wrong())?, minor.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve_for(capabilities: &[&str]) -> Seccomp {
        let capabilities: Vec<String> = capabilities.iter().map(|c| (*c).to_owned()).collect();
        choose("", "", false, &capabilities).unwrap().unwrap()
    }

    fn rules<'a>(filter: &'a Seccomp, name: &str) -> Vec<&'a SyscallRule> {
        filter.syscalls.iter().filter(|r| r.names.iter().any(|n| n == name)).collect()
    }

    #[test]
    fn capabilities_open_what_they_are_for() {
        let plain = resolve_for(&["CAP_SYS_CHROOT"]);
        assert_eq!((plain.default_action.as_str(), plain.default_errno_ret), ("SCMP_ACT_ERRNO", Some(1)));
        assert_eq!(rules(&plain, "chroot").len(), 1);
        assert!(rules(&plain, "mount").is_empty() && rules(&plain, "reboot").is_empty());
        assert_eq!(rules(&plain, "clone3")[0].errno_ret, Some(38));
        assert_eq!(rules(&plain, "clone")[0].args.len(), 1);
        assert_eq!(rules(&plain, "ptrace").len(), 1, "this kernel is newer than 4.8");
        let admin = resolve_for(&["CAP_SYS_ADMIN"]);
        assert_eq!(rules(&admin, "mount").len(), 1);
        assert!(rules(&admin, "clone").iter().all(|r| r.args.is_empty()));
        assert!(rules(&admin, "chroot").is_empty());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn architectures_are_this_machines() {
        let filter = resolve_for(&[]);
        assert_eq!(filter.architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        assert_eq!(rules(&filter, "arch_prctl").len(), 1);
        assert!(rules(&filter, "riscv_flush_icache").is_empty());
    }

    #[test]
    fn who_says_what() {
        assert_eq!(choose("unconfined", "", false, &[]).unwrap(), None);
        assert_eq!(choose("", "unconfined", false, &[]).unwrap(), None);
        assert_eq!(choose("", "builtin", true, &[]).unwrap(), None);
        assert!(choose("builtin", "unconfined", true, &[]).unwrap().is_some());
        let own =
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO","args":null}]}"#;
        assert_eq!(choose(own, "", false, &[]).unwrap().unwrap().syscalls[0].names, ["mkdir"]);
    }

    #[test]
    fn what_is_wrong_with_a_profile_is_said() {
        let message = |json: &str| resolve(json, &[]).unwrap_err().message().to_owned();
        assert!(message("{").starts_with("Decoding seccomp profile failed: "));
        assert!(
            message(r#"{"defaultAction":"x","architectures":["a"],"archMap":[{"architecture":"b"}]}"#)
                .contains("archMap")
        );
        assert!(
            message(r#"{"defaultAction":"x","syscalls":[{"name":"a","names":["b"],"action":"x"}]}"#)
                .contains("'names'")
        );
        let bad = r#"{"defaultAction":"x","syscalls":[{"name":"a","action":"x","includes":{"minKernel":"new"}}]}"#;
        assert_eq!(message(bad), "invalid kernel version: \"new\"");
    }
}
