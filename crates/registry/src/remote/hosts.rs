//! `hosts.toml`: for each registry the hosts that stand for it, in containerd's format.
//!
//! ```text
//! /etc/gantry/certs.d/<host[:port]>/hosts.toml        also <host>, and _default for all that have none
//!
//! server = "https://registry-1.docker.io"             the registry itself; the usual place if it is missing
//! [host."https://mirror.example:5000"]                tried before it, in the order of the file
//!   capabilities = ["pull", "resolve"]                what it is asked for; these two if it is missing, also "push"
//!   ca = "mirror.pem"                                 one file or several, from this directory
//!   client = [["client.pem", "client.key"]]           what is shown to it
//!   skip_verify = false
//!   override_path = false                             is the path of the URL the root of the protocol already?
//!   header = { x-team = "a" }
//!   dial_timeout = "2s"
//! ```
//!
//! A field that is not known is an error: a misspelled `skip_verify` must not become a silent refusal, or worse.
//! Source: containerd's `docs/hosts.md`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::Actions;
use super::endpoint::{Certificates, Endpoint, Trust};
use crate::error::{Error, Result};

/// Of a file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What the file of one registry says.
#[derive(Debug)]
pub(super) struct Hosts {
    /// Asked first, in this order.
    pub(super) mirrors: Vec<Host>,
    /// The registry itself, if the file says where it is.
    pub(super) server: Option<Host>,
}

/// An endpoint and what it may be asked for.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) endpoint: Endpoint,
    capabilities: Vec<Capability>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Capability {
    /// Content by digest.
    Pull,
    /// From a tag to a digest.
    Resolve,
    Push,
}

impl Host {
    /// Is it of use for this? A pull begins with a tag as often as not, so a host that cannot resolve is left out of it.
    /// To be asked instead of the registry is one thing, to be pushed to in its place another: that has to be said.
    pub(super) fn can(&self, actions: Actions) -> bool {
        let is_silent = self.capabilities.is_empty();
        let has = |wanted| self.capabilities.contains(&wanted);
        match actions {
            Actions::Pull => is_silent || has(Capability::Pull) && has(Capability::Resolve),
            Actions::PullPush => has(Capability::Push) || is_silent && !self.endpoint.is_mirror,
        }
    }
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    server: String,
    // The fields of the server itself stand at the top.
    #[serde(default)]
    capabilities: Vec<Capability>,
    ca: Option<Files>,
    client: Option<Identities>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: toml::Table,
    dial_timeout: Option<String>,
    #[serde(default)]
    host: toml::Table,
}

