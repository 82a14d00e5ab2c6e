//! Devices: those of `--device`, and all of them for a privileged container.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use oci::spec::{Device, DeviceRule};

use crate::error::{Error, Result};

/// Largest number of nodes taken from a directory.
const MAX_NODES: usize = 4096;

/// A device node of the host and what the container may do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostDevice {
    /// Where it appears in the container.
    pub(crate) path: String,
    /// `c`, `b` or `p`.
    pub(crate) kind: &'static str,
    /// Major number.
    pub(crate) major: i64,
    /// Minor number.
    pub(crate) minor: i64,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Of `rwm`.
    pub(crate) access: String,
}

impl HostDevice {
    pub(super) fn node(&self) -> Device {
        Device {
            path: self.path.clone(),
            kind: self.kind.to_owned(),
            major: Some(self.major),
            minor: Some(self.minor),
            file_mode: Some(self.mode),
            uid: Some(self.uid),
            gid: Some(self.gid),
            ..Device::default()
        }
    }

    pub(super) fn rule(&self) -> DeviceRule {
        rule(true, self.kind, Some(self.major), Some(self.minor), &self.access)
    }
}

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
    DeviceRule {
        allow,
        kind: Some(kind.to_owned()).filter(|k| !k.is_empty()),
        major,
        minor,
        access: Some(access.to_owned()),
        ..DeviceRule::default()
    }
}

/// Nothing but null, zero, full, random, urandom, tty and console; fuse is named because it used to be allowed.
pub(super) fn default_rules() -> Vec<DeviceRule> {
    let mut rules = vec![rule(false, "", None, None, "rwm")];
    let allowed = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)];
    rules.extend(allowed.map(|(major, minor)| rule(true, "c", Some(major), Some(minor), "rwm")));
    rules.push(rule(false, "c", Some(10), Some(229), "rwm"));
    rules
}

/// Everything.
pub(super) fn privileged_rule() -> DeviceRule {
    rule(true, "", None, None, "rwm")
}

/// One `--device-cgroup-rule`: `c 1:3 rwm`, with `*` for any number.
pub(super) fn parse_rule(text: &str) -> Result<DeviceRule> {
    let parse = || {
        let mut words = text.split(' ');
        let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        let number = |text: &str| if text == "*" { Some(-1) } else { text.parse::<u32>().ok().map(i64::from) };
        let access_ok = (1..=3).contains(&access.len()) && access.bytes().all(|b| b"rwm".contains(&b));
        let valid = words.next().is_none() && matches!(kind, "a" | "b" | "c") && access_ok;
        valid.then_some(rule(true, kind, Some(number(major)?), Some(number(minor)?), access))
    };
    parse().ok_or_else(|| Error::system(format!("invalid device cgroup rule format: '{text}'")))
}

fn node(path: &Path, shown: String, access: &str) -> std::io::Result<Option<HostDevice>> {
    let metadata = std::fs::symlink_metadata(path)?;
    let kind = match metadata.file_type() {
        t if t.is_char_device() => "c",
        t if t.is_block_device() => "b",
        t if t.is_fifo() => "p",
        _ => return Ok(None),
    };
    let number = metadata.rdev();
    Ok(Some(HostDevice {
        path: shown,
        kind,
        major: i64::from(rustix::fs::major(number)),
        minor: i64::from(rustix::fs::minor(number)),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: access.to_owned(),
    }))
}

/// A device, or the devices of a directory, for `--device`.
pub(crate) fn from_path(on_host: &str, in_container: &str, access: &str) -> Result<Vec<HostDevice>> {
    let failed = |why: &str| {
        Error::system(format!("error gathering device information while adding custom device {on_host:?}: {why}"))
    };
    // A link to a device is followed, a link inside a directory is not.
    let resolved = std::fs::canonicalize(on_host).unwrap_or_else(|_| on_host.into());
    match node(&resolved, in_container.to_owned(), access) {
        Ok(Some(device)) => Ok(vec![device]),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(failed("no such file or directory")),
        Err(error) => Err(failed(&error.to_string())),
        Ok(None) => {
            let mut found = Vec::new();
            walk(&resolved, in_container, access, &[], &mut found);
            if found.is_empty() { Err(failed("not a device node")) } else { Ok(found) }
        }
    }
}

fn walk(directory: &Path, shown: &str, access: &str, skip: &[&str], found: &mut Vec<HostDevice>) {
    let mut entries: Vec<_> = std::fs::read_dir(directory).into_iter().flatten().flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if found.len() >= MAX_NODES || skip.contains(&name.as_str()) {
            continue;
        }
        let inside = format!("{}/{name}", shown.trim_end_matches('/'));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), &inside, access, skip, found),
            Ok(_) => found.extend(node(&entry.path(), inside, access).ok().flatten()),
            Err(_) => {}
        }
    }
}

/// All devices of the host but terminals and what every container has of its own.
pub(crate) fn host_devices() -> Vec<HostDevice> {
    let mut found = Vec::new();
    let own = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
    walk(Path::new("/dev"), "/dev", "rwm", &own, &mut found);
    found.retain(|device| device.kind != "p");
    found
}
