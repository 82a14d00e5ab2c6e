//! Which registries and repositories may be used: one file with rules, the first that fits decides.
//!
//! ```text
//! # /etc/gantry/policy.toml
//! default = "block"                     # for what no rule fits; "allow" unless said otherwise
//!
//! [[rule]]
//! name = "our own"                      # said when the rule blocks something
//! action = "allow"
//! registry = "*.example.com"            # `*` stands for any characters; missing: any
//! repository = "team/*"                 # the path in the registry (`library/busybox`); missing: any
//! operations = ["pull", "run", "push"]  # missing: all
//! ```
//!
//! The file is read whenever it is needed: a change holds at once. One that cannot be read blocks everything, since
//! nobody knows what it would have said.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use oci::Reference;
use serde::Deserialize;
use store::{ImageId, Store};

use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Read when no other is named, and only when it exists.
const DEFAULT_FILE: &str = "/etc/gantry/policy.toml";
/// Of the file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What is to be done with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Operation {
    Pull,
    Run,
    Push,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pull => "pull of",
            Self::Run => "run of",
            Self::Push => "push to",
        })
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    #[default]
    Allow,
    Block,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    #[serde(default)]
    default: Action,
    #[serde(default, rename = "rule")]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    action: Action,
    registry: Option<String>,
    repository: Option<String>,
    operations: Option<Vec<Operation>>,
}

impl Rule {
    fn fits(&self, operation: Operation, image: &Reference) -> bool {
        let is = |pattern: &Option<String>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| oci::wildcard::matches(pattern, text))
        };
        self.operations.as_ref().is_none_or(|operations| operations.contains(&operation))
            && self.registry.as_ref().is_none_or(|rule| is_registry(rule, image))
            && is(&self.repository, image.path())
    }
}

/// Is a rule about the registry of this image? Both may be spelled in many ways, and none of them leads around the rule.
fn is_registry(rule: &str, image: &Reference) -> bool {
    let (rule, registry) = (rule.to_ascii_lowercase(), image.registry());
    oci::reference::canonical_registry(&rule) == registry
        || oci::wildcard::matches(&rule, &registry)
        || oci::wildcard::matches(&rule, &image.domain().to_ascii_lowercase())
}

impl Policy {
    /// Who blocks this; none when it is allowed.
    fn blocked_by(&self, operation: Operation, image: &Reference) -> Option<String> {
        match self.rules.iter().find(|rule| rule.fits(operation, image)) {
            Some(rule) => (rule.action == Action::Block).then(|| format!("rule {:?}", rule.name)),
            None => (self.default == Action::Block).then(|| "the default".to_owned()),
        }
    }
}

/// Reads the policy. A file that was named has to exist. Blocking.
fn read(named: Option<&Path>) -> Result<(Policy, PathBuf)> {
    let path = named.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_owned);
    let failed = |reason: String| Error::system(format!("reading the policy {}: {reason}", path.display()));
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
            return Ok((Policy::default(), path));
        }
        Err(error) => return Err(failed(error.to_string())),
        Ok(found) if found.len() > MAX_FILE => return Err(failed("it is too large".into())),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let policy = toml::from_str(&text).map_err(|error| failed(error.to_string().trim_end().to_owned()))?;
    Ok((policy, path))
}

impl Engine {
    /// Fails when the policy blocks this operation on an image of this name.
    pub(crate) async fn allow(&self, operation: Operation, image: &Reference) -> Result<()> {
        let (named, image) = (self.config.policy_file.clone(), image.clone());
        self.blocking(move || check(named.as_deref(), operation, &image)).await
    }
}

fn check(named: Option<&Path>, operation: Operation, image: &Reference) -> Result<()> {
    let (policy, path) = read(named)?;
    judge(&policy, &path, operation, image)
}

fn judge(policy: &Policy, path: &Path, operation: Operation, image: &Reference) -> Result<()> {
    match policy.blocked_by(operation, image) {
        None => Ok(()),
        Some(who) => {
            let text = format!("{operation} {} is blocked by {who} of {}", image.name(), path.display());
            Err(Error::new(Kind::Forbidden, text))
        }
    }
}

/// Fails when the policy blocks running an image that was asked for by `name`. Blocking.
///
/// By an id it is blocked when all names that it has are: else its id would be the way around the policy.
pub(crate) fn check_run(named: Option<&Path>, store: &Store, name: &str, id: &ImageId) -> Result<()> {
    let (policy, path) = read(named)?;
    if policy.rules.is_empty() && policy.default == Action::Allow {
        return Ok(());
    }
    if let Ok(reference) = Reference::parse_normalized(name)
        && store.image_named(&reference)?.as_ref() == Some(id)
    {
        return judge(&policy, &path, Operation::Run, &reference);
    }
    let image = store.image(id)?;
    let mut verdict = Ok(());
    for name in image.tags.iter().chain(&image.repo_digests) {
        verdict = judge(&policy, &path, Operation::Run, name);
        if verdict.is_ok() {
            break;
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy: Policy = toml::from_str(
            r#"
            default = "block"
            [[rule]]
            name = "no pushes to the hub"
            action = "block"
            registry = "docker.io"
            operations = ["push"]
            [[rule]]
            name = "official images"
            action = "allow"
            registry = "docker.io"
            repository = "library/*"
            "#,
        )
        .unwrap();
        let blocked = |operation, name: &str| policy.blocked_by(operation, &name.parse().unwrap());
        assert_eq!(blocked(Operation::Pull, "busybox"), None);
        assert_eq!(blocked(Operation::Push, "busybox").unwrap(), "rule \"no pushes to the hub\"");
        assert_eq!(blocked(Operation::Run, "somebody/else").unwrap(), "the default");
        assert_eq!(blocked(Operation::Run, "localhost:5000/library/x").unwrap(), "the default");
    }

    #[test]
    fn no_spelling_leads_around_a_rule() {
        let policy: Policy = toml::from_str(
            r#"
            [[rule]]
            name = "the hub"
            action = "block"
            registry = "docker.io"
            [[rule]]
            name = "theirs"
            action = "block"
            registry = "GHCR.io:443"
            [[rule]]
            name = "all of theirs"
            action = "block"
            registry = "*.Example.com:80"
            "#,
        )
        .unwrap();
        for name in [
            "busybox",
            "registry-1.docker.io/library/busybox",
            "INDEX.docker.io/library/busybox",
            "docker.io:443/library/busybox",
            "ghcr.io:443/x",
            "GHCR.IO:443/x",
            "ghcr.io/x",
            "a.example.COM:80/x",
        ] {
            assert!(policy.blocked_by(Operation::Pull, &name.parse().unwrap()).is_some(), "{name}");
        }
        for name in ["ghcr.io:8443/x", "a.example.com/x", "quay.io/docker.io"] {
            assert_eq!(policy.blocked_by(Operation::Pull, &name.parse().unwrap()), None, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        let check = || check(Some(&path), Operation::Pull, &"busybox".parse().unwrap());
        assert!(check().unwrap_err().message().contains("policy.toml"), "a file that was named has to be there");
        std::fs::write(&path, "[[rule]]\nname = \"x\"\naction = \"blok\"\n").unwrap();
        assert!(check().unwrap_err().message().contains("blok"));
        std::fs::write(&path, "[[rule]]\nname = \"x\"\naction = \"block\"\n").unwrap();
        let expected = format!("pull of docker.io/library/busybox is blocked by rule \"x\" of {}", path.display());
        assert_eq!(check().unwrap_err().message(), expected);
        std::fs::write(&path, "").unwrap();
        check().unwrap();
    }
}