/// What stands under `[host."…"]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    capabilities: Vec<Capability>,
    ca: Option<Files>,
    client: Option<Identities>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: toml::Table,
    dial_timeout: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Files {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Identities {
    One(PathBuf),
    Many(Vec<Identity>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Identity {
    /// Certificate and key in one file.
    Whole(PathBuf),
    /// Certificate and key; an empty key is in the certificate's file.
    Pair(PathBuf, PathBuf),
}

/// The file for a registry in the first of the directories that has one; none: the registry has nothing special.
pub(super) fn read(certs_dirs: &[PathBuf], domain: &str) -> Result<Option<Hosts>> {
    // The name of a registry goes before `_default`, whatever directories the two are in.
    for name in names(domain) {
        for dir in certs_dirs {
            let dir = dir.join(&name);
            let path = dir.join("hosts.toml");
            let failed = |reason: String| Error::Setup(format!("reading {}: {reason}", path.display()));
            match fs::metadata(&path) {
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => return Err(failed(error.to_string())),
                Ok(found) if found.len() > MAX_FILE => return Err(failed("it is too large".into())),
                Ok(_) => {}
            }
            let text = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
            return parse(&text, &dir, domain).map(Some).map_err(failed);
        }
    }
    Ok(None)
}

/// Names of the directory, the closest first. A port may be written with underscores, for tools that cannot do colons.
fn names(domain: &str) -> Vec<String> {
    if domain.is_empty() || domain.contains('/') || domain.starts_with('.') {
        return Vec::new();
    }
    let mut names = Vec::new();
    if let Some((host, port)) = domain.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')) {
        names.extend([format!("{host}_{port}_"), domain.to_owned(), host.to_owned()]);
    } else {
        names.push(domain.to_owned());
    }
    names.push("_default".to_owned());
    names
}

fn parse(text: &str, dir: &Path, domain: &str) -> std::result::Result<Hosts, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    let mut mirrors = Vec::new();
    for (url, fields) in file.host {
        let fields: Fields = fields.try_into().map_err(|error: toml::de::Error| format!("host {url:?}: {error}"))?;
        let mut host = host(&url, fields, dir)?;
        // Whoever answers at the registry's own name is the registry, and is shown its credentials.
        host.endpoint.is_mirror = host.endpoint.host() != domain;
        host.endpoint.namespace = host.endpoint.is_mirror.then(|| domain.to_owned());
        mirrors.push(host);
    }
    let own = Fields {
        capabilities: file.capabilities,
        ca: file.ca,
        client: file.client,
        skip_verify: file.skip_verify,
        override_path: file.override_path,
        header: file.header,
        dial_timeout: file.dial_timeout,
    };
    let server = if file.server.is_empty() { None } else { Some(host(&file.server, own, dir)?) };
    Ok(Hosts { mirrors, server })
}

fn host(url: &str, fields: Fields, dir: &Path) -> std::result::Result<Host, String> {
    let base = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let parsed = reqwest::Url::parse(&base).map_err(|error| format!("host {url:?}: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(format!("host {url:?} is no address of a registry"));
    }
    // Plain http is named by whoever writes it here, so it is allowed.
    let verified = parsed.scheme() == "https" && !fields.skip_verify;
    let mut endpoint = Endpoint::new(&base, if verified { Trust::Verified } else { Trust::Unverified });
    if fields.override_path {
        endpoint.root = base.trim_end_matches('/').to_owned();
    }
    endpoint.headers = headers(&fields.header).map_err(|reason| format!("host {url:?}: {reason}"))?;
    endpoint.certificates = Certificates {
        authorities: match fields.ca {
            None => Vec::new(),
            Some(Files::One(file)) => vec![dir.join(file)],
            Some(Files::Many(files)) => files.into_iter().map(|file| dir.join(file)).collect(),
        },
        identity: match fields.client {
            None => None,
            Some(Identities::One(file)) => Some((dir.join(file), None)),
            Some(Identities::Many(many)) => {
                let mut many = many.into_iter().map(|one| identity(one, dir));
                let first = many.next();
                if many.next().is_some() {
                    return Err(format!("host {url:?}: only one client certificate can be shown"));
                }
                first
            }
        },
    };
    if let Some(text) = fields.dial_timeout {
        let ns = oci::go::parse_duration(&text).map_err(|error| format!("host {url:?}: dial_timeout: {error}"))?;
        let ns = u64::try_from(ns).ok().filter(|ns| *ns > 0);
        let ns = ns.ok_or_else(|| format!("host {url:?}: dial_timeout {text:?} is no time to wait"))?;
        endpoint.dial_timeout = Some(Duration::from_nanos(ns));
    }
    Ok(Host { endpoint, capabilities: fields.capabilities })
}

fn identity(identity: Identity, dir: &Path) -> (PathBuf, Option<PathBuf>) {
    match identity {
        Identity::Whole(file) => (dir.join(file), None),
        Identity::Pair(certificate, key) => {
            (dir.join(certificate), (!key.as_os_str().is_empty()).then(|| dir.join(key)))
        }
    }
}

fn headers(table: &toml::Table) -> std::result::Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in table {
        let bad = || format!("header {name:?} is neither a text nor a list of texts");
        let key = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no name of a header"))?;
        let values = match value {
            toml::Value::String(one) => vec![one.as_str()],
            toml::Value::Array(many) => many.iter().map(toml::Value::as_str).collect::<Option<_>>().ok_or_else(bad)?,
            _ => return Err(bad()),
        };
        for value in values {
            let mut value = HeaderValue::try_from(value).map_err(|_| format!("header {name:?} has a bad value"))?;
            // It may well be a token.
            value.set_sensitive(true);
            headers.append(key.clone(), value);
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
server = "https://registry.example"
ca = "own.pem"

[host."http://b.example:5000"]
capabilities = ["pull", "resolve"]
client = [["c.pem", "c.key"]]

[host."https://a.example/team/v2"]
override_path = true
skip_verify = true
client = [["d.pem", ""]]
dial_timeout = "1.5s"
[host."https://a.example/team/v2".header]
x-one = "1"
x-two = ["2", "3"]

[host."registry.example"]
capabilities = ["push"]
"#;

    #[test]
    fn a_whole_file() {
        let hosts = parse(WHOLE, Path::new("/d"), "registry.example").unwrap();
        let roots: Vec<&str> = hosts.mirrors.iter().map(|host| host.endpoint.root.as_str()).collect();
        assert_eq!(
            roots,
            ["http://b.example:5000/v2", "https://a.example/team/v2", "https://registry.example/v2"],
            "the order of the file"
        );
        let [first, second, third] = hosts.mirrors.as_slice() else { panic!("three") };
        assert!(first.can(Actions::Pull) && !first.can(Actions::PullPush));
        assert!(second.can(Actions::Pull) && !second.can(Actions::PullPush), "nobody said that it takes pushes");
        assert!(!third.can(Actions::Pull) && third.can(Actions::PullPush) && !third.endpoint.is_mirror);
        assert_eq!(first.endpoint.trust, Trust::Unverified);
        let identity = |host: &Host| host.endpoint.certificates.identity.clone().unwrap();
        assert_eq!(identity(first), ("/d/c.pem".into(), Some("/d/c.key".into())));
        assert_eq!(identity(second), ("/d/d.pem".into(), None));
        assert_eq!((second.endpoint.trust, second.endpoint.headers.len()), (Trust::Unverified, 3));
        assert_eq!(second.endpoint.dial_timeout, Some(Duration::from_millis(1500)));
        let url = second.endpoint.url("/x/blobs/y").unwrap();
        assert_eq!(url.as_str(), "https://a.example/team/v2/x/blobs/y?ns=registry.example");
        let server = hosts.server.unwrap();
        assert!(server.can(Actions::Pull) && server.can(Actions::PullPush));
        assert_eq!(server.endpoint.certificates.authorities, [PathBuf::from("/d/own.pem")]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (text, part) in [
            ("skip_verfy = true", "skip_verfy"),
            ("[host.\"https://a\"]\ncapabilities = [\"fly\"]", "fly"),
            ("[host.\"ftp://a\"]", "ftp://a"),
            ("[host.\"https://a\"]\nheader = { a = 1 }", "neither a text"),
            ("[host.\"https://a\"]\ndial_timeout = \"soon\"", "dial_timeout"),
            ("[host.\"https://a\"]\nclient = [\"a\", \"b\"]", "only one"),
            ("server = ", "server"),
        ] {
            let error = parse(text, Path::new("/"), "a").unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn names_of_directories() {
        assert_eq!(names("a.example:5000"), ["a.example_5000_", "a.example:5000", "a.example", "_default"]);
        assert_eq!(names("docker.io"), ["docker.io", "_default"]);
        assert_eq!(names("[::1]"), ["[::1]", "_default"]);
        assert_eq!(names("../x"), [""; 0]);
    }
}
