//! `--platform`: `os[/arch[/variant]]`.

/// Docker's check: the engine gets the text as it is.
pub(crate) fn check(value: &str) -> Result<(), String> {
    let parts: Vec<&str> = value.split('/').collect();
    let good =
        |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.()".contains(&b));
    if parts.len() > 3 || !parts.iter().all(good) {
        return Err(format!(
            "error parsing specified platform: {}: cannot parse platform specifier: invalid argument",
            crate::format::go::quote(value)
        ));
    }
    Ok(())
}

/// The JSON that newer endpoints take in place of the text.
pub(crate) fn json(value: &str) -> String {
    let parts = ["os", "architecture", "variant"].into_iter().zip(value.split('/'));
    let sorted: std::collections::BTreeMap<&str, &str> = parts.collect();
    serde_json::json!(sorted).to_string()
}
