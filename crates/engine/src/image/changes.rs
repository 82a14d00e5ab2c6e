//! `--change` of commit and import: Dockerfile instructions that change a configuration, with Docker's rules and complaints.

use api::container::{Config, EmptyObject, HealthConfig};

use super::words::{expand, json_list, split};
use crate::container::{merge, signal};
use crate::error::{Error, Result};

/// The shell of commands that are given as text.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Shortest time of a health check, in nanoseconds.
const MIN_DURATION: i64 = 1_000_000;
/// Highest number of ports that one `EXPOSE` range may name: all there are.
const MAX_PORT: u32 = 65_535;

/// Applies instructions to a configuration, in order. Each element may hold several lines.
pub(super) fn apply(config: &mut Config, changes: &[String]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let lines = lines(&changes.join("\n"));
    if lines.is_empty() {
        return Err(Error::invalid("file with no instructions"));
    }
    // All instructions are looked at before the first one is carried out.
    let instructions: Vec<(String, &str)> = lines.iter().map(|line| instruction(line)).collect();
    const KNOWN: [&str; 11] = [
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];
    if let Some((name, _)) = instructions.iter().find(|(name, _)| !KNOWN.contains(&name.as_str())) {
        return Err(Error::invalid(format!("{name} is not a valid change command")));
    }
    let mut changer = Changer { config, has_cmd: false };
    instructions.iter().try_for_each(|(name, rest)| changer.one(name, rest))
}

/// Lines without comments and empty ones, with a `\` at the end joined to the next.
fn lines(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut line = String::new();
    for part in text.lines() {
        if part.trim_start().starts_with('#') {
            continue;
        }
        match part.trim_end().strip_suffix('\\') {
            Some(begin) => line.push_str(begin),
            None => {
                line.push_str(part);
                found.push(std::mem::take(&mut line));
            }
        }
    }
    found.push(line);
    found.retain(|line| !line.trim().is_empty());
    found
}

fn instruction(line: &str) -> (String, &str) {
    let line = line.trim();
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (name.to_ascii_uppercase(), rest.trim())
}

struct Changer<'a> {
    config: &'a mut Config,
    /// A `CMD` came before: an `ENTRYPOINT` after it leaves it alone.
    has_cmd: bool,
}

