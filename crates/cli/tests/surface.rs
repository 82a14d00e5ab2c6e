//! Help pages against Docker's own surface: every command has all of Docker's flags, with the same letters and kinds of values.

mod client;

use std::collections::BTreeMap;

/// Docker's flags, checked in.
const DOCKER: &str = include_str!("docker-flags.txt");

/// Commands and their flags, `-a --attach list`.
fn surface(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut commands = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if line.starts_with(' ') {
            commands.entry(current.clone()).or_insert_with(Vec::new).push(line.trim().to_owned());
        } else {
            line.clone_into(&mut current);
            commands.entry(current.clone()).or_insert_with(Vec::new);
        }
    }
    commands
}

/// The flags of a help page, in the same form.
fn flags(page: &str) -> Vec<String> {
    let Some((_, options)) = page.split_once("\nOptions:\n") else { return Vec::new() };
    let mut flags = Vec::new();
    for line in options.lines().take_while(|line| !line.is_empty()) {
        let left = line.trim_start().split("   ").next().unwrap().trim();
        if line.starts_with("  -") || line.starts_with("      --") {
            flags.push(left.replacen(", ", " ", 1));
        }
    }
    flags
}

#[test]
fn every_command_has_dockers_flags() {
    let docker = surface(DOCKER);
    assert!(docker.len() > 80);
    for (name, expected) in &docker {
        let output = client::command(&client::ours(), "unix:///nonexistent")
            .args(name.split(' '))
            .arg("--help")
            .output()
            .unwrap();
        let (code, page, errors) = client::shown(&output);
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{name}");
        let first = page.lines().next().unwrap();
        assert!(first.starts_with(&format!("Usage:  docker {name}")), "{name}: {first}");
        assert_eq!(flags(&page), *expected, "docker {name}");
    }
}

/// Our help pages are Docker's, byte for byte, where the two describe the same command.
#[test]
fn help_pages_are_dockers() {
    let Some(docker) = client::docker() else {
        eprintln!("skipped: Docker's command line 28.2 is not on PATH");
        return;
    };
    for name in surface(DOCKER).keys() {
        let help = |program| {
            let output =
                client::command(program, "unix:///nonexistent").args(name.split(' ')).arg("--help").output().unwrap();
            client::shown(&output)
        };
        assert_eq!(help(&client::ours()), help(&docker), "docker {name} --help");
    }
}

#[test]
fn commands_that_do_not_exist_are_named() {
    for word in ["build", "swarm", "trust"] {
        let output = client::command(&client::ours(), "unix:///nonexistent").arg(word).output().unwrap();
        let (code, _, errors) = client::shown(&output);
        let expected = format!("docker: unknown command: docker {word}\n\nRun 'docker --help' for more information\n");
        assert_eq!((code, errors), (Some(1), expected));
    }
}
