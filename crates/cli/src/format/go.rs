//! How Go writes things that users see: quoted strings and the errors of `strconv`.

use std::num::IntErrorKind;

pub(crate) use oci::go::quote;

/// The error of `strconv.FUNCTION` for a text that is no such thing.
pub(crate) fn invalid_syntax(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {}: invalid syntax", quote(text))
}

/// The error of `strconv.FUNCTION` for a number that could not be read.
#[allow(clippy::needless_pass_by_value)] // it is what `map_err` hands over
pub(crate) fn number_error(function: &str, text: &str, why: IntErrorKind) -> String {
    match why {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
            format!("strconv.{function}: parsing {}: value out of range", quote(text))
        }
        _ => invalid_syntax(function, text),
    }
}

/// What Go's `json.Marshal` does to JSON text, so that it can stand in a page.
pub(crate) fn escape_html(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Go's `json.Indent`: the text as it is, with line breaks and four spaces per level.
pub(crate) fn indent(json: &str) -> String {
    const STEP: &str = "    ";
    let (mut out, mut depth, mut quoted, mut escaped) = (String::with_capacity(json.len() * 2), 0, false, false);
    let mut chars = json.chars().filter(|c| *c != '\r').peekable();
    while let Some(c) = chars.next() {
        if quoted {
            out.push(c);
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        match c {
            '"' => {
                quoted = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                let close = if c == '{' { '}' } else { ']' };
                if let Some(close) = chars.next_if_eq(&close) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    return out;

    fn new_line(out: &mut String, depth: usize) {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(STEP);
        }
    }
}

/// `%.Ng`: that many significant digits, no trailing zeros, an exponent where the number is longer.
pub(crate) fn general(number: f64, digits: usize) -> String {
    let text = format!("{number:.*e}", digits.saturating_sub(1));
    // Rust always writes an exponent in this form.
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let limit = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let places = usize::try_from(limit - 1 - exponent).unwrap_or(0);
    trim(&format!("{number:.places$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_is_gos() {
        let cases = [
            (1.98e0, 3, "1.98"),
            (3.0, 3, "3"),
            (999.6, 3, "1e+03"),
            (215.0, 3, "215"),
            (0.0, 3, "0"),
            (12.3456, 4, "12.35"),
        ];
        for (number, digits, expected) in cases {
            assert_eq!(general(number, digits), expected);
        }
    }

    #[test]
    fn indent_leaves_text_alone() {
        assert_eq!(
            indent(r#"{"a":[1,{"b":"x\"{,"}],"c":{},"d":[ ]}"#),
            "{\n    \"a\": [\n        1,\n        {\n            \"b\": \"x\\\"{,\"\n        }\n    ],\n    \"c\": {},\n    \"d\": []\n}"
        );
    }
}