impl Changer<'_> {
    fn one(&mut self, name: &str, rest: &str) -> Result<()> {
        match name {
            "CMD" => {
                self.config.cmd = Some(self.command(rest));
                self.config.args_escaped = false;
                self.has_cmd = true;
            }
            "ENTRYPOINT" => self.entrypoint(rest),
            "ENV" => {
                let variables = self.pairs(name, rest)?.into_iter().map(|(key, value)| format!("{key}={value}"));
                merge::replace_or_append(self.config.env.get_or_insert_default(), &variables.collect::<Vec<_>>());
            }
            "LABEL" => {
                let labels = self.pairs(name, rest)?;
                self.config.labels.get_or_insert_default().extend(labels);
            }
            "EXPOSE" => self.expose(rest)?,
            "VOLUME" => self.volume(rest)?,
            "USER" => self.config.user = self.exactly_one(name, rest)?,
            "WORKDIR" => self.workdir(rest)?,
            "STOPSIGNAL" => {
                let text = self.exactly_one(name, rest)?;
                signal::parse(&text)?;
                self.config.stop_signal = text;
            }
            "ONBUILD" => self.onbuild(rest)?,
            _ => self.healthcheck(rest)?,
        }
        Ok(())
    }

    fn env(&self) -> &[String] {
        self.config.env.as_deref().unwrap_or_default()
    }

    /// A command as a JSON list, or as text for the shell.
    fn command(&self, rest: &str) -> Vec<String> {
        json_list(rest).unwrap_or_else(|| {
            let shell = self.config.shell.clone().unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
            shell.into_iter().chain((!rest.is_empty()).then(|| rest.to_owned())).collect()
        })
    }

    fn entrypoint(&mut self, rest: &str) {
        let is_none = rest.is_empty() || json_list(rest).is_some_and(|list| list.is_empty());
        self.config.entrypoint = (!is_none).then(|| self.command(rest));
        if !self.has_cmd {
            self.config.cmd = None;
        }
    }

    /// `KEY=VALUE …`, or the old form `KEY value with blanks`.
    fn pairs(&self, name: &str, rest: &str) -> Result<Vec<(String, String)>> {
        let words = split(rest);
        let Some(first) = words.first() else {
            return Err(Error::invalid(format!("{name} requires at least one argument")));
        };
        let mut pairs = Vec::new();
        if first.contains('=') {
            for word in &words {
                let pair = word.split_once('=').ok_or_else(|| {
                    let text = format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value");
                    Error::invalid(text)
                })?;
                pairs.push(pair);
            }
        } else {
            let pair = rest.split_once(char::is_whitespace);
            let (key, value) = pair.ok_or_else(|| Error::invalid(format!("{name} must have two arguments")))?;
            pairs.push((key, value.trim_start()));
        }
        let mut found = Vec::new();
        for (key, value) in pairs {
            let key = expand(key, self.env())?;
            if key.is_empty() {
                return Err(Error::invalid(format!("{name} names can not be blank")));
            }
            found.push((key, expand(value, self.env())?));
        }
        Ok(found)
    }

    fn exactly_one(&self, name: &str, rest: &str) -> Result<String> {
        if rest.is_empty() {
            return Err(Error::invalid(format!("{name} requires exactly one argument")));
        }
        expand(rest, self.env())
    }

    fn expose(&mut self, rest: &str) -> Result<()> {
        if rest.is_empty() {
            return Err(Error::invalid("EXPOSE requires at least one argument"));
        }
        for word in split(rest) {
            // A variable may hold several ports.
            for port in expand(&word, self.env())?.split_whitespace() {
                for port in ports(port)? {
                    self.config.exposed_ports.insert(port, EmptyObject {});
                }
            }
        }
        Ok(())
    }

    fn volume(&mut self, rest: &str) -> Result<()> {
        let words = json_list(rest).unwrap_or_else(|| split(rest));
        if words.is_empty() {
            return Err(Error::invalid("VOLUME requires at least one argument"));
        }
        for word in words {
            let path = expand(&word, self.env())?.trim().to_owned();
            if path.is_empty() {
                return Err(Error::invalid("VOLUME specified can not be an empty string"));
            }
            self.config.volumes.get_or_insert_default().insert(path, EmptyObject {});
        }
        Ok(())
    }

    fn workdir(&mut self, rest: &str) -> Result<()> {
        let given = self.exactly_one("WORKDIR", rest)?;
        let path = if given.starts_with('/') { given } else { format!("/{}/{given}", self.config.working_dir) };
        self.config.working_dir = clean(&path);
        Ok(())
    }

    fn onbuild(&mut self, rest: &str) -> Result<()> {
        match instruction(rest).0.as_str() {
            "" => Err(Error::invalid("ONBUILD requires at least one argument")),
            "ONBUILD" => Err(Error::invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
            trigger @ ("MAINTAINER" | "FROM") => {
                Err(Error::invalid(format!("{trigger} isn't allowed as an ONBUILD trigger")))
            }
            _ => {
                self.config.on_build.get_or_insert_default().push(rest.to_owned());
                Ok(())
            }
        }
    }

    fn healthcheck(&mut self, rest: &str) -> Result<()> {
        let mut check = HealthConfig::default();
        let mut rest = rest;
        while let Some(flag) = rest.strip_prefix("--") {
            let end = flag.find(char::is_whitespace).unwrap_or(flag.len());
            health_flag(&mut check, &flag[..end])?;
            rest = flag[end..].trim_start();
        }
        let (kind, arguments) = instruction(rest);
        check.test = Some(match kind.as_str() {
            "" => return Err(Error::invalid("HEALTHCHECK requires at least one argument")),
            "NONE" if arguments.is_empty() => vec!["NONE".to_owned()],
            "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
            "CMD" => match json_list(arguments) {
                Some(list) if !list.is_empty() => [vec!["CMD".to_owned()], list].concat(),
                None if !arguments.is_empty() => vec!["CMD-SHELL".to_owned(), arguments.to_owned()],
                _ => return Err(Error::invalid("Missing command after HEALTHCHECK CMD")),
            },
            other => return Err(Error::invalid(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)"))),
        });
        self.config.healthcheck = Some(check);
        Ok(())
    }
}

/// `interval=5s`, without the dashes.
fn health_flag(check: &mut HealthConfig, flag: &str) -> Result<()> {
    let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
    let field = match name {
        "interval" => &mut check.interval,
        "timeout" => &mut check.timeout,
        "start-period" => &mut check.start_period,
        "start-interval" => &mut check.start_interval,
        "retries" => {
            let bad = || Error::invalid(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"));
            check.retries = value.parse().map_err(|_| bad())?;
            if check.retries < 0 {
                return Err(Error::invalid(format!("--retries cannot be negative ({})", check.retries)));
            }
            return Ok(());
        }
        _ => return Err(Error::invalid(format!("unknown flag: {name}"))),
    };
    if value.is_empty() {
        return Err(Error::invalid(format!("missing a value on flag: {name}")));
    }
    *field = oci::go::parse_duration(value).map_err(Error::invalid)?;
    if *field != 0 && *field < MIN_DURATION {
        return Err(Error::invalid(format!("Interval {name:?} cannot be less than 1ms")));
    }
    Ok(())
}

/// `80`, `80-82/udp`, `127.0.0.1:8080:80` → the ports inside, `80/tcp`. The texts are Docker's.
fn ports(text: &str) -> Result<Vec<String>> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    let range = range.rsplit(':').next().unwrap_or_default();
    let invalid = || Error::invalid(format!("Invalid containerPort: {range}"));
    if range.is_empty() {
        return Err(Error::invalid(format!("No port specified: {text}<empty>")));
    }
    let number = |text: &str| text.parse::<u32>().ok().filter(|port| *port <= MAX_PORT).ok_or_else(invalid);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(invalid());
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!("Invalid proto: {protocol}")));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Go's `path.Clean` for a path that begins at the root.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Config {
        Config {
            env: Some(vec!["FOO=bar".into()]),
            cmd: Some(vec!["-c".into(), "echo hi".into()]),
            entrypoint: Some(vec!["/bin/sh".into()]),
            ..Config::default()
        }
    }

    fn changed(changes: &[&str]) -> Result<Config> {
        let mut config = base();
        apply(&mut config, &changes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())?;
        Ok(config)
    }

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn what_docker_makes_of_them() {
        let config = changed(&[
            "CMD echo x",
            "EXPOSE 90 91/udp 80-82",
            "LABEL k=\"v w\" z=1",
            "ENV A b c",
            "ENV B=$FOO\nENV FOO=2",
            "USER joe",
            "WORKDIR rel",
            "WORKDIR /abs",
            "WORKDIR more/../most",
            "VOLUME /v1 /v2",
            "VOLUME [\"/v 3\"]",
            "STOPSIGNAL SIGUSR1",
            "HEALTHCHECK --interval=5s --retries=3 CMD true",
            "ONBUILD RUN x",
        ])
        .unwrap();
        assert_eq!(config.cmd, list(&["/bin/sh", "-c", "echo x"]));
        assert_eq!(config.entrypoint, list(&["/bin/sh"]));
        let ports: Vec<&str> = config.exposed_ports.keys().map(String::as_str).collect();
        assert_eq!(ports, ["80/tcp", "81/tcp", "82/tcp", "90/tcp", "91/udp"]);
        assert_eq!(config.env, list(&["FOO=2", "A=b c", "B=bar"]));
        let labels = config.labels.unwrap();
        assert_eq!((labels["k"].as_str(), labels["z"].as_str()), ("v w", "1"));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("joe", "/abs/most"));
        assert_eq!(config.volumes.unwrap().into_keys().collect::<Vec<_>>(), ["/v 3", "/v1", "/v2"]);
        let check = config.healthcheck.unwrap();
        assert_eq!((check.test, check.interval, check.retries), (list(&["CMD-SHELL", "true"]), 5_000_000_000, 3));
        assert_eq!((config.stop_signal.as_str(), config.on_build), ("SIGUSR1", list(&["RUN x"])));
    }

    #[test]
    fn entry_points_and_commands() {
        let of = |change| changed(&[change]).map(|config| (config.entrypoint, config.cmd)).unwrap();
        assert_eq!(of("ENTRYPOINT [\"a\",\"b\"]"), (list(&["a", "b"]), None));
        assert_eq!(of("ENTRYPOINT []"), (None, None));
        assert_eq!(of("CMD"), (list(&["/bin/sh"]), list(&["/bin/sh", "-c"])));
        assert_eq!(of("cmd lower"), (list(&["/bin/sh"]), list(&["/bin/sh", "-c", "lower"])));
        assert_eq!(of("CMD [\"a\","), (list(&["/bin/sh"]), list(&["/bin/sh", "-c", "[\"a\","])));
        assert_eq!(changed(&["CMD x", "ENTRYPOINT [\"e\"]"]).unwrap().cmd, list(&["/bin/sh", "-c", "x"]));
    }

    #[test]
    fn refused_in_dockers_words() {
        for (change, expected) in [
            ("FROM x", "FROM is not a valid change command"),
            ("bogus", "BOGUS is not a valid change command"),
            ("", "file with no instructions"),
            ("# comment", "file with no instructions"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "ENV must have two arguments"),
            ("ENV A=b C", "Syntax error - can't find = in \"C\". Must be of the form: name=value"),
            ("EXPOSE", "EXPOSE requires at least one argument"),
            ("EXPOSE abc", "Invalid containerPort: abc"),
            ("EXPOSE $FOO", "Invalid containerPort: bar"),
            ("EXPOSE 80/xyz", "Invalid proto: xyz"),
            ("EXPOSE 99999", "Invalid containerPort: 99999"),
            ("LABEL a", "LABEL must have two arguments"),
            ("USER", "USER requires exactly one argument"),
            ("VOLUME []", "VOLUME requires at least one argument"),
            ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
            ("STOPSIGNAL BOGUS", "invalid signal: BOGUS"),
            ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
            ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
            ("HEALTHCHECK FOO", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)"),
            ("HEALTHCHECK --interval=x CMD a", "time: invalid duration \"x\""),
            ("HEALTHCHECK --bogus=1 CMD a", "unknown flag: bogus"),
            ("HEALTHCHECK --retries=-1 CMD a", "--retries cannot be negative (-1)"),
            ("HEALTHCHECK --timeout=-1s CMD a", "Interval \"timeout\" cannot be less than 1ms"),
            ("ONBUILD", "ONBUILD requires at least one argument"),
            ("ONBUILD ONBUILD x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            (
                "LABEL k='v",
                "failed to process \"'v\": unexpected end of statement while looking for matching single-quote",
            ),
        ] {
            let error = changed(&[change]).unwrap_err();
            assert_eq!((error.message(), error.kind()), (expected, crate::Kind::InvalidParameter), "{change}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(
            name in "CMD|ENV|EXPOSE|HEALTHCHECK|LABEL|ONBUILD|STOPSIGNAL|USER|VOLUME|WORKDIR|ENTRYPOINT",
            rest in "[A-Za-z0-9$\\{\\}:'\"\\\\ \\[\\]/=.,-]{0,40}",
        ) {
            let _ = changed(&[&format!("{name} {rest}")]);
        }
    }
}
