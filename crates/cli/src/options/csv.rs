//! Values that are lines of comma-separated fields (`--mount`, `--network`): a field in quotes may hold commas.

/// The fields of one line, as Go's `encoding/csv` reads it.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut field, mut chars, mut quoted) = (Vec::new(), String::new(), line.chars().peekable(), false);
    let mut start = true;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted => {
                quoted = false;
                if chars.peek().is_some_and(|c| *c != ',') {
                    return Err(format!(
                        "parse error on line 1, column {}: extraneous or missing \" in quoted-field",
                        field.len() + 2
                    ));
                }
            }
            '"' if start => quoted = true,
            '"' => {
                return Err(format!("parse error on line 1, column {}: bare \" in non-quoted-field", field.len() + 1));
            }
            ',' if !quoted => {
                fields.push(std::mem::take(&mut field));
                start = true;
                continue;
            }
            c => field.push(c),
        }
        start = false;
    }
    if quoted {
        return Err("parse error on line 1: extraneous or missing \" in quoted-field".into());
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quotes() {
        assert_eq!(fields("a=b,c").unwrap(), ["a=b", "c"]);
        assert_eq!(fields(r#"a,"b,c=""d""",e"#).unwrap(), ["a", "b,c=\"d\"", "e"]);
        assert!(fields("a\"b").is_err() && fields("\"a").is_err());
    }
}
