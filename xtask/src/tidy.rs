//! Hygiene as a test: what the architecture promises is held against the code.
//!
//! Each check returns what it found wrong as sentences; all of them run, so that one call shows
//! everything there is to mend.

mod crates;
mod sources;

use std::path::Path;

/// What a check found wrong, one sentence each.
type Findings = Vec<String>;

/// Run every check; an error lists all findings.
pub(crate) fn run() -> Result<(), String> {
    let root = crate::repository();
    let metadata = crates::Metadata::read(&root)?;
    let mut findings = Findings::new();
    findings.extend(crates::table(&root, &metadata)?);
    findings.extend(crates::synchronous(&metadata));
    findings.extend(crates::licences(&metadata));
    findings.extend(crates::documented(&root, &metadata)?);
    findings.extend(sources::check(&root)?);
    if findings.is_empty() {
        println!("tidy: nothing to mend");
        return Ok(());
    }
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    Err(format!("tidy found {} things to mend", findings.len()))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}
