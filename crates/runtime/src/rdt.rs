//! Intel's resource director (`linux.intelRdt`): shares of cache and memory bandwidth, by a class of service.
//!
//! A class is a directory of the resctrl file system; processes are in the class that their number was written to. One
//! that the configuration names belongs to the administrator and stays; one that was made for the container goes with it.

mod figures;

use std::io;
use std::path::{Path, PathBuf};

use oci::spec::IntelRdt;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub(crate) use figures::Figures;

/// The class of a container, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Class {
    /// Its directory.
    directory: PathBuf,
    /// The directory was made for the container alone.
    own: bool,
    /// Below `mon_groups`, when the container is monitored.
    monitor: Option<PathBuf>,
}

fn failed(field: &str, path: &Path, error: &io::Error) -> Error {
    Error::Spec(format!("linux.intelRdt.{field}: {}: {}", path.display(), crate::failure::plain(error)))
}

/// Where resctrl is mounted.
fn mount_point() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("resctrl ").then(|| before.split(' ').nth(4).map(PathBuf::from))?
    });
    found.ok_or_else(|| Error::Spec("linux.intelRdt: no resctrl file system is mounted".into()))
}

/// What is to be written to `schemata`, in the order of the specification.
fn schemata(rdt: &IntelRdt) -> Vec<(&'static str, &str)> {
    let named = [("l3CacheSchema", rdt.l3_cache_schema.as_deref()), ("memBwSchema", rdt.mem_bw_schema.as_deref())];
    let named = named.into_iter().filter_map(|(field, schema)| Some((field, schema?)));
    named
        .chain(rdt.schemata.iter().map(|schema| ("schemata", schema.as_str())))
        .filter(|(_, schema)| !schema.is_empty())
        .collect()
}

impl Class {
    /// Finds or makes the class of a container, and its monitoring group. After an error nothing of it is left.
    pub(crate) fn create(rdt: &IntelRdt, id: &str) -> Result<Self> {
        Self::create_in(&mount_point()?, rdt, id)
    }

    fn create_in(root: &Path, rdt: &IntelRdt, id: &str) -> Result<Self> {
        let name = rdt.clos_id.as_deref().filter(|name| !name.is_empty());
        let directory = match name {
            Some("/") => root.to_owned(),
            name => root.join(name.unwrap_or(id)),
        };
        let wanted = schemata(rdt);
        let mut made = false;
        if name.is_none() || !wanted.is_empty() {
            made = make_directory(&directory).map_err(|error| failed("closID", &directory, &error))?;
        } else if !directory.is_dir() {
            let text = "there is no such class, and no schemata to make one with";
            return Err(Error::Spec(format!("linux.intelRdt.closID: {}: {text}", directory.display())));
        }
        let mut class = Self { directory, own: made && name.is_none(), monitor: None };
        let set = class.fill(rdt, id, &wanted, name.is_some() && !made);
        if let Err(error) = set {
            if made {
                class.own = true;
            }
            class.remove();
            return Err(error);
        }
        Ok(class)
    }

