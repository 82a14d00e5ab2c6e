//! The examples of the documentation, as they stand there.
//!
//! A block marked `console` holds commands behind `$ ` and what they print. Each page runs on an engine of its own that
//! has an image `busybox`. In the expected output `…` stands for anything; on a line of its own, for any lines.

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use support::Engine;

/// A command and what it prints.
#[derive(Debug, Default)]
struct Step {
    command: String,
    output: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match (line, inside) {
            ("```console", _) => inside = true,
            ("```", _) => inside = false,
            (line, true) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command: command.to_owned(), output: Vec::new() }),
                (None, Some(step)) => step.output.push(line.to_owned()),
                (None, None) => panic!("output before the first command: {line}"),
            },
            (_, false) => {}
        }
    }
    steps
}

/// Whether a line is as expected, `…` being anything.
fn line_matches(want: &str, got: &str) -> bool {
    let mut parts = want.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = got.strip_prefix(first) else { return false };
    let mut open = false;
    for part in parts {
        open = true;
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || open && want.ends_with('…')
}

fn matches(want: &[String], got: &[&str]) -> bool {
    match (want, got) {
        ([], []) => true,
        ([dots, rest @ ..], _) if dots == "…" => (0..=got.len()).any(|n| matches(rest, &got[n..])),
        ([line, rest @ ..], [first, others @ ..]) => line_matches(line, first) && matches(rest, others),
        _ => false,
    }
}

fn check(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = fs::read_to_string(&path).expect("the page");
    let steps = steps(&text);
    assert!(!steps.is_empty(), "{page} has no examples");
    let engine = Engine::start();
    engine.import_busybox();
    let storage = engine.path("kept").display().to_string();
    let ours = (page == "registry.md").then(|| engine.gantry_registry("127.0.0.1:5000", &["--storage", &storage]));
    let _registry = (ours.is_none() && text.contains("localhost:5000")).then(|| engine.registry());
    let bin = engine.path("bin");
    fs::create_dir(&bin).expect("a folder");
    std::os::unix::fs::symlink(support::GANTRY, bin.join("gantry")).expect("a link");
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    for step in steps {
        let mut shell = engine.inside("sh");
        shell.args(["-c", &step.command]).env("PATH", &search).stdin(Stdio::null());
        shell.env("DOCKER_HOST", engine.host()).env("DOCKER_CONFIG", engine.path("client"));
        let output = shell.output().expect("a shell");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = printed.lines().collect();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{page}: $ {}\n{printed}{errors}", step.command);
        assert!(
            matches(&step.output, &lines),
            "{page}: $ {}\nprinted\n{printed}{errors}\ninstead of\n{:#?}",
            step.command,
            step.output
        );
    }
}

#[test]
fn getting_started() {
    check("getting-started.md");
}

#[test]
fn containers() {
    check("containers.md");
}

#[test]
fn images() {
    check("images.md");
}

#[test]
fn registry() {
    check("registry.md");
}

#[test]
fn networking() {
    check("networking.md");
}

#[test]
fn expectations_with_gaps() {
    assert!(line_matches("a…c", "abbc") && line_matches("172.…", "172.1.2") && line_matches("…", "x"));
    assert!(!line_matches("a", "ab") && !line_matches("a…c", "abd"));
    let want: Vec<String> = ["a", "…", "z"].map(str::to_owned).to_vec();
    assert!(matches(&want, &["a", "b", "z"]) && matches(&want, &["a", "z"]) && !matches(&want, &["a"]));
}
