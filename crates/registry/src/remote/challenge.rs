//! `WWW-Authenticate`: how a registry says what it wants to see.
//!
//! ```text
//! Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull"
//! Basic realm="Registry"
//! ```
//! The header is a list of challenges, and each challenge a list of parameters, both separated by commas (RFC 7235).
//! So a word is the name of a parameter when a `=` follows, else it begins the next challenge.

use std::collections::BTreeMap;

/// Longer headers are not looked at, in bytes.
const MAX_HEADER: usize = 16 << 10;
/// Further challenges of one response are not looked at.
const MAX_CHALLENGES: usize = 16;

/// One way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    /// Parameters, names in lower case.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// A parameter, empty when it is missing.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }
}

/// All challenges of the values of `WWW-Authenticate` headers. What cannot be read is skipped, never an error: a
/// registry that asks in a strange way may still accept what we have.
pub(crate) fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    let mut found = Vec::new();
    for header in headers {
        if header.len() <= MAX_HEADER {
            Scanner { rest: header }.challenges(&mut found);
        }
    }
    found
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn challenges(mut self, found: &mut Vec<Challenge>) {
        loop {
            self.skip(|c| c.is_ascii_whitespace() || c == ',');
            if self.rest.is_empty() || found.len() >= MAX_CHALLENGES {
                return;
            }
            let word = self.token();
            if word.is_empty() {
                // No token begins here: step over one character, so that the loop ends.
                self.rest = &self.rest[self.rest.chars().next().map_or(0, char::len_utf8)..];
                continue;
            }
            match self.value() {
                Some(value) => {
                    if let Some(challenge) = found.last_mut() {
                        challenge.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                    }
                }
                None => found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() }),
            }
        }
    }

    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(is_skipped);
    }

    fn token(&mut self) -> &'a str {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }

    /// The value of the parameter whose name was just read; `None`, with nothing consumed, when no `=` follows.
    fn value(&mut self) -> Option<String> {
        let after = self.rest.trim_start().strip_prefix('=')?;
        self.rest = after.trim_start();
        match self.rest.strip_prefix('"') {
            Some(quoted) => Some(self.quoted(quoted)),
            None => {
                let value = self.token().to_owned();
                // `token68` credentials end in any number of these.
                self.skip(|c| c == '=');
                Some(value)
            }
        }
    }

    /// A quoted string, without its first quote. One that never ends goes up to the end.
    fn quoted(&mut self, text: &'a str) -> String {
        let mut value = String::new();
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &text[at + 1..];
                    return value;
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        self.rest = "";
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(header: &str) -> String {
        let one = |c: &Challenge| {
            let parameters: Vec<String> = c.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("{}({})", c.scheme, parameters.join(";"))
        };
        parse([header]).iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_registries_send() {
        for (header, expected) in [
            (r#"Basic realm="Registry Realm""#, "basic(realm=Registry Realm)"),
            (
                r#"Bearer realm="https://a.b/token",service="r",scope="repository:a/b:pull,push""#,
                "bearer(realm=https://a.b/token;scope=repository:a/b:pull,push;service=r)",
            ),
            (
                r#"bearer Realm = "x" , error=insufficient_scope, Basic realm="y""#,
                "bearer(error=insufficient_scope;realm=x) basic(realm=y)",
            ),
            (r#"Digest realm="a \"b\" \\c", nonce=12"#, r#"digest(nonce=12;realm=a "b" \c)"#),
            ("Negotiate, NTLM", "negotiate() ntlm()"),
            (r#"Bearer realm="never ends"#, "bearer(realm=never ends)"),
            ("", ""),
            (r#"=,"",,= x"#, "x()"),
            (r#"realm="no scheme""#, ""),
            ("Bearer realm=a, realm=b", "bearer(realm=a)"),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }

    #[test]
    fn several_headers_are_one_list() {
        assert_eq!(parse(["Basic realm=a", "Bearer realm=b"]).len(), 2);
        assert!(parse([format!("Basic realm={}", "a".repeat(MAX_HEADER)).as_str()]).is_empty());
        assert_eq!(parse(["a, ".repeat(100).as_str()]).len(), MAX_CHALLENGES);
    }

    fn quote(value: &str) -> String {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            list in proptest::collection::vec(
                ("[A-Za-z][A-Za-z0-9-]{0,9}", proptest::collection::btree_map("[a-z_]{1,8}", "\\PC{0,20}", 0..4)),
                0..5,
            ),
            gap in "[ \t]{0,3}",
        ) {
            let text: Vec<String> = list.iter().map(|(scheme, parameters)| {
                let parameters: Vec<String> =
                    parameters.iter().map(|(name, value)| format!("{name}{gap}={gap}{}", quote(value))).collect();
                format!("{scheme} {}", parameters.join(&format!("{gap},{gap}")))
            }).collect();
            let expected: Vec<Challenge> = list.into_iter()
                .map(|(scheme, parameters)| Challenge { scheme: scheme.to_ascii_lowercase(), parameters })
                .collect();
            prop_assert_eq!(parse([text.join(", ").as_str()]), expected);
        }

        #[test]
        fn never_panics_and_ends(text in "\\PC{0,200}") {
            let found = parse([text.as_str()]);
            prop_assert!(found.len() <= MAX_CHALLENGES);
            for challenge in found {
                prop_assert!(!challenge.scheme.is_empty());
                prop_assert!(!challenge.parameters.contains_key(""));
            }
        }

        #[test]
        fn never_panics_on_its_own_alphabet(text in "[Bb=\", \\\\a\t]{0,60}") {
            parse([text.as_str()]);
        }
    }
}
