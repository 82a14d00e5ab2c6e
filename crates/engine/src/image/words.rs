//! How a Dockerfile's lines are cut into words: quotes, escapes, variables, JSON, Go's durations.

use crate::error::{Error, Result};

/// A word without its quotes, with its variables replaced (`$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:+other}`).
pub(super) fn expand(word: &str, env: &[String]) -> Result<String> {
    let mut expansion = Expansion { whole: word, rest: word.chars().peekable(), env };
    expansion.until(&[])
}

struct Expansion<'a> {
    whole: &'a str,
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    env: &'a [String],
}

impl Expansion<'_> {
    fn failure(&self, problem: &str) -> Error {
        Error::invalid(format!("failed to process {:?}: {problem}", self.whole))
    }

    /// Everything up to one of these characters (which is not consumed) or to the end.
    fn until(&mut self, stops: &[char]) -> Result<String> {
        let mut out = String::new();
        while let Some(c) = self.rest.peek().copied() {
            if stops.contains(&c) {
                return Ok(out);
            }
            self.rest.next();
            match c {
                '\'' => self.single_quoted(&mut out)?,
                '"' => self.double_quoted(&mut out)?,
                '$' => out.push_str(&self.variable()?),
                // The last character of a word stands for itself.
                '\\' => out.push(self.rest.next().unwrap_or('\\')),
                other => out.push(other),
            }
        }
        Ok(out)
    }

    fn single_quoted(&mut self, out: &mut String) -> Result<()> {
        loop {
            match self.rest.next() {
                Some('\'') => return Ok(()),
                Some(c) => out.push(c),
                None => {
                    return Err(self.failure("unexpected end of statement while looking for matching single-quote"));
                }
            }
        }
    }

    fn double_quoted(&mut self, out: &mut String) -> Result<()> {
        loop {
            match self.rest.next() {
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.variable()?),
                Some('\\') => match self.rest.next() {
                    Some(c @ ('"' | '$' | '\\')) => out.push(c),
                    Some(c) => out.extend(['\\', c]),
                    None => out.push('\\'),
                },
                Some(c) => out.push(c),
                None => {
                    return Err(self.failure("unexpected end of statement while looking for matching double-quote"));
                }
            }
        }
    }

    /// What follows a `$`.
    fn variable(&mut self) -> Result<String> {
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        self.rest.next();
        let name = self.name();
        if name.is_empty() {
            return Err(self.failure("syntax error: bad substitution"));
        }
        match self.rest.next() {
            Some('}') => Ok(self.value(&name).unwrap_or_default()),
            Some(':') => self.modified(&name),
            Some(c) => Err(self.failure(&format!("unsupported modifier ({c}) in substitution"))),
            None => Err(self.failure("syntax error: missing '}'")),
        }
    }

    /// What follows `${NAME:`.
    fn modified(&mut self, name: &str) -> Result<String> {
        let modifier = self.rest.next();
        let word = self.until(&['}'])?;
        if self.rest.next().is_none() {
            return Err(self.failure("syntax error: missing '}'"));
        }
        let value = self.value(name).filter(|value| !value.is_empty());
        match modifier {
            Some('-') => Ok(value.unwrap_or(word)),
            Some('+') => Ok(value.map(|_| word).unwrap_or_default()),
            Some('?') => value.ok_or_else(|| {
                let word = if word.is_empty() { "is not allowed to be unset or empty" } else { &word };
                self.failure(&format!("{name}: {word}"))
            }),
            Some(c) => Err(self.failure(&format!("unsupported modifier ({c}) in substitution"))),
            None => Err(self.failure("syntax error: missing ':' in substitution")),
        }
    }

    /// The name of a variable: letters, digits and `_`, not beginning with a digit; or one digit.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.rest.peek().copied() {
            let is_digit = c.is_ascii_digit();
            if !(c == '_' || c.is_ascii_alphabetic() || is_digit) {
                break;
            }
            name.push(c);
            self.rest.next();
            if is_digit && name.len() == 1 {
                break;
            }
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        let found = self.env.iter().find_map(|variable| variable.split_once('=').filter(|(key, _)| *key == name));
        found.map(|(_, value)| value.to_owned())
    }
}

/// Words at blanks outside of quotes, which stay in the words, as do escapes.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
        // Nothing is escaped inside single quotes.
        if c == '\\' && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// `["a", "b"]`, if it is that.
pub(super) fn json_list(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_expanded() {
        let env = ["A=1".to_owned(), "B=x y".to_owned(), "E=".to_owned()];
        for (word, expected) in [
            ("a", "a"),
            ("$A$B", "1x y"),
            ("${A}2", "12"),
            ("'$A'", "$A"),
            ("\"$A\"b", "1b"),
            ("\\$A", "$A"),
            ("\"a\\\"b\\c\"", "a\"b\\c"),
            ("${N:-d$A}", "d1"),
            ("${E:-d}${A:+p}${N:+q}", "dp"),
            ("$", "$"),
            ("$-", "$-"),
            ("$N", ""),
            ("a\\", "a\\"),
        ] {
            assert_eq!(expand(word, &env).unwrap(), expected, "{word}");
        }
        for (word, expected) in [
            ("\"b", "failed to process \"\\\"b\": unexpected end of statement while looking for matching double-quote"),
            ("'v", "failed to process \"'v\": unexpected end of statement while looking for matching single-quote"),
        ] {
            assert_eq!(expand(word, &env).unwrap_err().message(), expected);
        }
        assert!(expand("${A", &env).is_err() && expand("${}", &env).is_err() && expand("${A:x}", &env).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[A-Za-z$\\{\\}:'\"\\\\ \\[\\]+?=.,-]{0,40}") {
            let _ = expand(&text, &["A=1".to_owned()]);
            let blanks = |c: char| c.is_whitespace();
            proptest::prop_assert_eq!(split(&text).concat().replace(blanks, ""), text.replace(blanks, ""));
        }
    }
}
