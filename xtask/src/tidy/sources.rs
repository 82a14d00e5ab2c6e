//! Checks on source files: where `unsafe` may stand, and how long files and functions may be.

use super::Findings;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::Visit;

/// Lines of a file, its tests at the end not counted.
const FILE_LINES: usize = 800;
/// Lines of a function from its signature to its closing brace.
const FUNCTION_LINES: usize = 70;

/// Longer on purpose: (path, function or "" for the file, why).
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("xtask/src/parity/scenarios/errors.rs", "refused", "a table of request bodies with a loop behind it")];

/// Check every Rust file of the repository.
pub(super) fn check(root: &Path) -> Result<Findings, String> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut findings = Findings::new();
    for path in files {
        let text = super::read(&path)?;
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let tree = syn::parse_file(&text).map_err(|e| format!("cannot parse {name}: {e}"))?;
        let mut file = File { name: &name, lines: text.lines().collect(), findings: Findings::new(), tests_from: None };
        file.visit_file(&tree);
        file.length();
        findings.append(&mut file.findings);
    }
    Ok(findings)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("cannot list {}: {e}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| format!("cannot list {}: {e}", folder.display()))?.path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// One file under inspection.
struct File<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
    findings: Findings,
    tests_from: Option<usize>,
}

impl File<'_> {
    fn length(&mut self) {
        let counted = self.tests_from.unwrap_or(self.lines.len());
        if counted > FILE_LINES && !excepted(self.name, "") {
            self.findings.push(format!("{} has {counted} lines, over {FILE_LINES}", self.name));
        }
    }

    fn function(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let lines = span.end().line - span.start().line + 1;
        if lines > FUNCTION_LINES && !excepted(self.name, &name.to_string()) {
            let at = span.start().line;
            self.findings.push(format!("{}:{at}: {name} has {lines} lines, over {FUNCTION_LINES}", self.name));
        }
    }

    /// `unsafe` stands in `sys` alone, with its reason on the lines above it.
    fn unsafe_code(&mut self, span: proc_macro2::Span) {
        let line = span.start().line;
        if !self.name.starts_with("crates/sys/") {
            self.findings.push(format!("{}:{line}: unsafe outside of crate sys", self.name));
            return;
        }
        // The comment may stand above a statement that began some lines before its unsafe block.
        let above = &self.lines[line.saturating_sub(8)..line];
        if !above.iter().any(|l| l.contains("SAFETY:") || l.contains("# Safety")) {
            self.findings.push(format!("{}:{line}: unsafe without a SAFETY comment", self.name));
        }
    }
}

fn excepted(file: &str, function: &str) -> bool {
    EXCEPTIONS.iter().any(|(f, name, _)| *f == file && *name == function)
}

impl<'ast> Visit<'ast> for File<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.ident == "tests" && item.content.is_some() {
            self.tests_from.get_or_insert(item.span().start().line);
        }
        syn::visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, item.sig.span().join(item.block.span()).unwrap_or(item.block.span()));
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig.ident, item.sig.span().join(item.block.span()).unwrap_or(item.block.span()));
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_expr_unsafe(&mut self, item: &'ast syn::ExprUnsafe) {
        self.unsafe_code(item.unsafe_token.span);
        syn::visit::visit_expr_unsafe(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = item.unsafety {
            self.unsafe_code(token.span);
        }
        syn::visit::visit_item_impl(self, item);
    }

    fn visit_signature(&mut self, item: &'ast syn::Signature) {
        if let syn::Safety::Unsafe(token) = item.safety {
            self.unsafe_code(token.span);
        }
        syn::visit::visit_signature(self, item);
    }
}
