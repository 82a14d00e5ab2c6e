//! Switches of the network stack below /proc/sys/net, those of the calling thread's namespace.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::{Error, Result};

fn path(parts: &[&str]) -> PathBuf {
    let mut path = PathBuf::from("/proc/sys/net");
    path.extend(parts);
    path
}

/// Sets a switch; one that the kernel does not have (IPv6 left out) is none that needs setting.
pub(crate) fn write(parts: &[&str], value: &str) -> Result<()> {
    let path = path(parts);
    match fs::write(&path, value) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Sysctl { path, source }),
    }
}

/// Sets a switch unless it has the value already, which also works where /proc/sys is read-only.
pub(crate) fn ensure(parts: &[&str], value: &str) -> Result<()> {
    if fs::read_to_string(path(parts)).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    write(parts, value)
}

/// Its value, trimmed.
pub(crate) fn read(parts: &[&str]) -> Result<String> {
    let path = path(parts);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(Error::Sysctl { path, source }),
    }
}
