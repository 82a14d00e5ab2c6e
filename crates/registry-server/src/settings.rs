//! What the registry is told, with its defaults.

use registry::Credentials;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access::Rule;
use crate::cache::CacheSettings;
use crate::options::{OptionError, Values, bad};
use crate::pattern::Pattern;
use crate::quotas::Quota;
use crate::storage::AskedTimes;
use crate::tokens::TokenSettings;

/// Where an engine listens when nobody says.
const DEFAULT_SOCKET: &str = "/run/gantry.sock";
/// Where content is kept when nobody says.
const DEFAULT_STORAGE: &str = "/var/lib/gantry-registry";

/// All settings.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) storage: String,
    pub(crate) storage_options: Vec<(String, String)>,
    pub(crate) read_only: bool,
    /// Certificate and key.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    pub(crate) htpasswd: Option<PathBuf>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) tokens: Option<TokenSettings>,
    pub(crate) quotas: Vec<Quota>,
    /// In bytes; 0 for none.
    pub(crate) chunk_min_length: u64,
    pub(crate) times: AskedTimes,
    pub(crate) cache: Option<CacheSettings>,
    /// The socket of the engine whose images are served.
    pub(crate) engine: Option<PathBuf>,
    /// Zero for never.
    pub(crate) gc_interval: Duration,
    pub(crate) gc_untagged: bool,
    pub(crate) stall_timeout: Duration,
    pub(crate) max_connections: usize,
    pub(crate) max_uploads: usize,
    pub(crate) access_log: String,
    pub(crate) log_level: String,
}

impl Settings {
    pub(crate) fn read(values: &Values) -> Result<Self, OptionError> {
        let mut listen = values.parse_all("listen", address)?;
        if listen.is_empty() {
            listen.push(SocketAddr::from(([127, 0, 0, 1], 5000)));
        }
        let time = |name| values.parse(name, None, |text| duration(text).map(Some));
        let times = AskedTimes { grace: time("grace")?, settle: time("settle")? };
        Ok(Self {
            listen,
            storage: values.one("storage").unwrap_or(DEFAULT_STORAGE).to_owned(),
            storage_options: values.parse_all("storage-opt", pair)?,
            read_only: values.parse("read-only", false, switch)?,
            tls: match (values.one("tls-cert"), values.one("tls-key")) {
                (None, None) => None,
                (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
                (Some(certificate), None) => return Err(bad("tls-cert", certificate, "--tls-key is missing")),
                (None, Some(key)) => return Err(bad("tls-key", key, "--tls-cert is missing")),
            },
            htpasswd: values.one("htpasswd").map(PathBuf::from),
            rules: rules(values)?,
            tokens: tokens(values)?,
            quotas: values.parse_all("quota", quota)?,
            chunk_min_length: values.parse("chunk-min-length", 1 << 20, size)?,
            times,
            cache: cache(values)?,
            engine: engine(values)?,
            gc_interval: values.parse("gc-interval", Duration::from_secs(3600), duration)?,
            gc_untagged: values.parse("gc-untagged", false, switch)?,
            stall_timeout: values.parse("stall-timeout", Duration::from_secs(60), duration)?,
            max_connections: values.parse("max-connections", 4096, number)?,
            max_uploads: values.parse("max-uploads", 256, number)?,
            access_log: values.one("access-log").unwrap_or("stdout").to_owned(),
            log_level: values.parse("log-level", "info".to_owned(), |text| match text {
                "debug" | "info" | "warn" | "error" => Ok(text.to_owned()),
                _ => Err("debug, info, warn or error is meant".to_owned()),
            })?,
        })
    }
}

fn rules(values: &Values) -> Result<Vec<Rule>, OptionError> {
    let rules = values.parse_all("allow", Rule::parse)?;
    if !rules.is_empty() {
        if values.one("htpasswd").is_none() {
            let text = values.list("allow").join(" ");
            return Err(bad("allow", &text, "there are no users without --htpasswd, and everybody may do everything"));
        }
        return Ok(rules);
    }
    Ok(Rule::parse("*:*:*").into_iter().collect())
}

fn tokens(values: &Values) -> Result<Option<TokenSettings>, OptionError> {
    let own = values.parse("token-service", false, switch)?;
    let issuer = match (values.one("token-issuer"), values.one("token-issuer-keys")) {
        (None, None) => None,
        (Some(issuer), Some(keys)) => Some((issuer.to_owned(), PathBuf::from(keys))),
        (Some(issuer), None) => return Err(bad("token-issuer", issuer, "--token-issuer-keys is missing")),
        (None, Some(keys)) => return Err(bad("token-issuer-keys", keys, "--token-issuer is missing")),
    };
    if !own && issuer.is_none() {
        for name in ["token-key", "token-expiry", "token-audience", "token-realm"] {
            if let Some(value) = values.one(name) {
                return Err(bad(name, value, "there are tokens only with --token-service or --token-issuer"));
            }
        }
        return Ok(None);
    }
    if own && values.one("htpasswd").is_none() {
        return Err(bad("token-service", "true", "there are no users without --htpasswd"));
    }
    for name in ["token-key", "token-expiry"] {
        if let (false, Some(value)) = (own, values.one(name)) {
            return Err(bad(name, value, "without --token-service, tokens are made elsewhere"));
        }
    }
    let storage = values.one("storage").unwrap_or(DEFAULT_STORAGE);
    let own_key = match (own, values.one("token-key")) {
        (false, _) => None,
        (true, Some(path)) => Some(path.into()),
        (true, None) if !storage.contains("://") => Some(Path::new(storage).join("token.key")),
        (true, None) => {
            return Err(bad("token-service", "true", "object storage holds no keys; name a file with --token-key"));
        }
    };
    Ok(Some(TokenSettings {
        own_key,
        issuer,
        audience: values.one("token-audience").unwrap_or("gantry-registry").to_owned(),
        realm: values.one("token-realm").map(str::to_owned),
        expiry: values.parse("token-expiry", Duration::from_secs(300), duration)?,
    }))
}

fn engine(values: &Values) -> Result<Option<PathBuf>, OptionError> {
    let socket = values.one("engine-socket");
    if !values.parse("from-engine", false, switch)? {
        return match socket {
            Some(socket) => Err(bad("engine-socket", socket, "--from-engine is missing")),
            None => Ok(None),
        };
    }
    for name in ["storage", "storage-opt", "pull-through", "quota", "gc-untagged", "gc-interval", "grace", "settle"] {
        if let Some(value) = values.one(name) {
            return Err(bad(name, value, "with --from-engine, content is in the engine's store alone"));
        }
    }
    for name in ["chunk-min-length", "max-uploads"] {
        if let Some(value) = values.one(name) {
            return Err(bad(name, value, "with --from-engine, nothing can be pushed"));
        }
    }
    Ok(Some(socket.unwrap_or(DEFAULT_SOCKET).into()))
}

fn cache(values: &Values) -> Result<Option<CacheSettings>, OptionError> {
    let Some(registry) = values.one("pull-through") else {
        for name in ["pull-through-expiry", "pull-through-insecure", "pull-through-user", "pull-through-password-file"]
        {
            if let Some(value) = values.one(name) {
                return Err(bad(name, value, "--pull-through is missing"));
            }
        }
        return Ok(None);
    };
    if values.parse("read-only", false, switch)? {
        return Err(bad("pull-through", registry, "a cache that is read-only cannot keep anything"));
    }
    let never = values.parse("gc-interval", false, |text| duration(text).map(|interval| interval.is_zero()))?;
    if let (true, Some(expiry)) = (never, values.one("pull-through-expiry")) {
        return Err(bad("pull-through-expiry", expiry, "with --gc-interval 0s nothing is ever removed"));
    }
    let name = format!("{registry}/a").parse::<oci::Reference>();
    if !name.is_ok_and(|name| name.domain() == registry) {
        return Err(bad("pull-through", registry, "a registry as it stands in names of images is meant"));
    }
    let credentials = match (values.one("pull-through-user"), values.one("pull-through-password-file")) {
        (None, None) => Credentials::Anonymous,
        (Some(username), Some(path)) => {
            let read = std::fs::read_to_string(path);
            let password = read.map_err(|error| bad("pull-through-password-file", path, error.to_string()))?;
            Credentials::Basic { username: username.to_owned(), password: password.trim_end_matches('\n').to_owned() }
        }
        (Some(user), None) => return Err(bad("pull-through-user", user, "--pull-through-password-file is missing")),
        (None, Some(path)) => return Err(bad("pull-through-password-file", path, "--pull-through-user is missing")),
    };
    Ok(Some(CacheSettings {
        registry: registry.to_owned(),
        insecure: values.parse("pull-through-insecure", false, switch)?,
        expiry: values.parse("pull-through-expiry", Duration::from_secs(7 * 86400), duration)?,
        credentials,
    }))
}

/// `127.0.0.1:5000`, `[::1]:5000`, `:5000` (all addresses), `localhost:5000`.
fn address(text: &str) -> Result<SocketAddr, String> {
    let text = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.replacen("localhost:", "127.0.0.1:", 1),
    };
    text.parse().map_err(|_| "an IP address with a port is meant".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("key=value is meant")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "true or false is meant".to_owned())
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a whole number of at least 1 is meant".to_owned())
}

