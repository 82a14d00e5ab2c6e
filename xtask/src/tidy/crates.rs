//! Checks on crates: the table of ARCHITECTURE.md, the synchronous floors, licences, and the page
//! that says why each dependency was chosen.

use super::Findings;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Crates below the asynchronous edge: decision 10 of ARCHITECTURE.md.
const SYNCHRONOUS: &[&str] = &["oci", "sys", "runtime", "shim", "store", "network"];

/// Licences that may be combined with Apache-2.0 in one binary.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    // The BSD licence with three clauses, with bzip2's own words about altered versions.
    "bzip2-1.0.6",
];

/// What `cargo metadata` says, as far as the checks need it.
#[derive(Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    description: Option<String>,
    license: Option<String>,
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

impl Metadata {
    /// Ask cargo, without the network: the lock file is the truth.
    pub(super) fn read(root: &Path) -> Result<Self, String> {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(root)
            .output()
            .map_err(|e| format!("cannot run cargo metadata: {e}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!("cargo metadata failed: {}", text.trim()));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata printed what cannot be read: {e}"))
    }

    /// The crates of this workspace, without the project's own commands.
    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|p| p.source.is_none() && p.name != "xtask")
    }
}

/// A row of the crate table.
struct Row {
    purpose: String,
    may_use: BTreeSet<String>,
}

/// Every crate has a row with its one-line purpose, and uses nothing that its row does not allow.
pub(super) fn table(root: &Path, metadata: &Metadata) -> Result<Findings, String> {
    let rows = rows(&super::read(&root.join("ARCHITECTURE.md"))?);
    let mut findings = Findings::new();
    for package in metadata.members() {
        let name = &package.name;
        let Some(row) = rows.get(name) else {
            findings.push(format!("crate {name} has no row in the table of ARCHITECTURE.md"));
            continue;
        };
        if package.description.as_deref() != Some(row.purpose.as_str()) {
            findings
                .push(format!("crate {name}: the description in Cargo.toml differs from its row in ARCHITECTURE.md"));
        }
        let inner = package.dependencies.iter().filter(|d| d.path.is_some() && d.kind.is_none());
        for dependency in inner.filter(|d| !row.may_use.contains(&d.name)) {
            findings.push(format!(
                "crate {name} uses {}, which its row in ARCHITECTURE.md does not allow",
                dependency.name
            ));
        }
    }
    let known: BTreeSet<&String> = metadata.members().map(|p| &p.name).collect();
    for name in rows.keys().filter(|n| !known.contains(n)) {
        findings.push(format!("ARCHITECTURE.md has a row for {name}, and there is no such crate"));
    }
    Ok(findings)
}

/// Rows look like ``| floor | `name` | purpose | `a` `b` |``.
fn rows(text: &str) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [_, name, purpose, may_use] = cells[..] else { continue };
        let Some(name) = name.strip_prefix('`').and_then(|n| n.strip_suffix('`')) else { continue };
        let may_use = may_use.split('`').map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect();
        rows.insert(name.to_owned(), Row { purpose: purpose.to_owned(), may_use });
    }
    rows
}

/// The lower floors stay free of an asynchronous runtime.
pub(super) fn synchronous(metadata: &Metadata) -> Findings {
    let members = metadata.members().filter(|p| SYNCHRONOUS.contains(&p.name.as_str()));
    members
        .filter(|p| p.dependencies.iter().any(|d| d.name == "tokio"))
        .map(|p| format!("crate {} depends on tokio; it belongs to the synchronous floors", p.name))
        .collect()
}

/// Every dependency has a licence from the list.
pub(super) fn licences(metadata: &Metadata) -> Findings {
    let mut findings = Findings::new();
    for package in &metadata.packages {
        let expression = package.license.as_deref().unwrap_or("");
        if !allowed(expression) {
            findings.push(format!("{} has the licence '{expression}', which is not on the list", package.name));
        }
    }
    findings
}

/// An SPDX expression holds if, with `/` read as OR, one alternative consists of listed licences alone.
fn allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let known = |licence: &str| LICENCES.contains(&licence.trim());
    // AND binds tighter than OR in SPDX; with the brackets gone, '(A OR B) AND C' reads as 'A OR (B AND C)'.
    // So an expression with both words must hold in each of its parts that AND separates.
    if plain.contains(" AND ") && expression.contains('(') {
        return plain.split(" AND ").all(|part| part.split(" OR ").any(known));
    }
    plain.split(" OR ").any(|part| part.split(" AND ").all(known))
}

/// Each direct dependency is explained in docs/dependencies.md.
pub(super) fn documented(root: &Path, metadata: &Metadata) -> Result<Findings, String> {
    let page = super::read(&root.join("docs/dependencies.md"))?;
    let workspace = metadata.packages.iter().filter(|p| p.source.is_none());
    let outer: BTreeSet<&str> =
        workspace.flat_map(|p| &p.dependencies).filter(|d| d.path.is_none()).map(|d| d.name.as_str()).collect();
    Ok(outer
        .into_iter()
        .filter(|name| !page.contains(&format!("`{name}`")))
        .map(|name| format!("docs/dependencies.md does not say why {name} was chosen"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions() {
        for good in ["MIT", "MIT/Apache-2.0", "GPL-2.0 OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0", "MIT AND ISC"] {
            assert!(allowed(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-2.0", "(MIT OR ISC) AND GPL-2.0"] {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn rows_are_read() {
        let rows = rows(
            "| floor | crate | one line | may use |\n|---|---|---|---|\n| x | `store` | Content | `oci` `sys` |\n",
        );
        let row = &rows["store"];
        assert_eq!(row.purpose, "Content");
        assert_eq!(row.may_use.iter().map(String::as_str).collect::<Vec<_>>(), ["oci", "sys"]);
    }
}
