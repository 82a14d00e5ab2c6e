//! Which hierarchies the host mounts, and where: read from /proc/self/mountinfo, since nothing else knows of unusual places.

use super::{Error, Result, Version};
use crate::procfs;
use std::fs;
use std::path::{Path, PathBuf};

/// A hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// `memory`; several for `cpu,cpuacct`; `name=systemd` for one without a controller.
    pub names: Vec<String>,
    /// Where it is mounted.
    pub mount_point: PathBuf,
}

/// The hierarchies of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    controllers: Vec<Controller>,
    unified: Option<PathBuf>,
}

/// Options of a v1 mount that are no controllers.
const FLAGS: &[&str] = &["rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode", "favordynmods", "none"];

impl Hierarchies {
    /// Those that this process sees.
    pub fn detect() -> Result<Self> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let found = Self::parse(&text);
        if found.controllers.is_empty() && found.unified.is_none() { Err(Error::NoHierarchy) } else { Ok(found) }
    }

    /// From the text of mountinfo (proc_pid_mountinfo(5)).
    fn parse(text: &str) -> Self {
        let mut found = Self { controllers: Vec::new(), unified: None };
        for line in text.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            let mut filesystem = filesystem.split(' ');
            let kind = filesystem.next();
            let Some(mount_point) = mount.split(' ').nth(4).map(procfs::unescape) else { continue };
            match kind {
                Some("cgroup2") if found.unified.is_none() => found.unified = Some(mount_point),
                Some("cgroup") => {
                    let options = filesystem.nth(1).unwrap_or_default().split(',');
                    let names: Vec<String> = options
                        .filter(|o| !FLAGS.contains(o) && !o.starts_with("release_agent="))
                        .map(str::to_owned)
                        .collect();
                    // A hierarchy can be mounted twice (in a container of containers); the first place will do.
                    if !names.is_empty() && !found.controllers.iter().any(|c| c.names == names) {
                        found.controllers.push(Controller { names, mount_point });
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// V1 when a v1 hierarchy has a real controller; a lone `name=systemd` beside v2 carries no limits.
    pub fn version(&self) -> Version {
        let carries = |c: &Controller| c.names.iter().any(|n| !n.starts_with("name="));
        if self.unified.is_some() && !self.controllers.iter().any(carries) { Version::V2 } else { Version::V1 }
    }

    /// The v1 hierarchies, in the order they were mounted.
    pub fn controllers(&self) -> &[Controller] {
        &self.controllers
    }

    /// Where v2 is mounted.
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// Names of all controllers that can carry limits, of v2 as its root offers them.
    pub fn controller_names(&self) -> Vec<String> {
        let v1 = self.controllers.iter().flat_map(|c| c.names.iter().filter(|n| !n.starts_with("name=")).cloned());
        let v2 = self.unified.as_ref().and_then(|u| fs::read_to_string(u.join("cgroup.controllers")).ok());
        v1.chain(v2.unwrap_or_default().split_whitespace().map(str::to_owned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/a/b,name=systemd
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_host_with_both() {
        let found = Hierarchies::parse(HYBRID);
        let names: Vec<_> = found.controllers().iter().map(|c| c.names.join(",")).collect();
        assert_eq!(names, ["cpu,cpuacct", "memory", "name=systemd"]);
        assert_eq!(found.unified(), Some(Path::new("/sys/fs/cgroup/uni fied")));
        assert_eq!(found.version(), Version::V1);
    }

    #[test]
    fn a_host_with_v2_alone() {
        let found = Hierarchies::parse("26 25 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!((found.version(), found.controllers().len()), (Version::V2, 0));
        let empty = Hierarchies::parse("26 25 0:23 / /proc rw - proc proc rw\n");
        assert!(empty.unified().is_none());
    }
}