    fn fill(&mut self, rdt: &IntelRdt, id: &str, wanted: &[(&'static str, &str)], existing: bool) -> Result<()> {
        if existing && !wanted.is_empty() {
            self.compare(wanted)?;
        } else {
            self.write(wanted)?;
        }
        // The words of 1.1 and 1.2 for what is one thing in hardware.
        if rdt.enable_monitoring || rdt.enable_cmt || rdt.enable_mbm {
            let directory = self.directory.join("mon_groups").join(id);
            make_directory(&directory).map_err(|error| failed("enableMonitoring", &directory, &error))?;
            self.monitor = Some(directory);
        }
        Ok(())
    }

    /// A class that was there must be what the configuration says it is.
    fn compare(&self, wanted: &[(&'static str, &str)]) -> Result<()> {
        let path = self.directory.join("schemata");
        let present = std::fs::read_to_string(&path).map_err(|error| failed("schemata", &path, &error))?;
        match wanted.iter().find(|(_, line)| !is_in_force(&present, line)) {
            Some((field, line)) => Err(Error::Spec(format!(
                "linux.intelRdt.{field}: {line:?} is not what the class {} has",
                self.directory.display()
            ))),
            None => Ok(()),
        }
    }

    fn write(&self, lines: &[(&'static str, &str)]) -> Result<()> {
        let path = self.directory.join("schemata");
        for (field, line) in lines {
            // One write for each, so that the kernel's refusal is about this line.
            write_existing(&path, &format!("{line}\n")).map_err(|error| {
                let said = std::fs::read_to_string(self.directory.join("../info/last_cmd_status")).unwrap_or_default();
                let Error::Spec(text) = failed(field, &path, &error) else { return failed(field, &path, &error) };
                Error::Spec(format!("{text}: {line:?} {}", said.trim()).trim_end().to_owned())
            })?;
        }
        Ok(())
    }

    /// Takes over what `update` gives; absent schemata stay.
    pub(crate) fn update(&self, rdt: &IntelRdt) -> Result<()> {
        self.write(&schemata(rdt))
    }

    /// Puts a process into the class; its later children are in it too.
    pub(crate) fn add(&self, pid: i32) -> Result<()> {
        for directory in [Some(&self.directory), self.monitor.as_ref()].into_iter().flatten() {
            let path = directory.join("tasks");
            write_existing(&path, &pid.to_string()).map_err(|error| failed("closID", &path, &error))?;
        }
        Ok(())
    }

    /// Removes what may have been made for a container whose record does not say.
    pub(crate) fn remove_remains(rdt: &IntelRdt, id: &str) {
        let Ok(root) = mount_point() else { return };
        let name = rdt.clos_id.as_deref().filter(|name| !name.is_empty());
        let directory = root.join(name.unwrap_or(id).trim_start_matches('/'));
        let monitor = Some(directory.join("mon_groups").join(id));
        Self { own: name.is_none(), directory, monitor }.remove();
    }

    /// Removes what was made for the container. Whatever still ran in it falls back to the default class.
    pub(crate) fn remove(&self) {
        if let Some(monitor) = &self.monitor {
            let _ = std::fs::remove_dir(monitor);
        }
        if self.own {
            let _ = std::fs::remove_dir(&self.directory);
        }
    }
}

/// True when it was not there.
fn make_directory(path: &Path) -> io::Result<bool> {
    match rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The files of resctrl come with their directory.
fn write_existing(path: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

/// Whether each value of a schema (`L3:0=ff;1=c0`) is what a class has. The kernel writes numbers with leading zeros and
/// lines with leading spaces.
fn is_in_force(present: &str, line: &str) -> bool {
    let Some((resource, values)) = line.split_once(':') else { return false };
    let pairs = |values: &str| -> Vec<(String, String)> {
        let pair = |part: &str| {
            let (id, value) = part.split_once('=')?;
            let trimmed = value.trim().trim_start_matches('0').to_lowercase();
            Some((id.trim().to_owned(), trimmed))
        };
        values.split(';').filter_map(pair).collect()
    };
    let has = present.lines().filter_map(|line| line.trim().split_once(':'));
    let has: Vec<_> = has.filter(|(name, _)| *name == resource.trim()).flat_map(|(_, values)| pairs(values)).collect();
    pairs(values).iter().all(|pair| has.contains(pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemata_as_the_kernel_writes_them() {
        let present = "    MB:0= 20;1= 70\n    L3:0=007f0;1=0001f\n";
        assert!(is_in_force(present, "L3:0=7f0;1=1f"));
        assert!(is_in_force(present, "MB:1=70"));
        assert!(!is_in_force(present, "L3:0=7f1"));
        assert!(!is_in_force(present, "L2:0=f"));
    }

    #[test]
    fn the_order_of_the_specification() {
        let rdt = IntelRdt {
            schemata: vec!["L2:0=f".into()],
            mem_bw_schema: Some("MB:0=20".into()),
            l3_cache_schema: Some("L3:0=ff".into()),
            ..IntelRdt::default()
        };
        let lines: Vec<_> = schemata(&rdt).into_iter().map(|(_, line)| line).collect();
        assert_eq!(lines, ["L3:0=ff", "MB:0=20", "L2:0=f"]);
    }

    #[test]
    fn a_class_that_nobody_made_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let rdt = IntelRdt { clos_id: Some("gold".into()), ..IntelRdt::default() };
        let error = Class::create_in(directory.path(), &rdt, "id").unwrap_err().to_string();
        assert!(error.contains("linux.intelRdt.closID") && error.contains("gold"), "{error}");
        // A directory that is no class has no files to write to; what was made is gone again.
        let rdt = IntelRdt { mem_bw_schema: Some("MB:0=20".into()), ..IntelRdt::default() };
        let error = Class::create_in(directory.path(), &rdt, "id").unwrap_err().to_string();
        assert!(error.contains("linux.intelRdt.memBwSchema"), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
