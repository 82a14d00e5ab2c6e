//! Texts in which `*` stands for anything: the patterns of a registry's rights and quotas, and of
//! an image policy. Nothing else is special, so a name needs no escaping.

/// Does `pattern` fit the whole of `text`? Each `*` stands for any characters, none and slashes too.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // Each part in between is looked for as early as possible, which leaves most to the others.
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("docker.io", "docker.io", true),
            ("docker.io", "docker.io.evil", false),
            ("*", "", true),
            ("*", "any/thing", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "example.com", false),
            ("team/*", "team/a/b", true),
            ("team/*", "team", false),
            ("*/app", "team/app", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "axbxbxc", true),
            ("a*bc*c", "abc", false),
            ("a*b", "ab", true),
            ("a*ab", "ab", false),
            ("a*b*b", "ab", false),
            ("a", "ab", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