fn quota(text: &str) -> Result<Quota, String> {
    let (pattern, limit) = text.rsplit_once('=').ok_or("pattern=size is meant")?;
    let repositories = (pattern != "total").then(|| Pattern::new(pattern));
    Ok(Quota { repositories, limit: size(limit)? })
}

/// `64m`, `1g`, `1500`: bytes, units are powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "a size such as 64m is meant".to_owned();
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(wrong)
}

/// `500ms`, `90s`, `15m`, `24h`, `7d`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a time such as 90s, 15m, 24h or 7d is meant".to_owned();
    if let Some(millis) = text.trim().strip_suffix("ms") {
        return millis.parse().map(Duration::from_millis).map_err(|_| wrong());
    }
    let (mut rest, mut seconds) = (text.trim(), 0_u64);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86400,
            _ => return Err(wrong()),
        };
        seconds = number.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        rest = &rest[digits + 1..];
    }
    // A century is more than anybody means, and far from where times overflow.
    Some(seconds).filter(|seconds| *seconds <= 100 * 366 * 86400).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(size("64m"), Ok(64 << 20));
        assert_eq!(size("1500"), Ok(1500));
        assert!(size("x").is_err() && size("1x").is_err() && size("99999999t").is_err());
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!((duration("0s"), duration("500ms")), (Ok(Duration::ZERO), Ok(Duration::from_millis(500))));
        assert!(duration("").is_err() && duration("5").is_err() && duration("5y").is_err() && duration("h").is_err());
        assert_eq!(address(":80").unwrap().to_string(), "0.0.0.0:80");
        assert_eq!(address("localhost:0").unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(quota("team/*=1k"), Ok(Quota { repositories: Some(Pattern::new("team/*")), limit: 1024 }));
        assert_eq!(quota("total=5").unwrap().repositories, None);
    }
}
