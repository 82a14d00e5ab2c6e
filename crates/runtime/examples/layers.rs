//! The runtime as a library: a container whose root filesystem is an overlay that is mounted in the container alone.
//!
//! `layers STATE BUNDLE ID OPTION...` runs the bundle's configuration with a root of these overlay options (`lowerdir+=A`,
//! `upperdir=B`, `workdir=C`), and ends with the exit code of its program.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use runtime::{Container, CreateOptions, Stdio};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [state, bundle, id, options @ ..] = words.as_slice() else {
        eprintln!("usage: layers STATE BUNDLE ID OPTION...");
        return ExitCode::FAILURE;
    };
    run(state.as_ref(), bundle.as_ref(), id, options).unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run(state: &Path, bundle: &Path, id: &str, options: &[String]) -> runtime::Result<ExitCode> {
    let overlay = oci::Mount {
        fstype: "overlay".into(),
        source: "overlay".into(),
        options: options.to_vec(),
        ..oci::Mount::default()
    };
    let created = Container::create(CreateOptions {
        id: id.into(),
        bundle: bundle.into(),
        spec: Container::load_spec(bundle)?,
        state_root: state.into(),
        rootfs: vec![overlay],
        stdio: Stdio::Inherit,
        extra_fds: Vec::new(),
        no_pivot: false,
        no_new_keyring: false,
        rootless: None,
    })?;
    created.container.start()?;
    let end = sys::pidfd::reap(created.pidfd.as_fd());
    created.container.delete(true)?;
    Ok(end.map_or(ExitCode::FAILURE, |end| ExitCode::from(u8::try_from(end.code()).unwrap_or(u8::MAX))))
}
