//! The two clients that tests run: ours under the name `docker`, and Docker's own from PATH.
#![allow(dead_code)] // every test file uses its own part

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Our command line: the example `docker`, which cargo builds beside the tests.
pub(crate) fn ours() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/docker");
    assert!(
        path.exists(),
        "{} is missing: run all tests of the crate, or `cargo build -p cli --examples` first",
        path.display()
    );
    path
}

/// Docker's own command line, if it is installed; its version decides whether comparing makes sense.
pub(crate) fn docker() -> Option<PathBuf> {
    let path = std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join("docker"))
        .find(|path| path.exists())?;
    let version = Command::new(&path).arg("--version").output().ok()?;
    String::from_utf8_lossy(&version.stdout).starts_with("Docker version 28.2").then_some(path)
}

/// A client with nothing of the user's: no configuration, and the engine at an address of the test's.
pub(crate) fn command(program: &Path, host: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_remove("DOCKER_CONTEXT")
        .env("DOCKER_CONFIG", "/nonexistent")
        .env("DOCKER_HOST", host)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Exit code, standard output and standard error.
pub(crate) fn shown(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Words of a line; double quotes keep spaces.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, any) = (!quoted, true),
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}
