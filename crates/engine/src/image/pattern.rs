//! Go's `path.Match`: the patterns of `--filter reference=…`.
//!
//! `*` is any text without a slash, `?` one character but a slash, `[a-z]` and `[^a-z]` one of a set, `\` takes the next
//! character as it is.

/// The pattern itself is wrong; the text is Go's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub(super) struct BadPattern;

/// Does the whole text match?
pub(super) fn matches(pattern: &str, text: &str) -> Result<bool, BadPattern> {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    check(&pattern)?;
    // The place of the last star and of the text that it stands for: enough to go back to, as stars are all alike.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
            continue;
        }
        if let Some(length) = one(&pattern[p..], text[t])? {
            p += length;
            t += 1;
            continue;
        }
        match star {
            Some((at, from)) if text[from] != '/' => {
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
            _ => return Ok(false),
        }
    }
    Ok(pattern[p..].iter().all(|c| *c == '*'))
}

/// Is every part of the pattern well-formed? Go finds that out while it matches, and so may say it of fewer texts.
fn check(pattern: &[char]) -> Result<(), BadPattern> {
    let mut p = 0;
    while p < pattern.len() {
        p += match pattern[p] {
            '*' => 1,
            _ => part(&pattern[p..])?.0,
        };
    }
    Ok(())
}

/// Length of the part at the start of the pattern if it matches this character.
fn one(pattern: &[char], c: char) -> Result<Option<usize>, BadPattern> {
    if pattern.is_empty() {
        return Ok(None);
    }
    let (length, wanted) = part(pattern)?;
    let found = match wanted {
        Part::Any => c != '/',
        Part::Is(wanted) => c == wanted,
        Part::Set { ranges, negated } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != negated,
    };
    Ok(found.then_some(length))
}

enum Part {
    Any,
    Is(char),
    Set { ranges: Vec<(char, char)>, negated: bool },
}

/// The part at the start of a pattern that is not empty, and its length.
fn part(pattern: &[char]) -> Result<(usize, Part), BadPattern> {
    match pattern[0] {
        '?' => Ok((1, Part::Any)),
        '\\' => pattern.get(1).map(|c| (2, Part::Is(*c))).ok_or(BadPattern),
        '[' => {
            let mut p = 1;
            let negated = pattern.get(p) == Some(&'^');
            p += usize::from(negated);
            let mut ranges = Vec::new();
            loop {
                if pattern.get(p) == Some(&']') && !ranges.is_empty() {
                    return Ok((p + 1, Part::Set { ranges, negated }));
                }
                let from = member(pattern, &mut p)?;
                let to = if pattern.get(p) == Some(&'-') {
                    p += 1;
                    member(pattern, &mut p)?
                } else {
                    from
                };
                ranges.push((from, to));
            }
        }
        c => Ok((1, Part::Is(c))),
    }
}

fn member(pattern: &[char], p: &mut usize) -> Result<char, BadPattern> {
    let escaped = pattern.get(*p) == Some(&'\\');
    *p += usize::from(escaped);
    match pattern.get(*p) {
        None => Err(BadPattern),
        Some('-' | ']') if !escaped => Err(BadPattern),
        Some(c) => {
            *p += 1;
            Ok(*c)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_in_go() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^c]", "abc", false),
            ("a\\*b", "a*b", true),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("busy*", "busybox:latest", true),
            ("localhost:5000/*", "localhost:5000/a/b", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), Ok(expected), "{pattern} {text}");
        }
        for bad in ["[", "[]a]", "[-]", "[a-]", "[^", "a\\", "[a"] {
            assert_eq!(matches(bad, "a"), Err(BadPattern), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn ends_on_any_input(pattern in "[ab*?\\[\\]\\\\^/-]{0,20}", text in "[ab/]{0,30}") {
            let _ = matches(&pattern, &text);
        }
    }
}
