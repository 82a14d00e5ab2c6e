//! `--env`, `--env-file`, `--label`, `--label-file`.

use crate::error::reason;
use std::collections::BTreeMap;

/// Refuses a value of `--env`.
pub(crate) fn check_variable(value: &str) -> Result<(), String> {
    if value.starts_with('=') || value.is_empty() {
        Err(format!("invalid environment variable: {value}"))
    } else {
        Ok(())
    }
}

/// Refuses a value of `--label`.
pub(crate) fn check_label(value: &str) -> Result<(), String> {
    let name = value.split('=').next().unwrap_or_default();
    if name.is_empty() { Err(format!("invalid label '{value}': empty name")) } else { Ok(()) }
}

/// All variables: files first, so that single values win. A bare name takes its value from our own environment, or nothing at all.
pub(crate) fn variables(files: &[String], values: &[String]) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for file in files {
        read_lines(file, |name| std::env::var(name).ok(), &mut all)?;
    }
    for value in values {
        if value.contains('=') {
            all.push(value.clone());
        } else if let Ok(found) = std::env::var(value) {
            all.push(format!("{value}={found}"));
        } else {
            // The engine takes a bare name as "remove it".
            all.push(value.clone());
        }
    }
    Ok(all)
}

/// All labels: files first.
pub(crate) fn labels(files: &[String], values: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut lines = Vec::new();
    for file in files {
        read_lines(file, |_| Some(String::new()), &mut lines)?;
    }
    let pairs = lines.iter().chain(values).map(|line| line.split_once('=').unwrap_or((line, "")));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Docker's file of `NAME=VALUE` lines: `#` begins a comment line, a bare name is looked up and left out when it is nowhere.
fn read_lines(path: &str, look_up: impl Fn(&str) -> Option<String>, out: &mut Vec<String>) -> Result<(), String> {
    let bytes = std::fs::read(path).map_err(|error| format!("open {path}: {}", reason(&error)))?;
    let text =
        String::from_utf8(bytes).map_err(|_| format!("invalid env file ({path}): it contains invalid utf8 bytes"))?;
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        let name = name.trim_start();
        if name.contains(char::is_whitespace) {
            return Err(format!("invalid env file ({path}): variable '{name}' contains whitespaces"));
        }
        if name.is_empty() {
            return Err(format!("invalid env file ({path}): no variable name on line '{line}'"));
        }
        match value {
            Some(value) => out.push(format!("{name}={value}")),
            None => out.extend(look_up(line.trim()).map(|value| format!("{}={value}", line.trim()))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_values() {
        let path = std::env::temp_dir().join(format!("gantry-env-{}", std::process::id()));
        std::fs::write(&path, "# note\nA=1\n  B = x\nNOT_SET_ANYWHERE\nC=a=b\n").unwrap();
        let file = [path.to_string_lossy().into_owned()];
        let error = variables(&file, &[]).unwrap_err();
        assert_eq!(error, format!("invalid env file ({}): variable 'B ' contains whitespaces", path.display()));
        std::fs::write(&path, "# note\nA=1\nNOT_SET_ANYWHERE\nC=a=b\n").unwrap();
        let all = variables(&file, &["D=2".into(), "NOT_SET_EITHER".into()]).unwrap();
        assert_eq!(all, ["A=1", "C=a=b", "D=2", "NOT_SET_EITHER"]);
        let labels = labels(&file, &["A=3".into(), "x".into()]).unwrap();
        assert_eq!((labels["A"].as_str(), labels["x"].as_str(), labels["NOT_SET_ANYWHERE"].as_str()), ("3", "", ""));
        std::fs::remove_file(path).unwrap();
        assert_eq!(variables(&["/nosuch".into()], &[]).unwrap_err(), "open /nosuch: no such file or directory");
    }
}
